//! What a session holds against its plane's budgets, and how it gives.
//!
//! Told that it holds most of the memory, it gives what it has most of: unfinished input and requests that wait are answered
//! with the reader's own limit error; output that the client does not take ends the session, unless it is one reply and no other
//! session of the plane is let through with one; that reply is to be taken within the time after which a peer that takes nothing loses
//! its session. A command that runs cannot be stopped, so one with large arguments is asked about before
//! it starts.
//!
//! Told that it holds most of the fds, it closes those that came and were not taken; a command that looks for one says why
//! there is none. If there were none, those that it named.

use std::task::Context as TaskContext;

use qmp_command::{LogGate, PendingFds, Session as _};
use qmp_protocol::{Error, Malformed, Message, Request, Value};

use super::input::{Arrival, Framing, Input};
use super::{End, QmpSession, Session};

/// An id of up to so many bytes is kept with a request that is refused.
const SMALL_ID: usize = 1024;

/// What a session holds, in bytes.
#[derive(Clone, Copy, Default)]
pub(super) struct Held {
    input: usize,
    queue: usize,
    running: usize,
    output: usize,
}

impl Held {
    fn total(self) -> usize {
        self.input + self.queue + self.running + self.output
    }
}

/// A request that waits for others to end.
pub(super) struct Queued {
    pub(super) arrival: Arrival,
    /// What it takes up.
    bytes: usize,
}

impl Queued {
    pub(super) fn new(arrival: Arrival) -> Self {
        Self { bytes: arrival.message.heap_bytes(), arrival }
    }

    /// Makes an error of it, which is answered in its turn.
    fn refuse(&mut self) {
        let (Message::Request(Request { id, .. }) | Message::Malformed(Malformed { id, .. })) =
            &mut self.arrival.message;
        let id = id.take().filter(|id| id.heap_bytes() <= SMALL_ID);
        self.arrival.message = Message::Malformed(Malformed { id, ..too_large().into() });
        self.arrival.fds = Default::default();
        self.bytes = self.arrival.message.heap_bytes();
    }
}

/// What the reader says of a value that is too large.
pub(super) fn too_large() -> Error {
    Error::generic("JSON token size limit exceeded")
}

/// Whether indenting an id could make it many times as long: then the reply is not indented.
pub(super) fn is_sprawling(id: Option<&Value>) -> bool {
    const PRETTY_ID: usize = 64 << 10;
    id.is_some_and(|id| id.heap_bytes() > PRETTY_ID)
}

impl Session {
    fn held(&mut self) -> Held {
        let running = [&self.running, &self.overtaking].into_iter().flatten();
        Held {
            input: self.input.held_bytes(),
            queue: self.queue.iter().map(|queued| queued.bytes).sum(),
            running: running.map(|running| running.bytes).sum(),
            output: self.holdings.output(self.writer.len(), self.writer.capacity()),
        }
    }

    /// Counts what is held, and gives if that is what others wait for. `true` when there may be more to write.
    pub(super) fn account(&mut self, cx: &mut TaskContext<'_>) -> bool {
        self.holdings.poll_lapse(cx);
        let held = self.held();
        self.holdings.memory.set(held.total(), held.running);
        self.give(cx)
    }

    /// Gives, when told to. `true` when it gave memory. Asked twice a turn, and nearly always for nothing.
    #[inline]
    pub(super) fn give(&mut self, cx: &mut TaskContext<'_>) -> bool {
        (self.holdings.memory.is_told() || self.input.fds_are_due()) && self.give_now(cx)
    }

    #[cold]
    fn give_now(&mut self, cx: &mut TaskContext<'_>) -> bool {
        let mut gave = false;
        while self.holdings.memory.is_told() {
            let before = self.held();
            self.give_memory(before, cx);
            let held = self.held();
            // What has been given once and is still there will not be given.
            let fixed = if held.total() < before.total() { held.running } else { held.total() };
            self.holdings.memory.settle(held.total(), fixed);
            gave = true;
        }
        let running = [&self.running, &self.overtaking].into_iter().flatten().map(|running| &running.fds);
        let older = self.queue.iter().map(|queued| &queued.arrival.fds).chain(running);
        give_fds(&self.state, &self.core.log_gate, &mut self.input, older);
        gave
    }

    fn give_memory(&mut self, held: Held, cx: &mut TaskContext<'_>) {
        let (session, bytes) = (self.state.id(), held.total());
        if held.output > held.input.max(held.queue) {
            if !self.holdings.lets_pass(self.core.limits.stall, cx) {
                self.doom(End::OverBudget);
            }
        } else if held.queue > held.input {
            let what = "requests that waited were refused: the plane's budget of memory is used up";
            say(&self.core.log_gate, session, bytes, what);
            self.queue.iter_mut().for_each(Queued::refuse);
        } else if let Some(message) = self.input.framing().refuse_unfinished() {
            let what = "unfinished input was refused: the plane's budget of memory is used up";
            say(&self.core.log_gate, session, bytes, what);
            self.accept(Arrival { message, fds: Default::default() }, cx);
        }
    }

    /// Whether a request of so many bytes may start: nothing can be given of it once it runs.
    pub(super) fn admits(&mut self, bytes: usize) -> bool {
        if bytes <= self.core.memory.floor() {
            return true;
        }
        let held = self.held();
        self.holdings.memory.set(held.total() + bytes, held.running);
        let admitted = !self.holdings.memory.is_told();
        if admitted {
            self.holdings.memory.set(held.total() + bytes, held.running + bytes);
        } else {
            let what = "a request was refused: the plane's budget of memory is used up";
            say(&self.core.log_gate, self.state.id(), bytes, what);
            self.holdings.memory.settle(held.total(), held.running);
        }
        admitted
    }
}

/// Closes what fds a session holds, as far as it is told to: first those that came with its messages, then those with names.
pub(crate) fn give_fds<'a, F: Framing>(
    state: &QmpSession,
    gate: &LogGate,
    input: &mut Input<F>,
    older: impl Iterator<Item = &'a PendingFds>,
) {
    let session = state.id();
    if let lost @ 1.. = input.take_lost_fds() {
        say(gate, session, lost as usize, "fds could not be received: all that came with them were closed");
    }
    let (pending, fds) = input.fds();
    if !fds.is_told() {
        return;
    }
    let closed = pending.refuse() + older.map(PendingFds::refuse).sum::<usize>();
    if closed > 0 {
        say(gate, session, closed, "fds that came and were not taken were closed: clients hold too many");
        fds.settle(0, 0);
    }
    if fds.is_told() {
        let named = state.named_fds().drain_charged(&fds.account());
        say(gate, session, named.len(), "named fds were closed: clients hold too many");
        drop(named);
        // Those that are left are in sets, or in somebody's hands.
        fds.settle(0, fds.held());
    }
}

/// Says that a session had to give so much of what it held, or could not have it: as a warning once a second for the whole plane.
fn say(gate: &LogGate, session: u64, amount: usize, what: &'static str) {
    match gate.admit() {
        Some(untold) => tracing::warn!(session, amount, untold, "{what}"),
        None => tracing::debug!(session, amount, "{what}"),
    }
}

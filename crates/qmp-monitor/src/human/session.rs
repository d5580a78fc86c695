//! One client of a human monitor: keys in, lines executed, echo and answers out.
//!
//! As a QMP session, this is one future on one task, which reads, has the line executed and writes. While a line runs,
//! nothing more of the input is looked at. What the client typed before it left is executed.
//!
//! Pressure: as in QMP sessions. Echo counts as input too, since a line of n bytes makes about 2n² bytes of it; above
//! [`SessionLimits::outbox`](crate::SessionLimits::outbox) bytes of output nothing is read.
//!
//! Cancel-safety: the future must not be dropped while a line runs, as that would stop it half way. It ends by itself when
//! its client leaves and when its monitor or the plane closes, in any case after the running line has ended.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use chardev::{Connection, RawTerminal};
use qmp_command::{Context, Session as _};

use super::discipline::{Discipline, Heard};
use super::editor::{Event, LINE_MAX};
use super::{Answer, Shell};
use crate::budgets::{Holdings, Resources};
use crate::core::Core;
use crate::events::WakeHandle;
use crate::monitor::Shared;
use crate::session::giving::give_fds;
use crate::session::input::{Arrival, Input, Next};
use crate::session::pace::{Pace, Turn};
use crate::session::writer::Writer;
use crate::session::{End, QmpSession, Served, poll_outlived};

/// Bytes of echo that take as long to make as one byte of input to read.
const ECHO_PER_BYTE: usize = 32;

/// What is said instead of an answer when the shell panicked.
const PANICKED: &str = "Error: the command failed unexpectedly; the log has the reason\n";

/// A session over a connection; a future that ends with the session.
pub(crate) struct HumanSession {
    connection: Connection,
    core: Arc<Core>,
    shared: Arc<Shared>,
    state: Arc<QmpSession>,
    shell: Arc<dyn Shell>,
    input: Input<Discipline>,
    writer: Writer,
    wake: WakeHandle,
    running: Option<Answer>,
    holdings: Holdings,
    pace: Pace,
    doomed: Option<End>,
    /// What the client was to get was dropped.
    cut_off: bool,
    /// What came was no person's.
    foreign: bool,
    /// The editor draws on the terminal, if the client is one.
    terminal: Option<RawTerminal>,
}

impl Served for HumanSession {
    fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    fn state(&self) -> &Arc<QmpSession> {
        &self.state
    }

    fn park(self) {
        if !self.cut_off {
            // Before somebody else begins with it.
            drop(self.terminal);
            self.connection.park();
        }
    }

    fn take_running(&mut self) -> Option<impl Future<Output = ()> + Send + 'static> {
        let running = self.running.take()?;
        Some(async { drop(running.await) })
    }
}

impl HumanSession {
    /// A session that has greeted its client. `echo`: with echo and keys, else with plain lines.
    pub(crate) fn new(
        connection: Connection,
        core: Arc<Core>,
        shared: Arc<Shared>,
        state: Arc<QmpSession>,
        Resources { wake, holdings, fds }: Resources,
        shell: Arc<dyn Shell>,
        echo: bool,
    ) -> Self {
        let terminal = match echo {
            true => connection.raw_terminal(),
            false => Ok(None),
        };
        let terminal = terminal.unwrap_or_else(|error| {
            tracing::warn!(session = state.id(), %error, "the terminal stays as it is");
            None
        });
        let mut session = Self {
            terminal,
            input: Input::new(Discipline::new(shell.prompt(), echo), fds),
            wake,
            holdings,
            pace: Pace::new(core.lane.clone()),
            writer: Writer::default(),
            running: None,
            doomed: None,
            cut_off: false,
            foreign: false,
            connection,
            core,
            shared,
            state,
            shell,
        };
        session.say(&format!("{}\n", session.shell.banner()));
        session.prompt();
        session
    }

    /// With what a browser would send ending the session, or not.
    pub(crate) fn strict(mut self, strict: bool) -> Self {
        self.input.framing().watch_beginning(strict);
        self
    }

    /// One turn: run, read, answer, write, until something must be waited for.
    fn poll_turn(&mut self, cx: &mut TaskContext<'_>) -> Poll<End> {
        self.wake.register(cx.waker());
        self.give(cx);
        if self.holdings.lets_others_give(cx) {
            return Poll::Pending;
        }
        let turn = self.poll_lines(cx);
        if self.doomed.is_none()
            && let Err(end) = self.writer.poll_flush(&self.connection, self.core.limits.stall, cx)
        {
            self.doom(end);
        }
        self.holdings.poll_lapse(cx);
        let held = self.held();
        self.holdings.memory.set(held, 0);
        self.give(cx);
        let over = self.doomed.is_some();
        // Output that has just been written below the mark lets input in again.
        let room = self.writer.len() <= self.holdings.mark(self.core.limits.outbox);
        self.pace.settle(if over { Turn::Over } else { turn }, room, cx);
        self.state.gauge(usize::from(self.running.is_some()), self.writer.len());
        if self.running.is_some() {
            // Whatever happened to the client, a line is never stopped half way.
            return poll_outlived(&self.core, &self.state, &mut self.writer, cx);
        }
        if let Some(end) = self.doomed.take() {
            return Poll::Ready(end);
        }
        if turn == Turn::Over && self.writer.is_empty() {
            return Poll::Ready(End::of(self.monitor_closes(), self.foreign, &self.state));
        }
        Poll::Pending
    }

    /// Runs lines and takes keys, as far as it goes without waiting.
    fn poll_lines(&mut self, cx: &mut TaskContext<'_>) -> Turn {
        let share = self.pace.poll_share(cx);
        let mut left = match share {
            Poll::Ready(share) => share,
            Poll::Pending => 0,
        };
        loop {
            self.poll_running(cx);
            left = self.pace.pay(left, self.input.take_cost());
            if self.is_closing() {
                self.writer.hurry();
                self.input.end();
            }
            if self.running.is_some() {
                return Turn::Waiting;
            }
            if self.writer.len() > self.holdings.mark(self.core.limits.outbox) {
                return Turn::Full;
            }
            if left == 0 {
                return if share.is_ready() { Turn::Spent } else { Turn::Waiting };
            }
            match self.input.poll_next(&self.connection, cx) {
                Poll::Ready(Ok(Next::Arrival(arrival))) => {
                    left -= 1;
                    self.pace.count(0);
                    self.hear(arrival);
                }
                Poll::Ready(Ok(Next::Bytes)) => self.echo(),
                Poll::Ready(Ok(Next::End)) => return Turn::Over,
                Poll::Ready(Err(error)) => self.doom(End::Transport(error)),
                Poll::Pending => return Turn::Waiting,
            }
            left = self.pace.pay(left, self.input.take_cost());
        }
    }

    fn hear(&mut self, Arrival { message, fds }: Arrival<Heard>) {
        self.echo();
        let context = Context::new(self.state.clone()).with_fds(fds);
        match message {
            Heard::Event(Event::Line(line)) => self.start(line, context),
            Heard::Event(Event::Complete(text)) => {
                let candidates = self.guarded(|shell| shell.complete(&text, &context));
                self.input.framing().complete(candidates.unwrap_or_default());
                self.echo();
            }
            Heard::Event(Event::Echo) => {}
            Heard::Foreign => {
                self.foreign = true;
                self.input.end();
                self.writer.hurry();
            }
            Heard::TooLong => {
                self.say(&format!("Error: the line is longer than {LINE_MAX} bytes\n"));
                self.prompt();
            }
        }
    }

    fn start(&mut self, line: String, context: Context) {
        self.state.begin();
        tracing::trace!(session = self.state.id(), line = line.escape_debug().to_string());
        match self.guarded(|shell| shell.execute(line, context)) {
            // The next look at what runs is its first poll.
            Some(answer) => self.running = Some(answer),
            None => self.answer(None),
        }
    }

    fn poll_running(&mut self, cx: &mut TaskContext<'_>) {
        let Some(mut running) = self.running.take() else { return };
        match self.guarded(|_| running.as_mut().poll(cx)) {
            Some(Poll::Pending) => self.running = Some(running),
            Some(Poll::Ready(text)) => {
                // What it still holds is released before its answer is written; that can panic too.
                let released = self.guarded(|_| drop(running));
                self.answer(released.map(|()| text));
            }
            None => {
                let _ = self.guarded(|_| drop(running));
                self.answer(None);
            }
        }
    }

    /// Lets the shell do something; `None`, and a line in the log, when it panics.
    ///
    /// Unwind safety: what the shell left half done is its own, behind its own locks.
    fn guarded<T>(&self, action: impl FnOnce(&dyn Shell) -> T) -> Option<T> {
        catch_unwind(AssertUnwindSafe(|| action(&*self.shell)))
            .map_err(|panic| {
                tracing::error!(session = self.state.id(), panic = text_of(&*panic), "the shell panicked");
            })
            .ok()
    }

    /// A line has been executed. `None`: the shell panicked.
    fn answer(&mut self, text: Option<String>) {
        self.state.count(text.is_some());
        self.holdings.replies(self.writer.len());
        let text = text.as_deref().unwrap_or(PANICKED);
        self.input.charge(text.len());
        self.say(text);
        // What comes behind the last answer is the end, not a prompt.
        if !self.is_closing() {
            self.prompt();
        }
    }

    fn say(&mut self, text: &str) {
        if self.doomed.is_none() {
            push_lines(self.writer.buffer(), text);
        }
    }

    fn prompt(&mut self) {
        self.input.framing().prompt();
        self.echo();
    }

    /// Fetches what the line discipline has for the client.
    fn echo(&mut self) {
        let before = self.writer.len();
        self.input.framing().echo(self.writer.buffer());
        self.input.charge((self.writer.len() - before) / ECHO_PER_BYTE);
        if self.doomed.is_some() {
            self.writer.give_up();
        }
    }

    /// The session will end for this reason: what runs ends, and its answer is dropped.
    fn doom(&mut self, end: End) {
        tracing::debug!(session = self.state.id(), reason = %end, "a session will end");
        self.input.end();
        self.writer.give_up();
        self.cut_off = true;
        self.doomed = Some(end);
    }

    fn held(&mut self) -> usize {
        self.input.held_bytes() + self.holdings.output(self.writer.len(), self.writer.capacity())
    }

    /// Gives when told to, as a QMP session does: output that is not one answer, or the session; fds that were not taken.
    fn give(&mut self, cx: &mut TaskContext<'_>) {
        while self.holdings.memory.is_told() {
            let before = self.held();
            if !self.holdings.lets_pass(self.core.limits.stall, cx) {
                self.doom(End::OverBudget);
            }
            let held = self.held();
            let fixed = if held < before { 0 } else { held };
            self.holdings.memory.settle(held, fixed);
        }
        give_fds(&self.state, &self.core.log_gate, &mut self.input, std::iter::empty());
    }

    fn monitor_closes(&self) -> bool {
        self.core.events.is_closing() || self.shared.is_closing()
    }

    fn is_closing(&self) -> bool {
        self.monitor_closes() || self.state.gives_way()
    }
}

/// Appends text with a CR before every LF, whether there is one already or not, as QEMU's monitors write it.
fn push_lines(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.replace('\n', "\r\n").as_bytes());
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("(no text)")
}

impl Future for HumanSession {
    type Output = End;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<End> {
        self.poll_turn(cx)
    }
}

impl fmt::Debug for HumanSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HumanSession").field("state", &self.state).finish_non_exhaustive()
    }
}

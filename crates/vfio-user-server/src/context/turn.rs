//! A turn of a context: the one way in which anything happens.
//!
//! Most turns are a register access and nothing else, so a turn looks at the connection first, and at everything else only
//! if there was nothing, or in every 32nd turn, or when something else is known to wait. Nothing is missed by that: the
//! context's descriptor stays readable for what was not looked at.

use std::time::{Duration, Instant};

use super::clients::attach;
use super::connection::Read;
use super::endpoint::Endpoint;
use super::poller::Token;
use super::{Context, State};
use crate::device::{Completion, Messenger, deadline};
use crate::protocol::{Channel, Session, Step};

/// Commands executed per turn.
const MAX_COMMANDS: usize = 128;
/// Bytes read per turn, or a little more.
const MAX_BYTES: usize = 256 << 10;
/// How long a turn goes on taking commands.
const MAX_TIME: Duration = Duration::from_micros(100);
/// Commands executed between looks at the clock, which costs as much as a small access.
pub(super) const COMMANDS_PER_LOOK: usize = 16;
/// Turns that may go by with the connection alone. A look costs as much as a tenth of an access, and this many turns take a
/// few hundred microseconds; a client that floods makes them up to [`MAX_TIME`] long.
const TURNS_PER_LOOK: u32 = 32;

impl Context {
    /// Does what there is to do, within a budget, and never blocks. To be called when the descriptor is readable, always on
    /// the same thread.
    pub fn turn(&mut self) {
        let now = Instant::now();
        self.begin(now);
        let read = self.read();
        let served = read != Read::Nothing;
        if served {
            self.serve(read, now);
        }
        let looked = !served || self.must_look();
        if looked {
            self.look(now, served);
        }
        self.finish(now, looked);
    }

    /// Tries the work that an access is, without being told that there is one. `false` if there was none; then this has cost
    /// one system call.
    pub(super) fn poll(&mut self) -> bool {
        if self.again || self.shared.has_jobs() {
            self.turn();
            return true;
        }
        let read = self.read();
        if read == Read::Nothing {
            return false;
        }
        let now = Instant::now();
        self.begin(now);
        self.serve(read, now);
        let looked = self.must_look();
        if looked {
            self.look(now, true);
        }
        self.finish(now, looked);
        true
    }

    /// Whether everything else has to be looked at though the connection was busy: in the end, or because somebody has asked
    /// for something. [`begin`](Self::begin) may have taken back the wake-up that told of it, so it is asked here.
    fn must_look(&mut self) -> bool {
        self.turns += 1;
        self.turns >= TURNS_PER_LOOK || self.shared.has_jobs()
    }

    fn begin(&mut self, now: Instant) {
        if std::mem::take(&mut self.again) {
            self.poller.clear_wake();
        }
        if let Some(endpoint) = &mut self.endpoint {
            endpoint.begin_turn(now);
        }
    }

    /// Reads once from the client, unless what it has sent before has not been executed yet.
    fn read(&mut self) -> Read {
        match &mut self.connection {
            Some(connection) if connection.reads() => connection.read(Channel::Main),
            _ => Read::Nothing,
        }
    }

    /// Executes what a read has brought, reads on while there is more, and answers.
    fn serve(&mut self, mut read: Read, now: Instant) {
        let mut bytes = 0;
        let mut commands = 0;
        loop {
            match read {
                Read::Nothing => break,
                Read::End(why) => {
                    // What it has sent before is still executed, in this turn and in later ones.
                    if let Some(connection) = &mut self.connection {
                        connection.at_end = Some(why);
                    }
                    self.execute(&mut commands, now);
                    break;
                }
                Read::Bytes { count, more } => {
                    bytes += count;
                    self.execute(&mut commands, now);
                    if !more || bytes >= MAX_BYTES || self.again {
                        break;
                    }
                }
            }
            read = self.read();
        }
        self.flush(now);
    }

    /// Executes commands that are there, as far as the budget goes.
    pub(super) fn execute(&mut self, commands: &mut usize, now: Instant) {
        let (Some(connection), Some(endpoint)) = (&mut self.connection, &mut self.endpoint) else { return };
        let reply_deadline = deadline(now, self.settings.limits.reply);
        connection.blocked = false;
        while connection.ending.is_none() {
            match connection.session.step(&mut **endpoint) {
                Ok(Step::Executed { .. }) => connection.progress = true,
                Ok(Step::NeedInput) => break,
                Ok(Step::Blocked) => {
                    connection.blocked = true;
                    break;
                }
                Err(violation) => {
                    connection.ending = Some(violation.to_string());
                    break;
                }
            }
            if !connection.negotiated && connection.session.peer().is_some() {
                self.shared.counters.clients.add(1);
                self.shared.set_state(State::Serving);
                attach(connection, endpoint, &mut self.settings.on_event);
                if let Some(twin) = connection.socket(Channel::Twin)
                    && let Err(error) = self.poller.add(twin, Token::Twin, true, false)
                {
                    connection.ending =
                        Some(format!("the socket for our commands cannot be watched: {error}"));
                }
            }
            // What a device starts or completes in a call goes out right after it.
            endpoint.pump(&mut connection.session, reply_deadline);
            answer_deferred(&mut connection.session, &mut **endpoint);
            *commands += 1;
            if commands.is_multiple_of(COMMANDS_PER_LOOK)
                && (*commands >= MAX_COMMANDS || now.elapsed() >= MAX_TIME)
            {
                self.again = true;
                break;
            }
        }
    }

    pub(super) fn flush(&mut self, now: Instant) {
        let Some(connection) = &mut self.connection else { return };
        if let Err(why) = connection.flush(now) {
            self.hang_up(why.to_owned());
        }
    }

    /// What every turn ends with: answers, statistics, and when the next is due. After accesses alone most of it is known to
    /// be as it was.
    fn finish(&mut self, now: Instant, looked: bool) {
        if looked && let Some(endpoint) = &mut self.endpoint {
            let reply_deadline = deadline(now, self.settings.limits.reply);
            match &mut self.connection {
                Some(connection) => {
                    endpoint.pump(&mut connection.session, reply_deadline);
                    answer_deferred(&mut connection.session, &mut **endpoint);
                }
                // A device hears of its DMA even if nobody is there to do it with.
                None => endpoint.pump(&mut Nobody, reply_deadline),
            }
        }
        if self.connection.as_ref().is_some_and(|connection| connection.session.has_any_output()) {
            self.flush(now);
        }
        if let Some(connection) = &mut self.connection {
            // What was waited for may have come in this very turn.
            self.again |= connection.blocked && !connection.session.is_blocked();
            if let Some(why) = connection.ending.take() {
                self.hang_up(why);
            } else if let Some(why) = connection.at_end
                && !self.again
                && (connection.has_all_it_gets() || connection.is_closed())
            {
                self.hang_up(why.to_owned());
            }
        }
        // A hang-up is told again as long as it matters; that of an earlier client's socket must not stay.
        self.hung_up = false;
        self.count(now);
        if self.connection.as_ref().is_some_and(|connection| !connection.is_quiet()) {
            self.watch_what_matters(now);
        }
        self.watch_resample();
        self.trim_later(now);
        self.arm(now);
        if self.again {
            self.poller.wake();
        }
    }

    /// Brings the counters up to date.
    fn count(&mut self, now: Instant) {
        let counters = &self.shared.counters;
        if let Some(endpoint) = &mut self.endpoint {
            let answered = endpoint.take_answered();
            if answered > 0 {
                counters.answered(answered, now.elapsed());
            }
            counters.interrupts.set(endpoint.interrupts());
        }
        if let Some(connection) = &mut self.connection {
            counters.take(connection.session.counters(), &mut connection.counted);
        }
    }
}

/// Where DMA commands would go if there were a client. There is none, so no memory either, and nothing is sent.
struct Nobody;

impl Messenger for Nobody {
    fn dma_read(&mut self, _: u64, _: u64) -> Option<u16> {
        None
    }

    fn dma_write(&mut self, _: u64, _: &[u8]) -> Option<u16> {
        None
    }

    fn abandon(&mut self, _: u16) {}

    fn largest(&self) -> usize {
        0
    }
}

/// Answers the deferred accesses that the device has completed.
fn answer_deferred(session: &mut Session, endpoint: &mut dyn Endpoint) {
    let completions = endpoint.completions();
    if completions.list.is_empty() {
        return;
    }
    for completion in completions.list.drain(..) {
        match completion {
            Completion::Read(token, place) => session.complete_read(token, &completions.bytes[place]),
            Completion::Write(token) => session.complete_write(token),
            Completion::Failed(token, error) => session.fail(token, error),
        }
    }
    completions.bytes.clear();
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::super::Listen;
    use super::*;
    use crate::pci::{Bar, PciSpec};
    use crate::{DeviceContext, Errno, PciDevice};

    struct Nothing;

    impl PciDevice for Nothing {
        fn spec(&self) -> PciSpec {
            PciSpec::builder(1, 2).bar(0, Bar::registers(4096)).build().unwrap()
        }

        fn read(&mut self, _: &mut DeviceContext<'_>, _: u8, _: u64, data: &mut [u8]) -> Result<(), Errno> {
            data.fill(7);
            Ok(())
        }

        fn write(&mut self, _: &mut DeviceContext<'_>, _: u8, _: u64, _: &[u8]) -> Result<(), Errno> {
            Ok(())
        }

        fn reset(&mut self, _: &mut DeviceContext<'_>) {}
    }

    fn message(command: u16, body: &[u8]) -> Vec<u8> {
        let size = u32::try_from(16 + body.len()).unwrap();
        let header =
            [&1_u16.to_ne_bytes()[..], &command.to_ne_bytes(), &size.to_ne_bytes(), &[0; 8]].concat();
        [header, body.to_vec()].concat()
    }

    fn serving() -> (Context, UnixStream) {
        let (mut client, server) = UnixStream::pair().unwrap();
        let context =
            Context::builder(Box::new(Nothing)).listen(Listen::Fd(std::os::fd::OwnedFd::from(server).into()));
        let mut context = context.map_err(|(error, _)| error).unwrap();
        client.write_all(&message(1, &[0; 4])).unwrap();
        while context.state() != State::Serving {
            context.turn();
        }
        assert!(client.read(&mut [0; 4096]).unwrap() > 16);
        (context, client)
    }

    #[test]
    fn an_access_takes_none_of_the_locks_that_others_may_hold() {
        let (mut context, mut client) = serving();
        let handle = context.handle();
        // The one lock there is. An access that took it would not come back.
        let held = handle.lock_jobs();
        let access = message(9, &[&[0; 12][..], &4_u32.to_ne_bytes()].concat());
        for _ in 0..1000 {
            client.write_all(&access).unwrap();
            context.turn();
            let mut reply = [0; 36];
            client.read_exact(&mut reply).unwrap();
            assert_eq!(reply[32..], [7; 4]);
        }
        drop(held);
    }

    #[test]
    fn a_turn_is_bounded_and_the_rest_is_not_forgotten() {
        let (mut context, mut client) = serving();
        let access = message(10, &[&[0; 12][..], &4_u32.to_ne_bytes(), &[0; 4]].concat());
        client.write_all(&access.repeat(1000)).unwrap();
        let before = context.handle().stats().writes;
        context.turn();
        let first = context.handle().stats().writes - before;
        assert!((1..=MAX_COMMANDS as u64 + 1).contains(&first), "{first}");
        client.set_nonblocking(true).unwrap();
        let mut turns = 1;
        while context.handle().stats().writes - before < 1000 {
            assert!(context.again, "the next turn is asked for");
            context.turn();
            let _ = client.read(&mut [0; 65536]);
            turns += 1;
            assert!(turns < 1000);
        }
        assert!(turns >= 1000 / MAX_COMMANDS);
    }
}

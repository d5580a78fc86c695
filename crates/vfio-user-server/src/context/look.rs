//! Everything in a turn but the connection's input: descriptors that are ready, what other threads ask, time.

use std::time::{Duration, Instant};

use super::Context;
use super::connection::Read;
use super::endpoint::Endpoint;
use super::handle::Job;
use super::poller::Token;
use super::turn::COMMANDS_PER_LOOK;
use crate::protocol::Channel;

/// What other threads ask, done per turn.
const MAX_JOBS: usize = 128;
/// A client that has been quiet for so long does not need large buffers.
const QUIET: Duration = Duration::from_secs(1);

impl Context {
    /// Looks at everything but the connection's input.
    pub(super) fn look(&mut self, now: Instant, served: bool) {
        self.turns = 0;
        let mut ready = std::mem::take(&mut self.ready);
        self.poller.fetch(&mut ready);
        for token in &ready {
            match *token {
                Token::Listener => {}
                // Nothing to read is wanted, and no room to write: what is left is that it is closed.
                Token::Connection => self.hung_up |= !served && self.interest() == Some((false, false)),
                Token::Twin => self.read_twin(now),
                Token::Timer => {
                    self.poller.clear_timer();
                    self.armed = None;
                }
                Token::Wake => self.poller.clear_wake(),
                Token::Resample => self.with_endpoint(|endpoint| endpoint.resampled()),
                Token::Watch(number) => self.with_endpoint(|endpoint| endpoint.watch_ready(number)),
                Token::Doorbell(number) => self.with_endpoint(|endpoint| endpoint.doorbell_ready(number)),
            }
        }
        self.ready = ready;
        if self.hung_up && self.interest().is_some_and(|(read, _)| !read) {
            self.hang_up("the client has closed the connection".to_owned());
        }
        self.flush(now);
        self.run_jobs();
        self.check_deadline(now);
        self.trim(now);
        self.with_endpoint(|endpoint| endpoint.serve_time());
        // Commands that waited for the device may go on; this also executes what the last turn left.
        let mut commands = 0;
        self.execute(&mut commands, now);
        self.accept(now);
    }

    pub(super) fn with_endpoint(&mut self, call: impl FnOnce(&mut Box<dyn Endpoint>)) {
        if let Some(endpoint) = &mut self.endpoint {
            call(endpoint);
        }
    }

    /// What the connection is watched for: to read, to write.
    fn interest(&self) -> Option<(bool, bool)> {
        self.connection.as_ref().map(|connection| connection.interest)
    }

    fn read_twin(&mut self, now: Instant) {
        for _ in 0..COMMANDS_PER_LOOK {
            let Some(connection) = &mut self.connection else { return };
            match connection.read(Channel::Twin) {
                Read::Bytes { more, .. } => {
                    let mut commands = 0;
                    self.execute(&mut commands, now);
                    if !more {
                        return;
                    }
                }
                Read::Nothing => return,
                Read::End(_) => {
                    return self.hang_up("the client has closed the socket for our commands".to_owned());
                }
            }
        }
    }

    fn run_jobs(&mut self) {
        if !self.shared.has_jobs() {
            return;
        }
        for job in self.shared.take_jobs(MAX_JOBS) {
            match job {
                Job::Report(tell) => tell(self.report()),
                Job::Disconnect => {
                    if self.connection.is_some() {
                        self.hang_up("the connection was ended here".to_owned());
                    }
                }
                Job::Run(call) => self.with_endpoint(|endpoint| endpoint.run(call)),
            }
        }
        self.again |= self.shared.has_jobs();
    }

    fn check_deadline(&mut self, now: Instant) {
        let limits = &self.settings.limits;
        let passed = self.connection.as_ref().and_then(|connection| connection.deadline(limits));
        if let Some((_, why)) = passed.filter(|(when, _)| *when <= now) {
            self.hang_up(why.to_owned());
        }
    }

    /// Gives back large buffers of a client that has become quiet.
    fn trim(&mut self, now: Instant) {
        let Some(connection) = &mut self.connection else { return };
        if connection.trim_at.is_some_and(|when| when <= now) {
            connection.trim_at = None;
            if connection.session.is_quiet() {
                connection.session.trim();
            }
        }
    }

    /// Has large buffers looked at in a while.
    pub(super) fn trim_later(&mut self, now: Instant) {
        if let Some(connection) = &mut self.connection
            && connection.trim_at.is_none()
            && connection.session.is_large()
        {
            connection.trim_at = now.checked_add(QUIET);
        }
    }

    /// Reads from the client only while there is room for it, and waits for room to write only while something waits.
    pub(super) fn watch_what_matters(&mut self, now: Instant) {
        let Some(connection) = &mut self.connection else { return };
        let progress = std::mem::take(&mut connection.progress);
        let since = connection.partial_since.filter(|_| !progress).unwrap_or(now);
        let waits = connection.session.has_partial_message() || connection.at_end.is_some();
        connection.partial_since = waits.then_some(since);
        let room = connection.reads() && !connection.session.spare(Channel::Main).is_empty();
        let interest = (room, connection.stuck_since.is_some());
        if interest != connection.interest {
            connection.interest = interest;
            if !self.direct {
                self.poller.modify(&*connection.stream, Token::Connection, interest.0, interest.1);
            }
        }
        let full = connection.session.has_output(Channel::Twin);
        if full != connection.twin_is_full {
            connection.twin_is_full = full;
            if let Some(twin) = connection.socket(Channel::Twin) {
                self.poller.modify(twin, Token::Twin, true, full);
            }
        }
    }

    /// Watches the eventfd with which the client lets go of INTx, if that has become another.
    pub(super) fn watch_resample(&mut self) {
        let Some(endpoint) = &self.endpoint else { return };
        let (fd, change) = endpoint.resample_fd();
        if change == self.resample.1 {
            return;
        }
        let new = fd.map(|fd| rustix::io::fcntl_dupfd_cloexec(fd, 0)).transpose();
        if let Some(old) = self.resample.0.take() {
            self.poller.remove(&old);
        }
        self.resample.1 = change;
        let watched = new.and_then(|new| {
            new.as_ref().map_or(Ok(()), |new| self.poller.add_edge(new, Token::Resample)).map(|()| new)
        });
        match watched {
            Ok(new) => self.resample.0 = new,
            Err(error) => {
                tracing::warn!(%error, "the eventfd with which a client lets go of INTx cannot be watched");
            }
        }
    }

    /// Sets the timer, if it would come too late. One that comes too early does no harm and needs no system call now.
    pub(super) fn arm(&mut self, now: Instant) {
        let limits = &self.settings.limits;
        let client = self.connection.as_ref().and_then(|connection| connection.deadline(limits));
        let device = self.endpoint.as_ref().and_then(|endpoint| endpoint.next_due());
        let trim = self.connection.as_ref().and_then(|connection| connection.trim_at);
        let times = [client.map(|(when, _)| when), device, trim, self.accept_after];
        let Some(due) = times.into_iter().flatten().min() else { return };
        if due <= now {
            self.again = true;
        } else if self.armed.is_none_or(|armed| due < armed) {
            self.poller.set_timer(Some(due), Instant::now());
            self.armed = Some(due);
        }
    }
}

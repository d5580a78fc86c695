//! Signals eventfds without waiting.
//!
//! Asynchronous I/O does it, see [`AioContext`]. Where that is not to be had (a seccomp filter, a host that has given out
//! all of its requests), the descriptor is made non-blocking and written to unless its counter is full. Between these
//! steps a client can clear the flag and fill the counter, and so hold up the device until it reads: whoever runs
//! clients that they do not trust should let io_setup(2) through.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, OnceLock, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, OFlags, fcntl_getfl, fcntl_setfl, memfd_create};
use rustix::io::{Errno, write};

use crate::sys::AioContext;

/// Contexts that nobody uses now. They are kept for the next one: to end one takes some 30 ms.
static IDLE: Mutex<Vec<AioContext>> = Mutex::new(Vec::new());

/// The empty file that requests read.
fn source() -> Option<BorrowedFd<'static>> {
    static SOURCE: OnceLock<Option<OwnedFd>> = OnceLock::new();
    SOURCE
        .get_or_init(|| memfd_create("vfio-user-signal", MemfdFlags::CLOEXEC).ok())
        .as_ref()
        .map(AsFd::as_fd)
}

/// Signals eventfds, and counts that.
#[derive(Debug, Default)]
pub(crate) struct Signaller {
    aio: Option<(AioContext, BorrowedFd<'static>)>,
    /// It was tried to get a context.
    tried: bool,
    signalled: u64,
}

impl Signaller {
    /// One that only writes, as where there is no asynchronous I/O.
    #[cfg(test)]
    pub(super) fn without_aio() -> Self {
        Self { aio: None, tried: true, signalled: 0 }
    }

    /// Gets what [`signal`](Self::signal) needs. Called when an eventfd is set up, not when it is signalled.
    pub(crate) fn prepare(&mut self) {
        if self.tried {
            return;
        }
        self.tried = true;
        let Some(source) = source() else { return };
        let idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match idle.map_or_else(|| AioContext::new(source), Ok) {
            Ok(context) => self.aio = Some((context, source)),
            Err(error) => {
                tracing::warn!(%error, "no asynchronous I/O: interrupts are written, which may wait")
            }
        }
    }

    /// Whether signals cannot wait.
    #[cfg(test)]
    pub(super) fn has_aio(&self) -> bool {
        self.aio.is_some()
    }

    /// Whether a descriptor is an eventfd; `None` if that cannot be told here.
    pub(super) fn is_eventfd(&self, fd: BorrowedFd<'_>) -> Option<bool> {
        self.aio.as_ref().map(|(context, source)| context.is_eventfd(*source, fd))
    }

    /// Adds 1 to the counter of an eventfd. A full counter is signalled already.
    pub(crate) fn signal(&mut self, eventfd: BorrowedFd<'_>) {
        self.signalled += 1;
        if let Some((context, source)) = &mut self.aio
            && context.signal(*source, eventfd).is_ok()
        {
            return;
        }
        if let Err(error) = write_unless_full(eventfd) {
            tracing::debug!(%error, "an interrupt was not signalled");
            self.signalled -= 1;
        }
    }

    /// Signals so far.
    pub(crate) fn signalled(&self) -> u64 {
        self.signalled
    }
}

impl Drop for Signaller {
    fn drop(&mut self) {
        if let Some((context, _)) = self.aio.take() {
            IDLE.lock().unwrap_or_else(PoisonError::into_inner).push(context);
        }
    }
}

fn write_unless_full(eventfd: BorrowedFd<'_>) -> Result<(), Errno> {
    let flags = fcntl_getfl(eventfd)?;
    if !flags.contains(OFlags::NONBLOCK) {
        fcntl_setfl(eventfd, flags | OFlags::NONBLOCK)?;
    }
    let mut set = [PollFd::from_borrowed_fd(eventfd, PollFlags::OUT)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    if poll(&mut set, Some(&now))? == 0 || !set[0].revents().contains(PollFlags::OUT) {
        return Ok(());
    }
    match write(eventfd, &1_u64.to_ne_bytes()) {
        Ok(_) | Err(Errno::AGAIN) => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{EventfdFlags, eventfd};
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::mpsc;
    use std::time::Duration;

    /// The highest value that a write can leave in a counter.
    const FULL: u64 = u64::MAX - 1;

    /// Fails the test, rather than hang it, if `work` is not done in time.
    fn watched(work: impl FnOnce() + Send + 'static) {
        let (sender, done) = mpsc::channel();
        let worker = std::thread::spawn(move || {
            work();
            let _ = sender.send(());
        });
        match done.recv_timeout(Duration::from_secs(30)) {
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("it waits"),
            _ => worker.join().unwrap(),
        }
    }

    fn both_ways() -> [Signaller; 2] {
        let mut prepared = Signaller::default();
        prepared.prepare();
        [prepared, Signaller::without_aio()]
    }

    fn count(fd: &OwnedFd) -> u64 {
        let mut count = [0; 8];
        rustix::io::read(fd, &mut count).unwrap();
        u64::from_ne_bytes(count)
    }

    #[test]
    fn signals_are_counted_by_both_ways() {
        for mut signaller in both_ways() {
            let fd = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
            (0..100).for_each(|_| signaller.signal(fd.as_fd()));
            assert_eq!((count(&fd), signaller.signalled()), (100, 100));
        }
    }

    #[test]
    fn a_full_blocking_counter_is_signalled_already() {
        watched(|| {
            for mut signaller in both_ways() {
                let fd = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
                write(&fd, &FULL.to_ne_bytes()).unwrap();
                (0..100).for_each(|_| signaller.signal(fd.as_fd()));
                assert!(count(&fd) >= FULL);
                assert_eq!(signaller.signalled(), 100);
            }
        });
    }

    /// Fills the counter, over and over, while it can be waited for; and leaves it so until there was another signal.
    fn obstruct(fd: &OwnedFd, signals: &AtomicU64, rounds: &AtomicU64) {
        let flags = fcntl_getfl(fd).unwrap();
        loop {
            fcntl_setfl(fd, flags | OFlags::NONBLOCK).unwrap();
            let _ = rustix::io::read(fd, &mut [0; 8]);
            // Signals come in between, but not that many.
            let _ = write(fd, &(FULL - 1000).to_ne_bytes());
            while write(fd, &1_u64.to_ne_bytes()).is_ok() {}
            fcntl_setfl(fd, flags - OFlags::NONBLOCK).unwrap();
            rounds.fetch_add(1, Ordering::Relaxed);
            let before = signals.load(Ordering::Relaxed);
            while signals.load(Ordering::Relaxed) == before {
                if before >= SIGNALS {
                    return;
                }
                std::hint::spin_loop();
            }
        }
    }

    const SIGNALS: u64 = 10_000;

    #[test]
    fn a_client_that_fills_the_counter_all_the_time_does_not_stop_us() {
        let mut signaller = Signaller::default();
        signaller.prepare();
        if !signaller.has_aio() {
            eprintln!("SKIPPED: no asynchronous I/O on this host, so that a client can make interrupts wait");
            return;
        }
        watched(move || {
            let fd = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
            let (signals, rounds) = (AtomicU64::new(0), AtomicU64::new(0));
            std::thread::scope(|scope| {
                scope.spawn(|| obstruct(&fd, &signals, &rounds));
                while rounds.load(Ordering::Relaxed) == 0 {
                    std::thread::yield_now();
                }
                for _ in 0..SIGNALS {
                    signaller.signal(fd.as_fd());
                    signals.fetch_add(1, Ordering::Relaxed);
                }
            });
            assert_eq!(signaller.signalled(), SIGNALS);
        });
    }

    #[test]
    fn contexts_are_used_again() {
        // Others take and give at the same time; but there are only so many of them.
        for _ in 0..200 {
            let mut signaller = Signaller::default();
            signaller.prepare();
        }
        assert!(IDLE.lock().unwrap().len() < 100);
    }

    #[test]
    fn what_cannot_be_signalled_is_not_counted() {
        let reader = std::fs::File::open(std::env::current_exe().unwrap()).unwrap();
        let mut signaller = Signaller::default();
        signaller.prepare();
        signaller.signal(reader.as_fd());
        assert_eq!(signaller.signalled(), 0);
    }
}

//! The threads that close.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Closes that may be stuck at once before further ones wait behind them.
pub const MAX_THREADS: usize = 32;

/// How long a thread waits for more to do before it ends.
pub const IDLE: Duration = Duration::from_secs(2);

struct Pool {
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<OwnedFd>,
    threads: usize,
    idle: usize,
}

static POOL: Pool =
    Pool { state: Mutex::new(State { waiting: VecDeque::new(), threads: 0, idle: 0 }), work: Condvar::new() };

impl Pool {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Has a descriptor closed by one of the threads.
pub(crate) fn close(fd: OwnedFd) {
    let mut state = POOL.lock();
    state.waiting.push_back(fd);
    if state.idle >= state.waiting.len() || state.threads >= MAX_THREADS {
        drop(state);
        POOL.work.notify_one();
        return;
    }
    state.threads += 1;
    drop(state);
    if thread::Builder::new().name("fd-closer".into()).spawn(run).is_ok() {
        return;
    }
    let mut state = POOL.lock();
    state.threads -= 1;
    // Others will get to it, if there are any.
    let here = if state.threads == 0 { std::mem::take(&mut state.waiting) } else { VecDeque::new() };
    drop(state);
    drop(here);
}

/// A thread: closes what waits, then waits for more, then ends.
fn run() {
    let mut state = POOL.lock();
    loop {
        if let Some(fd) = state.waiting.pop_front() {
            drop(state);
            drop(fd);
            state = POOL.lock();
            continue;
        }
        state.idle += 1;
        let (woken, timeout) = POOL.work.wait_timeout(state, IDLE).unwrap_or_else(PoisonError::into_inner);
        state = woken;
        state.idle -= 1;
        if timeout.timed_out() && state.waiting.is_empty() {
            state.threads -= 1;
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{ErrorKind, Read, Write};
    use std::net::{TcpListener, TcpStream};

    /// A socket whose close blocks until its peer reads, and that peer.
    fn lingering() -> (OwnedFd, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (peer, _) = listener.accept().unwrap();
        rustix::net::sockopt::set_socket_linger(&socket, Some(Duration::from_secs(60))).unwrap();
        socket.set_nonblocking(true).unwrap();
        while !matches!(socket.write(&[7; 65536]), Err(e) if e.kind() == ErrorKind::WouldBlock) {}
        socket.set_nonblocking(false).unwrap();
        (socket.into(), peer)
    }

    #[test]
    fn stuck_closes_hold_up_neither_the_caller_nor_each_other() {
        let stuck: Vec<_> = (0..4).map(|_| lingering()).collect();
        let peers: Vec<_> = stuck
            .into_iter()
            .map(|(socket, peer)| {
                crate::close(socket);
                peer
            })
            .collect();
        // A socket that does not linger is closed though four closes are stuck: its peer sees the end.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        crate::close(socket.into());
        assert_eq!(peer.read(&mut [0]).unwrap(), 0);
        // Nothing of what was sent is lost.
        for mut peer in peers {
            let mut all = Vec::new();
            peer.read_to_end(&mut all).unwrap();
            assert!(!all.is_empty() && all.iter().all(|b| *b == 7));
        }
    }
}

//! The threads that close.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Closes that may be stuck at once before further ones wait behind them. Each keeps a descriptor of the process's busy,
/// of which there are seldom many more.
pub const MAX_THREADS: usize = 1024;

/// Closing needs next to no stack.
const STACK: usize = 64 * 1024;

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
    if thread::Builder::new().name("fd-closer".into()).stack_size(STACK).spawn(run).is_ok() {
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

    /// Many closes that block (put into the pool as they are, lingering) do not hold up one that does not.
    #[test]
    fn stuck_closes_hold_up_neither_the_caller_nor_each_other() {
        let (stuck, peers): (Vec<_>, Vec<_>) = (0..40).map(|_| lingering()).unzip();
        stuck.into_iter().for_each(close);
        let (mut reader, writer) = std::io::pipe().unwrap();
        close(writer.into());
        assert_eq!(reader.read(&mut [0]).unwrap(), 0);
        // Resetting them lets them go.
        drop(peers);
    }

    #[test]
    fn a_socket_that_is_closed_sends_what_it_had() {
        let (socket, mut peer) = lingering();
        crate::close(socket);
        let mut all = Vec::new();
        peer.read_to_end(&mut all).unwrap();
        assert!(!all.is_empty() && all.iter().all(|byte| *byte == 7));
    }
}

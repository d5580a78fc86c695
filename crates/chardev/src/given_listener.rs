//! A listening socket that this process was given, and that its giver may still have.
//!
//! Whether a socket blocks is a property that all share who have it, and `accept` has no flag to overrule it: a giver that
//! takes a client away, or makes the socket blocking, at the wrong moment makes `accept` wait. So each `accept` is made by
//! a thread of its own, which is started when there is a client; that costs a client some 50 us. One `accept` is under way
//! at most. If it is stuck when the listener goes, the socket is shut down, which ends it.

use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::thread;

use fd_closer::Received;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{Shutdown, SocketFlags, accept_with};
use thread_start::{Starter, ThreadKind};
use tokio::net::unix::pipe::Receiver;
use tokio::sync::oneshot;

use crate::aside::Aside;

/// Accepting needs next to no stack.
const STACK: usize = 64 * 1024;

/// What an `accept` brings.
type Accepted = io::Result<Received>;

#[derive(Debug)]
pub(crate) struct GivenListener {
    /// (tokio's pipe ends poll whatever epoll takes.) Shared with the thread.
    socket: Arc<Aside<Receiver>>,
    /// The `accept` that is under way. It outlives whoever waits for it, so that no client is lost.
    accepting: Mutex<Option<oneshot::Receiver<Accepted>>>,
    starter: Starter,
}

impl GivenListener {
    /// The socket should not block, for the sake of speed. `starter` starts the threads.
    pub(crate) fn new(socket: Received, starter: Starter) -> io::Result<Self> {
        let socket = Receiver::from_owned_fd_unchecked(socket.into_fd())?;
        Ok(Self { socket: Arc::new(socket.into()), accepting: Mutex::default(), starter })
    }

    #[cfg(feature = "tcp")]
    pub(crate) fn socket(&self) -> std::os::fd::BorrowedFd<'_> {
        std::os::fd::AsFd::as_fd(&**self.socket)
    }

    /// The next client. May be dropped at any time; no client is lost.
    pub(crate) async fn accept(&self) -> io::Result<OwnedFd> {
        loop {
            self.socket.readable().await?;
            self.start()?;
            match poll_fn(|cx| self.poll_accepting(cx)).await {
                Ok(client) => return Ok(client.into_fd()),
                // Somebody else has taken it.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.look_again(),
                Err(error) => return Err(error),
            }
        }
    }

    /// Has tokio forget that there was a client, unless there is another.
    fn look_again(&self) {
        let _ = self.socket.try_io(|| {
            let mut asked = [PollFd::new(&**self.socket, PollFlags::IN)];
            match poll(&mut asked, Some(&Timespec::default())) {
                Ok(0) => Err(io::ErrorKind::WouldBlock.into()),
                _ => Ok(()),
            }
        });
    }

    /// Starts an `accept`, unless one is under way.
    fn start(&self) -> io::Result<()> {
        let mut accepting = self.lock();
        if accepting.is_some() {
            return Ok(());
        }
        let (sender, receiver) = oneshot::channel();
        let socket = self.socket.clone();
        let accept = move || {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let accepted = accept_with(&**socket, flags).map(Received::from).map_err(io::Error::from);
            // Before anybody hears of it: the last owner closes it.
            drop(socket);
            // An error says that nobody wants it any more, and closes it.
            let _ = sender.send(accepted);
        };
        let builder = thread::Builder::new().stack_size(STACK);
        self.starter.start_with(builder, ThreadKind::Acceptor, "accept", accept)?;
        *accepting = Some(receiver);
        Ok(())
    }

    fn poll_accepting(&self, cx: &mut std::task::Context<'_>) -> Poll<Accepted> {
        let mut accepting = self.lock();
        // Nobody else takes it: a listener has one who accepts.
        let Some(receiver) = accepting.as_mut() else {
            return Poll::Ready(Err(io::ErrorKind::WouldBlock.into()));
        };
        let accepted = std::task::ready!(std::pin::Pin::new(receiver).poll(cx));
        *accepting = None;
        Poll::Ready(accepted.unwrap_or_else(|_| Err(io::Error::other("the accepting thread has ended"))))
    }

    fn lock(&self) -> MutexGuard<'_, Option<oneshot::Receiver<Accepted>>> {
        self.accepting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for GivenListener {
    fn drop(&mut self) {
        if self.lock().is_some() {
            // It would wait for a client that perhaps never comes.
            let _ = rustix::net::shutdown(&**self.socket, Shutdown::Both);
        }
    }
}

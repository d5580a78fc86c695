//! What is called for a descriptor.

use crate::{Events, Scope};

/// Serves a descriptor, and may know how to find its work without being told that it is there.
///
/// For what needs no [`poll`](Handler::poll), [`Handle::add_handler`](crate::Handle::add_handler) takes a closure.
/// Both methods may do all that a [`Scope`] offers, to the handler itself too.
///
/// ```
/// use std::io::{ErrorKind, Read, Write};
/// use std::os::unix::net::UnixStream;
/// use std::sync::Arc;
///
/// use iothread::{Events, Handler, Interest, IoThread, Scope};
///
/// struct Echo(Arc<UnixStream>);
///
/// impl Handler for Echo {
///     fn ready(&mut self, _events: Events, scope: &mut Scope<'_>) {
///         self.poll(scope);
///     }
///
///     fn poll(&mut self, scope: &mut Scope<'_>) -> bool {
///         let mut buffer = [0; 64];
///         match (&*self.0).read(&mut buffer) {
///             Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
///             Ok(count) if count > 0 && (&*self.0).write_all(&buffer[..count]).is_ok() => {}
///             _ => scope.remove_current(),
///         }
///         true
///     }
/// }
///
/// let (mut ours, theirs) = UnixStream::pair()?;
/// theirs.set_nonblocking(true)?;
/// let stream = Arc::new(theirs);
/// let iothread = IoThread::builder("IO doc").start()?;
/// iothread.handle().add_polled(Arc::clone(&stream), Interest::READ, Echo(stream))?;
/// ours.write_all(b"hello")?;
/// let mut answer = [0; 5];
/// ours.read_exact(&mut answer)?;
/// assert_eq!(&answer, b"hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Handler: Send {
    /// The descriptor is ready for what the interest says, or was a moment ago.
    fn ready(&mut self, events: Events, scope: &mut Scope<'_>);

    /// Looks for work and does it; says whether there was any. After `true` nothing else is called for that work.
    ///
    /// Called again and again while the thread polls, so it must be quick when there is nothing to do, and must not
    /// block: one `recvmsg` with `MSG_DONTWAIT`, a look at a ring in shared memory. A hook may look at something else
    /// than its descriptor, as long as the descriptor is ready as well when there is work: it may not be called at
    /// all. It is called only while the interest includes [reading](crate::Interest::READ).
    fn poll(&mut self, scope: &mut Scope<'_>) -> bool {
        let _ = scope;
        false
    }
}

/// A closure as a handler without a hook.
pub(crate) struct Ready<F>(pub(crate) F);

impl<F: FnMut(Events, &mut Scope<'_>) + Send> Handler for Ready<F> {
    fn ready(&mut self, events: Events, scope: &mut Scope<'_>) {
        (self.0)(events, scope);
    }
}

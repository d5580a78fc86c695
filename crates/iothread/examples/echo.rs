//! An echo server for one connection, on an iothread of its own: told by epoll when there is something to read, and
//! where that pays, looking for it by itself.

use std::error::Error;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use iothread::{Events, Handler, Interest, IoThread, Scope};

struct Echo(Arc<UnixStream>);

impl Handler for Echo {
    fn ready(&mut self, _: Events, scope: &mut Scope<'_>) {
        self.poll(scope);
    }

    fn poll(&mut self, scope: &mut Scope<'_>) -> bool {
        let mut buffer = [0; 4096];
        match (&*self.0).read(&mut buffer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
            // An echo that does not fit the socket's buffer is cut short here; a server would wait for `writable`.
            Ok(count) if count > 0 && (&*self.0).write_all(&buffer[..count]).is_ok() => {}
            _ => scope.remove_current(),
        }
        true
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let iothread = IoThread::builder("IO echo").start()?;
    let (mut client, server) = UnixStream::pair()?;
    server.set_nonblocking(true)?;

    let server = Arc::new(server);
    iothread.handle().add_polled(Arc::clone(&server), Interest::READ, Echo(server))?;

    let mut answer = [0; 16];
    for _ in 0..1000 {
        client.write_all(b"hello, iothread\n")?;
        client.read_exact(&mut answer)?;
    }
    print!("{}", String::from_utf8_lossy(&answer));
    println!("thread {}: {:#?}", iothread.thread_id(), iothread.stats());
    Ok(())
}

//! An echo server for one connection, on an iothread of its own.

use std::error::Error;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use iothread::{Interest, IoThread};

fn main() -> Result<(), Box<dyn Error>> {
    let iothread = IoThread::builder("IO echo").start()?;
    let (mut client, server) = UnixStream::pair()?;
    server.set_nonblocking(true)?;

    let server = Arc::new(server);
    iothread.handle().add_handler(Arc::clone(&server), Interest::READ, move |_events, scope| {
        let mut buffer = [0; 4096];
        match (&*server).read(&mut buffer) {
            // An echo that does not fit the socket's buffer is cut short here; a server would wait for `writable`.
            Ok(count) if count > 0 && (&*server).write_all(&buffer[..count]).is_ok() => {}
            _ => {
                if let Some(id) = scope.current_handler() {
                    scope.remove_handler(id);
                }
            }
        }
    })?;

    client.write_all(b"hello, iothread\n")?;
    let mut answer = [0; 16];
    client.read_exact(&mut answer)?;
    print!("{}", String::from_utf8_lossy(&answer));
    println!("thread {}: {:?}", iothread.thread_id(), iothread.stats());
    Ok(())
}

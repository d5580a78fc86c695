//! A socket whose close blocks for a second, closed without waiting for it.

use std::io::{ErrorKind, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

fn main() -> std::io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut socket = TcpStream::connect(listener.local_addr()?)?;
    let _peer_that_never_reads = listener.accept()?;
    rustix::net::sockopt::set_socket_linger(&socket, Some(Duration::from_secs(1)))?;
    socket.set_nonblocking(true)?;
    while !matches!(socket.write(&[0; 65536]), Err(e) if e.kind() == ErrorKind::WouldBlock) {}
    socket.set_nonblocking(false)?;

    let start = Instant::now();
    fd_closer::close(socket.into());
    println!("close returned after {:?}", start.elapsed());
    Ok(())
}

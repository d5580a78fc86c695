//! Echoes to every client what it sends, four clients at a time.
//!
//! `cargo run -p chardev --example echo -- PATH`, then `socat - UNIX-CONNECT:PATH` from several terminals. With `-` for a
//! path the one client is whoever has started it, on stdin and stdout.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;

use chardev::{Address, Backend, Chardev, Connection, SocketOptions};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let Some(path) = std::env::args_os().nth(1) else {
        return Err("usage: echo PATH|-".into());
    };
    let backend = match path.to_str() {
        Some("-") => Backend::Stdio,
        _ => Backend::Socket(SocketOptions::server(Address::unix(path))),
    };
    let chardev = Arc::new(Chardev::open("echo", backend, 128).await?);
    let mut front_end = chardev.front_end(4)?;
    eprintln!("{}", chardev.filename());
    while let Some(connection) = front_end.next().await {
        eprintln!("{} has come", connection.peer());
        tokio::spawn(async move {
            let end = echo(&connection).await;
            eprintln!("{} has gone: {end:?}", connection.peer()); // dropping the connection lets the next one in
        });
    }
    Ok(())
}

async fn echo(connection: &Connection) -> io::Result<()> {
    let (mut buf, mut fds) = ([0; 4096], Vec::new());
    loop {
        poll_fn(|cx| connection.poll_read_ready(cx)).await?;
        let received = match connection.try_recv(&mut buf, &mut fds) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            received => received?,
        };
        if received.len == 0 {
            return Ok(());
        }
        for fd in fds.drain(..) {
            eprintln!("  a descriptor came along: {fd:?}");
        }
        send_all(connection, &buf[..received.len]).await?;
    }
}

async fn send_all(connection: &Connection, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        poll_fn(|cx| connection.poll_write_ready(cx)).await?;
        match connection.try_send(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            sent => bytes = &bytes[sent?..],
        }
    }
    Ok(())
}

//! The line between a serial port and its chardev's client.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;

use tokio::task::JoinHandle;
use vmm_control::chardev::{Connection, FrontEnd};

use super::port::SerialPort;

/// How much is moved at once, in bytes.
const CHUNK: usize = 1024;

/// The line's task. It serves one client at a time, until [`end`](Self::end) or until it is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    port: Arc<SerialPort>,
    task: JoinHandle<()>,
}

impl Server {
    /// Starts it, on the current runtime. What the guest sends from now on reaches a client that is there already.
    pub(crate) fn start(mut front_end: FrontEnd, port: Arc<SerialPort>) -> Self {
        port.set_connected(front_end.chardev().is_connected());
        let line = Arc::clone(&port);
        let task = tokio::spawn(async move {
            // Of a socket's client the end of its input is the end of it; of a file it is not.
            let is_socket = front_end.chardev().is_socket();
            while let Some(client) = next(&mut front_end, &line).await {
                line.set_connected(true);
                if let Err(error) = serve(&client, &line, is_socket).await {
                    tracing::debug!(%error, peer = %client.peer(), "the serial port's client is gone");
                }
                line.set_connected(false);
                if line.needs().closing {
                    break;
                }
            }
        });
        Self { port, task }
    }

    /// Ends it. What the client can take at once of the guest's output it still gets.
    pub(crate) async fn end(mut self) {
        self.port.close();
        if let Err(error) = (&mut self.task).await {
            tracing::error!(%error, "a serial port's task has failed");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The next client. `None` when there will be none, or when it is over.
async fn next(front_end: &mut FrontEnd, port: &SerialPort) -> Option<Connection> {
    let over = async {
        while !port.needs().closing {
            port.changed().await;
        }
    };
    tokio::select! {
        // One that is there gets what there is, even if it is over.
        biased;
        client = front_end.next() => client,
        () = over => None,
    }
}

/// Moves bytes until the client has gone, or it is over.
async fn serve(client: &Connection, port: &SerialPort, ends_with_input: bool) -> io::Result<()> {
    // Keys are the guest's to echo. A terminal that cannot be had is used as it is.
    let _raw = client.raw_terminal();
    let mut chunk = [0; CHUNK];
    let mut listens = true;
    loop {
        let needs = port.needs();
        if needs.output && !send(client, port, &mut chunk)? && needs.closing {
            return Ok(());
        }
        let needs = port.needs();
        if needs.closing && !needs.output {
            return Ok(());
        }
        let receives = listens && needs.room > 0 && !needs.closing;
        if receives {
            let most = needs.room.min(CHUNK);
            match client.try_recv_plain(&mut chunk[..most]) {
                Ok(0) if ends_with_input => return Ok(()),
                Ok(0) => listens = false,
                Ok(count) => {
                    port.came(&chunk[..count]);
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        tokio::select! {
            ready = poll_fn(|cx| client.poll_read_ready(cx)), if receives => ready?,
            ready = poll_fn(|cx| client.poll_write_ready(cx)), if needs.output => ready?,
            () = port.changed() => {}
        }
    }
}

/// Sends a chunk of the output. Whether any of it went.
fn send(client: &Connection, port: &SerialPort, chunk: &mut [u8]) -> io::Result<bool> {
    let count = port.copy_output(chunk);
    match client.try_send(&chunk[..count]) {
        Ok(sent) => {
            port.sent(sent);
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}

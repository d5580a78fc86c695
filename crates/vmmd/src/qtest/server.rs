//! The lines of a test program, over its chardev.

use std::future::poll_fn;
use std::io;

use tokio::task::JoinHandle;
use vmm_control::chardev::{Connection, FrontEnd};

use super::Log;
use super::command::answer;
use crate::board::Board;

/// The longest request, in bytes. What comes beyond is not kept.
const LONGEST: usize = 1 << 20;

/// A server that runs until it is dropped. It serves one client at a time.
#[derive(Debug)]
pub(crate) struct Server(JoinHandle<()>);

impl Server {
    /// Starts it, on the current runtime.
    pub(crate) fn start(mut front_end: FrontEnd, board: Board, mut log: Log) -> Self {
        Self(tokio::spawn(async move {
            while let Some(client) = front_end.next().await {
                log.opened();
                if let Err(error) = serve(&client, &board, &mut log).await {
                    tracing::debug!(%error, peer = %client.peer(), "the qtest client is gone");
                }
                log.closed();
            }
        }))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Answers until the client closes its side.
async fn serve(client: &Connection, board: &Board, log: &mut Log) -> io::Result<()> {
    let mut lines = Lines::default();
    let mut chunk = [0; 4096];
    loop {
        let count = receive(client, &mut chunk).await?;
        if count == 0 {
            return Ok(());
        }
        for line in lines.split(&chunk[..count]) {
            log.received(&line);
            let answered = answer(&line, board);
            log.sent(&answered);
            send(client, format!("{answered}\n").as_bytes()).await?;
        }
        // A client that never pauses must not keep others from the thread.
        tokio::task::yield_now().await;
    }
}

async fn receive(client: &Connection, chunk: &mut [u8]) -> io::Result<usize> {
    loop {
        match client.try_recv_plain(chunk) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                poll_fn(|cx| client.poll_read_ready(cx)).await?;
            }
            done => return done,
        }
    }
}

async fn send(client: &Connection, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match client.try_send(bytes) {
            Ok(sent) => bytes = &bytes[sent..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                poll_fn(|cx| client.poll_write_ready(cx)).await?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Cuts bytes into lines.
#[derive(Debug, Default)]
struct Lines {
    /// The beginning of a line whose end has not come yet.
    begun: Vec<u8>,
}

impl Lines {
    /// The lines that end in `bytes`, without their ends.
    fn split(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut whole = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (piece, ends) = match piece.split_last() {
                Some((b'\n', line)) => (line, true),
                _ => (piece, false),
            };
            let room = LONGEST.saturating_sub(self.begun.len()).min(piece.len());
            self.begun.extend_from_slice(&piece[..room]);
            if ends {
                whole.push(String::from_utf8_lossy(&std::mem::take(&mut self.begun)).into_owned());
            }
        }
        whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_in_pieces() {
        let mut lines = Lines::default();
        assert!(lines.split(b"end").is_empty());
        assert_eq!(lines.split(b"ianness\ninb 0\n\nou"), ["endianness", "inb 0", ""]);
        assert_eq!(lines.split(b"t\n"), ["out"]);
    }

    #[test]
    fn a_line_without_an_end_is_not_kept_for_ever() {
        let mut lines = Lines::default();
        for _ in 0..20 {
            lines.split(&[b'x'; 100_000]);
        }
        assert_eq!(lines.begun.len(), LONGEST);
        assert_eq!(lines.split(b"\n")[0].len(), LONGEST);
        assert_eq!(lines.split(b"inb 0\n"), ["inb 0"]);
    }
}

//! The noisy neighbour: a thread with a client that never pauses.
//!
//! It shares the client's core with the measured client, which is part of what is measured.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use super::client::{Batch, Client};
use crate::harness::{Doing, Error, Result};

/// A running flood. It ends when it is stopped or dropped.
#[derive(Debug)]
pub(crate) struct Flood {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<u64>>>,
}

impl Flood {
    /// Sends `batch` again whenever its answers are in.
    pub(crate) fn start(client: Client, batch: Batch) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("flood".into())
            .spawn(move || flood(client.into_stream(), &batch, &stopped))
            .doing("starting the flood")?;
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Ends it. Gives how many batches were answered.
    pub(crate) fn stop(mut self) -> Result<u64> {
        self.end()
    }

    fn end(&mut self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.take().map(JoinHandle::join) {
            None => Ok(0),
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(Error::Answer("the flood panicked".into())),
        }
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        // Who wanted to know has stopped it.
        let _ = self.end();
    }
}

fn flood(mut stream: UnixStream, batch: &Batch, stopped: &AtomicBool) -> Result<u64> {
    let mut answers = vec![0; batch.answer_bytes()];
    let mut batches = 0;
    while !stopped.load(Ordering::Relaxed) {
        stream.write_all(batch.bytes()).doing("flooding a server")?;
        stream.read_exact(&mut answers).doing("flooding a server")?;
        batches += 1;
    }
    Ok(batches)
}

//! The log: what is written, in which form, to standard error.
//!
//! Which lines there are is said by `RUST_LOG`, else by the configuration, else it is everything from `info` up.
//! Text lines carry a time only with `-msg timestamp=on`, as QEMU's messages; JSON lines always do. Standard output
//! is never written to, as it may be a monitor.
//!
//! A thread of the log's own writes it, so that a pipe that nobody reads stops nobody; lines that cannot be written, or
//! that come when too many wait, are lost.
//!
//! `main` calls [`init`] once. [`subscriber`] is the same without the global part.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use tracing::Subscriber;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::{EnvFilter, fmt};

use crate::config::{LogConfig, LogFormat};
use crate::sandbox::{self, Role};

/// What is logged when nobody says.
pub const DEFAULT_FILTER: &str = "info";

/// Why there is no log.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter cannot be understood.
    #[error("invalid log filter '{filter}': {reason}")]
    Filter {
        /// The filter.
        filter: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Its thread cannot be started.
    #[error("the log's thread cannot be started: {0}")]
    Thread(io::Error),
    /// This process has a subscriber already.
    #[error("the log is set up already")]
    Again,
}

/// Lines that may wait to be written. Beyond that they are dropped.
const WAITING_LINES: usize = 10_000;

/// The bytes that they may have in all; likewise. What clients say can be in a line.
const WAITING_BYTES: usize = 4 << 20;

/// How long the end waits for the last lines to be written.
const LAST_LINES: Duration = Duration::from_secs(1);

/// What the log's thread is sent.
enum Entry {
    Line(Vec<u8>),
    End,
}

/// Writes lines by way of the log's thread, and never waits for it.
#[derive(Clone, Debug)]
struct Lines {
    sender: SyncSender<Entry>,
    /// The bytes of the lines that wait.
    waiting: Arc<AtomicUsize>,
}

impl Lines {
    /// Says whether a line may wait too; then its bytes are counted.
    fn admits(&self, bytes: usize) -> bool {
        let more = |waiting: usize| waiting.checked_add(bytes).filter(|all| *all <= WAITING_BYTES);
        self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }
}

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // Lost when too many wait, or they are too long.
        if self.admits(line.len()) && self.sender.try_send(Entry::Line(line.to_vec())).is_err() {
            self.waiting.fetch_sub(line.len(), Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Keeps the log going; dropping it writes what waits, if somebody takes it within a second.
#[derive(Debug)]
#[must_use = "the log ends with this"]
pub struct Log {
    lines: Lines,
    written: Receiver<()>,
}

impl Log {
    /// Starts the thread that writes to standard error.
    fn start() -> io::Result<Self> {
        let (sender, entries) = sync_channel(WAITING_LINES);
        let (done, written) = sync_channel(1);
        let waiting = Arc::<AtomicUsize>::default();
        let lines = Lines { sender, waiting: Arc::clone(&waiting) };
        std::thread::Builder::new().name("vmmd-log".into()).spawn(move || {
            sandbox::enter(Role::Log);
            while let Ok(Entry::Line(line)) = entries.recv() {
                // Nobody is left to be told of a failure.
                let _ = io::stderr().write_all(&line);
                waiting.fetch_sub(line.len(), Ordering::Relaxed);
            }
            let _ = done.send(());
        })?;
        Ok(Self { lines, written })
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        // A full channel says that nobody reads.
        if self.lines.sender.try_send(Entry::End).is_ok() {
            let _ = self.written.recv_timeout(LAST_LINES);
        }
    }
}

/// Sets up this process's log.
///
/// # Errors
/// The filter (of `RUST_LOG` or of `config`) cannot be understood, or there is a log already.
pub fn init(config: &LogConfig, timestamps: bool) -> Result<Log, LogError> {
    let variable = std::env::var(EnvFilter::DEFAULT_ENV).ok().filter(|text| !text.is_empty());
    let filter = variable.as_deref().or(config.filter.as_deref()).unwrap_or(DEFAULT_FILTER);
    // Written by a thread of its own: a pipe that nobody reads must not stop whoever has something to say.
    let log = Log::start().map_err(LogError::Thread)?;
    let lines = log.lines.clone();
    let subscriber = subscriber(config.format, filter, timestamps, move || lines.clone())?;
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::Again)?;
    Ok(log)
}

/// A subscriber that writes what passes `filter` to `writer`.
///
/// # Errors
/// The filter cannot be understood.
pub fn subscriber<W>(
    format: LogFormat,
    filter: &str,
    timestamps: bool,
    writer: W,
) -> Result<Box<dyn Subscriber + Send + Sync>, LogError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = EnvFilter::try_new(filter)
        .map_err(|error| LogError::Filter { filter: filter.to_owned(), reason: error.to_string() })?;
    // A log that cannot be written (the reader of the pipe is gone, the disk is full) is no reason to end anything; what
    // would be said about it would go to the same place.
    let builder =
        fmt().with_env_filter(filter).with_writer(writer).with_ansi(false).log_internal_errors(false);
    Ok(match (format, timestamps) {
        (LogFormat::Text, true) => Box::new(builder.finish()),
        (LogFormat::Text, false) => Box::new(builder.without_time().finish()),
        (LogFormat::Json, _) => Box::new(builder.json().flatten_event(true).finish()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, filter: &str, timestamps: bool) -> String {
        let sink = Sink::default();
        let writer = sink.clone();
        let subscriber = subscriber(format, filter, timestamps, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(client = 3, "connected");
            tracing::debug!("bytes");
        });
        let bytes = sink.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn what_waits_is_bounded_in_bytes() {
        let (sender, entries) = sync_channel(WAITING_LINES);
        let mut lines = Lines { sender, waiting: Arc::default() };
        let line = vec![b'x'; WAITING_BYTES / 4];
        for _ in 0..6 {
            assert_eq!(lines.write(&line).unwrap(), line.len());
        }
        assert_eq!(entries.try_iter().count(), 4);
        // The thread has written one.
        lines.waiting.fetch_sub(line.len(), Ordering::Relaxed);
        for _ in 0..3 {
            lines.write_all(&line).unwrap();
        }
        assert_eq!(entries.try_iter().count(), 1);
        // One that cannot be sent is not counted.
        drop(entries);
        lines.waiting.store(0, Ordering::Relaxed);
        lines.write_all(&line).unwrap();
        assert_eq!(lines.waiting.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn text_has_a_time_only_when_asked() {
        assert!(logged(LogFormat::Text, "info", false).trim_start().starts_with("INFO "));
        let timed = logged(LogFormat::Text, "info", true);
        assert!(timed.starts_with("20") && timed.contains("Z  INFO "), "{timed}");
        assert_eq!(timed.lines().count(), 1);
    }

    #[test]
    fn json_is_one_object_per_line() {
        let text = logged(LogFormat::Json, "debug", false);
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["message"], "connected");
        assert_eq!(lines[0]["client"], 3);
        assert!(lines[0]["timestamp"].is_string());
    }

    #[test]
    fn a_bad_filter_is_named() {
        let error = subscriber(LogFormat::Text, "vmmd=lots", false, io::stderr).err().unwrap().to_string();
        assert!(error.starts_with("invalid log filter 'vmmd=lots': "), "{error}");
    }
}

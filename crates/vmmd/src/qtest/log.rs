//! What a qtest server and its client say, noted as QEMU notes it: `[R +0.001234] endianness`.
//!
//! `R` is what was received, `S` what was sent, `I` when a client came and went; the number is seconds since it came.

use std::fs::File;
use std::io::{self, Write};
use std::time::Instant;

use crate::config::QtestLog;

/// Where the notes go.
#[derive(Debug)]
pub(crate) struct Log {
    sink: Sink,
    /// When the client came.
    since: Instant,
}

#[derive(Debug)]
enum Sink {
    Stderr,
    File(File),
    None,
}

impl Log {
    /// Opens it. A file is made anew.
    ///
    /// # Errors
    /// The file cannot be made.
    pub(crate) fn open(config: &QtestLog) -> io::Result<Self> {
        let sink = match config {
            QtestLog::Stderr => Sink::Stderr,
            QtestLog::None => Sink::None,
            QtestLog::File(path) => Sink::File(File::create(path)?),
        };
        Ok(Self { sink, since: Instant::now() })
    }

    /// A client came.
    pub(super) fn opened(&mut self) {
        self.since = Instant::now();
        self.note("[I 0.000000] OPENED");
    }

    /// It has gone.
    pub(super) fn closed(&mut self) {
        let line = format!("[I +{:.6}] CLOSED", self.seconds());
        self.note(&line);
    }

    /// It said this.
    pub(super) fn received(&mut self, line: &str) {
        let line = format!("[R +{:.6}] {line}", self.seconds());
        self.note(&line);
    }

    /// It was told this.
    pub(super) fn sent(&mut self, line: &str) {
        let line = format!("[S +{:.6}] {line}", self.seconds());
        self.note(&line);
    }

    fn seconds(&self) -> f64 {
        self.since.elapsed().as_secs_f64()
    }

    /// A test goes on without its notes.
    fn note(&mut self, line: &str) {
        let _ = match &mut self.sink {
            Sink::Stderr => writeln!(io::stderr(), "{line}"),
            Sink::File(file) => writeln!(file, "{line}"),
            Sink::None => Ok(()),
        };
    }
}

//! Commands for tests of monitors, which are not there unless the plane's builder asks for them.

use std::fs::File;
use std::io;

use qmp_command::{Command, CommandError, Context, Feature, QapiType};
use serde::Deserialize;

/// What to wait for.
#[derive(Debug, Deserialize, QapiType)]
#[qapi(name = "XTestBlockArguments")]
struct Block {
    /// A fifo.
    path: String,
}

/// Blocks a session, and all exclusive commands of its plane, until somebody has opened the fifo for writing and closed
/// it again.
pub(super) fn x_test_block() -> Command {
    Command::new("x-test-block")
        .doc("Opens a fifo for reading and waits for its end.")
        .feature(Feature::Unstable)
        .blocking(|_: Context, Block { path }: Block| {
            let cannot = |error| CommandError::generic(format!("'{path}' cannot be read: {error}"));
            let mut fifo = File::open(&path).map_err(cannot)?;
            io::copy(&mut fifo, &mut io::sink()).map(drop).map_err(cannot)
        })
}

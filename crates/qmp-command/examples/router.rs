//! A router without a monitor: `cargo run -p qmp-command --example router`, then type requests, a line each.
//!
//! ```text
//! {"execute": "x-add", "arguments": {"terms": [1, 2]}}
//! {"execute": "x-sum-file", "arguments": {"path": "/etc/hostname"}}
//! {"execute": "x-forget"}
//! ```
//!
//! Every command has a stack of layers around its handler, built with the router: here an [`Authority`] that knows a
//! forbidden command and a limit in time for what is cancel-safe.

use std::io::{self, BufRead, Write};
use std::sync::Arc;
use std::time::Duration;

use qmp_command::layers::authorize::Authority;
use qmp_command::{
    Command, CommandError, CommandResult, Context, Metadata, QapiType, Router, detached_session,
};
use qmp_protocol::{Decoder, Format, Limits, Message, Request, encode_error, encode_return};
use serde::{Deserialize, Serialize};

/// What to add.
#[derive(Deserialize, QapiType)]
struct Add {
    /// Any number of them.
    terms: Vec<i64>,
}

/// Which file.
#[derive(Deserialize, QapiType)]
struct SumFile {
    path: String,
}

/// What a file adds up to.
#[derive(Serialize, QapiType)]
struct Sum {
    /// Its size.
    #[qapi(size)]
    bytes: u64,
    /// Its bytes' sum.
    sum: u64,
}

/// Waits for nobody, so it runs on the session's own task.
async fn add(_: Context, Add { terms }: Add) -> CommandResult<i64> {
    terms
        .into_iter()
        .try_fold(0i64, i64::checked_add)
        .ok_or_else(|| CommandError::generic("The sum does not fit into 64 bits"))
}

/// Reads a file, which can take its time: for a thread of its own. `?` takes any error.
fn sum_file(_: Context, SumFile { path }: SumFile) -> CommandResult<Sum> {
    let content = std::fs::read(path)?;
    Ok(Sum { bytes: u64::try_from(content.len())?, sum: content.iter().map(|byte| u64::from(*byte)).sum() })
}

/// Lets everything run but one command.
struct Policy;

impl Authority for Policy {
    fn authorize(&self, command: &Metadata, context: &Context) -> Result<(), CommandError> {
        match command.name {
            "x-forget" => {
                let session = context.session_id();
                Err(CommandError::generic(format!("session {session} may not use {}", command.name)))
            }
            _ => Ok(()),
        }
    }
}

fn router() -> Result<Router, qmp_command::BuildError> {
    Router::builder()
        .command(Command::new("x-add").doc("Adds numbers.").read_only().cancel_safe().handler(add))
        .command(Command::new("x-sum-file").doc("Adds up a file.").read_only().blocking(sum_file))
        .command(Command::new("x-forget").doc("Forgets all.").handler(async |_: Context, (): ()| Ok(())))
        .authority(Arc::new(Policy))
        .timeout(Duration::from_secs(5))
        .build()
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let router = router()?;
    for command in router.commands() {
        eprintln!("{:10} {}", command.name, command.doc);
    }
    let session = detached_session();
    let mut decoder = Decoder::new(Limits::default());
    // Reading blocks this example's only thread; a monitor waits for its clients without one.
    for line in io::stdin().lock().split(b'\n') {
        let line = [line?, b"\n".to_vec()].concat();
        let (mut input, mut output) = (&line[..], Vec::new());
        while let Some(message) = decoder.next(&mut input) {
            match message {
                Message::Malformed(bad) => {
                    encode_error(&mut output, &bad.error, bad.id.as_ref(), Format::Compact);
                }
                Message::Request(Request { execute, arguments, id, .. }) => {
                    match router.call(&execute, arguments, Context::new(session.clone())).await {
                        Ok(value) => encode_return(&mut output, &value, id.as_ref(), Format::Compact),
                        Err(error) => encode_error(&mut output, &error, id.as_ref(), Format::Compact),
                    }
                }
            }
        }
        io::stdout().write_all(&output)?;
    }
    Ok(())
}

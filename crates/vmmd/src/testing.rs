//! Commands for tests of `vmmd` itself, which are not there without `--test-commands`.

use std::fs::File;
use std::io;

use rustix::process::getpriority_process;
use serde::Deserialize;
use tokio::sync::oneshot;
use vmm_control::{Command, CommandError, Context, Feature, PlaneHandle, QapiType};

/// What to try, and where.
#[derive(Debug, Clone, Copy, Deserialize, QapiType)]
#[serde(rename_all = "kebab-case")]
#[qapi(name = "XTestSystemCall")]
enum SystemCall {
    /// Opens a file.
    Open,
    /// Asks for the process's priority, which nothing else here does.
    Getpriority,
}

#[derive(Debug, Deserialize, QapiType)]
#[qapi(name = "XTestSystemCallArguments")]
struct Arguments {
    /// What to try.
    call: SystemCall,
    /// The iothread to try it on. Without one it is a worker.
    iothread: Option<String>,
}

/// Makes a system call, to see whether `-sandbox` lets the thread do so.
pub(crate) fn x_test_system_call(plane: &PlaneHandle) -> Command {
    let iothreads = plane.iothreads().clone();
    Command::new("x-test-system-call")
        .doc("Makes a system call.")
        .feature(Feature::Unstable)
        .handler(move |_: Context, Arguments { call, iothread }: Arguments| {
            let iothreads = iothreads.clone();
            async move {
                let made = match iothread {
                    None => make(call),
                    Some(id) => {
                        let absent = || CommandError::generic(format!("there is no iothread '{id}'"));
                        let (tell, told) = oneshot::channel();
                        let thread = iothreads.get(&id).ok_or_else(absent)?;
                        let run = thread.handle().run(move |_| drop(tell.send(make(call))));
                        run.map_err(|error| CommandError::generic(error.to_string()))?;
                        told.await.unwrap_or_else(|_| Err(io::ErrorKind::Interrupted.into()))
                    }
                };
                made.map_err(|error| CommandError::generic(error.to_string()))
            }
        })
        .group("Testing")
}

fn make(call: SystemCall) -> io::Result<()> {
    match call {
        SystemCall::Open => File::open("/dev/null").map(drop),
        SystemCall::Getpriority => Ok(getpriority_process(None).map(drop)?),
    }
}

//! One call: who refuses it first, what the handler sees, what its client gets.

use std::fs::File;
use std::sync::{Arc, mpsc};
use std::thread;

use crate::support::{arguments, ask, router, shown};
use qmp_command::layers::authorize::Authority;
use qmp_command::{Command, CommandError, Context, Metadata, PendingFds, QapiType, Router, detached_session};
use qmp_protocol::{Error, ErrorClass, Format};
use serde::{Deserialize, Serialize};

#[derive(Deserialize, QapiType)]
struct Numbers {
    n: i64,
    factor: Option<i64>,
}

fn times() -> Command {
    Command::new("times")
        .handler(async |_: Context, Numbers { n, factor }: Numbers| Ok(n * factor.unwrap_or(2)))
}

fn here() -> Context {
    Context::new(detached_session())
}

/// Lets nothing run, and says so with what it was told.
struct Refuses;

impl Authority for Refuses {
    fn authorize(&self, command: &Metadata, context: &Context) -> Result<(), CommandError> {
        let session = context.session_id();
        Err(CommandError::generic(format!("{} is not for session {session}", command.name)))
    }
}

#[tokio::test]
async fn typed_arguments_go_in_and_a_value_comes_out() {
    let router = router([times()]);
    let call = |json: &str| router.call("times", Some(arguments(json)), here());
    assert_eq!(shown(call(r#"{"n": 21}"#).await), "42");
    assert_eq!(shown(call(r#"{"n": 21, "factor": -1}"#).await), "-21");
    assert_eq!(shown(call("{}").await), "GenericError: Parameter 'n' is missing");
    assert_eq!(shown(call(r#"{"n": 1, "m": 1}"#).await), "GenericError: Parameter 'm' is unexpected");
    assert_eq!(
        shown(call(r#"{"n": "1"}"#).await),
        "GenericError: Invalid parameter type for 'n', expected: integer"
    );
    assert_eq!(ask(&router, "times").await, "GenericError: Parameter 'n' is missing");
}

#[tokio::test]
async fn replies_are_written_in_the_sessions_form() {
    #[derive(Serialize, QapiType)]
    struct Status {
        running: bool,
    }
    let status = Command::new("status").handler(async |_: Context, (): ()| Ok(Status { running: true }));
    let router = router([status, Command::new("nothing").handler(async |_: Context, (): ()| Ok(()))]);
    assert_eq!(ask(&router, "status").await, r#"{"running": true}"#);
    assert_eq!(ask(&router, "nothing").await, "{}", "a command that returns nothing returns an empty object");
    let pretty = router.call("status", None, here().with_format(Format::Pretty)).await;
    assert!(shown(pretty).contains('\n'));
}

#[tokio::test]
async fn refusals_come_in_qemus_order() {
    let router = Router::builder().command(times()).authority(Arc::new(Refuses)).build().unwrap();
    // Everything is wrong with this one: it does not exist, came out-of-band, and may not run.
    let call = router.call("no-such", Some(arguments("{}")), here().with_oob(true)).await;
    assert_eq!(shown(call), "CommandNotFound: The command no-such has not been found");
    let call = router.call("times", Some(arguments("{}")), here().with_oob(true)).await;
    assert_eq!(shown(call), "GenericError: The command times does not support OOB");
    let call = router.call("times", Some(arguments("{}")), here()).await;
    assert_eq!(shown(call), "GenericError: times is not for session 0", "and not that 'n' is missing");
}

#[tokio::test]
async fn a_command_that_allows_it_runs_out_of_band() {
    let oob = Command::new("ping").allow_oob().handler(async |context: Context, (): ()| Ok(context.is_oob()));
    let router = router([oob]);
    assert_eq!(shown(router.call("ping", None, here().with_oob(true)).await), "true");
    assert_eq!(shown(router.call("ping", None, here()).await), "false");
}

#[tokio::test]
async fn names_are_taken_literally() {
    let router = router([times()]);
    for name in ["Times", "times ", "", "tim\u{e9}s", "times\0"] {
        let refused = router.call(name, None, here()).await.unwrap_err();
        assert_eq!(refused.class, ErrorClass::CommandNotFound);
        assert_eq!(refused.desc, format!("The command {name} has not been found"));
    }
}

fn take(name: &'static str, takes_fd: bool) -> Command {
    let command = Command::new(name);
    let command = if takes_fd { command.takes_fd() } else { command };
    command.handler(async |context: Context, (): ()| Ok(context.take_fd().is_some()))
}

#[tokio::test]
async fn only_a_command_that_takes_fds_sees_one() {
    let router = router([take("takes", true), take("does-not", false)]);
    let fds = PendingFds::new(vec![File::open("/dev/null").unwrap().into()]);
    let call = |name| router.call(name, None, here().with_fds(fds.clone()));
    assert_eq!(shown(call("does-not").await), "false");
    assert_eq!(fds.len(), 1, "it is still there for the next command");
    assert_eq!(shown(call("takes").await), "true");
    assert!(fds.is_empty());
    assert_eq!(shown(call("takes").await), "false");
}

#[tokio::test]
async fn a_command_with_wrong_arguments_leaves_the_fd() {
    #[derive(Deserialize, QapiType)]
    #[expect(dead_code, reason = "only decoded")]
    struct Name {
        fdname: String,
    }
    let getfd = Command::new("getfd").takes_fd().handler(async |context: Context, _: Name| {
        drop(context.take_fd());
        Ok(())
    });
    let router = router([getfd]);
    let fds = PendingFds::new(vec![File::open("/dev/null").unwrap().into()]);
    let call = router.call("getfd", None, here().with_fds(fds.clone())).await;
    assert_eq!(shown(call), "GenericError: Parameter 'fdname' is missing");
    assert_eq!(fds.len(), 1);
}

#[tokio::test]
async fn any_error_becomes_a_reply_and_classes_are_kept() {
    let io =
        Command::new("io").handler(async |_: Context, (): ()| Ok(File::open("/nonexistent/file").map(drop)?));
    let parse = Command::new("parse").blocking(|_: Context, (): ()| Ok("x".parse::<u8>()?));
    let qmp = Command::new("qmp").handler(async |_: Context, (): ()| -> Result<(), _> {
        Err(Error::new(ErrorClass::DeviceNotActive, "No balloon device has been activated"))?
    });
    let own = Command::new("own").handler(async |_: Context, (): ()| -> Result<(), _> {
        Err(CommandError::generic("Device 'x' not found").class(ErrorClass::DeviceNotFound))
    });
    let router = router([io, parse, qmp, own]);
    assert_eq!(ask(&router, "io").await, "GenericError: No such file or directory (os error 2)");
    assert_eq!(ask(&router, "parse").await, "GenericError: invalid digit found in string");
    assert_eq!(ask(&router, "qmp").await, "DeviceNotActive: No balloon device has been activated");
    assert_eq!(ask(&router, "own").await, "DeviceNotFound: Device 'x' not found");
}

/// On a runtime with one thread: if the handler ran on it, nothing else could.
#[tokio::test]
async fn a_blocking_handler_runs_beside_the_worker() {
    let (go, wait) = mpsc::channel();
    let wait = std::sync::Mutex::new(wait);
    let worker = thread::current().id();
    let blocks = Command::new("blocks").blocking(move |_: Context, (): ()| {
        wait.lock().unwrap().recv()?;
        Ok(thread::current().id() != worker)
    });
    let here_too = Command::new("here")
        .read_only()
        .handler(move |_: Context, (): ()| async move { Ok(thread::current().id() == worker) });
    let router = router([blocks, here_too]);
    let mut blocked = tokio_test::task::spawn(router.call("blocks", None, here()));
    tokio_test::assert_pending!(blocked.poll());
    assert_eq!(ask(&router, "here").await, "true", "an async handler runs where it is polled");
    go.send(()).unwrap();
    assert_eq!(shown(blocked.await), "true");
}

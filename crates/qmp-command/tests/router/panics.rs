//! A panic harms its own call only: it is an error for the client, and nothing stays taken.

use std::panic::panic_any;

use crate::support::{arguments, ask, router, shown};
use qmp_command::schema::{TypeRef, Types};
use qmp_command::{Command, CommandError, Context, QapiType, Router, detached_session};
use serde::{Deserialize, Serialize, Serializer};

/// Panics when it is written.
struct Unwritable;

impl Serialize for Unwritable {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        panic!("cannot be written")
    }
}

impl QapiType for Unwritable {
    fn describe(_: &mut Types) -> TypeRef {
        TypeRef::Bool
    }
}

/// Panics when it is dropped. (Only when there is no panic yet: two at once abort any process.)
#[derive(Deserialize, QapiType)]
struct Bomb {
    armed: bool,
}

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(!self.armed, "boom");
    }
}

fn panicking() -> Router {
    let at_once = Command::new("at-once").handler(|_: Context, (): ()| {
        if true {
            panic!("in the call");
        }
        std::future::ready(Ok(()))
    });
    let later = Command::new("later").handler(async |_: Context, (): ()| -> Result<(), CommandError> {
        tokio::task::yield_now().await;
        panic!("after an await")
    });
    let blocking = Command::new("blocking")
        .blocking(|_: Context, (): ()| -> Result<(), CommandError> { panic!("on {}", "a thread") });
    let no_text = Command::new("no-text")
        .handler(async |_: Context, (): ()| -> Result<(), CommandError> { panic_any(7) });
    let writing = Command::new("writing").handler(async |_: Context, (): ()| Ok(Unwritable));
    let writing_blocking = Command::new("writing-blocking").blocking(|_: Context, (): ()| Ok(Unwritable));
    let dropping = Command::new("dropping").handler(async |_: Context, _bomb: Bomb| Ok(()));
    let dropping_blocking = Command::new("dropping-blocking").blocking(|_: Context, _bomb: Bomb| Ok(()));
    let fine = Command::new("fine").handler(async |_: Context, (): ()| Ok(true));
    router([at_once, later, blocking, no_text, writing, writing_blocking, dropping, dropping_blocking, fine])
}

#[tokio::test]
async fn every_kind_of_panic_is_a_generic_error_and_releases_the_permit() {
    let router = panicking();
    for name in ["at-once", "later", "blocking", "no-text", "writing", "writing-blocking"] {
        let reply = ask(&router, name).await;
        let expected =
            format!("GenericError: The command {name} failed unexpectedly; the log has the reason");
        assert_eq!(reply, expected);
        assert_eq!(ask(&router, "fine").await, "true", "after {name}");
    }
}

#[tokio::test]
async fn so_is_one_of_arguments_that_are_dropped() {
    let router = panicking();
    for name in ["dropping", "dropping-blocking"] {
        let call = |json: &str| router.call(name, Some(arguments(json)), Context::new(detached_session()));
        let expected =
            format!("GenericError: The command {name} failed unexpectedly; the log has the reason");
        assert_eq!(shown(call(r#"{"armed": true}"#).await), expected);
        assert_eq!(shown(call(r#"{"armed": false}"#).await), "{}", "its permit is free");
    }
}

/// The permit is free when the reply is there, and not only when its session has let go of the call.
#[tokio::test]
async fn the_permit_is_released_before_the_call_is_dropped() {
    let router = panicking();
    for name in ["at-once", "later", "blocking", "writing", "fine"] {
        let mut call = router.call(name, None, Context::new(detached_session()));
        assert_eq!((&mut call).await.is_ok(), name == "fine");
        assert_eq!(ask(&router, "fine").await, "true", "beside {name}");
        drop(call);
    }
}

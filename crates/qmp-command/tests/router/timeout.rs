//! The plane's command timeout: for whom, and from when. Time stands still unless a test moves it.

use std::sync::{Mutex, mpsc};
use std::time::Duration;

use crate::support::{Gate, by_hand, client, shown};
use qmp_command::{Command, CommandError, Context, Router};
use qmp_protocol::ErrorClass;
use tokio::time::advance;
use tokio_test::{assert_pending, assert_ready};

const LIMIT: Duration = Duration::from_secs(1);
/// How long a thread may wait for a word from the test.
const PATIENCE: Duration = Duration::from_secs(20);

fn limited(commands: impl IntoIterator<Item = Command>) -> Router {
    Router::builder().timeout(LIMIT).commands(commands).build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn it_ends_a_cancel_safe_command_and_frees_its_permit() {
    let gate = Gate::new();
    let router = limited([gate.behind(Command::new("safe").cancel_safe()), gate.exclusive("other")]);
    let mut call = by_hand(&router, "safe", client(1));
    assert_pending!(call.poll());
    advance(LIMIT - Duration::from_millis(1)).await;
    assert_pending!(call.poll());
    advance(Duration::from_millis(2)).await;
    assert!(call.is_woken());
    assert_eq!(
        shown(assert_ready!(call.poll())),
        "GenericError: The command safe did not finish within 1000 ms"
    );
    drop(call);
    let mut next = by_hand(&router, "other", client(2));
    assert_pending!(next.poll());
    assert_eq!(gate.started(), 2);
}

#[tokio::test(start_paused = true)]
async fn it_never_ends_another_command() {
    let gate = Gate::new();
    let router = limited([gate.exclusive("mutates"), gate.behind(Command::new("reads").read_only())]);
    let mut calls = [by_hand(&router, "mutates", client(1)), by_hand(&router, "reads", client(2))];
    for call in &mut calls {
        assert_pending!(call.poll());
    }
    advance(LIMIT * 1000).await;
    for call in &mut calls {
        assert_pending!(call.poll());
        gate.open();
    }
    for call in &mut calls {
        assert!(assert_ready!(call.poll()).is_ok());
    }
}

/// Its thread would go on, and the next command that runs alone begin beside it.
#[tokio::test(start_paused = true)]
async fn it_never_ends_a_handler_that_blocks() {
    let (release, released) = mpsc::channel();
    let released = Mutex::new(released);
    let blocks = Command::new("blocks").cancel_safe().blocking(move |_: Context, (): ()| {
        released.lock().unwrap().recv_timeout(PATIENCE)?;
        Ok(())
    });
    assert!(!blocks.metadata().cancel_safe);
    let gate = Gate::new();
    let router = limited([blocks, gate.exclusive("other")]);
    let (mut call, mut next) = (by_hand(&router, "blocks", client(1)), by_hand(&router, "other", client(2)));
    assert_pending!(call.poll());
    assert_pending!(next.poll());
    advance(LIMIT * 1000).await;
    assert_pending!(call.poll());
    assert_pending!(next.poll());
    assert_eq!(gate.started(), 0);
    release.send(()).unwrap();
    assert!(call.await.is_ok());
    assert_pending!(next.poll());
    assert_eq!(gate.started(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_wait_for_the_permit_does_not_count() {
    let (holds, safe) = (Gate::new(), Gate::new());
    let router = limited([holds.exclusive("holds"), safe.behind(Command::new("safe").cancel_safe())]);
    let mut holder = by_hand(&router, "holds", client(1));
    let mut waits = by_hand(&router, "safe", client(2));
    assert_pending!(holder.poll());
    assert_pending!(waits.poll());
    advance(LIMIT * 10).await;
    assert_pending!(waits.poll());
    holds.open();
    assert!(assert_ready!(holder.poll()).is_ok());
    drop(holder);

    // It starts now, and has all of its time.
    assert_pending!(waits.poll());
    assert_eq!(safe.started(), 1);
    advance(LIMIT / 2).await;
    assert_pending!(waits.poll());
    safe.open();
    assert!(assert_ready!(waits.poll()).is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_error_in_time_keeps_its_class() {
    let fails = Command::new("fails").cancel_safe().handler(async |_: Context, (): ()| -> Result<(), _> {
        Err(CommandError::generic("gone").class(ErrorClass::DeviceNotFound))
    });
    let router = limited([fails]);
    assert_eq!(shown(router.call("fails", None, client(1)).await), "DeviceNotFound: gone");
}

#[tokio::test]
async fn without_a_limit_nothing_is_ended() {
    tokio::time::pause();
    let gate = Gate::new();
    let router = crate::support::router([gate.behind(Command::new("safe").cancel_safe())]);
    let mut call = by_hand(&router, "safe", client(1));
    assert_pending!(call.poll());
    advance(Duration::from_secs(1_000_000)).await;
    assert_pending!(call.poll());
}

//! Which request sees which file descriptors.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::support::{Client, Fixture, fixture};
use qmp_command::{Command, Context};
use rustix::fs::fstat;
use tokio::sync::Semaphore;

/// Files that can be told apart by their inodes.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str) -> OwnedFd {
        File::options().create(true).append(true).open(self.0.path().join(name)).unwrap().into()
    }

    /// What `take` answers for this file.
    fn reply(&self, name: &str) -> String {
        format!("{{\"return\": {}}}", fstat(self.file(name)).unwrap().st_ino)
    }
}

/// Takes an fd and says its inode; 0 without one.
fn take(name: &'static str, gate: Option<Arc<Semaphore>>) -> Command {
    Command::new(name).takes_fd().concurrent().handler(move |context: Context, (): ()| {
        let gate = gate.clone();
        async move {
            if let Some(gate) = gate {
                gate.acquire().await?.forget();
            }
            Ok(match context.take_fd() {
                Some(fd) => fstat(fd)?.st_ino,
                None => 0,
            })
        }
    })
}

async fn plane() -> Fixture {
    let blind =
        Command::new("blind").handler(async |context: Context, (): ()| Ok(context.take_fd().is_some()));
    fixture(vec![take("take", None), blind]).await
}

const TAKE: &str = "{\"execute\":\"take\"}";
const NONE: &str = "{\"return\": 0}";

#[tokio::test]
async fn a_request_takes_the_first_and_closes_the_rest() {
    let (fixture, files) = (plane().await, Files::new());
    let mut client = Client::negotiated(&fixture).await;
    client.send_fds(&TAKE.repeat(2), &[files.file("a"), files.file("b")]);
    assert_eq!(client.line().await, files.reply("a"));
    assert_eq!(client.line().await, NONE);
}

#[tokio::test]
async fn an_fd_of_a_later_write_is_not_seen_by_what_was_complete_before_it() {
    let (fixture, files) = (plane().await, Files::new());
    let mut client = Client::negotiated(&fixture).await;
    // All of it is in the socket before the session gets to read.
    for _ in 0..50 {
        client.send_fds(&TAKE.repeat(3), &[]);
        client.send_fds(&TAKE.repeat(2), &[files.file("b")]);
        client.send_fds(&TAKE.repeat(2), &[files.file("c")]);
        for want in [NONE, NONE, NONE, &files.reply("b"), NONE, &files.reply("c"), NONE] {
            assert_eq!(client.line().await, *want);
        }
    }
}

#[tokio::test]
async fn a_write_that_begins_inside_a_request_counts_for_it() {
    let (fixture, files) = (plane().await, Files::new());
    let mut client = Client::negotiated(&fixture).await;
    let (head, tail) = TAKE.split_at(TAKE.len() - 1);
    client.send_fds(head, &[]);
    client.send_fds(tail, &[files.file("a")]);
    assert_eq!(client.line().await, files.reply("a"));
    client.send_fds(&TAKE[..1], &[files.file("b")]);
    client.send_fds(&TAKE[1..], &[]);
    assert_eq!(client.line().await, files.reply("b"));
}

#[tokio::test]
async fn pending_fds_stay_through_anything_until_taken_or_replaced() {
    let (fixture, files) = (plane().await, Files::new());
    let mut client = Client::greeted(&fixture).await;
    client.send_fds(" ", &[files.file("old")]);
    client.send_fds("\n", &[files.file("new"), files.file("rest")]);
    client.send("{\"execute\":\"take\"}{]").await;
    assert!(client.line().await.contains("Expecting capabilities negotiation"));
    assert!(client.line().await.contains("JSON parse error"));
    assert_eq!(client.ask("{\"execute\":\"qmp_capabilities\"}").await, "{\"return\": {}}");
    assert_eq!(client.ask("{\"execute\":\"blind\"}").await, "{\"return\": false}");
    assert_eq!(client.ask(TAKE).await, files.reply("new"));
    assert_eq!(client.ask(TAKE).await, NONE);
}

#[tokio::test]
async fn a_queued_request_keeps_the_fds_it_came_with() {
    let gate = Arc::new(Semaphore::new(0));
    let files = Files::new();
    let fixture = fixture(vec![take("take", None), take("gated", Some(gate.clone()))]).await;
    let mut client = Client::out_of_band(&fixture).await;
    client.send_fds("{\"execute\":\"gated\"}", &[files.file("a")]);
    client.send_fds(TAKE, &[files.file("b")]);
    client.send_fds(TAKE, &[files.file("c")]);
    client.send_fds(TAKE, &[]);
    gate.add_permits(1);
    for name in ["a", "b", "c"] {
        assert_eq!(client.line().await, files.reply(name));
    }
    assert_eq!(client.line().await, NONE);
}

//! Clients that do not read.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use crate::support::{Client, fixture_with, send_fds};
use qmp_command::{Command, Context, QapiType};
use qmp_monitor::SessionLimits;
use serde::Deserialize;

#[derive(Deserialize, QapiType)]
struct Size {
    bytes: u32,
}

/// A command whose reply is as long as the client likes.
fn fill() -> Command {
    Command::new("fill")
        .concurrent()
        .handler(async |_: Context, size: Size| Ok("x".repeat(usize::try_from(size.bytes)?)))
}

fn limits(change: impl FnOnce(&mut SessionLimits)) -> SessionLimits {
    let mut limits = SessionLimits::default();
    change(&mut limits);
    limits
}

#[tokio::test]
async fn replies_press_back_and_none_is_lost() {
    let fixture = fixture_with(vec![fill()], limits(|l| l.outbox = 10_000), 64).await;
    let mut client = Client::negotiated(&fixture).await;
    // Far more than the sockets hold. The writer would wait for ever if the reader did not run beside it.
    for n in 0..200 {
        client.send(&format!("{{\"execute\":\"fill\",\"arguments\":{{\"bytes\":20000}},\"id\":{n}}}")).await;
    }
    for n in 0..200 {
        let line = client.line().await;
        assert!(line.ends_with(&format!("\"id\": {n}}}")));
        assert!(line.len() > 20_000);
    }
}

#[tokio::test]
async fn one_reply_of_any_size_passes() {
    let fixture = fixture_with(vec![fill()], limits(|l| l.outbox = 1000), 64).await;
    let mut client = Client::negotiated(&fixture).await;
    let line = client.ask("{\"execute\":\"fill\",\"arguments\":{\"bytes\":5000000}}").await;
    assert_eq!(line.len(), 5_000_000 + "{\"return\": \"\"}".len());
}

#[tokio::test]
async fn too_many_events_end_the_session_and_no_other() {
    let fixture = fixture_with(vec![fill()], limits(|l| l.events = 100), 64).await;
    let mut deaf = Client::negotiated(&fixture).await;
    let mut other = Client::negotiated(&fixture).await;
    // Fill its socket, so that events have to wait.
    deaf.send("{\"execute\":\"fill\",\"arguments\":{\"bytes\":5000000}}").await;
    deaf.readable().await;
    let sender = fixture.core.events().sender();
    let mut seen = 0;
    loop {
        sender.emit_plain("STOP").unwrap();
        assert!(other.line().await.contains("STOP"));
        seen += 1;
        // `other` gets all of them one by one; the deaf one is ended once a hundred wait for it.
        if seen == 300 {
            break;
        }
    }
    let rest = deaf.rest().await;
    assert!(rest.len() < 5_000_000, "the reply was cut off");
    assert!(!rest.contains("STOP"));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_nothing_for_long_loses_its_session() {
    let fixture = fixture_with(vec![fill()], limits(|l| l.stall = Duration::from_secs(30)), 64).await;
    let mut deaf = Client::negotiated(&fixture).await;
    let mut other = Client::negotiated(&fixture).await;
    deaf.send("{\"execute\":\"fill\",\"arguments\":{\"bytes\":5000000}}").await;
    assert!(other.ask("{\"execute\":\"fill\",\"arguments\":{\"bytes\":1}}").await.contains("\"x\""));
    tokio::time::sleep(Duration::from_secs(31)).await;
    assert!(deaf.rest().await.len() < 5_000_000);
    assert!(other.ask("{\"execute\":\"fill\",\"arguments\":{\"bytes\":1}}").await.contains("\"x\""));
}

#[tokio::test(start_paused = true)]
async fn a_slow_but_steady_reader_keeps_its_session() {
    let fixture = fixture_with(vec![fill()], limits(|l| l.stall = Duration::from_secs(30)), 64).await;
    let mut slow = Client::negotiated(&fixture).await;
    slow.send("{\"execute\":\"fill\",\"arguments\":{\"bytes\":1000000}}").await;
    let mut got = 0;
    while got < 1_000_000 {
        got += slow.some(2000).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// How a session with a bound of 100 events takes so many that it does not get, while it cannot write.
async fn beside_unwanted_events(count: usize) -> String {
    let fixture = fixture_with(vec![fill()], limits(|l| l.events = 100), 64).await;
    let mut busy = Client::negotiated(&fixture).await;
    busy.send("{\"execute\":\"fill\",\"arguments\":{\"bytes\":5000000}}").await;
    busy.readable().await;
    let sender = fixture.core.events().sender();
    for _ in 0..count {
        sender.emit_plain("X_OURS").unwrap();
        tokio::task::yield_now().await;
    }
    fixture.core.close();
    busy.rest().await
}

#[tokio::test]
async fn events_that_a_session_does_not_get_count_little() {
    assert!(beside_unwanted_events(500).await.len() > 5_000_000);
}

#[tokio::test]
async fn events_that_a_session_does_not_get_are_not_kept_for_ever() {
    assert!(beside_unwanted_events(2000).await.len() < 5_000_000);
}

#[tokio::test]
async fn bytes_that_end_no_message_do_not_keep_others_waiting() {
    let fixture = fixture_with(vec![fill()], SessionLimits::default(), 64).await;
    let mut other = Client::negotiated(&fixture).await;
    let mut stream = std::os::unix::net::UnixStream::connect(&fixture.path).unwrap();
    // Writes as fast as it can from a thread of its own, until the session is gone.
    let flood = std::thread::spawn(move || {
        use std::io::Write;
        while stream.write_all(&[b' '; 65536]).is_ok() {}
    });
    for _ in 0..200 {
        assert!(other.ask("{\"execute\":\"fill\",\"arguments\":{\"bytes\":1}}").await.contains("\"x\""));
    }
    fixture.monitor.close().await;
    flood.join().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_holds_up_the_end_for_two_seconds() {
    let fixture = fixture_with(vec![fill()], SessionLimits::default(), 64).await;
    let mut deaf = Client::negotiated(&fixture).await;
    deaf.send("{\"execute\":\"fill\",\"arguments\":{\"bytes\":5000000}}").await;
    deaf.readable().await;
    let start = tokio::time::Instant::now();
    fixture.monitor.close().await;
    let took = start.elapsed();
    assert!((Duration::from_secs(2)..Duration::from_millis(2200)).contains(&took), "{took:?}");
    assert!(deaf.rest().await.len() < 5_000_000);
}

#[tokio::test]
async fn fds_that_come_with_every_byte_do_not_keep_others_waiting() {
    let fixture = fixture_with(vec![fill()], SessionLimits::default(), 64).await;
    let mut other = Client::negotiated(&fixture).await;
    let stream = std::os::unix::net::UnixStream::connect(&fixture.path).unwrap();
    let flood = std::thread::spawn(move || {
        let fd: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
        let fds: Vec<_> = std::iter::repeat_n(fd.as_fd(), 50).collect();
        while send_fds(&stream, b" ", &fds).is_ok() {}
    });
    for _ in 0..200 {
        assert!(other.ask("{\"execute\":\"fill\",\"arguments\":{\"bytes\":1}}").await.contains("\"x\""));
    }
    fixture.monitor.close().await;
    flood.join().unwrap();
}

#[tokio::test]
async fn with_one_place_the_second_client_waits_for_it() {
    let fixture = fixture_with(vec![fill()], SessionLimits::default(), 1).await;
    let first = Client::negotiated(&fixture).await;
    let mut stream = tokio::net::UnixStream::connect(&fixture.path).await.unwrap();
    let mut byte = [0];
    let waiting = tokio::time::timeout(Duration::from_millis(50), stream.peek_byte(&mut byte)).await;
    assert!(waiting.is_err(), "no greeting yet");
    drop(first);
    stream.peek_byte(&mut byte).await;
    assert_eq!(byte, *b"{");
}

/// Reads one byte, however long it takes.
trait PeekByte {
    async fn peek_byte(&mut self, byte: &mut [u8; 1]);
}

impl PeekByte for tokio::net::UnixStream {
    async fn peek_byte(&mut self, byte: &mut [u8; 1]) {
        tokio::io::AsyncReadExt::read_exact(self, byte).await.unwrap();
    }
}

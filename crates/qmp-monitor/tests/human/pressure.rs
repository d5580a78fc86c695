//! Clients that do not read, or type without end.

use std::time::Duration;

use qmp_monitor::SessionLimits;

use crate::support::{Client, echo_of, fixture, fixture_with};

fn limits(change: impl FnOnce(&mut SessionLimits)) -> SessionLimits {
    let mut limits = SessionLimits::default();
    change(&mut limits);
    limits
}

#[tokio::test]
async fn answers_press_back_and_none_is_lost() {
    let fixture = fixture_with(limits(|l| l.outbox = 100_000), |config| config.readline(true)).await;
    let mut client = Client::greeted(&fixture).await;
    let line = "burst 100000";
    client.send(format!("{line}\r").repeat(100)).await;
    // Far more than the socket and the outbox hold: most lines have not been looked at.
    fixture.executed(1).await;
    let mut other = Client::greeted(&fixture).await;
    other.enter("echo unhindered").await;
    other.expect("unhindered\r\n? ").await;
    assert!(fixture.words.lines.lock().unwrap().len() < 50);
    let answer = format!("{}{}\r\n? ", echo_of(line), "x".repeat(100_000));
    for _ in 0..100 {
        client.expect(&answer).await;
    }
}

#[tokio::test]
async fn one_answer_of_any_size_passes() {
    let fixture = fixture_with(limits(|l| l.outbox = 1000), |config| config.readline(true)).await;
    let mut client = Client::greeted(&fixture).await;
    client.enter("burst 5000000").await;
    client.expect(&format!("{}\r\n? ", "x".repeat(5_000_000))).await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_nothing_for_long_loses_its_session() {
    let fixture = fixture().await;
    let mut client = Client::greeted(&fixture).await;
    client.send("burst 5000000\r").await;
    fixture.executed(1).await;
    // Time is paused: it goes on when everything waits, to the end of the 30 s.
    let begin = tokio::time::Instant::now();
    tokio::time::sleep(Duration::from_secs(40)).await;
    assert!(begin.elapsed() >= Duration::from_secs(30));
    assert!(client.rest().await.len() < 5_000_000, "it was cut off");
}

#[tokio::test]
async fn echo_presses_back_too() {
    // A full line makes 33 MB of echo; nobody reads it.
    let fixture = fixture_with(limits(|l| l.outbox = 1 << 20), |config| config.readline(true)).await;
    let mut client = Client::greeted(&fixture).await;
    client.send(vec![b'a'; 4095]).await;
    client.send("\r").await;
    let mut other = Client::greeted(&fixture).await;
    for _ in 0..100 {
        other.enter("echo unhindered").await;
        other.expect("unhindered\r\n? ").await;
    }
    assert!(!fixture.words.lines.lock().unwrap().contains(&"a".repeat(4095)));
    let mut read = 0;
    while read < 33_000_000 {
        read += client.some(1 << 20).await;
    }
    fixture.executed(101).await;
}

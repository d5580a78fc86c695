//! In what order requests run, overtake and are answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::{Client, fixture};
use qmp_command::{Command, CommandError, Context, QapiType};
use serde::Deserialize;
use tokio::sync::Semaphore;

/// A command that waits until the test lets it go on.
fn gated(gate: &Arc<Semaphore>, done: &Arc<AtomicUsize>) -> Command {
    let (gate, done) = (gate.clone(), done.clone());
    Command::new("gated").concurrent().handler(move |_: Context, (): ()| {
        let (gate, done) = (gate.clone(), done.clone());
        async move {
            gate.acquire().await?.forget();
            done.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }
    })
}

fn ping() -> Command {
    Command::new("ping")
        .allow_oob()
        .concurrent()
        .handler(async |context: Context, (): ()| Ok(context.is_oob()))
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let gate = Arc::new(Semaphore::new(0));
    let fixture = fixture(vec![gated(&gate, &Arc::default()), ping()]).await;
    let mut client = Client::negotiated(&fixture).await;
    client
        .send("{\"execute\":\"gated\",\"id\":1} {\"execute\":\"ping\",\"id\":2} [ {\"execute\":\"ping\"}]")
        .await;
    gate.add_permits(1);
    assert_eq!(client.line().await, "{\"return\": {}, \"id\": 1}");
    assert_eq!(client.line().await, "{\"return\": false, \"id\": 2}");
    assert!(client.line().await.contains("QMP input must be a JSON object"));
}

#[tokio::test]
async fn sessions_do_not_wait_for_each_other() {
    let gate = Arc::new(Semaphore::new(0));
    let fixture = fixture(vec![gated(&gate, &Arc::default()), ping()]).await;
    let (mut slow, mut quick) = (Client::negotiated(&fixture).await, Client::negotiated(&fixture).await);
    slow.send("{\"execute\":\"gated\"}").await;
    assert_eq!(quick.ask("{\"execute\":\"ping\"}").await, "{\"return\": false}");
    gate.add_permits(1);
    assert_eq!(slow.line().await, "{\"return\": {}}");
}

#[tokio::test]
async fn out_of_band_overtakes_one_running_and_seven_queued() {
    let gate = Arc::new(Semaphore::new(0));
    let fixture = fixture(vec![gated(&gate, &Arc::default()), ping()]).await;
    let mut client = Client::out_of_band(&fixture).await;
    let in_band = "{\"execute\":\"gated\",\"id\":\"in\"}".repeat(8);
    client.send(&format!("{in_band}{{\"exec-oob\":\"ping\",\"id\":\"oob\"}}")).await;
    assert_eq!(client.line().await, "{\"return\": true, \"id\": \"oob\"}");
    gate.add_permits(8);
    for _ in 0..8 {
        assert_eq!(client.line().await, "{\"return\": {}, \"id\": \"in\"}");
    }
}

#[tokio::test]
async fn a_full_queue_is_not_overtaken() {
    let gate = Arc::new(Semaphore::new(0));
    let fixture = fixture(vec![gated(&gate, &Arc::default()), ping()]).await;
    let mut client = Client::out_of_band(&fixture).await;
    let in_band = "{\"execute\":\"gated\",\"id\":\"in\"}".repeat(9);
    client.send(&format!("{in_band}{{\"exec-oob\":\"ping\",\"id\":\"oob\"}}")).await;
    gate.add_permits(1);
    // One has ended, so a place in the queue is free and the rest is read.
    assert_eq!(client.line().await, "{\"return\": {}, \"id\": \"in\"}");
    assert_eq!(client.line().await, "{\"return\": true, \"id\": \"oob\"}");
    gate.add_permits(8);
    for _ in 0..8 {
        assert_eq!(client.line().await, "{\"return\": {}, \"id\": \"in\"}");
    }
}

#[tokio::test]
async fn any_number_of_out_of_band_requests_overtake_a_slow_command() {
    let gate = Arc::new(Semaphore::new(0));
    let fixture = fixture(vec![gated(&gate, &Arc::default()), ping()]).await;
    let mut client = Client::out_of_band(&fixture).await;
    // More than a turn's share, so that the session has to come back to them while the command runs.
    let overtaking = "{\"exec-oob\":\"ping\"}".repeat(500);
    client.send(&format!("{{\"execute\":\"gated\",\"id\":\"slow\"}}{overtaking}")).await;
    for _ in 0..500 {
        assert_eq!(client.line().await, "{\"return\": true}");
    }
    assert_eq!(client.ask("{\"exec-oob\":\"ping\"}").await, "{\"return\": true}");
    gate.add_permits(1);
    assert_eq!(client.line().await, "{\"return\": {}, \"id\": \"slow\"}");
}

#[tokio::test(start_paused = true)]
async fn a_handler_outlives_its_monitor() {
    let (gate, done) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    let fixture = fixture(vec![gated(&gate, &done), ping()]).await;
    let mut client = Client::out_of_band(&fixture).await;
    client.send("{\"execute\":\"gated\"}{\"exec-oob\":\"ping\"}").await;
    assert_eq!(client.line().await, "{\"return\": true}", "both were read");
    fixture.monitor.close().await;
    assert_eq!(done.load(Ordering::SeqCst), 0);
    gate.add_permits(1);
    while done.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn malformed_requests_wait_in_band_but_malformed_oob_does_not() {
    let gate = Arc::new(Semaphore::new(0));
    let fixture = fixture(vec![gated(&gate, &Arc::default()), ping()]).await;
    let mut client = Client::out_of_band(&fixture).await;
    client.send("{\"execute\":\"gated\"}{\"execute\":1,\"id\":1}{\"exec-oob\":1,\"id\":2}").await;
    assert!(client.line().await.starts_with("{\"id\": 2, \"error\""));
    gate.add_permits(1);
    assert_eq!(client.line().await, "{\"return\": {}}");
    assert!(client.line().await.starts_with("{\"id\": 1, \"error\""));
}

#[tokio::test]
async fn half_close_answers_what_was_asked_and_ends() {
    let gate = Arc::new(Semaphore::new(0));
    let fixture = fixture(vec![gated(&gate, &Arc::default()), ping()]).await;
    let mut client = Client::negotiated(&fixture).await;
    client.send("{\"execute\":\"gated\"}{\"execute\":\"ping\"}{\"execute\":\"pi").await;
    client.shutdown_write().await;
    gate.add_permits(1);
    assert_eq!(client.rest().await, "{\"return\": {}}\r\n{\"return\": false}\r\n");
}

#[tokio::test]
async fn a_handler_ends_though_its_client_has_gone() {
    let (gate, done) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    let fixture = fixture(vec![gated(&gate, &done), ping()]).await;
    let mut client = Client::out_of_band(&fixture).await;
    client.send("{\"execute\":\"gated\"}{\"execute\":\"gated\"}{\"exec-oob\":\"ping\"}").await;
    assert_eq!(client.line().await, "{\"return\": true}", "both were read");
    drop(client);
    gate.add_permits(2);
    // The first ends. The second was asked for before the client left, but nobody waits for it any more: whether it
    // is started depends on when the session learns of the end. Nothing is lost in either case.
    while done.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn events_precede_the_reply_of_what_raised_them() {
    #[derive(Deserialize, QapiType)]
    struct Raise {
        times: u32,
    }
    let gate = Arc::new(Semaphore::new(0));
    let fixture = fixture(vec![gated(&gate, &Arc::default())]).await;
    // A second plane's worth of commands needs the events of this one: raise them from outside instead.
    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(Client::negotiated(&fixture).await);
    }
    let raise = Raise { times: 3 };
    for client in &mut clients {
        client.send("{\"execute\":\"gated\"}").await;
    }
    for _ in 0..raise.times {
        fixture.core.events().sender().emit_plain("STOP").unwrap();
    }
    gate.add_permits(clients.len());
    for client in &mut clients {
        for _ in 0..raise.times {
            assert!(client.line().await.contains("\"event\": \"STOP\""));
        }
        assert_eq!(client.line().await, "{\"return\": {}}");
    }
}

#[tokio::test]
async fn a_panicking_handler_harms_nobody() {
    let panics = Command::new("panics")
        .handler(async |_: Context, (): ()| -> Result<(), CommandError> { panic!("as told") });
    let fixture = fixture(vec![panics, ping()]).await;
    let (mut one, mut other) = (Client::negotiated(&fixture).await, Client::negotiated(&fixture).await);
    assert!(one.ask("{\"execute\":\"panics\"}").await.contains("failed unexpectedly"));
    assert!(
        one.ask("{\"execute\":\"panics\"}").await.contains("failed unexpectedly"),
        "its permit is free again"
    );
    assert_eq!(one.ask("{\"execute\":\"ping\"}").await, "{\"return\": false}");
    assert_eq!(other.ask("{\"execute\":\"ping\"}").await, "{\"return\": false}");
}

#[tokio::test]
async fn closing_lets_replies_out_and_ends_sessions() {
    let gate = Arc::new(Semaphore::new(0));
    let fixture = fixture(vec![gated(&gate, &Arc::default())]).await;
    let (mut busy, mut idle) = (Client::negotiated(&fixture).await, Client::greeted(&fixture).await);
    busy.send("{\"execute\":\"gated\"}{\"execute\":\"gated\"}").await;
    fixture.core.close();
    assert_eq!(idle.rest().await, "");
    gate.add_permits(1);
    let rest = busy.rest().await;
    assert!(rest == "{\"return\": {}}\r\n" || rest.is_empty(), "at most what ran is answered: {rest:?}");
    fixture.monitor.close().await;
    assert!(!fixture.path.exists(), "the socket is gone");
}

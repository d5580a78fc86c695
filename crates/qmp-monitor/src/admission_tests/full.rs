//! Monitors that are full. Time is the runtime's own: it goes on only when nobody has anything else to do, and in small steps while
//! something comes over a connection.

use std::time::Duration;

use super::support::*;

/// How long a session that has not begun is safe.
const SPARED: Duration = Duration::from_millis(500);

#[tokio::test(start_paused = true)]
async fn who_never_negotiates_gives_way_and_the_young_are_spared() {
    let fixture = fixture(2, |config| config).await;
    let mut first = Client::from(1, &fixture).await;
    first.until("\r\n").await;
    tokio::time::sleep(SPARED).await;
    let mut second = Client::from(1, &fixture).await;
    second.until("\r\n").await;
    // As long as nobody else comes there is no limit.
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let before = tokio::time::Instant::now();
    let mut third = Client::from(1, &fixture).await;
    third.until("\r\n").await;
    assert!(before.elapsed() < SPARED);
    assert_eq!(first.rest().await, "", "the oldest went");
    let mut fourth = Client::from(1, &fixture).await;
    fourth.until("\r\n").await;
    assert_eq!(second.rest().await, "");
    // Both that are left are young, the older one as long as the time since then.
    let mut fifth = Client::from(1, &fixture).await;
    fifth.until("\r\n").await;
    assert!(before.elapsed() >= SPARED - Duration::from_millis(1), "{:?}", before.elapsed());
    assert_eq!(third.rest().await, "");
}

#[tokio::test(start_paused = true)]
async fn whoever_has_negotiated_stays_and_others_of_its_user_wait() {
    let fixture = fixture(2, |config| config).await;
    let mut one = Client::negotiated(1, &fixture).await;
    let mut other = Client::negotiated(1, &fixture).await;
    let mut third = Client::from(1, &fixture).await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!(third.is_unheard());
    assert!(one.is_served().await && other.is_served().await);
    assert_eq!(fixture.monitor.as_ref().unwrap().sessions().len(), 2);
    // What it sends meanwhile is not lost.
    third.send("{\"execute\":\"qmp_capabilities\"}{\"execute\":\"touch\"}").await;
    drop(one);
    third.until("{\"return\": {}}\r\n{\"return\": {}}\r\n").await;
    assert!(other.is_served().await);
}

#[tokio::test(start_paused = true)]
async fn a_lone_user_gives_way_to_others_up_to_their_share() {
    let fixture = fixture(4, |config| config).await;
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(Client::negotiated(1, &fixture).await);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut others = Vec::new();
    for _ in 0..2 {
        others.push(Client::negotiated(2, &fixture).await);
        assert_eq!(held.pop().unwrap().rest().await, "", "the newest went");
    }
    // Half is its share.
    let third = Client::from(2, &fixture).await;
    let fourth = Client::from(1, &fixture).await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!(third.is_unheard() && fourth.is_unheard());
    for client in held.iter_mut().chain(&mut others) {
        assert!(client.is_served().await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_command_ends_before_its_session_gives_way() {
    let fixture = fixture(2, |config| config).await;
    let mut first = Client::negotiated(1, &fixture).await;
    let mut second = Client::negotiated(1, &fixture).await;
    for client in [&mut first, &mut second] {
        client.send("{\"execute\":\"hold\"}").await;
    }
    quiet().await;
    let mut other = Client::from(2, &fixture).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(other.is_unheard(), "both commands run");
    fixture.gate.add_permits(2);
    // Both are answered. Once the first had not gone in time, the second was told to go too.
    other.until("\r\n").await;
    assert!(second.rest().await.starts_with("{\"return\": {}}\r\n"));
}

#[tokio::test(start_paused = true)]
async fn one_that_waits_for_no_answer_goes_first() {
    let fixture = fixture(3, |config| config).await;
    let mut idle = Client::negotiated(1, &fixture).await;
    let mut busy = Vec::new();
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let mut client = Client::negotiated(1, &fixture).await;
        client.send("{\"execute\":\"hold\"}").await;
        busy.push(client);
    }
    assert!(idle.is_served().await);
    Client::negotiated(2, &fixture).await;
    assert_eq!(idle.rest().await, "");
    fixture.gate.add_permits(2);
    for client in &mut busy {
        client.until("\r\n").await;
    }
}

/// However many connections one makes, another gets on.
#[tokio::test(start_paused = true)]
async fn a_flood_keeps_nobody_out() {
    let fixture = fixture(4, |config| config).await;
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(Client::negotiated(1, &fixture).await);
    }
    let mut flood = Vec::new();
    for _ in 0..100 {
        flood.push(Client::from(1, &fixture).await);
    }
    quiet().await;
    let mut other = Client::negotiated(2, &fixture).await;
    assert!(other.is_served().await);
    assert!(held[0].is_served().await);
    // Those that waited where they could be seen are few.
    let mut waiting = 0;
    for client in flood {
        waiting += usize::from(client.is_unheard());
    }
    assert!((1..=40).contains(&waiting), "{waiting}");
}

#[tokio::test(start_paused = true)]
async fn a_monitor_of_one_client_is_qemus() {
    let fixture = fixture(1, |config| config).await;
    let mut first = Client::from(1, &fixture).await;
    first.until("\r\n").await;
    let mut second = Client::from(2, &fixture).await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!(second.is_unheard());
    drop(first);
    second.until("\r\n").await;
}

/// Whoever waits is not lost when its monitor goes.
#[tokio::test(start_paused = true)]
async fn who_waits_is_the_next_monitors() {
    let mut fixture = fixture(2, |config| config).await;
    let mut one = Client::negotiated(1, &fixture).await;
    let _other = Client::negotiated(1, &fixture).await;
    let mut third = Client::from(1, &fixture).await;
    quiet().await;
    fixture.monitor.take().unwrap().detach().await;
    let front_end = fixture.chardev.front_end(4).unwrap();
    let config = crate::MonitorConfig::new("next");
    let next = crate::Monitor::start(fixture.core.clone(), &config, front_end);
    third.until("\r\n").await;
    one.until("\r\n").await;
    next.close().await;
}

/// A human monitor's client has begun when it has sent a line.
#[tokio::test(start_paused = true)]
async fn people_that_say_nothing_give_way_too() {
    let fixture = fixture(2, |config| config.readline(true)).await;
    let mut speaks = Client::from(1, &fixture).await;
    speaks.until("? ").await;
    speaks.send("x\r").await;
    speaks.until("done\r\n? ").await;
    let mut types = Client::from(1, &fixture).await;
    types.until("? ").await;
    types.send("half a li").await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let mut third = Client::from(1, &fixture).await;
    third.until("? ").await;
    types.rest().await;
    speaks.send("y\r").await;
    speaks.until("done\r\n? ").await;
}

/// Who has nothing to ask any more keeps no descriptor in the waiting room, though nobody else comes and no place is free.
#[tokio::test(start_paused = true)]
async fn who_ends_its_side_while_it_waits_is_forgotten() {
    let fixture = fixture(2, |config| config).await;
    let mut one = Client::negotiated(1, &fixture).await;
    let mut other = Client::negotiated(1, &fixture).await;
    let (mut stays, mut has_asked) = (Client::from(1, &fixture).await, Client::from(1, &fixture).await);
    let mut goes = Client::from(1, &fixture).await;
    has_asked.send("{\"execute\":\"qmp_capabilities\"}{\"execute\":\"touch\"}").await;
    has_asked.ends_its_side().await;
    goes.ends_its_side().await;
    assert_eq!(goes.rest().await, "");
    assert!(stays.is_unheard() && has_asked.is_unheard());
    assert!(one.is_served().await && other.is_served().await);
    drop((one, other));
    stays.until("\r\n").await;
    assert!(has_asked.rest().await.ends_with("{\"return\": {}}\r\n{\"return\": {}}\r\n"));
}

/// While somebody waits and nobody can give way, next to nothing is done.
#[tokio::test]
async fn waiting_costs_nothing() {
    let fixture = fixture(2, |config| config).await;
    let _one = Client::negotiated(1, &fixture).await;
    let _other = Client::negotiated(1, &fixture).await;
    let _third = Client::from(1, &fixture).await;
    quiet().await;
    let cpu = || rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let spent = cpu();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let spent = (cpu().tv_sec - spent.tv_sec) * 1_000_000_000 + cpu().tv_nsec - spent.tv_nsec;
    assert!(spent < 30_000_000, "{spent} ns of 300 ms");
}

//! What many sessions hold together, and who gives when it is too much.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use crate::support::{Client, Fixture, fixture_limited, fixture_within};
use qmp_command::{Command, CommandError, Context, QapiType};
use qmp_monitor::{Budgets, QmpSession, SessionLimits, Usage};
use serde::Deserialize;
use tokio::sync::Semaphore;

const LIMIT_ERROR: &str =
    "{\"error\": {\"class\": \"GenericError\", \"desc\": \"JSON token size limit exceeded\"}}";
const PING: &str = "{\"execute\":\"ping\"}";
const KIB: usize = 1024;

#[derive(Deserialize, QapiType)]
struct Size {
    bytes: u32,
}

#[derive(Deserialize, QapiType)]
struct Name {
    fdname: String,
}

/// Commands that are quick, that answer much, that take an fd, and that wait for the gate.
fn commands(gate: &Arc<Semaphore>) -> Vec<Command> {
    let gate = gate.clone();
    vec![
        Command::new("ping").allow_oob().concurrent().handler(async |_: Context, (): ()| Ok(())),
        Command::new("fill")
            .concurrent()
            .handler(async |_: Context, size: Size| Ok("x".repeat(usize::try_from(size.bytes)?))),
        Command::new("getfd").takes_fd().concurrent().handler(async |context: Context, name: Name| {
            let why = if context.fds_are_refused() { "refused" } else { "none" };
            let fd = context.take_fd().ok_or_else(|| CommandError::generic(why))?;
            let session: &QmpSession = context.session().ok_or_else(|| CommandError::generic("whose?"))?;
            drop(session.named_fds().insert(name.fdname, fd)?);
            Ok(())
        }),
        Command::new("gated").concurrent().handler(move |_: Context, (): ()| {
            let gate = gate.clone();
            async move {
                gate.acquire().await?.forget();
                Ok(())
            }
        }),
    ]
}

/// A plane with so much memory and so many fds, and its gate.
async fn plane(memory: usize, fds: usize) -> (Fixture, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let budgets = Budgets::default().memory(memory).fds(fds);
    (fixture_within(commands(&gate), budgets, 128).await, gate)
}

async fn ping(client: &mut Client) {
    assert_eq!(client.ask(PING).await, "{\"return\": {}}");
}

/// Waits until the sessions hold what they should.
async fn until(fixture: &Fixture, holds: impl Fn(Usage) -> bool) -> Usage {
    loop {
        let usage = fixture.core.usage();
        if holds(usage) {
            return usage;
        }
        tokio::task::yield_now().await;
    }
}

async fn until_nothing_is_held(fixture: &Fixture) {
    until(fixture, |usage| usage == Usage { memory: 0, fds: 0 }).await;
}

/// The beginning of a value of so many bytes. (One of numbers would be read as so many messages once it was refused.)
fn open_value(bytes: usize) -> String {
    format!("[\"{}", "x".repeat(bytes))
}

const CLOSE: &str = "\"]";

/// What a value gets that was read to its end.
const COMPLETE: &str = "QMP input must be a JSON object";

async fn clients<const N: usize>(fixture: &Fixture) -> [Client; N] {
    let mut clients = Vec::new();
    for _ in 0..N {
        clients.push(Client::negotiated(fixture).await);
    }
    clients.try_into().unwrap_or_else(|_| unreachable!("there are N"))
}

async fn ping_beside(fixture: &Fixture) {
    let [mut beside] = clients(fixture).await;
    for _ in 0..20 {
        ping(&mut beside).await;
    }
}

#[tokio::test]
async fn the_largest_of_those_with_a_value_open_gets_the_limit_error() {
    // Buffers double: 128 and 1024 KiB, and 512 that are too much.
    let (fixture, _) = plane(1500 * KIB, 100).await;
    let [mut large, mut small, mut other] = clients(&fixture).await;
    small.send(&open_value(100 * KIB)).await;
    large.send(&open_value(600 * KIB)).await;
    until(&fixture, |usage| usage.memory > 1100 * KIB).await;
    other.send(&open_value(480 * KIB)).await;
    assert_eq!(large.line().await, LIMIT_ERROR);
    // The others' values are as they were, and can be ended.
    assert!(small.ask(CLOSE).await.contains(COMPLETE));
    assert!(other.ask(CLOSE).await.contains(COMPLETE));
    // And the large one begins anew.
    ping(&mut large).await;
    drop((large, small, other));
    until_nothing_is_held(&fixture).await;
}

#[tokio::test]
async fn sixty_four_open_values_stay_within_the_budget_and_a_small_session_works_on() {
    const BUDGET: usize = 4096 * KIB;
    let (fixture, _) = plane(BUDGET, 100).await;
    let mut small = Client::negotiated(&fixture).await;
    small.send("{\"execute\":").await;
    let mut clients = clients::<64>(&fixture).await;
    let mut most = 0;
    for piece in open_value(200 * KIB).as_bytes().chunks(20 * KIB) {
        for client in &mut clients {
            client.send(std::str::from_utf8(piece).unwrap()).await;
            // Its unfinished request is never what must go.
            let reply = small.ask("\"ping\"} {\"execute\":").await;
            assert_eq!(reply, "{\"return\": {}}");
            // All may have the floor, and one of them the input of a turn more.
            let usage = fixture.core.usage().memory;
            assert!(usage <= BUDGET + 65 * BUDGET / 256 + 32 * KIB, "{usage}");
            most = most.max(usage);
        }
    }
    assert!(most > BUDGET / 2, "the budget can be used: {most}");
    drop((clients, small));
    until_nothing_is_held(&fixture).await;
}

#[tokio::test]
async fn requests_that_wait_count_with_all_that_was_made_of_them_and_are_refused_in_their_turn() {
    let (fixture, gate) = plane(1024 * KIB, 100).await;
    let mut large = Client::out_of_band(&fixture).await;
    large.send("{\"execute\":\"gated\",\"id\":\"first\"}").await;
    // 16 KiB of text each, and more than ten times that in memory.
    let arguments = "[1],".repeat(4000);
    for n in 0..7 {
        let request = format!("{{\"execute\":\"ping\",\"id\":{n},\"arguments\":{{\"a\":[{arguments}1]}}}}");
        large.send(&request).await;
        ping_beside(&fixture).await;
        assert!(fixture.core.usage().memory <= 1024 * KIB + 32 * KIB, "{:?}", fixture.core.usage());
    }
    gate.add_permits(1);
    assert_eq!(large.line().await, "{\"return\": {}, \"id\": \"first\"}");
    let mut refused = 0;
    for n in 0..7 {
        let reply = large.line().await;
        assert!(reply.contains(&format!("\"id\": {n}")), "{reply}");
        let limit = reply.contains("JSON token size limit exceeded");
        assert!(limit || reply.contains("'a' is unexpected"), "{reply}");
        refused += usize::from(limit);
    }
    assert!((2..7).contains(&refused), "{refused}");
    drop(large);
    until_nothing_is_held(&fixture).await;
}

#[tokio::test]
async fn a_request_whose_arguments_are_too_much_does_not_start() {
    let (fixture, gate) = plane(2048 * KIB, 100).await;
    let mut clients = clients::<16>(&fixture).await;
    // What runs cannot be stopped, and its arguments and id are kept until it ends.
    let request = format!("{{\"execute\":\"gated\",\"id\":[{}1]}}", "[1],".repeat(3000));
    clients[0].send(&request).await;
    let each = until(&fixture, |usage| usage.memory > 64 * KIB).await.memory;
    let fit = 2048 * KIB / each;
    assert!((2..10).contains(&fit), "{each}");
    for client in &mut clients[1..] {
        client.send(&request).await;
        ping_beside(&fixture).await;
    }
    for client in &mut clients[fit..] {
        assert!(client.line().await.contains("JSON token size limit exceeded"));
        ping(client).await;
    }
    assert!(fixture.core.usage().memory <= 2048 * KIB);
    gate.add_permits(fit);
    for client in &mut clients[..fit] {
        assert!(client.line().await.starts_with("{\"return\": {}, \"id\": [[1],"));
    }
    drop(clients);
    until_nothing_is_held(&fixture).await;
}

#[tokio::test]
async fn replies_that_nobody_reads_end_the_largest_and_a_single_reply_passes() {
    const BUDGET: usize = 2048 * KIB;
    let (fixture, _) = plane(BUDGET, 100).await;
    let mut clients = clients::<64>(&fixture).await;
    for client in &mut clients {
        client.send("{\"execute\":\"fill\",\"arguments\":{\"bytes\":600000}}").await;
        client.readable().await;
        let usage = fixture.core.usage().memory;
        assert!(usage <= BUDGET + 65 * BUDGET / 256 + 1024 * KIB, "{usage}");
    }
    ping_beside(&fixture).await;
    let mut whole = 0;
    for client in clients {
        whole += usize::from(client.has_line().await);
    }
    // Those that fit, and the one that always passes.
    assert!((2..=5).contains(&whole), "{whole}");
    until_nothing_is_held(&fixture).await;
}

#[tokio::test]
async fn one_reply_larger_than_the_budget_passes() {
    let (fixture, _) = plane(1024 * KIB, 100).await;
    let [mut client, mut other] = clients(&fixture).await;
    other.send(&open_value(100 * KIB)).await;
    let line = client.ask("{\"execute\":\"fill\",\"arguments\":{\"bytes\":5000000}}").await;
    assert_eq!(line.len(), 5_000_000 + "{\"return\": \"\"}".len());
    assert!(other.ask(CLOSE).await.contains(COMPLETE));
    drop((client, other));
    until_nothing_is_held(&fixture).await;
}

#[tokio::test]
async fn a_reply_that_passes_is_to_be_taken_in_time() {
    let mut limits = SessionLimits::default();
    limits.stall = Duration::from_millis(300);
    let gate = Arc::new(Semaphore::new(0));
    let budgets = Budgets::default().memory(1024 * KIB);
    let fixture = fixture_limited(commands(&gate), limits, budgets).await;
    let [mut slow, mut other] = clients(&fixture).await;
    const FILL: &str = "{\"execute\":\"fill\",\"arguments\":{\"bytes\":5000000}}";
    slow.send(FILL).await;
    // It takes something all the time, so it never stalls; at this pace all of it takes seconds.
    let mut taken = 0;
    while let Some(some) = slow.some_or_end(16 * KIB).await {
        taken += some;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(taken < 5_000_000, "it has lost its session");
    // Which leaves the place to another.
    assert!(other.ask(FILL).await.len() > 5_000_000);
    drop((slow, other));
    until_nothing_is_held(&fixture).await;
}

fn fds(count: usize) -> Vec<OwnedFd> {
    let null: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
    (0..count).map(|_| null.try_clone().unwrap()).collect()
}

fn getfd(name: usize) -> String {
    format!("{{\"execute\":\"getfd\",\"arguments\":{{\"fdname\":\"f{name}\"}}}}")
}

#[tokio::test]
async fn fds_that_wait_are_counted_and_the_one_with_most_loses_them() {
    let (fixture, _) = plane(1024 * KIB, 64).await;
    let mut small = Client::negotiated(&fixture).await;
    small.send_fds(&getfd(0), &fds(1));
    assert_eq!(small.line().await, "{\"return\": {}}");
    let mut clients = clients::<16>(&fixture).await;
    let held = fds(20);
    for client in &mut clients {
        // They come with a request that is not finished.
        client.send_fds("{\"execute\":\"getfd\",", &held);
    }
    until(&fixture, |usage| usage.fds > 40).await;
    ping_beside(&fixture).await;
    assert!(fixture.core.usage().fds <= 64 + 18, "{:?}", fixture.core.usage());
    let mut refused = 0;
    for client in &mut clients {
        let reply = client.ask("\"arguments\":{\"fdname\":\"a\"}}").await;
        refused += usize::from(reply.contains("refused"));
    }
    assert!((12..=14).contains(&refused), "{refused}");
    // The small one had its own all along, and another.
    small.send_fds(&getfd(1), &fds(1));
    assert_eq!(small.line().await, "{\"return\": {}}");
    drop((clients, small));
    until_nothing_is_held(&fixture).await;
}

#[tokio::test]
async fn getfd_over_the_budget_fails_and_the_names_that_were_given_stay() {
    let (fixture, _) = plane(1024 * KIB, 32).await;
    let [mut greedy, mut other] = clients(&fixture).await;
    for name in 0..32 {
        greedy.send_fds(&getfd(name), &fds(1));
        assert_eq!(greedy.line().await, "{\"return\": {}}");
    }
    greedy.send_fds(&getfd(32), &fds(1));
    assert!(greedy.line().await.contains("refused"));
    assert_eq!(fixture.core.usage().fds, 32);
    // Somebody who has nothing gets one, and then it is the greedy one's turn to give.
    for name in 0..2 {
        other.send_fds(&getfd(name), &fds(1));
        assert_eq!(other.line().await, "{\"return\": {}}");
    }
    until(&fixture, |usage| usage.fds == 2).await;
    drop((greedy, other));
    until_nothing_is_held(&fixture).await;
}

#[tokio::test]
async fn an_id_that_would_sprawl_is_not_indented() {
    let (fixture, _) = plane(256 << 20, 100).await;
    let mut client = Client::pretty(&fixture).await;
    // Indented, each of them would take 2 KiB.
    let deep = format!("{}{}1{}", "[".repeat(500), "1,".repeat(100_000), "]".repeat(500));
    client.send(&format!("{{\"execute\":\"ping\",\"id\":{deep}}}")).await;
    let reply = client.line().await;
    assert!(reply.len() < 2 * 3 * 100_000, "{}", reply.len());
    client.send("{\"execute\":\"ping\",\"id\":[1]}").await;
    assert_eq!(client.line().await, "{", "small ones are");
}

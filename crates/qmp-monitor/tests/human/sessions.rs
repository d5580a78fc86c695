//! What a client of a human monitor gets to see.

use std::fs::File;
use std::os::fd::OwnedFd;

use qmp_monitor::{Monitor, MonitorConfig, NamedFdsScope, SessionLimits};

use crate::support::{Client, echo_of, fixture, fixture_with};

#[tokio::test]
async fn lines_are_echoed_executed_and_answered() {
    let fixture = fixture().await;
    let mut client = Client::greeted(&fixture).await;
    client.enter("echo a/b").await;
    client.expect("a\r\nb\r\n? ").await;
    client.enter("").await;
    client.expect("? ").await;
    client.enter("nope 1").await;
    client.expect("what is 'nope'?\r\n? ").await;
    client.enter("who").await;
    client.expect(&format!("{} on h\r\n? ", rustix::process::getuid().as_raw())).await;
    client.send(b"\x1b[A\x1b[A").await;
    client.expect("who\x1b[K\x1b[D\x1b[D\x1b[Dnope 1\x1b[K").await;
}

#[tokio::test]
async fn words_are_completed() {
    let fixture = fixture().await;
    let mut client = Client::greeted(&fixture).await;
    client.send("ec\t").await;
    client.expect("e\x1b[K\x1b[Dec\x1b[K\x1b[D\x1b[Decho \x1b[K").await;
    client.send("w\t").await;
    client
        .expect("\x1b[D\x1b[D\x1b[D\x1b[D\x1b[Decho w\x1b[K\r\nwait      who       \r\n? echo w\x1b[K")
        .await;
    client.send("x\t\r").await;
    client.expect("\x1b[D\x1b[D\x1b[D\x1b[D\x1b[D\x1b[Decho wx\x1b[K\r\nwx\r\n? ").await;
}

#[tokio::test]
async fn what_one_client_typed_is_no_others_to_see() {
    let fixture = fixture().await;
    let mut client = Client::greeted(&fixture).await;
    client.enter("echo secret").await;
    client.expect("secret\r\n? ").await;
    drop(client);
    let mut next = Client::greeted(&fixture).await;
    next.send("\x1b[A").await;
    next.enter("echo mine").await;
}

#[tokio::test]
async fn bytes_that_are_not_text_are_echoed_and_replaced() {
    let fixture = fixture().await;
    let mut client = Client::greeted(&fixture).await;
    client.send(b"\xc3\xa9\x08\x08\xc3\xa9\r").await;
    client.bytes(b"\xc3\x1b[K\x1b[D\xc3\xa9\x1b[K\x1b[D\x1b[D\xc3\x1b[K\x1b[D\x1b[K").await;
    client.bytes(b"\xc3\x1b[K\x1b[D\xc3\xa9\x1b[K\r\nwhat is '\xc3\xa9'?\r\n? ").await;
    client.send(b"\xff\r").await;
    client.bytes(b"\xff\x1b[K\r\nwhat is '\xef\xbf\xbd'?\r\n? ").await;
}

#[tokio::test]
async fn one_line_at_a_time_and_what_is_typed_meanwhile_waits() {
    let fixture = fixture().await;
    let mut client = Client::greeted(&fixture).await;
    let mut other = Client::greeted(&fixture).await;
    client.send("wait\recho then\rha").await;
    client.expect(&echo_of("wait")).await;
    other.enter("echo meanwhile").await;
    other.expect("meanwhile\r\n? ").await;
    assert_eq!(*fixture.words.lines.lock().unwrap(), ["wait", "echo meanwhile"]);
    fixture.words.gate.add_permits(1);
    client.expect("waited\r\n? ").await;
    client.expect(&echo_of("echo then")).await;
    client.expect("then\r\n? h\x1b[K\x1b[Dha\x1b[K").await;
}

#[tokio::test]
async fn a_client_that_leaves_stops_no_line() {
    let fixture = fixture().await;
    let mut client = Client::greeted(&fixture).await;
    client.enter("wait").await;
    drop(client);
    let mut half = Client::greeted(&fixture).await;
    half.send("wait\recho last\rnot entered").await;
    half.shutdown_write().await;
    fixture.words.gate.add_permits(2);
    let echo = ["n", "no", "not"].map(|text| format!("{text}\x1b[K{}", "\x1b[D".repeat(text.len()))).concat();
    let rest = half.rest().await;
    let want = format!("{}waited\r\n? {}last\r\n? {echo}", echo_of("wait"), echo_of("echo last"));
    assert!(rest.starts_with(&want) && rest.ends_with("not entered\x1b[K"), "{rest:?}");
    fixture.executed(3).await;
}

#[tokio::test]
async fn a_panicking_shell_harms_nobody() {
    let fixture = fixture().await;
    let mut client = Client::greeted(&fixture).await;
    for line in ["panic-call", "panic-later"] {
        client.enter(line).await;
        client.expect("Error: the command failed unexpectedly; the log has the reason\r\n? ").await;
    }
    client.send("panic-t\t\r").await;
    client.expect(&echo_of("panic-t")).await;
    client.expect("what is 'panic-t'?\r\n? ").await;
}

#[tokio::test]
async fn human_monitors_get_no_events() {
    let fixture = fixture().await;
    let mut client = Client::greeted(&fixture).await;
    fixture.core.events().sender().emit_plain("STOP").unwrap();
    client.enter("echo quiet").await;
    client.expect("quiet\r\n? ").await;
}

#[tokio::test]
async fn a_line_sees_the_newest_fds_that_began_before_its_end() {
    let (fixture, dir) = (fixture().await, tempfile::tempdir().unwrap());
    let file = |name: &str| -> OwnedFd { File::create(dir.path().join(name)).unwrap().into() };
    let inode = |fd: &OwnedFd| rustix::fs::fstat(fd).unwrap().st_ino;
    let mut client = Client::greeted(&fixture).await;
    let line = async |client: &mut Client, answer: &str| {
        client.expect(&echo_of("inode")).await;
        client.expect(&format!("{answer}\r\n? ")).await;
    };
    for _ in 0..20 {
        let fds = ["a", "b", "c"].map(file);
        let [a, b, c] = fds.each_ref().map(|fd| inode(fd).to_string());
        let [fd_a, fd_b, fd_c] = fds;
        // All of it is there before the session gets to read.
        client.send("inode\r").await;
        client.send_fds("inode\rino", &[fd_a]);
        client.send("de\r").await;
        client.send("ino").await;
        client.send_fds("de\r", &[fd_b]);
        client.send_fds("\r", &[fd_c]);
        client.send("inode\rinode\r").await;
        for answer in ["no fd", &a, "no fd", &b] {
            line(&mut client, answer).await;
        }
        client.expect("\r\n? ").await; // an empty line takes none
        line(&mut client, &c).await;
        line(&mut client, "no fd").await;
    }
}

#[tokio::test]
async fn names_of_fds_are_the_sessions_or_the_monitors() {
    for (scope, kept) in [(NamedFdsScope::Session, ""), (NamedFdsScope::Monitor, "a")] {
        let configure = |config: MonitorConfig| config.readline(true).named_fds(scope);
        let fixture = fixture_with(SessionLimits::default(), configure).await;
        let mut client = Client::greeted(&fixture).await;
        client.send_fds("getfd a\r", &[File::open("/dev/null").unwrap().into()]);
        client.expect(&echo_of("getfd a")).await;
        client.expect("? ").await;
        client.enter("names").await;
        client.expect("a\r\n? ").await;
        drop(client);
        let mut client = Client::greeted(&fixture).await;
        client.enter("names").await;
        client.expect(&format!("{kept}\r\n? ")).await;
    }
}

#[tokio::test]
async fn plain_lines_for_programs() {
    let fixture = fixture_with(SessionLimits::default(), |config| config.readline(false)).await;
    let mut client = Client::greeted(&fixture).await;
    client.send("echo \t\x08a\r\necho b\necho c\0").await;
    client.expect("\t\x08a\r\n? b\r\n? c\r\n? ").await;
    client.send("x".repeat(5000) + "\n").await;
    client.expect("Error: the line is longer than 4095 bytes\r\n? ").await;
}

#[tokio::test]
async fn closing_waits_for_the_line_and_prompts_no_more() {
    let fixture = fixture().await;
    let mut busy = Client::greeted(&fixture).await;
    let idle = Client::greeted(&fixture).await;
    busy.send("wait\recho never\r").await;
    busy.expect(&echo_of("wait")).await;
    let (words, closing) = (fixture.words.clone(), tokio::spawn(fixture.monitor.close()));
    assert_eq!(idle.rest().await, "");
    words.gate.add_permits(1);
    assert_eq!(busy.rest().await, "waited\r\n");
    closing.await.unwrap();
    assert_eq!(*words.lines.lock().unwrap(), ["wait"]);
}

#[tokio::test]
async fn the_planes_end_is_the_sessions_end() {
    let fixture = fixture().await;
    let client = Client::greeted(&fixture).await;
    fixture.core.close();
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn a_detached_client_is_the_next_monitors() {
    let fixture = fixture().await;
    let mut client = Client::greeted(&fixture).await;
    client.send("ech").await;
    client.expect("e\x1b[K\x1b[Dec\x1b[K\x1b[D\x1b[Dech\x1b[K").await;
    fixture.monitor.detach().await;
    client.send("echo new\r").await;
    let front_end = fixture.chardev.front_end(64).unwrap();
    let _next = Monitor::start(fixture.core.clone(), &MonitorConfig::new("n").readline(true), front_end);
    client.expect("Words here\r\n? ").await;
    client.expect(&echo_of("echo new")).await;
    client.expect("new\r\n? ").await;
}

#[tokio::test]
async fn without_a_shell_clients_are_turned_away() {
    let fixture = crate::support::without_shell().await;
    assert_eq!(Client::connect(&fixture).await.rest().await, "");
}

//! Browsers and the like on TCP: no command of theirs gets through, on either kind of monitor.

use std::process::Stdio;
use std::sync::atomic::Ordering;

use super::support::*;

const COMMANDS: &str =
    "{\"execute\":\"qmp_capabilities\"}\r\n{\"execute\":\"touch\"}\r\n{\"execute\":\"touch\"}\r\n";

/// A request as a page can have it made, in one write.
fn post(path: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[tokio::test]
async fn an_http_request_gets_an_error_and_the_end() {
    let fixture = fixture(4, |config| config).await;
    let long = format!("/{}", "a".repeat(10_000));
    for request in [
        post("/", COMMANDS),
        post(&long, COMMANDS),
        format!("post / HTTP/1.1\r\n\r\n{COMMANDS}"),
        format!("null\r\n{COMMANDS}"),
        format!("{{\"execute\": 7}}\r\n{COMMANDS}"),
        format!("\u{16}\u{3}\u{1}{COMMANDS}"),
    ] {
        let mut client = Client::from(1, &fixture).await;
        client.send(&request).await;
        let said = client.rest().await;
        // A reset may lose what was said; whatever is left says "no" once.
        assert!(said.matches("\"error\"").count() <= 1 && !said.contains("return"), "{request}: {said}");
    }
    // The same byte by byte, and slowly: what comes later is not read either.
    let client = Client::from(1, &fixture).await;
    for byte in post("/", COMMANDS).bytes() {
        if client.0.try_write(&[byte]).is_err() {
            break;
        }
        tokio::task::yield_now().await;
    }
    client.rest().await;
    assert_eq!(fixture.touched.load(Ordering::Acquire), 0);
    // Others are served.
    assert!(Client::negotiated(1, &fixture).await.is_served().await);
}

#[tokio::test]
async fn curl_gets_nothing_done() {
    let qmp = fixture(4, |config| config).await;
    let human = fixture(4, |config| config.readline(true)).await;
    let plain = fixture(4, |config| config.readline(false)).await;
    for (at, data) in [
        (qmp.at, "{\"execute\":\"qmp_capabilities\"}{\"execute\":\"touch\"}"),
        (human.at, "quit\nquit\n"),
        (plain.at, "quit\nquit\n"),
    ] {
        let url = format!("http://{at}/");
        let mut curl = std::process::Command::new("curl");
        curl.args(["--silent", "--max-time", "20", "--data-binary", data, &url]).stdin(Stdio::null());
        let curl = tokio::task::spawn_blocking(move || curl.output()).await.unwrap();
        let Ok(output) = curl else {
            eprintln!("SKIPPED: there is no curl, this test has shown nothing");
            return;
        };
        assert!(!output.status.success(), "that is no web server: {output:?}");
    }
    quiet().await;
    assert_eq!(qmp.touched.load(Ordering::Acquire), 0);
    for fixture in [human, plain] {
        assert!(fixture.lines.0.lock().unwrap().is_empty());
    }
}

#[tokio::test]
async fn people_are_told_from_browsers() {
    for echo in [true, false] {
        let fixture = fixture(4, |config| config.readline(echo)).await;
        let long = format!("/{}", "a".repeat(10_000));
        for request in
            [post("/", "quit\r\n"), post(&long, "\r\nquit\r\n"), "\u{16}\u{3}\u{1}\nquit\n".to_owned()]
        {
            let mut client = Client::from(1, &fixture).await;
            client.until("? ").await;
            client.send(&request).await;
            assert!(!client.rest().await.contains("done"));
        }
        assert!(fixture.lines.0.lock().unwrap().is_empty());
        // It is the first line that counts.
        let mut client = Client::from(1, &fixture).await;
        client.until("? ").await;
        for line in ["info status", "x / HTTP/1.1"] {
            client.send(format!("{line}\r")).await;
            client.until("done\r\n? ").await;
        }
        assert_eq!(*fixture.lines.0.lock().unwrap(), ["info status", "x / HTTP/1.1"]);
    }
}

#[tokio::test]
async fn once_negotiated_errors_are_errors() {
    let fixture = fixture(4, |config| config).await;
    let mut client = Client::negotiated(1, &fixture).await;
    client.send("x\n").await;
    assert!(client.until("\r\n").await.contains("JSON parse error"));
    assert!(client.is_served().await);
    // What is no error in JSON ends nothing before either.
    let mut client = Client::from(1, &fixture).await;
    client.until("\r\n").await;
    client.send("{\"execute\":\"touch\"}").await;
    assert!(client.until("\r\n").await.contains("Expecting capabilities negotiation"));
    client.send("{\"execute\":\"qmp_capabilities\"}").await;
    assert_eq!(client.until("\r\n").await, "{\"return\": {}}\r\n");
}

#[tokio::test]
async fn strict_off_is_qemus_way() {
    let fixture = fixture(4, |config| config.strict(false)).await;
    let mut client = Client::from(1, &fixture).await;
    client.send(post("/", COMMANDS)).await;
    client.until("{\"return\": {}}\r\n{\"return\": {}}\r\n{\"return\": {}}\r\n").await;
    assert_eq!(fixture.touched.load(Ordering::Acquire), 2);
}

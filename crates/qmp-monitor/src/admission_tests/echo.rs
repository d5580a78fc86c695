//! Two sessions that read one another: each would answer the other's errors for ever.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::support::*;

#[tokio::test]
async fn two_sessions_that_talk_to_each_other_end() {
    let fixture = fixture(8, |config| config).await;
    // One pair as it is, one where both have negotiated by then.
    for negotiated in [false, true] {
        let (a, b) = UnixStream::pair().unwrap();
        if negotiated {
            for end in [&a, &b] {
                std::io::Write::write_all(&mut &*end, b"{\"execute\":\"qmp_capabilities\"}").unwrap();
            }
        }
        for end in [a, b] {
            fixture.chardev.attach(OwnedFd::from(end), None).unwrap();
        }
        let monitor = fixture.monitor.as_ref().unwrap();
        let both = async {
            while monitor.sessions().len() < 2 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            while !monitor.sessions().is_empty() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), both).await.expect("they end");
    }
}

#[tokio::test]
async fn a_client_may_send_replies_if_it_sends_something_else_too() {
    let fixture = fixture(8, |config| config).await;
    let mut client = Client::negotiated(1, &fixture).await;
    for _ in 0..3 {
        client.send("{\"return\": {}}\n".repeat(999)).await;
        for _ in 0..999 {
            assert!(client.until("\r\n").await.contains("'return' is unexpected"));
        }
        assert!(client.is_served().await);
    }
    client.send("{\"event\": \"STOP\"}\n".repeat(1000)).await;
    client.rest().await;
}

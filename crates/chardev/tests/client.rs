//! Client mode. Where there are intervals to wait, time is paused: the runtime jumps to the next timer when idle.

mod common;

use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chardev::{Address, Backend, Chardev, OpenError, SocketOptions};
use common::is_pending;
use tokio::time::Instant;

async fn open(path: &Path, reconnect: Option<u64>) -> Result<Arc<Chardev>, OpenError> {
    let reconnect = reconnect.map(Duration::from_secs);
    let options = SocketOptions { reconnect, ..SocketOptions::client(Address::unix(path)) };
    Chardev::open("c", Backend::Socket(options), 1).await.map(Arc::new)
}

#[tokio::test]
async fn nobody_there() {
    let error = open(Path::new("/nonexistent/sock"), None).await.unwrap_err();
    assert_eq!(error.to_string(), "Failed to connect to '/nonexistent/sock': No such file or directory");
}

#[tokio::test]
async fn once_without_reconnect() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let server = UnixListener::bind(&path).unwrap();
    let chardev = open(&path, None).await.unwrap();
    assert_eq!(chardev.filename(), "unix:");
    let mut front_end = chardev.front_end(64).unwrap();
    let connection = front_end.next().await.unwrap();
    let _accepted = server.accept().unwrap();
    assert!(is_pending(front_end.next()).await, "the end comes when the connection has gone");
    drop(connection);
    assert!(is_pending(front_end.next()).await, "another one can only be handed in");
    assert_eq!(chardev.filename(), format!("disconnected:unix:{}", path.display()));
}

#[tokio::test(start_paused = true)]
async fn tries_at_the_interval_and_again_after_a_disconnect() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let start = Instant::now();
    let chardev = open(&path, Some(10)).await.unwrap();
    assert_eq!(chardev.filename(), format!("disconnected:unix:{}", path.display()));
    let mut front_end = chardev.front_end(64).unwrap();

    // Attempts at 0, 10, 20 seconds fail; giving up waiting does not start the interval anew.
    assert!(tokio::time::timeout(Duration::from_secs(14), front_end.next()).await.is_err());
    assert!(tokio::time::timeout(Duration::from_secs(10), front_end.next()).await.is_err());
    let server = UnixListener::bind(&path).unwrap();
    let connection = front_end.next().await.unwrap();
    assert_eq!(start.elapsed().as_secs(), 30);
    drop(server.accept().unwrap());

    // One at a time; the full interval after the last has gone.
    assert!(tokio::time::timeout(Duration::from_secs(5), front_end.next()).await.is_err());
    drop(connection);
    let gone = Instant::now();
    let connection = front_end.next().await.unwrap();
    assert_eq!(gone.elapsed().as_secs(), 10);
    drop(connection);
}

#[tokio::test(start_paused = true)]
async fn a_backlog_that_stays_full_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let server = UnixListener::bind(&path).unwrap();
    rustix::net::listen(&server, 0).unwrap();
    let _first = open(&path, None).await.unwrap(); // fills it
    let start = Instant::now();
    let error = open(&path, None).await.unwrap_err();
    let text = format!("Failed to connect to '{}': Connection timed out", path.display());
    assert_eq!((error.to_string(), start.elapsed().as_secs()), (text, 10));
}

#[tokio::test(start_paused = true)]
async fn a_full_backlog_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let server = UnixListener::bind(&path).unwrap();
    rustix::net::listen(&server, 0).unwrap();
    let first = open(&path, None).await.unwrap(); // fills it
    let (second, ()) = tokio::join!(open(&path, None), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        drop(server.accept().unwrap());
    });
    assert!(second.is_ok());
    drop(first);
}

//! A plane that is dropped ends its sessions, removes its sockets and leaves no fd. Alone in its process: it counts the
//! process's fds.

#![expect(clippy::unwrap_used, reason = "in helpers of tests, too, it is how a test fails")]

use std::fs::File;
use std::io::IoSlice;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use vmm_control::chardev::{Address, Backend, Chardev, SocketOptions};
use vmm_control::{Command, Context, ControlPlane, MonitorConfig, NamedFdsScope, RunState, RunStateCell};

fn open_fds() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

type Client = BufReader<UnixStream>;

async fn line(client: &mut Client) -> String {
    let mut line = String::new();
    client.read_line(&mut line).await.unwrap();
    line
}

async fn connect(path: &Path) -> Client {
    let mut client = BufReader::new(UnixStream::connect(path).await.unwrap());
    assert!(line(&mut client).await.starts_with("{\"QMP\""));
    client
}

async fn negotiated(path: &Path) -> Client {
    let mut client = connect(path).await;
    client.write_all(b"{\"execute\": \"qmp_capabilities\"}").await.unwrap();
    line(&mut client).await;
    client
}

/// Writes `text` with two fds, and closes them here.
fn send_fds(client: &Client, text: &str) {
    let fds: [OwnedFd; 2] = [0, 1].map(|_| File::open("/dev/null").unwrap().into());
    let borrowed = fds.each_ref().map(AsFd::as_fd);
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&borrowed)));
    let bytes = [IoSlice::new(text.as_bytes())];
    sendmsg(client.get_ref(), &bytes, &mut control, SendFlags::NOSIGNAL).unwrap();
}

/// A plane with two monitors, and on each of them clients that hold all that a client can hold.
async fn live(directory: &Path) -> (ControlPlane, Vec<Client>) {
    let handles = Command::new("x-keeps-a-handle");
    let plane = ControlPlane::builder(RunStateCell::new(RunState::Running))
        .command_with(|plane| {
            let plane = plane.clone();
            handles.handler(move |_: Context, (): ()| {
                std::future::ready(Ok(plane.fd_sets().query().len() as u64))
            })
        })
        .build()
        .unwrap();
    let mut clients = Vec::new();
    for (id, scope) in [("a", NamedFdsScope::Session), ("b", NamedFdsScope::Monitor)] {
        let path = directory.join(id);
        let backend = Backend::Socket(SocketOptions::server(Address::unix(&path)));
        let chardev = Arc::new(Chardev::open(id, backend, 128).await.unwrap());
        plane.add_monitor(MonitorConfig::new(id).named_fds(scope), &chardev, 8).unwrap();
        clients.push(connect(&path).await);
        clients.push(negotiated(&path).await);
        for text in [
            "{\"execute\": \"getfd\", \"arguments\": {\"fdname\": \"n\"}}",
            "{\"execute\": \"add-fd\"}",
            // These fds stay pending, which nobody takes.
            "{\"execute\": \"query-name\"}",
        ] {
            let mut client = negotiated(&path).await;
            send_fds(&client, text);
            assert!(line(&mut client).await.starts_with("{\"return\""));
            clients.push(client);
        }
        let half_said = negotiated(&path).await;
        send_fds(&half_said, "{\"execute\": ");
        clients.push(half_said);
    }
    (plane, clients)
}

async fn all_is_given_back() {
    let before = open_fds();
    let dir = tempfile::tempdir().unwrap();
    let (plane, mut clients) = live(dir.path()).await;
    assert!(open_fds() > before + 20);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    drop(plane);
    for client in &mut clients {
        let mut rest = Vec::new();
        // A session that ends with unread input resets the connection.
        let _ = client.read_to_end(&mut rest).await;
        assert!(rest.is_empty(), "no event, no reply");
    }
    drop(clients);
    // The listeners go when the last session has.
    while std::fs::read_dir(dir.path()).unwrap().count() > 0 || open_fds() > before {
        tokio::task::yield_now().await;
    }
    assert_eq!(open_fds(), before);
}

#[tokio::test]
async fn a_dropped_plane_leaves_nothing() {
    for _ in 0..3 {
        let done = tokio::time::timeout(Duration::from_secs(20), all_is_given_back()).await;
        done.expect("sessions, sockets and fds are gone in time");
    }
}

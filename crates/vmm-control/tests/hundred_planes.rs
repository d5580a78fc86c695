//! A hundred planes in one process: none sees another's, and when they are dropped nothing of them is left. Alone in its
//! process: it counts the process's fds, threads and memory.

#![expect(clippy::unwrap_used, reason = "in helpers of tests, too, it is how a test fails")]

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use vmm_control::chardev::{Address, Backend, Chardev, SocketOptions};
use vmm_control::{ControlPlane, LocalSession, MonitorConfig, RunState, RunStateCell};

const PLANES: usize = 100;

/// KiB that the process may have more after the second round than after the first: allocators keep some.
const SLACK: u64 = 4096;

fn open_fds() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn status(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

struct Hosted {
    plane: ControlPlane,
    session: LocalSession,
    client: BufReader<UnixStream>,
}

impl Hosted {
    /// A plane with a monitor and a client on it, an iothread, an fd set, a chardev.
    async fn new(dir: &Path, number: usize) -> Self {
        let plane = ControlPlane::builder(RunStateCell::new(RunState::Running)).build().unwrap();
        let path = dir.join(number.to_string());
        let backend = Backend::Socket(SocketOptions::server(Address::unix(&path)));
        let chardev = Arc::new(Chardev::open("mon0", backend, 128).await.unwrap());
        plane.add_monitor(MonitorConfig::new("qmp"), &chardev, 8).unwrap();
        let mut session = plane.connect();
        session.watch();
        let iothread = json!({"qom-type": "iothread", "id": format!("io{number}")});
        session.execute::<_, Value>("object-add", &iothread).await.unwrap();
        let fd = File::open("/dev/null").unwrap().into();
        let set = json!({"fdset-id": number});
        session.execute_with_fds::<_, Value>("add-fd", &set, vec![fd]).await.unwrap();
        let null = json!({"id": format!("null{number}"), "backend": {"type": "null", "data": {}}});
        session.execute::<_, Value>("chardev-add", &null).await.unwrap();
        let mut client = BufReader::new(UnixStream::connect(&path).await.unwrap());
        client.read_line(&mut String::new()).await.unwrap();
        let mut hosted = Self { plane, session, client };
        hosted.ask("qmp_capabilities").await;
        hosted
    }

    /// What the client gets next after this request: an event or the reply.
    async fn ask(&mut self, command: &str) -> String {
        let request = format!("{{\"execute\": \"{command}\"}}");
        self.client.get_mut().write_all(request.as_bytes()).await.unwrap();
        self.line().await
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        self.client.read_line(&mut line).await.unwrap();
        line.trim_end().to_owned()
    }

    async fn query(&self, command: &str) -> Value {
        self.session.execute(command, &()).await.unwrap()
    }
}

async fn round(dir: &Path) {
    let (fds, threads) = (open_fds(), status("Threads:"));
    let mut all = Vec::new();
    for number in 0..PLANES {
        all.push(Hosted::new(dir, number).await);
    }
    assert!(status("Threads:") >= threads + 100 && open_fds() > fds + 400);

    // What every second one does, the others do not hear of.
    for hosted in all.iter_mut().step_by(2) {
        assert!(hosted.ask("stop").await.contains("\"STOP\""));
        assert_eq!(hosted.line().await, "{\"return\": {}}");
    }
    for (number, hosted) in all.iter_mut().enumerate() {
        let stopped = number % 2 == 0;
        let status = hosted.ask("query-status").await;
        assert_eq!(status.contains("\"status\": \"paused\""), stopped, "{status}");
        let event = hosted.session.try_next_event().map(|event| event.name.into_owned());
        assert_eq!(event.as_deref(), stopped.then_some("STOP"));
        assert!(hosted.session.try_next_event().is_none());
        let sets = hosted.query("query-fdsets").await;
        assert_eq!((sets.as_array().unwrap().len(), &sets[0]["fdset-id"]), (1, &json!(number)));
        let iothreads = hosted.query("query-iothreads").await;
        assert_eq!(
            (iothreads.as_array().unwrap().len(), &iothreads[0]["id"]),
            (1, &json!(format!("io{number}")))
        );
        let chardevs = hosted.query("query-chardev").await;
        let mut labels: Vec<_> = chardevs.as_array().unwrap().iter().map(|it| it["label"].clone()).collect();
        labels.sort_by_key(ToString::to_string);
        assert_eq!(labels, [json!("mon0"), json!(format!("null{number}"))]);
        let monitors = hosted.query("x-query-monitors").await;
        assert_eq!(monitors.as_array().unwrap().len(), 1);
    }

    for Hosted { plane, session, mut client } in all {
        drop((plane, session));
        let mut rest = String::new();
        client.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "");
    }
    // What closes fds goes after two idle seconds, and nothing tells when.
    while std::fs::read_dir(dir).unwrap().count() > 0 || open_fds() != fds || status("Threads:") > threads {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn a_hundred_planes_come_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut memory = None;
    for _ in 0..2 {
        let done = runtime
            .block_on(async { tokio::time::timeout(Duration::from_secs(120), round(dir.path())).await });
        done.expect("fds, threads and sockets are gone in time");
        let now = status("VmRSS:");
        let first = *memory.get_or_insert(now);
        assert!(now <= first + SLACK, "{first} KiB after the first round, {now} KiB now");
    }
}

//! 64 clients, each with a value of two million tokens open: what the process takes up. Alone in its process.

#![allow(clippy::unwrap_used, reason = "this is a test, helpers included")]

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chardev::{Address, Backend, Chardev, SocketOptions};
use qmp_command::Router;
use qmp_monitor::{Budgets, Core, EventHub, Monitor, MonitorConfig, SessionLimits, Usage, qmp_capabilities};
use qmp_protocol::Version;

const MIB: usize = 1 << 20;
const CLIENTS: usize = 64;

/// Far less than the default, so that the test is quick: without it, what is opened here would hold 192 MiB.
const BUDGET: usize = 16 * MIB;

/// Two million tokens, less a few, so that no limit of one session's is broken: digits and commas. Two megabytes for each
/// client, in buffers that are up to twice as large.
const PAIRS: usize = MIB - 1;

fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * rustix::param::page_size()
}

fn connected(path: &Path) -> BufReader<UnixStream> {
    let stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut client = BufReader::new(stream);
    client.read_line(&mut String::new()).unwrap();
    assert_eq!(ask(&mut client, "{\"execute\":\"qmp_capabilities\"}"), "{\"return\": {}}");
    client
}

fn ask(client: &mut BufReader<UnixStream>, text: &str) -> String {
    client.get_mut().write_all(text.as_bytes()).unwrap();
    let mut line = String::new();
    client.read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

/// Opens a value, as far as it is let. Says whether it was told that it is too large; then it sends no more.
fn open_value(client: &BufReader<UnixStream>) -> bool {
    let mut stream = client.get_ref();
    let piece = "1,".repeat(16 * 1024);
    stream.write_all(b"[").unwrap();
    for _ in 0..PAIRS / (16 * 1024) {
        stream.set_nonblocking(true).unwrap();
        let mut reply = [0; 512];
        let told = stream.read(&mut reply);
        stream.set_nonblocking(false).unwrap();
        match told {
            Ok(len) => {
                let reply = String::from_utf8_lossy(&reply[..len]).into_owned();
                assert!(reply.contains("JSON token size limit exceeded"), "{reply}");
                return true;
            }
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
        }
        stream.write_all(piece.as_bytes()).unwrap();
    }
    false
}

#[test]
fn sixty_four_open_values_of_two_million_tokens() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("q.sock");
    let (core, monitor) = runtime.block_on(async {
        let hub = EventHub::new([]).unwrap();
        let router = Arc::new(Router::builder().command(qmp_capabilities()).build().unwrap());
        let version = Version { major: 7, minor: 2, micro: 0, package: "test".into() };
        let budgets = Budgets::default().memory(BUDGET);
        let core = Core::with_budgets(router, hub, &version, SessionLimits::default(), &budgets);
        let backend = Backend::Socket(SocketOptions::server(Address::unix(&path)));
        let chardev = Arc::new(Chardev::open("c", backend, 128).await.unwrap());
        let front_end = chardev.front_end(CLIENTS + 1).unwrap();
        (core.clone(), Monitor::start(core, &MonitorConfig::new("m"), front_end))
    });
    let mut other = connected(&path);
    let clients: Vec<_> = (0..CLIENTS).map(|_| connected(&path)).collect();
    let before = resident();
    let (mut most, mut answered) = (0, 0);
    let running = AtomicUsize::new(CLIENTS);
    let refused = std::thread::scope(|scope| {
        let threads: Vec<_> = clients
            .iter()
            .map(|client| {
                scope.spawn(|| {
                    let refused = open_value(client);
                    running.fetch_sub(1, Ordering::SeqCst);
                    refused
                })
            })
            .collect();
        while running.load(Ordering::SeqCst) > 0 {
            let reply = ask(&mut other, "{\"execute\":\"x\"}");
            assert!(reply.contains("The command x has not been found"), "{reply}");
            answered += 1;
            most = most.max(resident());
            // Often enough, and something is left for the others.
            std::thread::sleep(Duration::from_millis(1));
        }
        threads.into_iter().map(|thread| thread.join().unwrap()).filter(|refused| *refused).count()
    });
    let grown = most.saturating_sub(before);
    let held = core.usage().memory;
    eprintln!("grew by {} MiB, held {} MiB, refused {refused}, answered {answered}", grown / MIB, held / MIB);
    assert!(refused > 0 && answered > 100);
    assert!(held <= BUDGET + 65 * (BUDGET / 256 + 32 * 1024), "{held}");
    // The floors; a buffer that grows is there twice for a moment, on either thread; the clients' threads are this process's too.
    assert!(grown <= BUDGET + 65 * BUDGET / 256 + 24 * MIB, "{grown}");

    drop((clients, other));
    while core.usage() != (Usage { memory: 0, fds: 0 }) {
        std::thread::yield_now();
    }
    assert!(resident() <= before + 16 * MIB, "{} from {before}", resident());
    runtime.block_on(monitor.close());
}

//! A guest in its host's process: the library handles no signals, blocks none of the host's threads' and ignores none, and
//! leaves the umask, the log subscriber and the panic hook as they are. Alone in its process, whose they are.

#![expect(clippy::unwrap_used, reason = "in helpers of tests, too, it is how a test fails")]

use std::panic;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use vmm_control::chardev::{Address, Backend, Chardev, SocketOptions};
use vmm_control::{
    Command, CommandError, CommandResult, Context, ControlPlane, MonitorConfig, RunState, RunStateCell,
};

/// What a process has one of, as the kernel tells it: signals blocked, ignored and handled, and the umask.
fn manners() -> Vec<String> {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let kept = ["Umask:", "SigBlk:", "SigIgn:", "SigCgt:"];
    status.lines().filter(|line| kept.iter().any(|it| line.starts_with(it))).map(str::to_owned).collect()
}

static PANICS: AtomicUsize = AtomicUsize::new(0);

async fn use_everything() {
    let dir = tempfile::tempdir().unwrap();
    let panics =
        Command::new("x-panic").handler(async |_: Context, (): ()| -> CommandResult<()> { panic!("a test") });
    let blocks = Command::new("x-block").blocking(|_: Context, (): ()| Ok::<_, CommandError>(1_u8));
    let builder = ControlPlane::builder(RunStateCell::new(RunState::Running)).command(panics).command(blocks);
    #[cfg(feature = "hmp")]
    let builder =
        builder.human_command(vmm_control::HumanCommand::new("x-say").immediate(|_, _| Ok("said\n".into())));
    let plane = builder.build().unwrap();
    let path = dir.path().join("qmp");
    let socket = Backend::Socket(SocketOptions::server(Address::unix(&path)));
    let chardev = Arc::new(Chardev::open("mon0", socket, 1).await.unwrap());
    plane.add_monitor(MonitorConfig::new("qmp"), &chardev, 8).unwrap();
    // Of a test its standard streams are whatever cargo's are.
    let stdio = Arc::new(Chardev::open("stdio", Backend::Stdio, 1).await.unwrap());
    plane.chardevs().insert(stdio).unwrap();
    let client = tokio::net::UnixStream::connect(&path).await.unwrap();
    client.readable().await.unwrap();

    let session = plane.connect();
    // The hook of the host is asked, and the client gets an error.
    assert!(session.execute::<_, Value>("x-panic", &json!({})).await.is_err());
    assert_eq!(PANICS.load(Ordering::Relaxed), 1);
    for (command, arguments) in [
        ("query-status", json!({})),
        ("x-block", json!({})),
        ("object-add", json!({"qom-type": "iothread", "id": "io0"})),
        ("object-add", json!({"qom-type": "memory-backend-memfd", "id": "m0", "size": 65536})),
        (
            "chardev-add",
            json!({"id": "f", "backend": {"type": "file", "data": {"out": dir.path().join("f")}}}),
        ),
        #[cfg(feature = "hmp")]
        ("human-monitor-command", json!({"command-line": "x-say"})),
        ("chardev-remove", json!({"id": "f"})),
        ("stop", json!({})),
        ("cont", json!({})),
        ("quit", json!({})),
    ] {
        let said = session.execute::<_, Value>(command, &arguments).await;
        assert!(said.is_ok(), "{command}: {said:?}");
    }
    plane.close().await;
}

#[test]
fn the_process_stays_its_hosts() {
    panic::set_hook(Box::new(|_| {
        PANICS.fetch_add(1, Ordering::Relaxed);
    }));
    let before = manners();
    assert_eq!(before.len(), 4);
    for mut builder in
        [tokio::runtime::Builder::new_current_thread(), tokio::runtime::Builder::new_multi_thread()]
    {
        PANICS.store(0, Ordering::Relaxed);
        let runtime = builder.enable_all().build().unwrap();
        runtime.block_on(use_everything());
        assert_eq!(manners(), before);
    }
    assert!(!tracing::dispatcher::has_been_set(), "no subscriber");
    // Still the host's own.
    let _ = panic::catch_unwind(|| panic!("once more"));
    assert_eq!(PANICS.load(Ordering::Relaxed), 2);
    drop(panic::take_hook());
}

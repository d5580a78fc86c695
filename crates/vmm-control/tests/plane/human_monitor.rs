//! Human monitors over sockets, on a machine with CPUs and I/O ports; and what a shell does without one.

use std::path::Path;
use std::sync::{Arc, Mutex};

use qmp_command::{Context, detached_session};
use qmp_monitor::human::Shell;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use vmm_control::chardev::{Address, Backend, Chardev, SocketOptions};
use vmm_control::hmp::{HumanArg, HumanCommand};
use vmm_control::{CommandResult, ControlPlane, IoPorts, Machine, MonitorConfig, RunState, Vcpu};

use crate::support::{PATIENCE, Toy, ask, built, directory, plain};

/// A machine with two CPUs, and ports that answer with what was written last.
#[derive(Default)]
struct Board {
    ports: Arc<Ports>,
}

#[derive(Default)]
struct Ports(Mutex<Vec<(u16, u8, u32)>>);

impl IoPorts for Ports {
    fn read(&self, port: u16, size: u8) -> u32 {
        let written = self.0.lock().unwrap();
        let last = written.last().map_or(0, |(_, _, value)| *value);
        last + u32::from(port) * 0x100 + u32::from(size)
    }

    fn write(&self, port: u16, size: u8, value: u32) {
        self.0.lock().unwrap().push((port, size, value));
    }
}

impl Machine for Board {
    fn run_state(&self) -> RunState {
        RunState::Running
    }

    async fn stop(&self) -> CommandResult<()> {
        Ok(())
    }

    async fn cont(&self) -> CommandResult<()> {
        Ok(())
    }

    fn vcpus(&self) -> Vec<Vcpu> {
        [(0, 100), (1, 101)]
            .map(|(index, thread_id)| Vcpu {
                index,
                thread_id,
                qom_path: format!("/machine/unattached/device[{index}]"),
                place: None,
            })
            .into()
    }

    fn io_ports(&self) -> Option<Arc<dyn IoPorts>> {
        Some(self.ports.clone())
    }
}

/// A human monitor without echo, and its path.
async fn listen(plane: &ControlPlane, directory: &Path) -> std::path::PathBuf {
    let path = directory.join("h");
    let backend = Backend::Socket(SocketOptions::server(Address::unix(&path)));
    let chardev = Arc::new(Chardev::open("h", backend, 128).await.unwrap());
    plane.add_monitor(MonitorConfig::new("h").readline(false), &chardev, 64).unwrap();
    path
}

/// Somebody at the prompt.
struct User(UnixStream);

impl User {
    async fn new(path: &Path) -> Self {
        let mut user = Self(UnixStream::connect(path).await.unwrap());
        let banner = user.until_prompt().await;
        assert_eq!(banner, "QEMU 7.2.0 monitor - type 'help' for more information\r\n");
        user
    }

    async fn say(&mut self, line: &str) -> String {
        self.0.write_all(format!("{line}\n").as_bytes()).await.unwrap();
        self.until_prompt().await
    }

    async fn until_prompt(&mut self) -> String {
        let mut said = Vec::new();
        while !said.ends_with(b"(qemu) ") {
            let byte =
                tokio::time::timeout(PATIENCE, self.0.read_u8()).await.expect("a prompt in time").unwrap();
            said.push(byte);
        }
        String::from_utf8(said).unwrap().trim_end_matches("(qemu) ").to_owned()
    }
}

const CPUS: [&str; 2] = [
    "* CPU #0: thread_id=100\r\n  CPU #1: thread_id=101\r\n",
    "  CPU #0: thread_id=100\r\n* CPU #1: thread_id=101\r\n",
];

#[tokio::test]
async fn a_session_keeps_its_cpu_and_no_other_has_it() {
    let (plane, dir) = (built(ControlPlane::builder(Board::default())), directory());
    let path = listen(&plane, dir.path()).await;
    let (mut one, mut other) = (User::new(&path).await, User::new(&path).await);
    assert_eq!(one.say("info cpus").await, CPUS[0]);
    assert_eq!(one.say("cpu 1").await, "");
    assert_eq!(one.say("cpu 2").await, "invalid CPU index\r\n");
    assert_eq!(one.say("cpu 0xffffffff").await, "invalid CPU index\r\n");
    assert_eq!(one.say("info cpus").await, CPUS[1]);
    assert_eq!(other.say("info cpus").await, CPUS[0]);
    let line = |line: &str, cpu: i64| json!({"command-line": line, "cpu-index": cpu});
    let session = plane.connect();
    assert_eq!(ask(&session, "human-monitor-command", line("info cpus", 1)).await, CPUS[1]);
    assert_eq!(ask(&session, "human-monitor-command", line("info cpus", 1 << 32)).await, CPUS[0]);
    for wrong in [2, -1, i64::MAX, 1 << 31] {
        let error = "GenericError: Parameter 'cpu-index' expects a CPU number";
        assert_eq!(ask(&session, "human-monitor-command", line("nope", wrong)).await, error, "{wrong}");
    }
    plane.close().await;
}

#[tokio::test]
async fn ports_are_read_and_written() {
    let board = Board::default();
    let (ports, dir) = (board.ports.clone(), directory());
    let plane = built(ControlPlane::builder(board));
    let mut user = User::new(&listen(&plane, dir.path()).await).await;
    for (line, said) in [
        ("o 0x70 1", ""),
        ("o/h 0x10070 0x12345", ""),
        ("o/gx 0x71 2", ""),
        ("i/b 0", "portb[0x0000] = 0x3\r\n"),
        ("i/h 0", "portw[0x0000] = 0x04\r\n"),
        ("i/w 0", "portl[0x0000] = 0x000006\r\n"),
        ("i/g 0", "portb[0x0000] = 0x00000000000003\r\n"),
        ("i/b 0x70.0x10a", "portb[0x0071] = 0x710b\r\n"),
        ("i/b 0xffff.0", "portb[0x0000] = 0x1\r\n"),
        (
            "o 1 (-1)",
            "'o' has failed: integer is for 32-bit values\r\nTry \"help o\" for more information\r\n",
        ),
    ] {
        assert_eq!(user.say(line).await, said, "{line}");
    }
    let written = [(0x70, 4, 1), (0x70, 2, 0x12345), (0x71, 1, 2), (0x70, 1, 0xa), (0xffff, 1, 0)];
    assert_eq!(*ports.0.lock().unwrap(), written);
    let bare = plain(&Toy::new(RunState::Running));
    let line = json!({"command-line": "i 0"});
    let none = "Error: this machine has no I/O ports\r\n";
    assert_eq!(ask(&bare.connect(), "human-monitor-command", line).await, none);
    plane.close().await;
}

#[tokio::test]
async fn before_the_machine_is_initialised_some_commands_exist() {
    let dir = directory();
    let plane = built(ControlPlane::builder(Toy::new(RunState::Prelaunch)).preconfig(true));
    let mut user = User::new(&listen(&plane, dir.path()).await).await;
    let not_yet = |typed: &str| {
        format!("Command '{typed}' not available until machine initialization has completed.\r\n")
    };
    assert_eq!(user.say(" stop x").await, not_yet(" stop"));
    assert_eq!(user.say("info cpus").await, not_yet("info cpus"));
    assert_eq!(user.say("help stop").await, "unknown command: 'stop'\r\n");
    assert_eq!(user.say("info nope").await, "unknown command: 'info nope'\r\n");
    assert_eq!(user.say("info status").await, "VM status: paused (prelaunch)\r\n");
    assert_eq!(user.say("getfd a").await, "Error: No file descriptor supplied via SCM_RIGHTS\r\n");
    assert_eq!(user.say("closefd a").await, "Error: File descriptor named 'a' not found\r\n");
    assert_eq!(user.say("object_add iothread,id=a").await, "");
    assert!(!user.say("help").await.contains("stop|s"));
    assert_eq!(user.say("exit_preconfig").await, "");
    let only_before = "Error: The command is permitted only before machine initialization\r\n";
    assert_eq!(user.say("exit_preconfig").await, only_before);
    assert_eq!(user.say("stop").await, "");
    plane.close().await;
}

#[tokio::test]
async fn words_are_completed() {
    let own = HumanCommand::new("feed")
        .arg(HumanArg::string("whom"))
        .completes(async |_| vec!["fox".to_owned(), "cat".to_owned(), "crow".to_owned()])
        .immediate(|_, _| Ok(String::new()));
    let slow =
        HumanCommand::new("slow").completes(|_| std::future::pending()).immediate(|_, _| Ok(String::new()));
    let plane =
        built(ControlPlane::builder(Toy::new(RunState::Running)).human_command(own).human_command(slow));
    let shell = plane.human_shell();
    let context = Context::new(detached_session());
    let complete = |line: &str| shell.complete(line, &context);
    let session = plane.connect();
    for id in ["obj1", "obj2"] {
        ask(&session, "object-add", json!({"qom-type": "iothread", "id": id})).await;
    }
    assert_eq!(complete("qu"), ["quit"]);
    assert_eq!(complete("  system_"), ["system_powerdown", "system_reset", "system_wakeup"]);
    assert_eq!(complete("info ch"), ["chardev"]);
    assert_eq!(complete("help info na"), ["name"]);
    assert_eq!(complete("? sto"), ["stop"]);
    assert_eq!(complete("object_add mon"), ["monitor-hmp", "monitor-qmp"]);
    assert_eq!(complete("object_del "), ["obj1", "obj2"]);
    assert_eq!(complete("chardev-add n"), ["null"]);
    assert_eq!(complete("feed c"), ["cat", "crow"]);
    assert!(complete("").contains(&"?".to_owned()) && complete("help ").contains(&"stop".to_owned()));
    for nothing in ["nosuch ", "info name ", "object_del obj1 ", "slow ", "stop ", "qom-list /", "\"st"] {
        assert!(complete(nothing).is_empty(), "{nothing}");
    }
}

//! A human monitor with a shell of one's own: `cargo run -p qmp-monitor --features human --example human` on this
//! terminal, with a PATH as its argument on a socket there, for `socat -,raw,echo=0 UNIX-CONNECT:PATH` from several terminals.
//!
//! Lines can be edited, TAB completes, the arrows go through the history; `quit` (or Ctrl-C here) ends the program.

use std::sync::Arc;

use chardev::{Address, Backend, Chardev, SocketOptions};
use qmp_command::{Context, Router};
use qmp_monitor::human::{Answer, Shell};
use qmp_monitor::{Core, EventHub, Monitor, MonitorConfig, SessionLimits};
use qmp_protocol::Version;
use tokio::sync::Notify;

const COMMANDS: [&str; 4] = ["count", "help", "quit", "who"];

/// What executes lines.
struct Counter {
    quit: Arc<Notify>,
}

impl Shell for Counter {
    fn banner(&self) -> String {
        "A monitor that counts - type 'help' for more information".into()
    }

    fn prompt(&self) -> &str {
        "> "
    }

    fn execute(&self, line: String, context: Context) -> Answer {
        let mut words = line.split_ascii_whitespace();
        let answer = match (words.next(), words.next()) {
            (None, _) => String::new(),
            (Some("count"), Some(word)) => format!("{} letters\n", word.chars().count()),
            (Some("count"), None) => "count: a word is missing\n".into(),
            (Some("help"), _) => COMMANDS.join("\n") + "\n",
            (Some("who"), _) => match context.peer() {
                Some(peer) => format!("session {} of user {}\n", context.session_id(), peer.uid),
                None => format!("session {} of somebody\n", context.session_id()),
            },
            (Some("quit"), _) => {
                self.quit.notify_one();
                String::new()
            }
            (Some(other), _) => format!("unknown command: '{other}'\n"),
        };
        Box::pin(std::future::ready(answer))
    }

    fn complete(&self, line: &str, _: &Context) -> Vec<String> {
        let first = !line.trim_start().contains(' ');
        COMMANDS.iter().filter(|_| first).map(|command| (*command).to_owned()).collect()
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let backend = match std::env::args_os().nth(1) {
        None => Backend::Stdio,
        Some(path) => Backend::Socket(SocketOptions::server(Address::unix(path))),
    };

    let hub = EventHub::new([])?;
    let version = Version { major: 7, minor: 2, micro: 0, package: "human".into() };
    let core = Core::new(Arc::new(Router::builder().build()?), hub, &version, SessionLimits::default());
    let quit = Arc::new(Notify::new());
    core.set_shell(Arc::new(Counter { quit: quit.clone() }));

    let chardev = Arc::new(Chardev::open("mon0", backend, 128).await?);
    let monitor = Monitor::start(core, &MonitorConfig::new("hmp").readline(true), chardev.front_end(64)?);
    tokio::select! {
        () = quit.notified() => {}
        // Handled, so that the terminal is put back in order.
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    monitor.close().await;
    Ok(())
}

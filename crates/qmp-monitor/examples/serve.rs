//! Monitors over commands of one's own, without `vmm-control`: `cargo run -p qmp-monitor --example serve -- PATH`, then
//! `socat - UNIX-CONNECT:PATH` from several terminals:
//!
//! ```text
//! {"execute": "qmp_capabilities"}
//! {"execute": "x-say", "arguments": {"text": "hello"}}
//! ```
//!
//! Every client hears what one of them says; `x-leave` ends the program.

use std::sync::Arc;

use chardev::{Address, Backend, Chardev, SocketOptions};
use qmp_command::{Command, Context, QapiType, Router};
use qmp_monitor::{Core, EventHub, EventSpec, Monitor, MonitorConfig, SessionLimits, qmp_capabilities};
use qmp_protocol::Version;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

/// What is said.
#[derive(Deserialize, Serialize, QapiType)]
struct Say {
    text: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let Some(path) = std::env::args_os().nth(1) else {
        return Err("usage: serve PATH".into());
    };

    // Events first: what raises them is among the commands.
    let hub = EventHub::new([EventSpec::standard::<Say>("X_SAID").doc("Somebody said something.")])?;
    let leave = Arc::new(Notify::new());
    let router = Router::builder()
        .command(qmp_capabilities())
        .command(say(&hub))
        .command(leave_when_told(&leave))
        .build()?;

    // What all monitors share. Whoever makes it lets the hub run.
    let version = Version { major: 7, minor: 2, micro: 0, package: "serve".into() };
    let core = Core::new(Arc::new(router), hub.clone(), &version, SessionLimits::default());
    let fan_out = tokio::spawn(async move { hub.run().await });

    let socket = Backend::Socket(SocketOptions::server(Address::unix(path)));
    let chardev = Arc::new(Chardev::open("mon0", socket, 128).await?);
    let monitor = Monitor::start(core.clone(), &MonitorConfig::new("qmp"), chardev.front_end(64)?);
    eprintln!("{}", chardev.filename());

    leave.notified().await;
    core.close();
    monitor.close().await;
    fan_out.abort();
    Ok(())
}

fn say(hub: &EventHub) -> Command {
    let events = hub.sender();
    Command::new("x-say").handler(move |_: Context, said: Say| {
        let raised = events.emit("X_SAID", &said);
        async move { Ok(raised?) }
    })
}

fn leave_when_told(leave: &Arc<Notify>) -> Command {
    let leave = leave.clone();
    Command::new("x-leave").handler(move |_: Context, (): ()| {
        leave.notify_one();
        std::future::ready(Ok(()))
    })
}

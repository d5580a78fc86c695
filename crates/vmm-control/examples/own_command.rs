//! A VMM with a command and an event of its own: `cargo run -p vmm-control --example own_command`.
//!
//! It serves QMP on a unix socket, as any VMM would, and uses the command through a session of the process's own.

use serde::{Deserialize, Serialize};
use vmm_control::chardev::{Address, Backend, SocketOptions};
use vmm_control::{
    Command, CommandResult, Context, ControlPlane, EventSpec, Machine, MonitorConfig, QapiType, RunState,
    RunStateCell,
};

/// The machine: what the plane asks of a VMM. A real one pauses its vCPUs here.
struct Vmm {
    state: RunStateCell,
}

impl Machine for Vmm {
    fn run_state(&self) -> RunState {
        self.state.get()
    }

    async fn stop(&self) -> CommandResult<()> {
        self.state.stop();
        Ok(())
    }

    async fn cont(&self) -> CommandResult<()> {
        self.state.cont();
        Ok(())
    }
}

/// Inflates or deflates the balloon.
#[derive(Deserialize, Serialize, QapiType)]
struct Balloon {
    /// Bytes that the guest shall have.
    #[qapi(size)]
    target: u64,
}

/// The plane with everything that is our own.
fn plane() -> Result<ControlPlane, vmm_control::BuildError> {
    ControlPlane::builder(Vmm { state: RunStateCell::new(RunState::Running) })
        // The event. Clients that know only QEMU do not get it: a session asks for it with `x-events`.
        .event(EventSpec::extension::<Balloon>("X_BALLOON_CHANGED").doc("The balloon has a new target."))
        // The command: typed arguments, complaints about them in QEMU's words, any error by `?`.
        .command_with(|plane| {
            let events = plane.events();
            Command::new("x-balloon").handler(move |_: Context, balloon: Balloon| {
                let events = events.clone();
                async move { Ok(events.emit("X_BALLOON_CHANGED", &balloon)?) }
            })
        })
        .build()
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let plane = plane()?;

    // For as long as the plane lives, any QMP client can come here.
    let dir = tempfile::tempdir()?;
    let socket = Backend::Socket(SocketOptions::server(Address::unix(dir.path().join("qmp.sock"))));
    let chardev = plane.open_chardev("mon0", socket, 128).await?;
    plane.add_monitor(MonitorConfig::new("qmp"), &chardev, 64)?;
    println!("serving QMP on {}", chardev.filename().trim_start_matches("disconnected:"));

    // So can the process itself, through the same commands.
    let mut session = plane.connect();
    session.watch();
    session.call("x-events", &Enable { enable: ["X_BALLOON_CHANGED"] }).await?;
    session.call("x-balloon", &Balloon { target: 1 << 30 }).await?;
    let event = session.try_next_event().ok_or("an event precedes the reply of what raised it")?;
    println!("{} {}", event.name, serde_json::to_string(&event.data)?);

    session.call("stop", &()).await?;
    let status: Status = session.execute("query-status", &()).await?;
    println!("{}, running: {}", status.status, status.running);

    // What a client sees that makes a mistake.
    let wrong = session.call("x-balloon", &Enable { enable: ["now"] }).await;
    println!("{}", wrong.err().ok_or("arguments are checked")?);

    plane.close().await;
    Ok(())
}

/// Arguments of `x-events`.
#[derive(Serialize)]
struct Enable<'a> {
    enable: [&'a str; 1],
}

/// What `query-status` returns.
#[derive(Deserialize)]
struct Status {
    status: String,
    running: bool,
}

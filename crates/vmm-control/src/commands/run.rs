//! The run state: stop, cont, reset, power, quit, and the events that tell of them.
//!
//! Every event goes out before the reply of the command that caused it, as QEMU's do.

use std::future::Future;
use std::sync::Arc;

use qmp_command::{Command, CommandError, CommandResult, Context, Feature, QapiType};
use qmp_monitor::EventSpec;
use serde::Serialize;

use crate::plane::Shared;
use crate::run_state::{RunState, ShutdownCause};

/// The state of the machine.
#[derive(Debug, Serialize, QapiType)]
struct StatusInfo {
    /// The state.
    status: RunState,
    /// Always false: the guest is not stepped.
    singlestep: bool,
    /// Whether the guest runs.
    running: bool,
}

/// Why the machine shuts down or was reset.
#[derive(Debug, Serialize, QapiType)]
#[qapi(name = "q_obj_SHUTDOWN-arg")]
pub(crate) struct ShutdownData {
    /// Whether the guest did it.
    guest: bool,
    /// The reason.
    reason: ShutdownCause,
}

impl ShutdownData {
    pub(crate) fn new(reason: ShutdownCause) -> Self {
        Self { guest: reason.is_guest(), reason }
    }
}

pub(super) fn events() -> Vec<EventSpec> {
    vec![
        EventSpec::standard::<()>("STOP").doc("The guest was paused."),
        EventSpec::standard::<()>("RESUME").doc("The guest runs (again)."),
        EventSpec::standard::<ShutdownData>("SHUTDOWN").doc("The machine shuts down."),
        EventSpec::standard::<ShutdownData>("RESET").doc("The machine was reset."),
        EventSpec::standard::<()>("POWERDOWN").doc("The power button was pressed."),
    ]
}

pub(super) fn commands(plane: &Arc<Shared>) -> Vec<Command> {
    vec![
        query_status(plane),
        stop(plane),
        cont(plane),
        system_reset(plane),
        system_powerdown(plane),
        quit(plane),
        x_exit_preconfig(plane),
    ]
}

fn query_status(plane: &Arc<Shared>) -> Command {
    let machine = plane.machine.clone();
    Command::new("query-status")
        .doc("Says what state the machine is in.")
        .allow_preconfig()
        .read_only()
        .handler(move |_: Context, (): ()| {
            let status = machine.run_state();
            std::future::ready(Ok(StatusInfo { status, singlestep: false, running: status.is_running() }))
        })
}

/// A command without arguments whose handler is an async function of the plane.
macro_rules! on_plane {
    ($plane:expr, $name:literal, $doc:literal, $action:path) => {{
        let plane = Arc::clone($plane);
        Command::new($name).doc($doc).handler(move |_: Context, (): ()| {
            let plane = plane.clone();
            async move { $action(&plane).await }
        })
    }};
}

fn stop(plane: &Arc<Shared>) -> Command {
    on_plane!(plane, "stop", "Pauses the guest. Succeeds when it is paused already.", do_stop)
}

async fn do_stop(plane: &Shared) -> CommandResult<()> {
    stopping(plane, plane.machine.stop()).await
}

/// Does what may stop the guest, and says so if it has.
async fn stopping(plane: &Shared, act: impl Future<Output = CommandResult<()>>) -> CommandResult<()> {
    let ran = plane.machine.run_state().is_running();
    act.await?;
    if ran && !plane.machine.run_state().is_running() {
        plane.events.emit_plain("STOP")?;
    }
    Ok(())
}

/// The machine is off. That ends the program, or, with `no_shutdown`, stops the machine until it is reset.
pub(crate) async fn power_off(plane: &Shared, cause: ShutdownCause) -> CommandResult<()> {
    if !plane.no_shutdown {
        plane.shut_down(cause);
        return Ok(());
    }
    plane.events.emit("SHUTDOWN", &ShutdownData::new(cause))?;
    stopping(plane, plane.machine.shut_down()).await
}

fn cont(plane: &Arc<Shared>) -> Command {
    on_plane!(plane, "cont", "Lets the guest run. Succeeds when it runs already.", do_cont)
}

async fn do_cont(plane: &Shared) -> CommandResult<()> {
    match plane.machine.run_state() {
        state if state.needs_reset() => {
            return Err(CommandError::generic("Resetting the Virtual Machine is required"));
        }
        RunState::Running | RunState::Suspended => return Ok(()),
        RunState::FinishMigrate => return Err(CommandError::generic("Migration is not finalized yet")),
        _ => {}
    }
    plane.machine.cont().await?;
    if plane.machine.run_state().is_running() {
        plane.events.emit_plain("RESUME")?;
    }
    Ok(())
}

fn system_reset(plane: &Arc<Shared>) -> Command {
    on_plane!(plane, "system_reset", "Resets the machine.", do_reset)
}

async fn do_reset(plane: &Shared) -> CommandResult<()> {
    let cause = ShutdownCause::HostQmpSystemReset;
    if plane.no_reboot {
        return power_off(plane, cause).await;
    }
    plane.machine.reset().await?;
    plane.events.emit("RESET", &ShutdownData::new(cause))?;
    Ok(())
}

fn system_powerdown(plane: &Arc<Shared>) -> Command {
    on_plane!(plane, "system_powerdown", "Presses the power button.", do_powerdown)
}

async fn do_powerdown(plane: &Shared) -> CommandResult<()> {
    plane.events.emit_plain("POWERDOWN")?;
    plane.machine.powerdown().await
}

fn x_exit_preconfig(plane: &Arc<Shared>) -> Command {
    let plane = plane.clone();
    Command::new("x-exit-preconfig")
        .doc("Initialises the machine, and lets the guest run unless it is to start paused.")
        .allow_preconfig()
        .feature(Feature::Unstable)
        .handler(move |_: Context, (): ()| {
            let plane = plane.clone();
            async move { do_exit_preconfig(&plane).await }
        })
}

async fn do_exit_preconfig(plane: &Shared) -> CommandResult<()> {
    if !plane.phase.is_preconfig() {
        return Err(CommandError::generic("The command is permitted only before machine initialization"));
    }
    plane.machine.initialize().await?;
    plane.phase.machine_is_initialized();
    if plane.start_paused { Ok(()) } else { do_cont(plane).await }
}

fn quit(plane: &Arc<Shared>) -> Command {
    let plane = plane.clone();
    Command::new("quit").doc("Ends the process, without asking the guest.").allow_preconfig().handler(
        move |_: Context, (): ()| {
            plane.shut_down(ShutdownCause::HostQmpQuit);
            std::future::ready(Ok(()))
        },
    )
}

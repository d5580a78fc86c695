//! Run states, and a small state machine that follows QEMU's rules for them.

use std::sync::{Mutex, PoisonError};

use qmp_command::QapiType;
use serde::{Deserialize, Serialize};

/// The states a machine can be in, as `query-status` names them.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, QapiType, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum RunState {
    /// A debugger stopped the guest.
    Debug,
    /// Waiting for an incoming migration.
    Inmigrate,
    /// Stopped by an error that is not the guest's.
    InternalError,
    /// Stopped by an I/O error.
    IoError,
    /// Paused by `stop`.
    Paused,
    /// Paused after a migration went out.
    Postmigrate,
    /// Initialised, and never started.
    Prelaunch,
    /// Finishing an outgoing migration.
    FinishMigrate,
    /// Paused to restore its state.
    RestoreVm,
    /// Running.
    Running,
    /// Paused to save its state.
    SaveVm,
    /// The guest shut down, and the machine stays.
    Shutdown,
    /// The guest sleeps.
    Suspended,
    /// The watchdog's action was to pause.
    Watchdog,
    /// The guest panicked.
    GuestPanicked,
    /// Paused to save or restore a checkpoint.
    Colo,
}

impl RunState {
    /// Whether the guest runs.
    pub fn is_running(self) -> bool {
        self == Self::Running
    }

    /// Whether the guest can only go on after a reset.
    pub fn needs_reset(self) -> bool {
        matches!(self, Self::InternalError | Self::Shutdown)
    }
}

/// Why a machine shuts down or is reset, as the events' `reason` names it.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, QapiType, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ShutdownCause {
    /// No reason is known.
    None,
    /// An error of the host's.
    HostError,
    /// `quit` on a monitor.
    HostQmpQuit,
    /// `system_reset` on a monitor.
    HostQmpSystemReset,
    /// A signal to the process.
    HostSignal,
    /// The user interface was closed.
    HostUi,
    /// The guest shut down.
    GuestShutdown,
    /// The guest asked for a reset.
    GuestReset,
    /// The guest panicked.
    GuestPanic,
    /// A part of the machine was reset.
    SubsystemReset,
    /// A snapshot is about to be loaded.
    SnapshotLoad,
}

impl ShutdownCause {
    /// Whether the guest did it.
    pub fn is_guest(self) -> bool {
        matches!(self, Self::GuestShutdown | Self::GuestReset | Self::GuestPanic)
    }
}

/// A machine's run state, changed by QEMU's rules.
///
/// ```
/// use vmm_control::{RunState, RunStateCell};
/// let state = RunStateCell::new(RunState::Prelaunch);
/// state.stop();
/// assert_eq!(state.get(), RunState::Prelaunch, "what never ran is not paused");
/// state.cont();
/// state.stop();
/// assert_eq!(state.get(), RunState::Paused);
/// state.reset();
/// assert_eq!(state.get(), RunState::Prelaunch);
/// ```
#[derive(Debug)]
pub struct RunStateCell(Mutex<State>);

#[derive(Debug)]
struct State {
    now: RunState,
    /// Whether the guest starts when an incoming migration ends.
    autostart: bool,
}

impl RunStateCell {
    /// In this state; a guest that waits for a migration would start after it.
    pub fn new(state: RunState) -> Self {
        Self(Mutex::new(State { now: state, autostart: true }))
    }

    /// The state now.
    pub fn get(&self) -> RunState {
        self.with(|state| state.now)
    }

    /// Sets the state, whatever it was.
    pub fn set(&self, to: RunState) {
        self.with(|state| state.now = to);
    }

    /// Pauses a running guest; a migration that comes in will leave the guest paused. Says whether the guest ran.
    pub fn stop(&self) -> bool {
        self.with(|state| match state.now {
            RunState::Running => {
                state.now = RunState::Paused;
                true
            }
            RunState::Inmigrate => {
                state.autostart = false;
                false
            }
            _ => false,
        })
    }

    /// Lets the guest run; one that waits for a migration will run after it.
    pub fn cont(&self) {
        self.with(|state| match state.now {
            RunState::Inmigrate => state.autostart = true,
            _ => state.now = RunState::Running,
        });
    }

    /// After a reset, a guest that does not run has never run.
    pub fn reset(&self) {
        self.with(|state| {
            if !matches!(state.now, RunState::Running | RunState::Inmigrate) {
                state.now = RunState::Prelaunch;
            }
        });
    }

    /// Stops a running guest until it is reset.
    pub fn shut_down(&self) {
        self.with(|state| {
            if state.now == RunState::Running {
                state.now = RunState::Shutdown;
            }
        });
    }

    /// The incoming migration has ended.
    pub fn migration_arrived(&self) {
        self.with(|state| state.now = if state.autostart { RunState::Running } else { RunState::Paused });
    }

    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stop_while_a_migration_comes_in_keeps_the_guest_paused_after_it() {
        let state = RunStateCell::new(RunState::Inmigrate);
        assert!(!state.stop());
        assert_eq!(state.get(), RunState::Inmigrate);
        state.migration_arrived();
        assert_eq!(state.get(), RunState::Paused);

        let state = RunStateCell::new(RunState::Inmigrate);
        state.stop();
        state.cont();
        state.migration_arrived();
        assert_eq!(state.get(), RunState::Running);
    }

    #[test]
    fn a_reset_lets_a_shut_down_guest_start_again() {
        let state = RunStateCell::new(RunState::Shutdown);
        assert!(state.get().needs_reset());
        state.reset();
        assert_eq!(state.get(), RunState::Prelaunch);
    }

    #[test]
    fn names_are_qemus() {
        let names = [RunState::FinishMigrate, RunState::GuestPanicked, RunState::Inmigrate, RunState::SaveVm];
        let json = serde_json::to_string(&names).unwrap();
        assert_eq!(json, r#"["finish-migrate","guest-panicked","inmigrate","save-vm"]"#);
        assert_eq!(
            serde_json::to_string(&ShutdownCause::HostQmpSystemReset).unwrap(),
            r#""host-qmp-system-reset""#
        );
    }
}

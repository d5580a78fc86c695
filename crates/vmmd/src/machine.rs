//! The machine that `vmmd` is: a run state, for now.

use vmm_control::{CommandResult, Machine, RunState, RunStateCell};

use crate::config::Config;

/// A machine without guest code. It can be paused, resumed and reset, and does nothing meanwhile.
#[derive(Debug)]
pub struct Board {
    name: Option<String>,
    state: RunStateCell,
}

impl Board {
    /// The machine that `config` asks for.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let waits = config.start_paused || config.preconfig;
        let state = if waits { RunState::Prelaunch } else { RunState::Running };
        Self { name: config.name.clone(), state: RunStateCell::new(state) }
    }
}

impl Machine for Board {
    fn name(&self) -> Option<String> {
        self.name.clone()
    }

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

    async fn shut_down(&self) -> CommandResult<()> {
        self.state.shut_down();
        Ok(())
    }

    async fn reset(&self) -> CommandResult<()> {
        self.state.reset();
        Ok(())
    }
}

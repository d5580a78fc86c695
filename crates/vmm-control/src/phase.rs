//! Before the machine is initialised, and after.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use qmp_command::layers::authorize::Authority;
use qmp_command::{CommandError, CommandResult, Context, Metadata};

/// Which of the two it is. It changes once, by `x-exit-preconfig`.
#[derive(Debug, Default)]
pub(crate) struct Phase {
    preconfig: AtomicBool,
}

impl Phase {
    pub(crate) fn new(preconfig: bool) -> Self {
        Self { preconfig: AtomicBool::new(preconfig) }
    }

    pub(crate) fn is_preconfig(&self) -> bool {
        self.preconfig.load(Ordering::Acquire)
    }

    pub(crate) fn machine_is_initialized(&self) {
        self.preconfig.store(false, Ordering::Release);
    }
}

/// Refuses what the phase does not allow, then asks the author's own authority, if there is one.
pub(crate) struct PhaseAuthority {
    pub(crate) phase: Arc<Phase>,
    pub(crate) next: Option<Arc<dyn Authority>>,
}

impl Authority for PhaseAuthority {
    fn authorize(&self, command: &Metadata, context: &Context) -> CommandResult<()> {
        if !command.allow_preconfig && self.phase.is_preconfig() {
            return Err(CommandError::generic(format!(
                "The command '{}' is permitted only after machine initialization has completed",
                command.name
            )));
        }
        self.next.as_ref().map_or(Ok(()), |next| next.authorize(command, context))
    }
}

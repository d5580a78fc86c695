//! The built-in commands and events.

mod fds;
mod query;
mod run;
mod schema;

use std::sync::Arc;

use qmp_command::Command;
use qmp_monitor::{EventSpec, qmp_capabilities};

pub(crate) use self::run::{ShutdownData, power_off};

use crate::plane::Shared;

/// All built-in commands, for one plane.
pub(crate) fn commands(plane: &Arc<Shared>) -> Vec<Command> {
    let mut commands = vec![qmp_capabilities()];
    commands.extend(query::commands(plane));
    commands.push(schema::query_qmp_schema(plane));
    commands.extend(run::commands(plane));
    commands.extend(fds::commands(plane));
    commands
}

/// All built-in events.
pub(crate) fn events() -> Vec<EventSpec> {
    run::events()
}

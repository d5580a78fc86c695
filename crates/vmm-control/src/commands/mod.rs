//! The built-in commands and events.

mod add_client;
mod chardev;
mod devices;
mod fds;
#[cfg(feature = "hmp")]
mod human;
mod iothreads;
mod machine;
mod monitors;
mod objects;
mod options;
mod qom;
mod query;
mod run;
mod schema;
mod testing;
#[cfg(feature = "vfio-user")]
mod vfio_user;
mod yank;

use std::sync::Arc;

use qmp_command::Command;
use qmp_monitor::{EventSpec, qmp_capabilities};

#[cfg(feature = "vfio-user")]
pub(crate) use self::fds::take_named;
#[cfg(feature = "hmp")]
pub(crate) use self::fds::{close_fd, name_fd};
#[cfg(feature = "hmp")]
pub(crate) use self::human::human_monitor_command;
#[cfg(feature = "hmp")]
pub(crate) use self::objects::is_identifier;
pub use self::options::{CommandLineOption, CommandLineParameter, CommandLineParameterType};
pub(crate) use self::qom::permit_type;
pub(crate) use self::run::{ShutdownData, power_off};
#[cfg(feature = "vfio-user")]
pub(crate) use self::vfio_user::ClientHangup;

use crate::plane::Shared;

/// All built-in commands, for one plane.
pub(crate) fn commands(plane: &Arc<Shared>) -> Vec<Command> {
    let protocol = vec![qmp_capabilities()];
    let mut queries = query::commands(plane);
    queries.push(monitors::x_query_monitors(plane));
    let introspection = vec![schema::query_qmp_schema(plane), options::query_command_line_options(plane)];
    let mut objects = objects::commands(plane);
    objects.extend([iothreads::query_iothreads(plane), iothreads::x_query_iothread_stats(plane)]);
    // The groups are the manual's chapters, the order that of `query-commands`.
    let groups = [
        ("Protocol", protocol),
        ("Queries", queries),
        ("Introspection", introspection),
        ("Machine", machine::commands(plane)),
        ("Run state", run::commands(plane)),
        ("File descriptors", fds::commands(plane)),
        ("Character devices", chardev::commands(plane)),
        ("Clients", clients(plane)),
        ("Objects", objects),
        ("Object tree", qom::commands(plane)),
        ("Devices", devices::commands(plane)),
        #[cfg(feature = "vfio-user")]
        ("Exported devices", vfio_user::commands(plane)),
    ];
    let testing = plane.test_commands.then(testing::x_test_block).map(|command| command.group("Testing"));
    let grouped =
        groups.into_iter().map(|(group, list)| list.into_iter().map(|command| command.group(group)));
    grouped.flatten().chain(testing).collect()
}

fn clients(plane: &Arc<Shared>) -> Vec<Command> {
    std::iter::once(add_client::add_client(plane)).chain(yank::commands(plane)).collect()
}

/// All built-in events.
pub(crate) fn events() -> Vec<EventSpec> {
    let all = run::events().into_iter().chain(machine::events()).chain(devices::events());
    #[cfg(feature = "vfio-user")]
    let all = all.chain(vfio_user::events());
    all.collect()
}

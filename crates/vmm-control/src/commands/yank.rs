//! `yank`: hanging up on what may be stuck, out-of-band.
//!
//! Every socket chardev is an instance, with a client or without.

use std::sync::Arc;

use qmp_command::{Command, CommandError, CommandResult, Context, QapiType};
use qmp_protocol::ErrorClass;
use serde::{Deserialize, Serialize};

use crate::plane::Shared;

/// Something that can be hung up on.
#[derive(Debug, Serialize, QapiType)]
#[serde(tag = "type", rename_all = "kebab-case")]
#[qapi(tag_type = "YankInstanceType")]
enum YankInstance {
    /// A network block device. There is none.
    BlockNode(YankInstanceBlockNode),
    /// The connections of a socket chardev.
    Chardev(YankInstanceChardev),
    /// A migration. There is none.
    Migration,
}

/// A block device.
#[derive(Debug, Serialize, Deserialize, QapiType)]
#[serde(rename_all = "kebab-case")]
struct YankInstanceBlockNode {
    /// Its node name.
    node_name: String,
}

/// A chardev.
#[derive(Debug, Serialize, Deserialize, QapiType)]
struct YankInstanceChardev {
    /// Its id.
    id: String,
}

/// What to hang up on.
#[derive(Debug, Deserialize, QapiType)]
#[qapi(name = "q_obj_yank-arg")]
struct Yank {
    /// The instances: all of them, or when one is not there, none.
    instances: Vec<YankInstance>,
}

pub(super) fn commands(plane: &Arc<Shared>) -> Vec<Command> {
    vec![yank(plane), query_yank(plane)]
}

fn yank(plane: &Arc<Shared>) -> Command {
    let plane = plane.clone();
    Command::new("yank")
        .doc("Hangs up on the peers of these instances at once. Whoever waits for one of them sees the connection end.")
        .allow_oob()
        .concurrent()
        .handler(move |_: Context, Yank { instances }: Yank| std::future::ready(hang_up(&plane, &instances)))
}

fn hang_up(plane: &Shared, instances: &[YankInstance]) -> CommandResult<()> {
    let chardevs: Option<Vec<_>> = instances
        .iter()
        .map(|instance| match instance {
            YankInstance::Chardev(YankInstanceChardev { id }) => {
                plane.chardevs.get(id).filter(|chardev| chardev.is_socket())
            }
            YankInstance::BlockNode(YankInstanceBlockNode { node_name: _ }) | YankInstance::Migration => None,
        })
        .collect();
    let chardevs = chardevs
        .ok_or_else(|| CommandError::generic("Instance not found").class(ErrorClass::DeviceNotFound))?;
    chardevs.iter().for_each(|chardev| chardev.disconnect());
    Ok(())
}

fn query_yank(plane: &Arc<Shared>) -> Command {
    let plane = plane.clone();
    Command::new("query-yank").doc("Lists what can be hung up on.").allow_oob().read_only().handler(
        move |_: Context, (): ()| {
            let sockets = plane.chardevs.list().into_iter().filter(|chardev| chardev.is_socket());
            let list = sockets.map(|c| YankInstance::Chardev(YankInstanceChardev { id: c.id().to_owned() }));
            std::future::ready(Ok(list.collect::<Vec<_>>()))
        },
    )
}

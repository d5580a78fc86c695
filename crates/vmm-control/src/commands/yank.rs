//! `yank`: hanging up on what may be stuck, out-of-band.
//!
//! Every socket chardev is an instance, with a client or without; so is every exported device.

use std::sync::Arc;

use qmp_command::{Command, CommandError, CommandResult, Context, QapiType};
use qmp_protocol::ErrorClass;
use serde::{Deserialize, Serialize};

#[cfg(feature = "vfio-user")]
use crate::objects::Node;
#[cfg(feature = "vfio-user")]
use crate::objects::builtin::VfioUserServer;
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
    /// The client of an exported device.
    #[cfg(feature = "vfio-user")]
    #[qapi(features(unstable))]
    XVfioUser(YankInstanceVfioUser),
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

/// An exported device.
#[cfg(feature = "vfio-user")]
#[derive(Debug, Serialize, Deserialize, QapiType)]
#[qapi(name = "XYankInstanceVfioUser")]
struct YankInstanceVfioUser {
    /// The id of the x-vfio-user-server object.
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

/// What hangs up on an instance.
type HangUp = Box<dyn FnOnce() + Send>;

fn hang_up(plane: &Shared, instances: &[YankInstance]) -> CommandResult<()> {
    let found: Option<Vec<HangUp>> = instances.iter().map(|instance| find(plane, instance)).collect();
    let found =
        found.ok_or_else(|| CommandError::generic("Instance not found").class(ErrorClass::DeviceNotFound))?;
    found.into_iter().for_each(|hang_up| hang_up());
    Ok(())
}

fn find(plane: &Shared, instance: &YankInstance) -> Option<HangUp> {
    match instance {
        YankInstance::Chardev(YankInstanceChardev { id }) => {
            let chardev = plane.chardevs.get(id).filter(|chardev| chardev.is_socket())?;
            Some(Box::new(move || chardev.disconnect()))
        }
        #[cfg(feature = "vfio-user")]
        YankInstance::XVfioUser(YankInstanceVfioUser { id }) => {
            let node = plane.objects.user_created_one(id)?;
            let server = node.object.clone().into_any().downcast::<VfioUserServer>().ok()?;
            let handle = server.with_export(|handle, _| handle.clone())?;
            Some(Box::new(move || handle.disconnect()))
        }
        YankInstance::BlockNode(YankInstanceBlockNode { node_name: _ }) | YankInstance::Migration => None,
    }
}

/// The exported devices.
#[cfg(feature = "vfio-user")]
fn exports(plane: &Shared) -> impl Iterator<Item = YankInstance> {
    let is_one = |node: &Arc<Node>| node.object.clone().into_any().is::<VfioUserServer>();
    let instance =
        |node: Arc<Node>| YankInstance::XVfioUser(YankInstanceVfioUser { id: node.name().to_owned() });
    plane.objects.user_created().into_iter().filter(is_one).map(instance)
}

fn query_yank(plane: &Arc<Shared>) -> Command {
    let plane = plane.clone();
    Command::new("query-yank").doc("Lists what can be hung up on.").allow_oob().read_only().handler(
        move |_: Context, (): ()| {
            let sockets = plane.chardevs.list().into_iter().filter(|chardev| chardev.is_socket());
            let list = sockets.map(|c| YankInstance::Chardev(YankInstanceChardev { id: c.id().to_owned() }));
            #[cfg(feature = "vfio-user")]
            let list = list.chain(exports(&plane));
            std::future::ready(Ok(list.collect::<Vec<_>>()))
        },
    )
}

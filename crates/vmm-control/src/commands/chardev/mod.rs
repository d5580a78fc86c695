//! Chardevs: adding, removing, looking.

mod backend;

use std::sync::Arc;

use chardev::{Chardev, OpenOptions};
use qmp_command::{Command, CommandError, CommandResult, Context, QapiType};
use serde::{Deserialize, Serialize};

use self::backend::{ChardevBackend, Meaning};
use super::fds::{reachable, take_named};
use super::qom::permit_type;
use crate::access;
use crate::bounds;
use crate::plane::Shared;
use crate::reserve;

/// Clients that may wait for a monitor on a chardev that was added at run time.
const BACKLOG: u32 = 128;

/// A chardev to be made.
#[derive(Debug, Deserialize, QapiType)]
#[qapi(name = "q_obj_chardev-add-arg")]
struct ChardevAdd {
    /// Its id: anything that is not taken, of 1024 bytes at most.
    id: String,
    /// What it is.
    backend: ChardevBackend,
}

/// What has been made.
#[derive(Debug, Serialize, QapiType)]
struct ChardevReturn {
    /// The name of a new terminal. There is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pty: Option<String>,
}

/// The id of a chardev.
#[derive(Debug, Deserialize, QapiType)]
#[qapi(name = "q_obj_chardev-remove-arg")]
struct ChardevRemove {
    /// The id.
    id: String,
}

/// A chardev.
#[derive(Debug, Serialize, QapiType)]
#[serde(rename_all = "kebab-case")]
struct ChardevInfo {
    /// Its id.
    label: String,
    /// What it is, and who is connected.
    filename: String,
    /// Whether a monitor uses it.
    frontend_open: bool,
}

/// A backend that there is.
#[derive(Debug, Serialize, QapiType)]
struct ChardevBackendInfo {
    /// Its name.
    name: String,
}

pub(super) fn commands(plane: &Arc<Shared>) -> Vec<Command> {
    vec![chardev_add(plane), chardev_remove(plane), query_chardev(plane), query_chardev_backends()]
}

fn chardev_add(plane: &Arc<Shared>) -> Command {
    let plane = plane.clone();
    Command::new("chardev-add")
        .asks_type()
        .doc("Makes a chardev. With 'wait', only its own monitor waits for the client.")
        .concurrent()
        .handler(move |context: Context, ChardevAdd { id, backend }: ChardevAdd| {
            let plane = plane.clone();
            async move {
                permit_type(&context, "chardev-add", backend.name())?;
                add(&plane, &context, &id, backend).await?;
                Ok(ChardevReturn { pty: None })
            }
        })
}

/// Opens a chardev and registers it. What fails leaves nothing behind.
async fn add(plane: &Shared, context: &Context, id: &str, backend: ChardevBackend) -> CommandResult<()> {
    bounds::name("id", id)?;
    reserve::check(plane)?;
    let reservation = plane.chardevs.reserve(id, bounds::MOST)?;
    let failed = |why: String| CommandError::generic(format!("Failed to add chardev '{id}': {why}"));
    let Meaning { backend, log, wait } =
        backend.meaning(|name| take_named(context, name)).map_err(|error| failed(error.to_string()))?;
    if log.is_some() {
        // A log is a file, whatever it is the log of.
        permit_type(context, "chardev-add", "file")?;
    }
    // One at a time: a client that leaves meanwhile keeps its place until then.
    let waits = if wait { Some(plane.chardevs.wait_turn()?) } else { None };
    let options = OpenOptions::new(BACKLOG)
        .badge(access::badge(context))
        .log(log)
        .starter(plane.starter.clone())
        .opener(access::opener(&reachable(&plane.fd_sets, context)));
    let opened = Chardev::open_with(id, backend, options).await;
    let chardev = Arc::new(opened.map_err(|error| failed(error.to_string()))?);
    let presence = reservation.fill(chardev.clone())?;
    if waits.is_some() {
        tracing::info!(chardev = id, "waiting for connection on: {}", chardev.filename());
        tokio::select! {
            () = chardev.wait_for_client() => {}
            () = presence.ended() => return Err(failed("it was removed while it waited".into())),
        }
    }
    Ok(())
}

fn chardev_remove(plane: &Arc<Shared>) -> Command {
    let plane = plane.clone();
    Command::new("chardev-remove")
        .asks_type()
        .doc("Closes a chardev that no monitor uses.")
        .concurrent()
        .handler(move |context: Context, ChardevRemove { id }: ChardevRemove| {
            std::future::ready(remove(&plane, &context, &id))
        })
}

fn remove(plane: &Shared, context: &Context, id: &str) -> CommandResult<()> {
    if let Some(chardev) = plane.chardevs.get(id) {
        permit_type(context, "chardev-remove", chardev.kind())?;
    }
    Ok(plane.chardevs.remove(id).map(drop)?)
}

fn query_chardev(plane: &Arc<Shared>) -> Command {
    let plane = plane.clone();
    Command::new("query-chardev").doc("Lists the chardevs.").allow_preconfig().read_only().handler(
        move |_: Context, (): ()| {
            let chardevs = plane.chardevs.in_query_order();
            let list = chardevs.iter().map(|chardev| ChardevInfo {
                label: chardev.id().to_owned(),
                filename: chardev.filename(),
                frontend_open: chardev.has_front_end(),
            });
            std::future::ready(Ok(list.collect::<Vec<_>>()))
        },
    )
}

fn query_chardev_backends() -> Command {
    Command::new("query-chardev-backends")
        .doc("Lists the backends that a chardev can have.")
        .read_only()
        .handler(|_: Context, (): ()| {
            let list = ChardevBackend::NAMES.map(|name| ChardevBackendInfo { name: name.to_owned() });
            std::future::ready(Ok(Vec::from(list)))
        })
}

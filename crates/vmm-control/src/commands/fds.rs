//! File descriptors that clients pass: names by session or monitor, sets by plane.

use std::sync::Arc;

use fd_closer::Received;
use fd_registry::FdSets;
use qmp_command::{Command, CommandError, CommandResult, Context, QapiType};
use qmp_monitor::QmpSession;
use serde::{Deserialize, Serialize};

use crate::bounds;
use crate::plane::Shared;

/// The name of an fd.
#[derive(Debug, Deserialize, QapiType)]
#[qapi(name = "q_obj_getfd-arg")]
struct FdName {
    /// Anything that does not start with a digit, of 1024 bytes at most.
    fdname: String,
}

/// Arguments of `add-fd`.
#[derive(Debug, Deserialize, QapiType)]
#[qapi(name = "q_obj_add-fd-arg")]
struct AddFd {
    /// The set to add to; made when it does not exist. Without it, a new set gets the lowest free id.
    #[serde(rename = "fdset-id")]
    set: Option<i64>,
    /// A note that `query-fdsets` shows.
    opaque: Option<String>,
}

/// Where an fd went.
#[derive(Debug, Serialize, QapiType)]
struct AddfdInfo {
    /// Its number in this process.
    fd: i64,
    /// The set's id.
    #[serde(rename = "fdset-id")]
    set: i64,
}

/// Arguments of `remove-fd`.
#[derive(Debug, Deserialize, QapiType)]
#[qapi(name = "q_obj_remove-fd-arg")]
struct RemoveFd {
    /// The set.
    #[serde(rename = "fdset-id")]
    set: i64,
    /// The fd to remove; all of the set's when absent.
    fd: Option<i64>,
}

/// An fd of a set.
#[derive(Debug, Serialize, QapiType)]
struct FdsetFdInfo {
    /// Its number in this process.
    fd: i64,
    /// The note given with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    opaque: Option<String>,
}

/// A set of fds.
#[derive(Debug, Serialize, QapiType)]
struct FdsetInfo {
    /// The fds, oldest first.
    fds: Vec<FdsetFdInfo>,
    /// The set's id.
    #[serde(rename = "fdset-id")]
    set: i64,
}

pub(super) fn commands(plane: &Arc<Shared>) -> Vec<Command> {
    vec![getfd(), closefd(), add_fd(plane), remove_fd(plane), query_fdsets(plane)]
}

fn supplied_fd(context: &Context) -> CommandResult<Received> {
    context.take_fd().ok_or_else(|| {
        CommandError::generic(match () {
            () if context.fds_are_refused() => {
                "The file descriptor supplied via SCM_RIGHTS was closed: clients hold too many"
            }
            () if context.fds_are_lost() => {
                "The file descriptor supplied via SCM_RIGHTS could not be received"
            }
            () => "No file descriptor supplied via SCM_RIGHTS",
        })
    })
}

fn session(context: &Context) -> CommandResult<&QmpSession> {
    context.session().ok_or_else(|| CommandError::generic("this session has no named file descriptors"))
}

/// The fd that `getfd` named, taken out of the session: whatever comes of it, the name is free again.
pub(crate) fn take_named(context: &Context, fdname: &str) -> CommandResult<Received> {
    let found = context.session::<QmpSession>().and_then(|session| session.named_fds().take(fdname));
    found.ok_or_else(|| CommandError::generic(format!("File descriptor named '{fdname}' has not been found")))
}

/// The fd sets that the session can reach.
pub(super) fn reachable(sets: &FdSets, context: &Context) -> FdSets {
    let sets = sets.for_clients();
    if context.policy().is_unrestricted() {
        return sets;
    }
    sets.limited_to(context.policy().fd_set_marks())
}

fn getfd() -> Command {
    Command::new("getfd")
        .doc("Takes an fd that came with the command and names it. An fd of that name is closed first.")
        .takes_fd()
        .concurrent()
        .handler(async |context: Context, FdName { fdname }: FdName| name_fd(&context, &fdname))
}

/// Gives the fd that came with a request a name.
pub(crate) fn name_fd(context: &Context, name: &str) -> CommandResult<()> {
    let fd = supplied_fd(context)?;
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(CommandError::generic("Parameter 'fdname' expects a name not starting with a digit"));
    }
    bounds::name("fdname", name)?;
    match session(context)?.named_fds().insert(name, fd) {
        Ok(replaced) => {
            drop(replaced);
            Ok(())
        }
        Err(error) => Err(CommandError::generic(error.to_string())),
    }
}

fn closefd() -> Command {
    Command::new("closefd")
        .doc("Closes an fd by its name.")
        .concurrent()
        .handler(async |context: Context, FdName { fdname }: FdName| close_fd(&context, &fdname))
}

/// Closes the fd of that name.
pub(crate) fn close_fd(context: &Context, name: &str) -> CommandResult<()> {
    match session(context)?.named_fds().take(name) {
        Some(fd) => {
            drop(fd);
            Ok(())
        }
        None => Err(CommandError::generic(format!("File descriptor named '{name}' not found"))),
    }
}

fn add_fd(plane: &Arc<Shared>) -> Command {
    let sets = plane.fd_sets.clone();
    Command::new("add-fd")
        .doc("Takes an fd that came with the command and adds it to a set that all monitors share.")
        .takes_fd()
        .concurrent()
        .handler(move |context: Context, AddFd { set, opaque }: AddFd| {
            let sets = reachable(&sets, &context);
            async move {
                let added = sets.add(set, opaque, supplied_fd(&context)?)?;
                Ok(AddfdInfo { fd: added.fd.into(), set: added.set })
            }
        })
}

fn remove_fd(plane: &Arc<Shared>) -> Command {
    let sets = plane.fd_sets.clone();
    Command::new("remove-fd").doc("Removes an fd from a set, or all of them.").concurrent().handler(
        move |context: Context, RemoveFd { set, fd }: RemoveFd| {
            std::future::ready(reachable(&sets, &context).remove(set, fd).map_err(CommandError::from))
        },
    )
}

fn query_fdsets(plane: &Arc<Shared>) -> Command {
    let sets = plane.fd_sets.clone();
    Command::new("query-fdsets").doc("Lists the fd sets, highest id first.").read_only().handler(
        move |context: Context, (): ()| {
            let list = reachable(&sets, &context).query().into_iter().map(|set| FdsetInfo {
                set: set.id,
                fds: set.fds.into_iter().map(|f| FdsetFdInfo { fd: f.fd.into(), opaque: f.opaque }).collect(),
            });
            std::future::ready(Ok(list.collect::<Vec<_>>()))
        },
    )
}

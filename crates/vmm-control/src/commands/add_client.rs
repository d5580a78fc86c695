//! `add_client`: hands a connected socket to a display or to a chardev.

use std::sync::Arc;

use chardev::Credentials;
use qmp_command::{Command, CommandError, CommandResult, Context, QapiType};
use qmp_protocol::ErrorClass;
use serde::Deserialize;

use super::fds::take_named;
use crate::access;
use crate::display::{DisplayClient, DisplayProtocol};
use crate::plane::Shared;
use crate::reserve;

/// A client, and where it is to go.
#[derive(Debug, Deserialize, QapiType)]
#[qapi(name = "q_obj_add_client-arg")]
struct AddClient {
    /// `vnc`, `spice`, `@dbus-display`, or a chardev's id.
    protocol: String,
    /// The name that `getfd` gave to the socket. Whatever comes of it, the name is free again.
    fdname: String,
    /// Displays only: let the client in without authentication. Off by default.
    skipauth: Option<bool>,
    /// Displays only: use TLS. Off by default.
    tls: Option<bool>,
}

pub(super) fn add_client(plane: &Arc<Shared>) -> Command {
    let plane = plane.clone();
    Command::new("add_client")
        .doc("Hands a connected socket to a display or, as a further client, to a socket chardev.")
        .concurrent()
        .handler(move |context: Context, arguments: AddClient| {
            std::future::ready(hand_over(&plane, &context, arguments))
        })
}

fn hand_over(plane: &Shared, context: &Context, arguments: AddClient) -> CommandResult<()> {
    let AddClient { protocol, fdname, skipauth, tls } = arguments;
    let socket = take_named(context, &fdname)?;
    if rustix::net::sockopt::socket_type(&socket).is_err() {
        return Err(CommandError::generic("parameter @fdname must name a socket"));
    }
    if let Some(display) = DisplayProtocol::from_name(&protocol) {
        let client =
            DisplayClient { socket, skip_auth: skipauth.unwrap_or(false), tls: tls.unwrap_or(false) };
        return match plane.acceptors.get(&display) {
            Some(acceptor) => acceptor.accept(client),
            None => no_display(display),
        };
    }
    reserve::check(plane)?;
    let chardev = plane
        .chardevs
        .get(&protocol)
        .ok_or_else(|| CommandError::generic(format!("protocol '{protocol}' is invalid")))?;
    // Whatever the socket says: whoever brings it could have made one that says anything.
    let giver = context.peer().map(|peer| Credentials { pid: peer.pid, uid: peer.uid, gid: peer.gid });
    chardev.attach_from(socket, access::badge(context), giver).map_err(|error| {
        tracing::debug!(chardev = protocol, %error, "a client was not added");
        CommandError::generic("failed to add client")
    })
}

/// QEMU's answers without such a display. For VNC it succeeds, whether there is one or not.
fn no_display(display: DisplayProtocol) -> CommandResult<()> {
    let what = match display {
        DisplayProtocol::Vnc => return Ok(()),
        DisplayProtocol::Spice => "SPICE",
        DisplayProtocol::DbusDisplay => "D-Bus display",
    };
    Err(CommandError::generic(format!("{what} is not in use")).class(ErrorClass::DeviceNotActive))
}

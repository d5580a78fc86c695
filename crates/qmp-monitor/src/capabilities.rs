//! `qmp_capabilities`: the one command of a session that has not negotiated.

use qmp_command::{Command, CommandError, Context, QapiType};
use qmp_protocol::ErrorClass;
use serde::Deserialize;

use crate::session::QmpSession;

/// What a client can ask for beyond the base protocol.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, QapiType)]
#[qapi(name = "QMPCapability")]
#[serde(rename_all = "lowercase")]
enum Capability {
    /// Commands that allow it may be executed out-of-band, with `exec-oob`.
    Oob,
}

/// Arguments of `qmp_capabilities`.
#[derive(Debug, Deserialize, QapiType)]
#[qapi(name = "q_obj_qmp_capabilities-arg")]
struct Arguments {
    /// The capabilities to enable; none when absent.
    enable: Option<Vec<Capability>>,
}

/// The command that ends negotiation. Every plane needs it.
pub fn qmp_capabilities() -> Command {
    Command::new("qmp_capabilities")
        .doc("Ends capabilities negotiation: the first command of every session.")
        .allow_preconfig()
        .concurrent()
        .handler(async |context: Context, arguments: Arguments| {
            let out_of_band = arguments.enable.is_some_and(|enable| enable.contains(&Capability::Oob));
            // A session that is not a client's has nothing to negotiate.
            let first = context.session::<QmpSession>().is_some_and(|session| session.negotiate(out_of_band));
            first.then_some(()).ok_or_else(|| {
                CommandError::generic("Capabilities negotiation is already complete, command ignored")
                    .class(ErrorClass::CommandNotFound)
            })
        })
}

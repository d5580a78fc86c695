//! `x-query-monitors`: who is connected, and what they have been doing.

use std::sync::Arc;

use qmp_command::{Command, Context, Feature, QapiType, Session as _};
use qmp_monitor::{Mode, QmpSession};
use serde::Serialize;

use crate::plane::Shared;

/// What a monitor speaks.
#[derive(Clone, Copy, Debug, Serialize, QapiType)]
#[serde(rename_all = "lowercase")]
#[qapi(name = "XMonitorMode")]
enum Speaks {
    /// QMP.
    Control,
    /// Lines for people.
    #[cfg(feature = "hmp")]
    Readline,
}

/// A monitor.
#[derive(Debug, Serialize, QapiType)]
#[serde(rename_all = "kebab-case")]
#[qapi(name = "XMonitorInfo")]
struct MonitorInfo {
    /// Its id.
    id: String,
    /// Its chardev's id.
    chardev: String,
    /// What it speaks.
    mode: Speaks,
    /// How many clients it takes at once.
    max_clients: u64,
    /// Those that are connected, oldest first.
    sessions: Vec<SessionInfo>,
}

/// A client's session.
#[derive(Debug, Serialize, QapiType)]
#[serde(rename_all = "kebab-case")]
#[qapi(name = "XSessionInfo")]
struct SessionInfo {
    /// Its number in logs.
    session: u64,
    /// The client's process, where the kernel says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<i64>,
    /// The client's user.
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    /// The client's group.
    #[serde(skip_serializing_if = "Option::is_none")]
    gid: Option<u32>,
    /// Whether it has negotiated.
    negotiated: bool,
    /// What it has negotiated.
    capabilities: Vec<String>,
    /// Whether a policy limits it.
    restricted: bool,
    /// Requests answered so far, refused ones included.
    commands: u64,
    /// Those of them that were answered with an error.
    errors: u64,
    /// Requests that are running or waiting.
    queued: u64,
    /// Bytes that the client has not taken yet.
    outbox_bytes: u64,
    /// Bytes of memory that count against the plane's budget: unfinished input, requests, output. Roughly: what changes
    /// by less than 4096 is not counted anew.
    held_bytes: u64,
    /// Fds that the client sent and that are not closed yet.
    held_fds: u64,
}

impl SessionInfo {
    fn of(session: &QmpSession) -> Self {
        let (peer, mode) = (session.peer(), session.mode());
        let oob = (mode == Mode::OutOfBand).then(|| "oob".to_owned());
        Self {
            session: session.id(),
            pid: peer.and_then(|peer| peer.pid).map(i64::from),
            uid: peer.map(|peer| peer.uid),
            gid: peer.map(|peer| peer.gid),
            negotiated: mode != Mode::Negotiating,
            capabilities: oob.into_iter().collect(),
            restricted: !session.policy().is_unrestricted(),
            commands: session.commands_served(),
            errors: session.errors(),
            queued: count(session.queued()),
            outbox_bytes: count(session.outbox()),
            held_bytes: count(session.held_bytes()),
            held_fds: count(session.held_fds()),
        }
    }
}

fn speaks(human: bool) -> Speaks {
    match human {
        #[cfg(feature = "hmp")]
        true => Speaks::Readline,
        _ => Speaks::Control,
    }
}

/// No machine has more than fit.
fn count(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

pub(super) fn x_query_monitors(plane: &Arc<Shared>) -> Command {
    let plane = plane.clone();
    Command::new("x-query-monitors")
        .doc("Lists the monitors and their clients' sessions.")
        .feature(Feature::Unstable)
        .allow_preconfig()
        .read_only()
        .handler(move |_: Context, (): ()| {
            let info = |listed: crate::monitors::Listed| MonitorInfo {
                id: listed.id,
                chardev: listed.chardev,
                mode: speaks(listed.human),
                max_clients: count(listed.max_clients),
                sessions: listed.sessions.iter().map(|session| SessionInfo::of(session)).collect(),
            };
            std::future::ready(Ok(plane.monitors.list().into_iter().map(info).collect::<Vec<_>>()))
        })
}

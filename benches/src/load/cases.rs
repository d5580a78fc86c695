//! The measurements.
//!
//! Each is a row of [`CASES`]: how many monitors and sessions it wants, what it measures on a server that was started
//! for it, and which figures it gives. All commands are ones that every server answers in the same few bytes, so that
//! what differs is the servers.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;

use super::flood::{Flood, Kind};
use super::server::Traits;
use super::session::{QMP_CAPABILITIES, QUERY_NAME, Session};
use super::swarm::Swarm;
use super::{Doing, Error, Result};
use crate::harness::process::Running;
pub use crate::harness::rounds::Figure;
use crate::harness::stats::Latencies;

const STOP: &[u8] = b"{\"execute\": \"stop\"}\n";
const CONT: &[u8] = b"{\"execute\": \"cont\"}\n";
const GETFD: &[u8] = b"{\"execute\": \"getfd\", \"arguments\": {\"fdname\": \"bench\"}}\n";
const CLOSEFD: &[u8] = b"{\"execute\": \"closefd\", \"arguments\": {\"fdname\": \"bench\"}}\n";
const ADD_FD: &[u8] = b"{\"execute\": \"add-fd\", \"arguments\": {\"fdset-id\": 7}}\n";
const REMOVE_FD: &[u8] = b"{\"execute\": \"remove-fd\", \"arguments\": {\"fdset-id\": 7}}\n";
/// Commands in flight on one connection.
const IN_FLIGHT: usize = 64;
/// Sessions that flood a monitor while another is measured: with it, 64, which is what `vmmd` takes by default.
const FLOODERS: usize = 63;
/// Length of the long command, as in the figures this is compared with.
const LONG: usize = 1053;

/// How much to measure.
#[derive(Debug, Clone)]
pub struct Scale {
    /// Time for one measurement of one server.
    pub budget: Duration,
    /// Monitors where there are many.
    pub monitors: usize,
    /// Idle sessions for the memory figure.
    pub sessions: usize,
    /// The most sessions put on one monitor.
    pub per_monitor: usize,
}

impl Default for Scale {
    fn default() -> Self {
        Self { budget: Duration::from_secs(1), monitors: 256, sessions: 1000, per_monitor: FLOODERS + 1 }
    }
}

/// How sessions spread over monitors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// A monitor for every session.
    OneEach,
    /// As few monitors as take all sessions: one for each [`Scale::per_monitor`] of them. On a server that takes one
    /// client per monitor, as many monitors as sessions.
    Shared,
}

/// A measurement.
#[derive(Debug)]
pub struct Case {
    /// What `--only` calls it.
    pub name: &'static str,
    /// What the table calls it; `{monitors}` and `{sessions}` stand for the numbers used.
    pub title: &'static str,
    /// How its sessions spread.
    pub layout: Layout,
    /// How many sessions it opens.
    pub sessions: fn(&Scale) -> usize,
    /// The figures, in the order that `run` gives them.
    pub figures: &'static [Figure],
    /// Measures.
    pub run: fn(&Bed<'_>) -> Result<Vec<f64>>,
}

const P50: Figure = Figure { name: "p50", unit: "us", compared: true };
const P99: Figure = Figure { name: "p99", unit: "us", compared: true };
const RATE: Figure = Figure { name: "rate", unit: "replies/s", compared: true };
const IDLE_P50: Figure = Figure { name: "idle p50", unit: "us", compared: true };
const TIMES_IDLE: Figure = Figure { name: "p50 / idle p50", unit: "x", compared: false };
const FLOOD_RATE: Figure = Figure { name: "the others", unit: "replies/s", compared: true };
const FLOODED: &[Figure] = &[P50, P99, IDLE_P50, TIMES_IDLE, FLOOD_RATE];
/// Without the rate: what is sent until the sockets are full says how much is buffered, not how fast anything is.
const FLOODED_UNREAD: &[Figure] = &[P50, P99, IDLE_P50, TIMES_IDLE];
const MEMORY: Figure = Figure { name: "per session", unit: "KB", compared: false };

const fn one_session(_: &Scale) -> usize {
    1
}

const fn a_session_per_monitor(scale: &Scale) -> usize {
    scale.monitors
}

const fn flooded_sessions(_: &Scale) -> usize {
    FLOODERS + 1
}

/// All measurements, in the order of the table.
pub static CASES: &[Case] = &[
    Case {
        name: "one",
        title: "query-name, one at a time",
        layout: Layout::OneEach,
        sessions: one_session,
        figures: &[P50, P99],
        run: one_at_a_time,
    },
    Case {
        name: "long",
        title: "a 1,053-byte command, one at a time",
        layout: Layout::OneEach,
        sessions: one_session,
        figures: &[P50, P99],
        run: long_command,
    },
    Case {
        name: "pipelined",
        title: "64 in flight on one connection",
        layout: Layout::OneEach,
        sessions: one_session,
        figures: &[RATE],
        run: pipelined,
    },
    Case {
        name: "one-of-many",
        title: "{monitors} monitors, one active",
        layout: Layout::OneEach,
        sessions: a_session_per_monitor,
        figures: &[P50, P99],
        run: one_of_many,
    },
    Case {
        name: "all-busy",
        title: "{monitors} monitors, all busy one at a time",
        layout: Layout::OneEach,
        sessions: a_session_per_monitor,
        figures: &[RATE],
        run: all_busy,
    },
    Case {
        name: "getfd",
        title: "getfd + closefd with a real fd, the pair",
        layout: Layout::OneEach,
        sessions: one_session,
        figures: &[P50, P99],
        run: getfd_closefd,
    },
    Case {
        name: "add-fd",
        title: "add-fd + remove-fd, the pair",
        layout: Layout::OneEach,
        sessions: one_session,
        figures: &[P50, P99],
        run: add_fd_remove_fd,
    },
    Case {
        name: "connect",
        title: "connect, greeting, negotiation, query-name, close",
        layout: Layout::OneEach,
        sessions: one_session,
        figures: &[P50, P99],
        run: connect,
    },
    Case {
        name: "event",
        title: "stop/cont until its event and reply are in",
        layout: Layout::OneEach,
        sessions: one_session,
        figures: &[P50, P99],
        run: event,
    },
    Case {
        name: "fan-out",
        title: "an event seen on all of {monitors} monitors",
        layout: Layout::OneEach,
        sessions: a_session_per_monitor,
        figures: &[P50, P99],
        run: event,
    },
    Case {
        name: "neighbours",
        title: "query-name beside 63 clients busy one at a time",
        layout: Layout::Shared,
        sessions: flooded_sessions,
        figures: FLOODED,
        run: |bed| flooded(bed, Kind::InFlight(1)),
    },
    Case {
        name: "flood",
        title: "query-name beside 63 clients with 64 in flight each",
        layout: Layout::Shared,
        sessions: flooded_sessions,
        figures: FLOODED,
        run: |bed| flooded(bed, Kind::InFlight(IN_FLIGHT)),
    },
    Case {
        name: "flood-unread",
        title: "query-name beside 63 clients that send and never read",
        layout: Layout::Shared,
        sessions: flooded_sessions,
        figures: FLOODED_UNREAD,
        run: |bed| flooded(bed, Kind::Unread),
    },
    Case {
        name: "memory",
        title: "memory, {sessions} negotiated idle sessions",
        layout: Layout::Shared,
        sessions: |scale| scale.sessions,
        figures: &[MEMORY],
        run: memory,
    },
];

impl Case {
    /// The monitors that it needs on such a server; `None` when the server cannot have them.
    #[must_use]
    pub fn monitors(&self, traits: &Traits, scale: &Scale) -> Option<usize> {
        let sessions = (self.sessions)(scale);
        let monitors = match self.layout {
            Layout::Shared if traits.many_clients => sessions.div_ceil(scale.per_monitor),
            Layout::Shared | Layout::OneEach => sessions,
        };
        (monitors == 1 || traits.many_monitors).then_some(monitors)
    }

    /// The title with its numbers.
    #[must_use]
    pub fn title(&self, scale: &Scale) -> String {
        self.title
            .replace("{monitors}", &scale.monitors.to_string())
            .replace("{sessions}", &scale.sessions.to_string())
    }
}

/// A server that was started for a measurement.
#[derive(Debug)]
pub struct Bed<'a> {
    /// The server.
    pub server: &'a Running,
    /// How much to measure.
    pub scale: &'a Scale,
    /// The socket of each session that the measurement wants.
    pub paths: Vec<&'a PathBuf>,
}

impl<'a> Bed<'a> {
    /// Spreads a case's sessions over the monitors that the server was started with.
    #[must_use]
    pub fn new(case: &Case, server: &'a Running, scale: &'a Scale) -> Self {
        let paths = server.sockets().iter().cycle().take((case.sessions)(scale)).collect();
        Self { server, scale, paths }
    }

    /// One session, negotiated.
    fn session(&self) -> Result<Session> {
        Session::open_when_ready(self.paths[0])
    }

    /// All sessions, negotiated.
    fn sessions(&self) -> Result<Vec<Session>> {
        self.paths.iter().map(|path| Session::open_when_ready(path)).collect()
    }

    fn latencies(&self, once: impl FnMut() -> Result<()>) -> Result<Vec<f64>> {
        let latencies = Latencies::measure(self.scale.budget, once)?;
        Ok(vec![latencies.percentile(50), latencies.percentile(99)])
    }
}

fn one_at_a_time(bed: &Bed<'_>) -> Result<Vec<f64>> {
    let mut session = bed.session()?;
    bed.latencies(|| session.call(QUERY_NAME))
}

/// The length is an id's, which a monitor echoes and the floor does not.
fn long_command(bed: &Bed<'_>) -> Result<Vec<f64>> {
    let (start, end) = ("{\"execute\": \"query-name\", \"id\": \"", "\"}\n");
    let command = format!("{start}{}{end}", "x".repeat(LONG - start.len() - end.len()));
    let mut session = bed.session()?;
    bed.latencies(|| session.call(command.as_bytes()))
}

/// A pipelining client: 64 commands in one write, the next 64 when all replies have come. (Replacing each command as
/// its reply comes would measure the client's and the scheduler's small writes.)
fn pipelined(bed: &Bed<'_>) -> Result<Vec<f64>> {
    let mut session = bed.session()?;
    let reply_length = session.reply_length(QUERY_NAME)?;
    let batch = QUERY_NAME.repeat(IN_FLIGHT);
    let start = std::time::Instant::now();
    while start.elapsed() < bed.scale.budget / 10 {
        session.call_batch(&batch, IN_FLIGHT, reply_length)?;
    }
    let (start, mut batches, mut elapsed) = (std::time::Instant::now(), 0_u32, Duration::ZERO);
    while elapsed < bed.scale.budget {
        session.call_batch(&batch, IN_FLIGHT, reply_length)?;
        batches += 1;
        elapsed = start.elapsed();
    }
    Ok(vec![f64::from(batches) * IN_FLIGHT as f64 / elapsed.as_secs_f64()])
}

/// The active session is the one in the middle.
fn one_of_many(bed: &Bed<'_>) -> Result<Vec<f64>> {
    let mut sessions = bed.sessions()?;
    let middle = sessions.len() / 2;
    let session = &mut sessions[middle];
    bed.latencies(|| session.call(QUERY_NAME))
}

fn all_busy(bed: &Bed<'_>) -> Result<Vec<f64>> {
    let mut swarm = Swarm::new(bed.sessions()?)?;
    Ok(vec![swarm.busy(QUERY_NAME, bed.scale.budget)?])
}

fn getfd_closefd(bed: &Bed<'_>) -> Result<Vec<f64>> {
    let file = File::open("/dev/null").doing("opening /dev/null")?;
    let mut session = bed.session()?;
    bed.latencies(|| {
        session.call_with_fd(GETFD, file.as_fd())?;
        session.call(CLOSEFD)
    })
}

/// The guest runs, because QEMU 7.2 removes no fd from a set while it does not.
fn add_fd_remove_fd(bed: &Bed<'_>) -> Result<Vec<f64>> {
    let file = File::open("/dev/null").doing("opening /dev/null")?;
    let mut session = bed.session()?;
    session.call(CONT)?;
    bed.latencies(|| {
        session.call_with_fd(ADD_FD, file.as_fd())?;
        session.call(REMOVE_FD)
    })
}

fn connect(bed: &Bed<'_>) -> Result<Vec<f64>> {
    drop(bed.session()?);
    bed.latencies(|| {
        let mut session = Session::connect(bed.paths[0])?;
        session.greeting()?;
        session.call(QMP_CAPABILITIES)?;
        session.call(QUERY_NAME)
    })
}

/// `cont` and `stop` in turn, from the first session; done when all sessions have the event and the first its reply.
fn event(bed: &Bed<'_>) -> Result<Vec<f64>> {
    let mut swarm = Swarm::new(bed.sessions()?)?;
    let mut running = false;
    bed.latencies(|| {
        running = !running;
        swarm.fan_out(if running { CONT } else { STOP })
    })
}

/// One session's latencies while the others flood its monitor (or, on a server with one client per monitor, theirs),
/// and just before, while they are connected and silent. What the others achieve meanwhile shows a server that is
/// quick for one by starving the rest.
fn flooded(bed: &Bed<'_>, kind: Kind) -> Result<Vec<f64>> {
    let mut others = bed.sessions()?;
    let mut session = others.pop().ok_or(Error::Closed)?;
    let idle = Latencies::measure(bed.scale.budget / 2, || session.call(QUERY_NAME))?.percentile(50);
    let flood = Flood::start(others, kind)?;
    let flooded = bed.latencies(|| session.call(QUERY_NAME))?;
    let rate = flood.stop()?;
    let mut figures = vec![flooded[0], flooded[1], idle, flooded[0] / idle];
    figures.extend((kind != Kind::Unread).then_some(rate));
    Ok(figures)
}

/// Growth of the resident set from one session that was used to all of them, per session. What the kernel keeps for
/// a socket is not in it.
fn memory(bed: &Bed<'_>) -> Result<Vec<f64>> {
    let mut first = bed.session()?;
    for _ in 0..10 {
        first.call(QUERY_NAME)?;
    }
    let before = bed.server.resident_bytes()?;
    let mut sessions = vec![first];
    for path in &bed.paths[1..] {
        sessions.push(Session::open_when_ready(path)?);
    }
    // The first session's answer comes after the others' negotiation on any server that serves in order.
    sessions[0].call(QUERY_NAME)?;
    let growth = bed.server.resident_bytes()? - before;
    Ok(vec![growth / 1024.0 / (sessions.len() - 1).max(1) as f64])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_share_monitors_only_where_they_can() {
        let scale = Scale::default();
        let traits =
            |many_clients, many_monitors| Traits { many_clients, many_monitors, version: String::new() };
        let case = |name| CASES.iter().find(|case| case.name == name).unwrap();
        assert_eq!(case("one").monitors(&traits(false, false), &scale), Some(1));
        assert_eq!(case("flood").monitors(&traits(true, false), &scale), Some(1));
        assert_eq!(case("flood").monitors(&traits(false, true), &scale), Some(64));
        assert_eq!(case("flood").monitors(&traits(false, false), &scale), None);
        assert_eq!(case("memory").monitors(&traits(true, true), &scale), Some(16));
        assert_eq!(case("all-busy").monitors(&traits(true, true), &scale), Some(256));
        assert_eq!(case("all-busy").monitors(&traits(true, false), &scale), None);
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = CASES.iter().map(|case| case.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), CASES.len());
    }
}

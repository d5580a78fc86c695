//! One client's session: bytes in, commands run, replies and events out.
//!
//! A session is one future on one task. That task reads a request, runs its handler and writes its reply; nothing hops
//! to another task or thread unless it must wait. Several requests that arrived together are answered with one write,
//! which happens before the first wait for a handler.
//!
//! Order, as QEMU keeps it:
//! * In-band requests run one after another. Without out-of-band, nothing is read while one runs.
//! * With out-of-band, up to [`QUEUE`] requests wait behind the running one; when the last place is taken, reading
//!   stops. An `exec-oob` request runs as soon as it is read.
//! * Events are written before any reply that completes after they were raised.
//!
//! Pressure: above [`SessionLimits::outbox`] bytes of output the session reads nothing more. A session ends, with a
//! logged reason, when its events exceed their bound or its peer takes no byte for [`SessionLimits::stall`]. What all
//! sessions hold together is bounded too ([`Budgets`](crate::Budgets)), and the one that holds most gives.
//!
//! Cancel-safety: the future must not be dropped while a handler runs, as that would stop the handler half way. It
//! ends by itself when its client leaves and when its monitor or the plane closes, in any case after the running handler
//! has ended.

pub(crate) mod giving;
pub(crate) mod input;
mod outbox;
mod output;
pub(crate) mod pace;
mod state;
pub(crate) mod writer;

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, ready};
use std::time::Duration;

use chardev::Connection;
use qmp_command::{Context, Outcome, PendingFds, RouteFuture, Session as _};
use qmp_protocol::{
    Decoder, Error, ErrorClass, Format, Limits, Malformed, Message, Request, Value, encode_error,
    encode_return,
};

pub use self::state::{Mode, QmpSession};

use self::giving::{Queued, is_sprawling, too_large};
use self::input::{Arrival, Input, Next};
pub(crate) use self::pace::Lane;
use self::pace::{Pace, Turn};
use self::writer::Writer;
use crate::budgets::{Holdings, Resources};
use crate::core::Core;
use crate::events::{Subscription, WakeHandle};
use crate::monitor::Shared;

/// In-band requests that wait behind the running one once out-of-band is on: QEMU's eight.
pub const QUEUE: usize = 8;

/// Replies and events that a client may send in a row, as if they were requests. Each is answered with an error; if that is
/// read by another session, which a client can bring about with a chardev that connects to a monitor, the two would go on for
/// ever.
const ECHOES: u32 = 1000;

/// How long a session has, when its monitor or the plane closes, to write what waits.
pub(crate) const FAREWELL: Duration = Duration::from_secs(2);

/// What a client may make a session hold.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SessionLimits {
    /// Of the JSON reader.
    pub json: Limits,
    /// Bytes of output above which no more input is read. One reply of any size always passes.
    pub outbox: usize,
    /// Events that may wait for a session. One more, and it ends.
    pub events: u64,
    /// How long a peer may take nothing while output waits.
    pub stall: Duration,
}

impl Default for SessionLimits {
    /// QEMU's limits for JSON; 16 MiB of output (QEMU: no limit), 16,384 events, 30 s.
    fn default() -> Self {
        Self { json: Limits::default(), outbox: 16 << 20, events: 16_384, stall: Duration::from_secs(30) }
    }
}

/// Why a session ended.
#[derive(Debug)]
pub(crate) enum End {
    /// The client left, and everything it could still get was written.
    Left,
    /// The plane closes.
    Closed,
    /// More events waited than may.
    EventOverflow,
    /// The peer took nothing for too long.
    Stalled,
    /// The plane's sessions held too much, and this one most, in output.
    OverBudget,
    /// The client is none: see [`MonitorConfig::strict`](crate::MonitorConfig::strict).
    Foreign,
    /// It gave way to another client.
    GaveWay,
    /// [`ECHOES`].
    Echo,
    /// The transport failed.
    Transport(io::Error),
}

impl End {
    /// Why a session is over that has written everything.
    pub(crate) fn of(monitor_closes: bool, foreign: bool, state: &QmpSession) -> Self {
        match () {
            () if monitor_closes => Self::Closed,
            () if foreign => Self::Foreign,
            () if state.gives_way() => Self::GaveWay,
            () => Self::Left,
        }
    }

    /// Whether the session was ended against its client's will.
    pub(crate) fn is_forced(&self) -> bool {
        matches!(self, Self::EventOverflow | Self::Stalled | Self::OverBudget | Self::Echo)
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Left => f.write_str("the client left"),
            Self::Closed => f.write_str("the monitor closes"),
            Self::EventOverflow => f.write_str("too many events waited for the client"),
            Self::Foreign => f.write_str("what it sent is not what a client of a monitor begins with"),
            Self::Echo => write!(f, "it sent {ECHOES} replies in a row, as another monitor would"),
            Self::GaveWay => f.write_str("it gave way to another client"),
            Self::Stalled => f.write_str("the client took nothing for too long"),
            Self::OverBudget => f.write_str(
                "the plane's budget of memory is used up, most of it by what the client does not take",
            ),
            Self::Transport(error) => write!(f, "the connection failed: {error}"),
        }
    }
}

/// A command that runs. In a box: few sessions have one at a time.
struct Running {
    call: RouteFuture,
    id: Option<Value>,
    format: Format,
    /// What its arguments take up; those that it needs no more are counted until it ends.
    bytes: usize,
    /// What fds it can see.
    fds: PendingFds,
}

/// A session over a connection; a future that ends with the session.
pub(crate) struct Session {
    connection: Connection,
    core: Arc<Core>,
    shared: Arc<Shared>,
    state: Arc<QmpSession>,
    format: Format,
    input: Input<Decoder>,
    writer: Writer,
    events: Option<Subscription>,
    wake: WakeHandle,
    running: Option<Box<Running>>,
    overtaking: Option<Box<Running>>,
    queue: VecDeque<Queued>,
    holdings: Holdings,
    pace: Pace,
    doomed: Option<End>,
    /// What the client was to get was dropped.
    cut_off: bool,
    /// An error in its JSON before it has negotiated ends the session.
    strict: bool,
    /// There was one.
    foreign: bool,
    /// Replies that came as requests, since something else did.
    echoes: u32,
}

/// A session as its monitor's task sees it: a future that ends with it.
pub(crate) trait Served: Future<Output = End> + Unpin + Send + 'static {
    /// What it has in common with its monitor.
    fn shared(&self) -> &Arc<Shared>;

    /// What others may know of it.
    fn state(&self) -> &Arc<QmpSession>;

    /// Gives the client back to its chardev when the session is over, unless it was cut off in the middle of a reply.
    fn park(self);

    /// What still runs of a session that is over: nothing, but at the plane's end.
    fn take_running(&mut self) -> Option<impl Future<Output = ()> + Send + 'static>;
}

impl Served for Session {
    fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    fn state(&self) -> &Arc<QmpSession> {
        &self.state
    }

    fn park(self) {
        if !self.cut_off {
            self.connection.park();
        }
    }

    fn take_running(&mut self) -> Option<impl Future<Output = ()> + Send + 'static> {
        let running = [self.overtaking.take(), self.running.take()];
        if running.iter().all(Option::is_none) {
            return None;
        }
        Some(async {
            let calls = running.into_iter().flatten().map(|running| running.call);
            futures_util::future::join_all(calls).await;
        })
    }
}

impl Session {
    pub(crate) fn new(
        connection: Connection,
        core: Arc<Core>,
        shared: Arc<Shared>,
        state: Arc<QmpSession>,
        Resources { wake, holdings, fds }: Resources,
        format: Format,
    ) -> Self {
        let mut writer = Writer::default();
        core.greet(writer.buffer(), format);
        let pace = Pace::new(core.lane.clone());
        Self {
            input: Input::new(Decoder::new(core.limits.json.clone()), fds),
            wake,
            holdings,
            connection,
            core,
            shared,
            state,
            format,
            writer,
            events: None,
            running: None,
            overtaking: None,
            queue: VecDeque::new(),
            pace,
            doomed: None,
            cut_off: false,
            strict: false,
            foreign: false,
            echoes: 0,
        }
    }

    /// With an error in JSON before negotiation ending the session, or not.
    pub(crate) fn strict(mut self, strict: bool) -> Self {
        self.strict = strict;
        self
    }

    /// One turn: run, read, answer, write, until something must be waited for.
    fn poll_turn(&mut self, cx: &mut TaskContext<'_>) -> Poll<End> {
        self.wake.register(cx.waker());
        self.give(cx);
        if self.holdings.lets_others_give(cx) {
            return Poll::Pending;
        }
        let turn = self.poll_requests(cx);
        self.write(cx);
        if self.account(cx) {
            self.write(cx);
        }
        let over = self.doomed.is_some();
        // Output that has just been written below the mark lets input in again.
        let room = self.writer.len() <= self.mark();
        self.pace.settle(if over { Turn::Over } else { turn }, room, cx);
        let running = usize::from(self.running.is_some()) + usize::from(self.overtaking.is_some());
        self.state.gauge(self.queue.len() + running, self.writer.len());
        if self.running.is_some() || self.overtaking.is_some() {
            // Whatever happened to the client, a handler is never stopped half way.
            return poll_outlived(&self.core, &self.state, &mut self.writer, cx);
        }
        if let Some(end) = self.doomed.take() {
            return Poll::Ready(end);
        }
        if turn == Turn::Over && self.writer.is_empty() {
            return Poll::Ready(End::of(self.monitor_closes(), self.foreign, &self.state));
        }
        Poll::Pending
    }

    fn write(&mut self, cx: &mut TaskContext<'_>) {
        if let Some(end) = self.poll_output(cx) {
            self.doom(end);
        }
    }

    /// Output above which nothing is read.
    fn mark(&self) -> usize {
        self.holdings.mark(self.core.limits.outbox)
    }

    /// Runs commands and takes requests, as far as it goes without waiting.
    fn poll_requests(&mut self, cx: &mut TaskContext<'_>) -> Turn {
        let share = self.pace.poll_share(cx);
        let mut left = match share {
            Poll::Ready(share) => share,
            Poll::Pending => 0,
        };
        loop {
            self.poll_running(cx);
            left = self.pace.pay(left, self.input.take_cost());
            if self.is_closing() {
                self.writer.hurry();
                self.hang_up();
            }
            if self.running.is_none()
                && let Some(queued) = self.queue.pop_front()
            {
                self.start(queued.arrival, cx);
                continue;
            }
            if self.overtaking.is_some() {
                return Turn::Waiting;
            }
            if self.writer.len() > self.mark() {
                return Turn::Full;
            }
            let waiting = self.running.is_some();
            if waiting && (self.state.mode() != Mode::OutOfBand || self.queue.len() >= QUEUE) {
                return Turn::Waiting;
            }
            if left == 0 {
                return if share.is_ready() { Turn::Spent } else { Turn::Waiting };
            }
            match self.input.poll_next(&self.connection, cx) {
                Poll::Ready(Ok(Next::Arrival(arrival))) => {
                    left -= 1;
                    self.pace.count(0);
                    self.accept(arrival, cx);
                }
                Poll::Ready(Ok(Next::Bytes)) => {}
                Poll::Ready(Ok(Next::End)) if waiting => return Turn::Waiting,
                Poll::Ready(Ok(Next::End)) => return Turn::Over,
                Poll::Ready(Err(error)) => self.doom(End::Transport(error)),
                Poll::Pending => return Turn::Waiting,
            }
            // Bytes that never end a message cost time too.
            left = self.pace.pay(left, self.input.take_cost());
        }
    }

    /// A message was read: it overtakes, runs, or waits for its turn.
    fn accept(&mut self, arrival: Arrival, cx: &mut TaskContext<'_>) {
        match arrival.message {
            Message::Request(request) if request.oob => {
                self.overtaking = self.call(request, arrival.fds, cx);
            }
            Message::Malformed(malformed) if malformed.oob => {
                self.refuse_malformed(&malformed.error, malformed.id.as_ref())
            }
            _ if self.running.is_some() => self.queue.push_back(Queued::new(arrival)),
            _ => self.start(arrival, cx),
        }
    }

    /// Starts an in-band request.
    fn start(&mut self, Arrival { message, fds }: Arrival, cx: &mut TaskContext<'_>) {
        match message {
            Message::Malformed(Malformed { error, id, .. }) => self.refuse_malformed(&error, id.as_ref()),
            Message::Request(request) => {
                if self.state.mode() == Mode::Negotiating && request.execute != "qmp_capabilities" {
                    return self.refuse(&expecting_negotiation(), request.id.as_ref());
                }
                self.running = self.call(request, fds, cx);
            }
        }
    }

    /// Starts a command; `None` when it is done already.
    fn call(&mut self, request: Request, fds: PendingFds, cx: &mut TaskContext<'_>) -> Option<Box<Running>> {
        self.echoes = 0;
        let bytes = request.heap_bytes();
        let format = self.format_for(request.id.as_ref());
        let Request { execute, oob, arguments, id } = request;
        if !self.admits(bytes) {
            self.refuse(&too_large(), id.as_ref());
            return None;
        }
        tracing::trace!(session = self.state.id(), command = execute.escape_debug().to_string(), ?arguments);
        let context =
            Context::new(self.state.clone()).with_fds(fds.clone()).with_oob(oob).with_format(format);
        let call = self.core.router.call(&execute, arguments, context);
        let mut running = Running { call, id, format, bytes, fds };
        // Most commands are done the first time they are asked.
        match self.progress(&mut running, cx) {
            Poll::Pending => Some(Box::new(running)),
            Poll::Ready(()) => None,
        }
    }

    /// How a reply with this id is written.
    fn format_for(&self, id: Option<&Value>) -> Format {
        let pretty = self.format == Format::Pretty && !is_sprawling(id);
        if pretty { Format::Pretty } else { Format::Compact }
    }

    /// Polls a command; what comes of it is answered.
    fn progress(&mut self, running: &mut Running, cx: &mut TaskContext<'_>) -> Poll<()> {
        let outcome = ready!(Pin::new(&mut running.call).poll(cx));
        self.answer(outcome, running.id.as_ref(), running.format);
        Poll::Ready(())
    }

    fn poll_running(&mut self, cx: &mut TaskContext<'_>) {
        if let Some(mut running) = self.overtaking.take()
            && self.progress(&mut running, cx).is_pending()
        {
            self.overtaking = Some(running);
        }
        if let Some(mut running) = self.running.take()
            && self.progress(&mut running, cx).is_pending()
        {
            self.running = Some(running);
        }
    }

    fn answer(&mut self, outcome: Outcome, id: Option<&Value>, format: Format) {
        self.holdings.replies(self.writer.len());
        self.write_events(usize::MAX);
        self.state.count(outcome.is_ok());
        let before = self.writer.len();
        match outcome {
            Ok(payload) => encode_return(self.writer.buffer(), &payload, id, format),
            Err(error) => encode_error(self.writer.buffer(), &error, id, format),
        }
        self.input.charge(self.writer.len() - before);
        if self.events.is_none() && self.doomed.is_none() && self.state.mode() != Mode::Negotiating {
            self.negotiated();
        }
    }

    fn refuse(&mut self, error: &Error, id: Option<&Value>) {
        self.holdings.replies(self.writer.len());
        self.write_events(usize::MAX);
        self.state.count(false);
        let (format, before) = (self.format_for(id), self.writer.len());
        encode_error(self.writer.buffer(), error, id, format);
        self.input.charge(self.writer.len() - before);
    }

    /// Over TCP it may be a browser that talks here, and a command the next thing that it says: nothing of that is read.
    fn refuse_malformed(&mut self, error: &Error, id: Option<&Value>) {
        self.refuse(error, id);
        self.echoes = if is_echo(error) { self.echoes + 1 } else { 0 };
        if self.echoes >= ECHOES {
            self.doom(End::Echo);
        } else if self.strict && self.state.mode() == Mode::Negotiating {
            self.foreign = true;
            self.hang_up();
            self.writer.hurry();
        }
    }

    /// Events come from now on, none from before.
    fn negotiated(&mut self) {
        self.events = Some(self.core.events.subscribe());
        if self.state.mode() == Mode::OutOfBand {
            self.input.framing().set_oob(true);
        }
    }

    /// The session will end for this reason: what runs ends, its reply is dropped, and what waits is not started.
    #[cold]
    fn doom(&mut self, end: End) {
        tracing::debug!(session = self.state.id(), reason = %end, "a session will end");
        self.hang_up();
        self.cut_off = true;
        self.writer.give_up();
        self.events = None;
        self.doomed = Some(end);
    }

    fn monitor_closes(&self) -> bool {
        self.core.events.is_closing() || self.shared.is_closing()
    }

    fn is_closing(&self) -> bool {
        self.monitor_closes() || self.state.gives_way()
    }

    fn hang_up(&mut self) {
        self.queue.clear();
        self.input.end();
    }
}

/// Whether the session ends all the same though a command of its runs: at the plane's end the command goes on alone.
pub(crate) fn poll_outlived(
    core: &Core,
    state: &QmpSession,
    writer: &mut Writer,
    cx: &mut TaskContext<'_>,
) -> Poll<End> {
    if core.events.is_closing() && writer.poll_farewell(cx).is_ready() {
        tracing::warn!(session = state.id(), "a command goes on beyond the plane's end");
        return Poll::Ready(End::Closed);
    }
    Poll::Pending
}

/// Whether this is the error that a reply, an event or a greeting gets as a request.
fn is_echo(error: &Error) -> bool {
    let member = error.desc.strip_prefix("QMP input member '").and_then(|rest| rest.split_once('\''));
    matches!(member, Some(("error" | "return" | "event" | "QMP" | "timestamp" | "data", " is unexpected")))
}

fn expecting_negotiation() -> Error {
    Error::new(ErrorClass::CommandNotFound, "Expecting capabilities negotiation with 'qmp_capabilities'")
}

impl Future for Session {
    type Output = End;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<End> {
        self.poll_turn(cx)
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("state", &self.state).finish_non_exhaustive()
    }
}

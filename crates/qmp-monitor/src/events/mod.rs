//! Events, from whoever raises them to every session.
//!
//! [`EventSender::emit`] appends to one list that all sessions read (`log`) and notifies the hub's task, which wakes
//! the sessions. So raising an event never blocks, needs no runtime, and costs the same for one session or a thousand;
//! and since a session reads the list before it writes any reply, an event raised before a request completes precedes
//! that reply on every session.
//!
//! Events that were declared [`throttled`](EventSpec::throttled) go through QEMU's rate limit first (`throttle`).

mod log;
mod spec;
mod throttle;
mod watched;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::{Wake, Waker};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::task::AtomicWaker;
use qmp_command::schema::Types;
use qmp_protocol::{Event, Format, Value, encode_event, to_value};
use serde::Serialize;
use tokio::sync::Notify;
use tokio::time::Instant;

pub use self::spec::{DeclareError, EmitError, EventSpec};

use self::log::{Cursor, Log};
use self::throttle::Throttle;
pub(crate) use self::watched::Watched;

/// The length of a rate limit's window: QEMU's 1,000 ms.
pub const THROTTLE_WINDOW: Duration = Duration::from_millis(1000);

type Key = (&'static str, Option<String>);

#[derive(Debug)]
struct Inner {
    specs: HashMap<&'static str, EventSpec>,
    log: Log<Raised>,
    throttle: Mutex<Throttle<Key, Instant, Raised>>,
    /// For the hub's task: something was appended, or a window was opened.
    work: Notify,
    /// By where they are in memory.
    sleepers: Mutex<HashMap<usize, Arc<Sleeper>>>,
    /// The local sessions that want events, and how many may wait for each.
    watched: Mutex<Vec<Weak<Watched>>>,
    watched_limit: AtomicU64,
    closing: AtomicBool,
}

impl Inner {
    fn append(&self, raised: Raised) {
        let common = !raised.extension;
        self.log.append(raised, common);
    }
}

/// An event as it was raised, with its bytes in the forms that somebody has asked for.
#[derive(Debug)]
pub(crate) struct Raised {
    extension: bool,
    event: Event,
    compact: OnceLock<Box<[u8]>>,
    pretty: OnceLock<Box<[u8]>>,
}

impl Raised {
    pub(crate) fn name(&self) -> &str {
        &self.event.name
    }

    /// Whether only sessions that asked for it get it.
    pub(crate) fn is_extension(&self) -> bool {
        self.extension
    }

    /// The event, for sessions of this process.
    pub(crate) fn event(&self) -> &Event {
        &self.event
    }

    /// The line that goes out, encoded once for all sessions.
    pub(crate) fn bytes(&self, format: Format) -> &[u8] {
        let encoded = match format {
            Format::Compact => &self.compact,
            Format::Pretty => &self.pretty,
        };
        encoded.get_or_init(|| {
            let mut out = Vec::with_capacity(128);
            encode_event(&mut out, &self.event, format);
            out.into_boxed_slice()
        })
    }
}

/// A session that sleeps until there is an event for it, or the plane closes.
#[derive(Debug, Default)]
struct Sleeper(AtomicWaker);

impl Sleeper {
    /// No two that are there at once have the same.
    fn key(self: &Arc<Self>) -> usize {
        Arc::as_ptr(self).addr()
    }
}

impl Wake for Sleeper {
    fn wake(self: Arc<Self>) {
        self.0.wake();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.wake();
    }
}

/// The events of one plane. Clones share it.
#[derive(Clone, Debug)]
pub struct EventHub(Arc<Inner>);

impl EventHub {
    /// A hub for these events. Someone must run [`EventHub::run`] for sessions to be woken.
    ///
    /// # Errors
    /// The first declaration that is illegal or repeats a name.
    pub fn new(specs: impl IntoIterator<Item = EventSpec>) -> Result<Self, DeclareError> {
        let mut types = Types::new();
        let mut by_name = HashMap::new();
        for spec in specs {
            let name = spec.name;
            spec.check(&mut types)?;
            if by_name.insert(name, spec).is_some() {
                return Err(DeclareError::Duplicate(name));
            }
        }
        Ok(Self(Arc::new(Inner {
            specs: by_name,
            log: Log::new(),
            throttle: Mutex::new(Throttle::new(THROTTLE_WINDOW)),
            work: Notify::new(),
            sleepers: Mutex::default(),
            watched: Mutex::default(),
            watched_limit: AtomicU64::new(u64::MAX),
            closing: AtomicBool::new(false),
        })))
    }

    /// A handle that raises events from anywhere.
    pub fn sender(&self) -> EventSender {
        EventSender(self.clone())
    }

    /// A declared event.
    pub fn spec(&self, name: &str) -> Option<&EventSpec> {
        self.0.specs.get(name)
    }

    /// Wakes sessions and ends rate limits' windows, for as long as it is polled. One task per plane runs it.
    ///
    /// Cancel-safety: dropping it loses nothing; another call goes on.
    pub async fn run(&self) {
        loop {
            let next_end = self.throttle().next_end();
            match next_end {
                None => self.0.work.notified().await,
                Some(end) => tokio::select! {
                    () = self.0.work.notified() => {}
                    () = tokio::time::sleep_until(end) => {
                        let mut throttle = self.throttle();
                        // Appended under the throttle's lock, so that a newer event of the same key cannot pass it.
                        throttle.expire(Instant::now()).into_iter().for_each(|event| self.0.append(event));
                    }
                },
            }
            self.wake_all();
            self.look_after_watched();
        }
    }

    /// How many events may wait for a local session.
    pub(crate) fn bound_local_sessions(&self, limit: u64) {
        self.0.watched_limit.store(limit, Ordering::Relaxed);
    }

    fn look_after_watched(&self) {
        let limit = self.0.watched_limit.load(Ordering::Relaxed);
        // Looked at outside the lock: what waits for them may take a while to free.
        let watched: Vec<_> = self.watched().iter().filter_map(Weak::upgrade).collect();
        watched.iter().for_each(|watched| watched.bound(limit));
    }

    /// Tells all sessions to write what they have and end. For good.
    pub fn close(&self) {
        self.0.closing.store(true, Ordering::Release);
        self.wake_all();
    }

    /// Whether [`close`](Self::close) was called.
    pub(crate) fn is_closing(&self) -> bool {
        self.0.closing.load(Ordering::Acquire)
    }

    pub(crate) fn subscribe(&self) -> Subscription {
        Subscription { cursor: self.0.log.subscribe(), hub: self.clone() }
    }

    /// A place in the list of those to be woken; left when dropped.
    pub(crate) fn sleeper(&self) -> WakeHandle {
        let sleeper = Arc::new(Sleeper::default());
        self.sleepers().insert(sleeper.key(), sleeper.clone());
        WakeHandle { sleeper, hub: self.clone() }
    }

    /// Wakes all sessions, to look at what has changed.
    pub(crate) fn wake_all(&self) {
        // Woken outside the lock: a waker may run anything.
        let sleepers: Vec<_> = self.sleepers().values().cloned().collect();
        sleepers.iter().for_each(|sleeper| sleeper.0.wake());
    }

    fn throttle(&self) -> MutexGuard<'_, Throttle<Key, Instant, Raised>> {
        self.0.throttle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watched(&self) -> MutexGuard<'_, Vec<Weak<Watched>>> {
        self.0.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sleepers(&self) -> MutexGuard<'_, HashMap<usize, Arc<Sleeper>>> {
        self.0.sleepers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Raises events. Clone it freely and send it to device threads: it needs no runtime and never waits for a client.
#[derive(Clone)]
pub struct EventSender(EventHub);

impl EventSender {
    /// Raises an event that has data, stamped with the time of the call.
    ///
    /// # Errors
    /// When the event was not declared, or its data does not serialize.
    pub fn emit<T: Serialize + ?Sized>(&self, name: &str, data: &T) -> Result<(), EmitError> {
        let spec = self.find(name)?;
        let data = to_value(data).map_err(|source| EmitError::Encode { event: spec.name, source })?;
        self.raise(spec, Some(data));
        Ok(())
    }

    /// Raises an event without data.
    ///
    /// # Errors
    /// When the event was not declared.
    pub fn emit_plain(&self, name: &str) -> Result<(), EmitError> {
        self.raise(self.find(name)?, None);
        Ok(())
    }

    fn find(&self, name: &str) -> Result<&EventSpec, EmitError> {
        self.0.spec(name).ok_or_else(|| EmitError::Undeclared(name.to_owned()))
    }

    fn raise(&self, spec: &EventSpec, data: Option<Value>) {
        let EventHub(hub) = &self.0;
        let key = spec.throttle.map(|key| (spec.name, key.of(data.as_ref())));
        let raised = Raised {
            extension: spec.extension,
            event: Event { name: spec.name.into(), data, timestamp: since_epoch() },
            compact: OnceLock::new(),
            pretty: OnceLock::new(),
        };
        match key {
            None => hub.append(raised),
            Some(key) => {
                let mut throttle = self.0.throttle();
                if let Some(raised) = throttle.offer(key, raised, Instant::now()) {
                    hub.append(raised);
                }
            }
        }
        hub.work.notify_one();
    }
}

impl fmt::Debug for EventSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventSender").finish_non_exhaustive()
    }
}

fn since_epoch() -> Duration {
    // A clock before 1970 reads as 1970.
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// A session's place in the list of events.
#[derive(Debug)]
pub(crate) struct Subscription {
    cursor: Cursor<Raised>,
    hub: EventHub,
}

impl Subscription {
    /// Events that wait: all of them, or only QEMU's own, which every session gets.
    pub(crate) fn backlog(&self, extensions: bool) -> u64 {
        self.cursor.backlog(&self.hub.0.log, extensions)
    }

    pub(crate) fn next(&mut self) -> Option<&Raised> {
        self.cursor.next()
    }
}

/// Wakes a session's task when there may be something for it.
#[derive(Debug)]
pub(crate) struct WakeHandle {
    sleeper: Arc<Sleeper>,
    hub: EventHub,
}

impl WakeHandle {
    /// What wakes the session, for others to keep.
    pub(crate) fn waker(&self) -> Waker {
        self.sleeper.clone().into()
    }

    /// To be called before the last look for events, so that none is missed between look and sleep.
    pub(crate) fn register(&self, waker: &Waker) {
        self.sleeper.0.register(waker);
    }
}

impl Drop for WakeHandle {
    fn drop(&mut self) {
        self.hub.sleepers().remove(&self.sleeper.key());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(qmp_command::QapiType, serde::Serialize)]
    struct Port {
        id: String,
    }

    fn hub() -> EventHub {
        EventHub::new([
            EventSpec::standard::<()>("STOP"),
            EventSpec::standard::<()>("RTC_CHANGE").throttled(),
            EventSpec::standard::<Port>("VSERPORT_CHANGE").throttled_by("id"),
        ])
        .unwrap()
    }

    fn names(subscription: &mut Subscription) -> Vec<String> {
        std::iter::from_fn(|| subscription.next().map(|raised| raised.name().to_owned())).collect()
    }

    #[test]
    fn raising_needs_no_runtime() {
        let hub = hub();
        let mut subscription = hub.subscribe();
        let sender = hub.sender();
        std::thread::spawn(move || sender.emit_plain("STOP").unwrap()).join().unwrap();
        assert_eq!(names(&mut subscription), ["STOP"]);
    }

    #[test]
    fn an_undeclared_event_is_an_error_and_not_a_line() {
        let hub = hub();
        let error = hub.sender().emit_plain("NOPE").unwrap_err();
        assert_eq!(error.to_string(), "the event \"NOPE\" was not declared");
    }

    #[test]
    fn declarations_are_checked() {
        let twice = [EventSpec::standard::<()>("STOP"), EventSpec::standard::<()>("STOP")];
        assert!(matches!(EventHub::new(twice), Err(DeclareError::Duplicate("STOP"))));
        let lower = [EventSpec::standard::<()>("stop it")];
        assert!(matches!(EventHub::new(lower), Err(DeclareError::IllegalName(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_window_ends_by_itself() {
        let hub = hub();
        let mut subscription = hub.subscribe();
        let runner = hub.clone();
        let task = tokio::spawn(async move { runner.run().await });
        let raise = |n: i64| hub.sender().emit("RTC_CHANGE", &serde_json::json!({"offset": n})).unwrap();
        raise(1);
        raise(2);
        raise(3);
        assert_eq!(subscription.backlog(true), 1);
        tokio::time::sleep(THROTTLE_WINDOW + Duration::from_millis(1)).await;
        let offsets: Vec<_> = std::iter::from_fn(|| {
            subscription.next().map(|r| String::from_utf8(r.bytes(Format::Compact).to_vec()).unwrap())
        })
        .collect();
        assert_eq!(offsets.len(), 2);
        assert!(offsets[1].contains("\"offset\": 3"), "{offsets:?}");
        task.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn windows_are_per_member_where_declared_so() {
        let hub = hub();
        let mut subscription = hub.subscribe();
        for id in ["a", "b", "a"] {
            hub.sender().emit("VSERPORT_CHANGE", &serde_json::json!({"id": id})).unwrap();
        }
        assert_eq!(names(&mut subscription).len(), 2);
    }
}

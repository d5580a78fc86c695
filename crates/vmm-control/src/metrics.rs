//! Metrics of a plane and of its iothreads, for the recorder that the program has installed. With the feature `metrics` only.
//!
//! An iothread counts for itself, on its own thread and without anybody's help, and a plane knows what its sessions hold;
//! these are copies. They are made when somebody wants them:
//! [`PlaneHandle::update_metrics`](crate::PlaneHandle::update_metrics) is for
//! whoever is about to render what the recorder has, and `x-query-iothread-stats` makes those of iothreads too. No thread
//! of the plane's wakes up for it.
//!
//! Those of iothreads have the label `iothread`, the id; `plane_sessions` has the label `monitor`. Series of an iothread or
//! a monitor that has gone stay as they were, unless the recorder forgets what is not updated: one for the copies alone can do so
//! each time (`metrics::with_local_recorder`).

use std::time::Duration;

use iothread::{Info, Stats};
use metrics::Unit;
use qmp_monitor::{Budgets, Usage};

use crate::monitors::Monitors;

/// A metric's name, unit, description, and where its value is.
struct Metric<V>(&'static str, Unit, &'static str, fn(&Stats) -> V);

const COUNTERS: [Metric<u64>; 9] = [
    Metric("iothread_wakeups_total", Unit::Count, "Times that an iothread blocked and woke up.", |s| {
        s.wakeups
    }),
    Metric("iothread_poll_hits_total", Unit::Count, "Waits that polling ended, with work.", |s| s.poll_hits),
    Metric(
        "iothread_poll_misses_total",
        Unit::Count,
        "Waits ahead of which an iothread polled in vain.",
        |s| s.poll_misses,
    ),
    Metric("iothread_handler_calls_total", Unit::Count, "Calls for a descriptor that was ready.", |s| {
        s.handler_calls
    }),
    Metric("iothread_timer_calls_total", Unit::Count, "Calls of timers.", |s| s.timer_calls),
    Metric("iothread_closures_total", Unit::Count, "Closures that an iothread ran.", |s| s.closures),
    Metric("iothread_panics_total", Unit::Count, "Handlers, timers and closures that panicked.", |s| {
        s.panics
    }),
    Metric("iothread_polling_nanoseconds_total", Unit::Nanoseconds, "Time spent polling.", |s| {
        nanos(s.polling)
    }),
    Metric("iothread_blocked_nanoseconds_total", Unit::Nanoseconds, "Time spent blocked.", |s| {
        nanos(s.blocked)
    }),
];

const GAUGES: [Metric<f64>; 3] = [
    Metric("iothread_handlers", Unit::Count, "Handlers that an iothread has.", |s| number(s.handlers)),
    Metric("iothread_polled_handlers", Unit::Count, "Handlers that an iothread polls.", |s| {
        number(s.polled_handlers)
    }),
    Metric("iothread_poll_seconds", Unit::Seconds, "For how long an iothread polls before it blocks.", |s| {
        s.poll_time.as_secs_f64()
    }),
];

/// Copies these iothreads' counters.
pub(crate) fn update(iothreads: &[Info]) {
    for Metric(name, unit, description, _) in &COUNTERS {
        metrics::describe_counter!(*name, *unit, *description);
    }
    for Metric(name, unit, description, _) in &GAUGES {
        metrics::describe_gauge!(*name, *unit, *description);
    }
    for Info { id, stats, .. } in iothreads {
        for Metric(name, _, _, value) in &COUNTERS {
            metrics::counter!(*name, "iothread" => id.clone()).absolute(value(stats));
        }
        for Metric(name, _, _, value) in &GAUGES {
            metrics::gauge!(*name, "iothread" => id.clone()).set(value(stats));
        }
    }
}

/// The monitors, and what their sessions hold of which budgets.
struct Plane {
    monitors: usize,
    usage: Usage,
    budgets: Budgets,
}

/// A gauge of a plane, as [`Metric`].
struct PlaneMetric(&'static str, Unit, &'static str, fn(&Plane) -> usize);

const PLANE: [PlaneMetric; 5] = [
    PlaneMetric("plane_monitors", Unit::Count, "Monitors that there are.", |p| p.monitors),
    PlaneMetric("plane_held_bytes", Unit::Bytes, "Memory that clients' sessions hold of the budget.", |p| {
        p.usage.memory
    }),
    PlaneMetric("plane_held_bytes_limit", Unit::Bytes, "The budget of memory for clients' sessions.", |p| {
        p.budgets.memory
    }),
    PlaneMetric("plane_held_fds", Unit::Count, "Fds of clients that count against the budget.", |p| {
        p.usage.fds
    }),
    PlaneMetric("plane_held_fds_limit", Unit::Count, "The budget of fds for clients' sessions.", |p| {
        p.budgets.fds
    }),
];

/// Copies what the plane of these monitors has. Nothing, once it has gone.
pub(crate) fn update_plane(monitors: &Monitors) {
    let Some(core) = monitors.core() else { return };
    let list = monitors.list();
    let plane = Plane { monitors: list.len(), usage: core.usage(), budgets: core.budgets() };
    for PlaneMetric(name, unit, description, value) in &PLANE {
        metrics::describe_gauge!(*name, *unit, *description);
        metrics::gauge!(*name).set(amount(value(&plane)));
    }
    metrics::describe_gauge!("plane_sessions", Unit::Count, "Clients' sessions that a monitor has.");
    for monitor in list {
        metrics::gauge!("plane_sessions", "monitor" => monitor.id).set(amount(monitor.sessions.len()));
    }
}

/// Without a limit it is infinite.
fn amount(count: usize) -> f64 {
    if count == usize::MAX { f64::INFINITY } else { count as f64 }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// There are fewer descriptors than 2^32.
fn number(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::{Arc, Mutex};

    use iothread::{IoThread, IoThreads};
    use metrics::{
        Counter, CounterFn, Gauge, GaugeFn, Histogram, Key, KeyName, Metadata, Recorder, SharedString,
    };

    use chardev::{Address, Backend, Chardev, SocketOptions};
    use qmp_monitor::MonitorConfig;
    use tokio::io::AsyncReadExt;
    use tokio::net::UnixStream;

    use super::*;
    use crate::{ControlPlane, RunState, RunStateCell};

    /// What was recorded, by name and label.
    #[derive(Default)]
    struct Recorded {
        values: Mutex<HashMap<String, f64>>,
        described: Mutex<Vec<String>>,
    }

    struct Place(Arc<Recorded>, String);

    #[derive(Default)]
    struct Recording(Arc<Recorded>);

    impl Place {
        fn put(&self, value: f64) {
            self.0.values.lock().unwrap().insert(self.1.clone(), value);
        }
    }

    impl CounterFn for Place {
        fn increment(&self, _: u64) {
            unreachable!("copies are absolute");
        }

        fn absolute(&self, value: u64) {
            self.put(number(value));
        }
    }

    impl GaugeFn for Place {
        fn increment(&self, _: f64) {
            unreachable!("copies are absolute");
        }

        fn decrement(&self, _: f64) {
            unreachable!("copies are absolute");
        }

        fn set(&self, value: f64) {
            self.put(value);
        }
    }

    impl Recording {
        fn place(&self, key: &Key) -> Arc<Place> {
            let labels: Vec<_> =
                key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
            Arc::new(Place(Arc::clone(&self.0), format!("{} {}", key.name(), labels.join(","))))
        }

        fn describe(&self, name: &KeyName) {
            self.0.described.lock().unwrap().push(name.as_str().to_owned());
        }
    }

    impl Recorder for Recording {
        fn describe_counter(&self, name: KeyName, _: Option<Unit>, _: SharedString) {
            self.describe(&name);
        }

        fn describe_gauge(&self, name: KeyName, _: Option<Unit>, _: SharedString) {
            self.describe(&name);
        }

        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
            Counter::from_arc(self.place(key))
        }

        fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::from_arc(self.place(key))
        }

        fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
            Histogram::noop()
        }
    }

    #[test]
    fn counters_are_copied_with_the_iothreads_id() {
        let iothreads = IoThreads::new();
        for id in ["a", "b"] {
            iothreads.add(id, IoThread::builder("t")).unwrap();
        }
        let (sender, receiver) = std::sync::mpsc::channel();
        let user = iothreads.get("a").unwrap();
        for _ in 0..3 {
            let sender = sender.clone();
            user.handle().run(move |_| sender.send(()).unwrap()).unwrap();
            receiver.recv().unwrap();
        }
        let recording = Recording::default();
        metrics::with_local_recorder(&recording, || update(&iothreads.list()));
        let values = recording.0.values.lock().unwrap();
        assert_eq!(values["iothread_closures_total iothread=a"], 3.0);
        assert_eq!(values["iothread_closures_total iothread=b"], 0.0);
        assert_eq!(values["iothread_handlers iothread=a"], 0.0);
        assert_eq!(values.len(), 2 * (COUNTERS.len() + GAUGES.len()));
        let described = recording.0.described.lock().unwrap();
        assert!(values.keys().all(|key| described.iter().any(|name| key.starts_with(name))));
    }

    #[tokio::test]
    async fn a_plane_tells_its_monitors_sessions_and_budgets() {
        let budgets = Budgets::default().memory(5 << 30).fds(usize::MAX);
        let builder = ControlPlane::builder(RunStateCell::new(RunState::Running)).budgets(budgets);
        let plane = builder.build().unwrap();
        let (here, there) = std::os::unix::net::UnixStream::pair().unwrap();
        let client = Address::Fd { fd: there.into(), name: "client".into() };
        let busy = Chardev::open("busy", Backend::Socket(SocketOptions::client(client)), 1).await.unwrap();
        let idle = Chardev::open("idle", Backend::Null, 1).await.unwrap();
        for chardev in [busy, idle] {
            let config = MonitorConfig::new(chardev.id());
            plane.add_monitor(config, &Arc::new(chardev), 1).unwrap();
        }
        here.set_nonblocking(true).unwrap();
        // The greeting: there is a session.
        UnixStream::from_std(here).unwrap().read_exact(&mut [0]).await.unwrap();

        let recording = Recording::default();
        metrics::with_local_recorder(&recording, || plane.handle().update_metrics());
        let values = recording.0.values.lock().unwrap();
        assert_eq!(values["plane_monitors "], 2.0);
        assert_eq!(values["plane_sessions monitor=idle"], 0.0);
        assert_eq!(values["plane_held_fds "], 0.0);
        assert_eq!(values["plane_held_bytes_limit "], 5.0 * f64::from(1 << 30));
        assert_eq!(values["plane_held_fds_limit "], f64::INFINITY);
        assert!(values.contains_key("plane_held_bytes "));
        assert_eq!(values["plane_sessions monitor=busy"], 1.0);
        let described = recording.0.described.lock().unwrap();
        assert!(values.keys().all(|key| described.iter().any(|name| key.starts_with(name))));
    }
}

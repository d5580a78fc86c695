//! Metrics of a plane's iothreads, for the recorder that the program has installed. With the feature `metrics` only.
//!
//! An iothread counts for itself, on its own thread and without anybody's help; these are copies of its counters. They
//! are made when somebody wants them: [`PlaneHandle::update_metrics`](crate::PlaneHandle::update_metrics) is for
//! whoever is about to render what the recorder has, and `x-query-iothread-stats` makes them too. No thread of the
//! plane's wakes up for it.
//!
//! All have the label `iothread`, the id. Series of an iothread that has gone stay as they were: recorders forget none.

use std::time::Duration;

use iothread::{Info, Stats};
use metrics::Unit;

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

    use super::*;

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
}

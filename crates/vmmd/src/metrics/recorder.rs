//! Collects what is counted, and makes a text of it.
//!
//! What commands count is counted as they run: a plane that is built where a [`Recorder`] [sees](Recorder::seen) it keeps the
//! counters that it was given then. So there is no recorder of the whole process, and a plane that none saw counts nowhere.
//! Everything else ([`PlaneHandle::update_metrics`]) is copied for each text anew, to a recorder of its own: what
//! has gone, an iothread or a monitor, is in the next text no more, what comes again begins anew, and clients that make and remove
//! such things leave nothing.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use metrics::{
    Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Level, Metadata, SharedString, Unit,
    with_local_recorder,
};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use tokio::sync::Mutex;
use vmm_control::PlaneHandle;

/// Upper bounds of the histograms' buckets, in seconds: most commands take some microseconds, few wait for something.
const BUCKETS: [f64; 9] = [0.000_01, 0.000_03, 0.000_1, 0.000_3, 0.001, 0.01, 0.1, 1.0, 10.0];

/// After so many samples they are sorted into buckets, if nobody has asked for a text meanwhile. A sample is 16 bytes.
const UPKEEP: u64 = 4096;

/// Collects what commands count.
pub(crate) struct Recorder {
    inner: Arc<PrometheusRecorder>,
    upkeep: Arc<Upkeep>,
}

impl Recorder {
    /// Has seen nothing.
    pub(crate) fn new() -> Self {
        // It is an error only to have no bucket.
        let builder = PrometheusBuilder::new()
            .set_buckets(&BUCKETS)
            .unwrap_or_else(|error| unreachable!("there are buckets: {error}"));
        let inner = Arc::new(builder.build_recorder());
        let handle = inner.handle();
        Self { inner, upkeep: Arc::new(Upkeep::new(move || handle.run_upkeep())) }
    }

    /// Makes something whose counters are kept here.
    pub(crate) fn seen<T>(&self, make: impl FnOnce() -> T) -> T {
        with_local_recorder(self, make)
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").finish_non_exhaustive()
    }
}

impl metrics::Recorder for Recorder {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, description: SharedString) {
        self.inner.describe_counter(name, unit, description);
    }

    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, description: SharedString) {
        self.inner.describe_gauge(name, unit, description);
    }

    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, description: SharedString) {
        self.inner.describe_histogram(name, unit, description);
    }

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        self.inner.register_counter(key, metadata)
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        self.inner.register_gauge(key, metadata)
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        let (recorder, upkeep) = (Arc::clone(&self.inner), Arc::clone(&self.upkeep));
        Histogram::from_arc(Arc::new(Samples { recorder, upkeep, key: key.clone(), kept: OnceLock::new() }))
    }
}

/// A histogram that is in the text from its first sample on: a plane has a hundred commands, and a program uses ten.
struct Samples {
    recorder: Arc<PrometheusRecorder>,
    upkeep: Arc<Upkeep>,
    key: Key,
    kept: OnceLock<Histogram>,
}

impl HistogramFn for Samples {
    fn record(&self, value: f64) {
        const METADATA: Metadata<'_> = Metadata::new(module_path!(), Level::INFO, None);
        let register = || metrics::Recorder::register_histogram(&*self.recorder, &self.key, &METADATA);
        self.kept.get_or_init(register).record(value);
        self.upkeep.sampled();
    }
}

/// Keeps samples from piling up where nobody asks for a text: a client can have as many made as it likes. It is the thread
/// that records that does it, once in a while; a task of its own would take as long from the same threads.
struct Upkeep {
    samples: AtomicU64,
    run: Box<dyn Fn() + Send + Sync>,
}

impl Upkeep {
    fn new(run: impl Fn() + Send + Sync + 'static) -> Self {
        Self { samples: AtomicU64::new(0), run: Box::new(run) }
    }

    fn sampled(&self) {
        if (self.samples.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(UPKEEP) {
            (self.run)();
        }
    }
}

/// What there is to tell of a plane.
#[derive(Debug)]
pub(crate) struct Figures {
    commands: PrometheusHandle,
    plane: PlaneHandle,
    /// Who has it makes a text.
    turn: Mutex<()>,
}

impl Figures {
    /// Of this plane, whose commands `recorder` has seen.
    pub(crate) fn new(recorder: &Recorder, plane: PlaneHandle) -> Self {
        Self { commands: recorder.inner.handle(), plane, turn: Mutex::new(()) }
    }

    /// All of it as of now, in the text format of Prometheus.
    pub(crate) async fn text(&self) -> String {
        let _turn = self.turn.lock().await;
        // Whoever asks again and again has others wait for one text at most.
        tokio::task::yield_now().await;
        let copies = PrometheusBuilder::new().build_recorder();
        with_local_recorder(&copies, || self.plane.update_metrics());
        let mut text = self.commands.render();
        text.push_str(&copies.handle().render());
        text
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    fn record(recorder: &Recorder, command: &'static str) {
        recorder.seen(|| metrics::histogram!("seconds", "command" => command)).record(0.000_02);
    }

    #[test]
    fn a_histogram_has_buckets_and_is_there_from_its_first_sample_on() {
        let recorder = Recorder::new();
        let unused = recorder.seen(|| metrics::histogram!("seconds", "command" => "unused"));
        record(&recorder, "used");
        let text = recorder.inner.handle().render();
        assert!(text.contains("# TYPE seconds histogram\n"), "{text}");
        assert!(text.contains("seconds_bucket{command=\"used\",le=\"0.00001\"} 0\n"), "{text}");
        assert!(text.contains("seconds_bucket{command=\"used\",le=\"0.00003\"} 1\n"), "{text}");
        assert!(text.contains("seconds_count{command=\"used\"} 1\n"), "{text}");
        assert!(!text.contains("unused"), "{text}");
        unused.record(100.0);
        let text = recorder.inner.handle().render();
        assert!(text.contains("seconds_bucket{command=\"unused\",le=\"10\"} 0\n"), "{text}");
        assert!(text.contains("seconds_bucket{command=\"unused\",le=\"+Inf\"} 1\n"), "{text}");
    }

    #[test]
    fn samples_do_not_pile_up_where_nobody_asks() {
        let runs = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&runs);
        let count = move || {
            counted.fetch_add(1, Ordering::Relaxed);
        };
        let recorder = Recorder { upkeep: Arc::new(Upkeep::new(count)), ..Recorder::new() };
        for _ in 0..UPKEEP {
            record(&recorder, "a");
            record(&recorder, "b");
            record(&recorder, "c");
        }
        assert_eq!(runs.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn no_sample_is_lost_to_the_upkeep() {
        let recorder = Recorder::new();
        for _ in 0..2 * UPKEEP + 5 {
            record(&recorder, "a");
        }
        let text = recorder.inner.handle().render();
        let count = format!("seconds_count{{command=\"a\"}} {}\n", 2 * UPKEEP + 5);
        assert!(text.contains(&count), "{text}");
    }

    #[test]
    fn what_nobody_sees_is_counted_nowhere() {
        let recorder = Recorder::new();
        metrics::counter!("commands").increment(1);
        assert_eq!(recorder.inner.handle().render(), "");
    }
}

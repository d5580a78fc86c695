//! What is counted, with a recorder of the test's own.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::support::ask;
use metrics::{
    Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
    with_local_recorder,
};
use qmp_command::{Command, CommandError, Context, Router};

/// Everything that was counted, as `name{label}`.
#[derive(Debug, Default)]
struct Counts(Mutex<BTreeMap<String, Arc<AtomicU64>>>);

/// A histogram that counts its values.
struct Values(Arc<AtomicU64>);

impl HistogramFn for Values {
    fn record(&self, seconds: f64) {
        assert!((0.0..60.0).contains(&seconds));
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Counts {
    fn cell(&self, key: &Key) -> Arc<AtomicU64> {
        let labels: Vec<_> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        let name = format!("{}{{{}}}", key.name(), labels.join(","));
        self.0.lock().unwrap().entry(name).or_default().clone()
    }

    fn get(&self, name: &str) -> u64 {
        self.0.lock().unwrap()[name].load(Ordering::SeqCst)
    }
}

impl Recorder for Counts {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.cell(key))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(Arc::new(Values(self.cell(key))))
    }
}

#[tokio::test]
async fn calls_errors_and_times_are_counted_by_command() {
    let counts = Counts::default();
    let fine = Command::new("fine").handler(async |_: Context, (): ()| Ok(()));
    let fails = Command::new("fails")
        .handler(async |_: Context, (): ()| -> Result<(), _> { Err(CommandError::generic("no")) });
    let panics = Command::new("panics")
        .handler(async |_: Context, (): ()| -> Result<(), CommandError> { panic!("!") });
    // The handles are looked up when the router is built.
    let router =
        with_local_recorder(&counts, || Router::builder().commands([fine, fails, panics]).build().unwrap());
    for name in ["fine", "fine", "fine", "fails", "fails", "panics", "unknown"] {
        ask(&router, name).await;
    }
    for (command, calls, errors) in [("fine", 3, 0), ("fails", 2, 2), ("panics", 1, 1)] {
        assert_eq!(counts.get(&format!("qmp_commands_total{{command={command}}}")), calls);
        assert_eq!(counts.get(&format!("qmp_command_errors_total{{command={command}}}")), errors);
        assert_eq!(counts.get(&format!("qmp_command_seconds{{command={command}}}")), calls);
    }
    let names = counts.0.lock().unwrap().len();
    assert_eq!(names, 9, "a name that does not exist is not a label: clients could make any number of them");
}

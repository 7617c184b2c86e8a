//! What a server tells of itself by its metrics: its transactions, after one of which it may have
//! to die, and the words of other servers that it has heard.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use metrics::{
    Counter, CounterFn, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};

use crate::crash::CrashPoint;

/// The store's histogram that has an entry for each transaction.
const TRANSACTIONS: &str = "muster_storage_transaction_seconds";
/// The store's counter of what it has said to other servers.
const SAID: &str = "muster_storage_words_said_total";
/// The store's counter of what it has heard, by speaker.
const HEARD: &str = "muster_storage_words_heard_total";

/// What is known of one server, over all its lives.
#[derive(Debug, Clone, Default)]
pub(crate) struct Measured {
    pub(crate) point: Arc<CrashPoint>,
    /// How often it has said something to the others.
    said: Arc<AtomicU64>,
    /// How often it has heard something that no server says.
    marks: Arc<AtomicU64>,
}

impl Measured {
    /// How often it has said something to the others.
    pub(crate) fn said(&self) -> u64 {
        self.said.load(Ordering::SeqCst)
    }

    /// How often it has heard something that no server says.
    pub(crate) fn marks(&self) -> u64 {
        self.marks.load(Ordering::SeqCst)
    }
}

/// One use of the histogram.
struct Transaction {
    point: Arc<CrashPoint>,
    name: String,
}

impl HistogramFn for Transaction {
    fn record(&self, _seconds: f64) {
        self.point.transaction(&self.name);
    }
}

/// A counter that only grows.
struct Count(Arc<AtomicU64>);

impl CounterFn for Count {
    fn increment(&self, value: u64) {
        self.0.fetch_add(value, Ordering::SeqCst);
    }

    fn absolute(&self, value: u64) {
        self.0.store(value, Ordering::SeqCst);
    }
}

impl Recorder for Measured {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let count = match key.name() {
            SAID => &self.said,
            HEARD if label(key, "speaker") == "unknown" => &self.marks,
            _ => return Counter::noop(),
        };
        Counter::from_arc(Arc::new(Count(Arc::clone(count))))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        if key.name() != TRANSACTIONS {
            return Histogram::noop();
        }
        Histogram::from_arc(Arc::new(Transaction {
            point: Arc::clone(&self.point),
            name: label(key, "operation").to_owned(),
        }))
    }
}

fn label<'a>(key: &'a Key, name: &str) -> &'a str {
    let mut labels = key.labels();
    let label = labels.find(|label| label.key() == name);
    label.map_or("", |label| label.value())
}

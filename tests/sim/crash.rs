//! Where a server dies: after a transaction, at once or some polls later.
//!
//! The store tells its metrics of each transaction that ended, on the thread that ran it. A
//! recorder of this thread counts them, and unwinds out of the one that was chosen: it is
//! committed, and nothing that follows from it happens.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use metrics::{
    Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};

/// The store's histogram that has an entry for each transaction.
const TRANSACTIONS: &str = "muster_storage_transaction_seconds";

/// The server is dead, or dies now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Crashed;

/// Counts transactions, and says when the server dies.
#[derive(Debug, Default)]
pub(crate) struct CrashPoint {
    /// Transactions that have ended.
    ended: AtomicU32,
    /// The transaction that is the last one, counted as `ended`; 0 for none.
    last: AtomicU32,
    /// Polls of the runtime that are left after it.
    polls: AtomicU32,
    /// The last transaction has ended.
    dying: AtomicBool,
    /// Names of the transactions after which a server died.
    deaths: Mutex<Vec<String>>,
}

impl CrashPoint {
    /// The server dies after this many more transactions, from 1, and this many polls.
    pub(crate) fn arm(&self, transactions: u32, polls: u32) {
        self.polls.store(polls, Ordering::SeqCst);
        self.last
            .store(self.ended() + transactions.max(1), Ordering::SeqCst);
    }

    /// The server lives on.
    pub(crate) fn disarm(&self) {
        self.last.store(0, Ordering::SeqCst);
        self.dying.store(false, Ordering::SeqCst);
    }

    /// How many transactions have ended.
    pub(crate) fn ended(&self) -> u32 {
        self.ended.load(Ordering::SeqCst)
    }

    /// Names of the transactions after which a server died.
    pub(crate) fn deaths(&self) -> Vec<String> {
        self.deaths
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Asked at each poll of the runtime: whether the server is dead now.
    pub(crate) fn poll(&self) -> Result<(), Crashed> {
        if !self.dying.load(Ordering::SeqCst) {
            return Ok(());
        }
        let left = self
            .polls
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                left.checked_sub(1)
            });
        left.map(drop).map_err(|_none_left| Crashed)
    }

    fn transaction(&self, name: &str) {
        let ended = self.ended.fetch_add(1, Ordering::SeqCst) + 1;
        if ended != self.last.load(Ordering::SeqCst) {
            return;
        }
        self.dying.store(true, Ordering::SeqCst);
        self.deaths
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(name.to_owned());
        if self.polls.load(Ordering::SeqCst) == 0 {
            // Past the panic hook: this is not a failure of anybody.
            std::panic::resume_unwind(Box::new(Crashed));
        }
    }
}

/// The metrics of a thread, of which only transactions matter here.
#[derive(Debug, Clone, Default)]
pub(crate) struct Transactions(pub(crate) Arc<CrashPoint>);

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

impl Recorder for Transactions {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::noop()
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        if key.name() != TRANSACTIONS {
            return Histogram::noop();
        }
        let mut labels = key.labels();
        let name = labels.find(|label| label.key() == "operation");
        Histogram::from_arc(Arc::new(Transaction {
            point: Arc::clone(&self.0),
            name: name.map_or_else(String::new, |label| label.value().to_owned()),
        }))
    }
}

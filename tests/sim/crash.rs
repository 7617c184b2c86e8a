//! Where a server dies: after a transaction, at once or some polls later.
//!
//! The store tells its metrics of each transaction that ended, on the thread that ran it. The
//! recorder of a server ([`crate::measured`]) counts them here, which unwinds out of the one that
//! was chosen: it is committed, and nothing that follows from it happens.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

/// The server is dead, or dies now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Crashed;

/// Counts transactions of one server, and says when it dies.
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

    /// A transaction has ended.
    pub(crate) fn transaction(&self, name: &str) {
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

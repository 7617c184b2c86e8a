//! All attempts of this agent.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use muster_core::id::AttemptId;
use tokio::sync::Notify;

use crate::attempt::{Attempt, Past};

/// All attempts of this agent, by id.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    table: Mutex<BTreeMap<AttemptId, Arc<Attempt>>>,
    wake: Arc<Notify>,
    reconciled: AtomicBool,
}

impl Attempts {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<AttemptId, Arc<Attempt>>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The attempt with this id; also one that is being cleaned up.
    pub(crate) fn get(&self, id: AttemptId) -> Option<Arc<Attempt>> {
        self.lock().get(&id).map(Arc::clone)
    }

    /// Adds an attempt unless it is there. Returns it, and whether it is new.
    pub(crate) fn add(&self, id: AttemptId, epoch: i64, past: Past) -> (Arc<Attempt>, bool) {
        let mut table = self.lock();
        if let Some(there) = table.get(&id) {
            return (Arc::clone(there), false);
        }
        let attempt = Arc::new(Attempt::new(id, epoch, past, Arc::clone(&self.wake)));
        table.insert(id, Arc::clone(&attempt));
        (attempt, true)
    }

    /// Removes an attempt that is cleaned up.
    pub(crate) fn remove(&self, id: AttemptId) {
        self.lock().remove(&id);
        self.wake.notify_one();
    }

    /// Every attempt, also those that are being cleaned up.
    pub(crate) fn all(&self) -> Vec<Arc<Attempt>> {
        self.lock().values().cloned().collect()
    }

    /// The attempts that this agent holds a lease of, as far as it knows.
    pub(crate) fn held(&self) -> Vec<Arc<Attempt>> {
        let mut attempts = self.all();
        attempts.retain(|attempt| attempt.end().is_none());
        attempts
    }

    /// Something has changed that is told to the server and belongs to no attempt.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Waits until something is to be reported, or the number of held attempts has changed.
    pub(crate) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Whether the server has said, on the link that is open now, which attempts are live. Without
    /// that another process of this agent may have work that this one knows nothing of.
    pub(crate) fn is_reconciled(&self) -> bool {
        self.reconciled.load(Ordering::Acquire)
    }

    /// The server has said which attempts are live.
    pub(crate) fn reconciled(&self) {
        self.reconciled.store(true, Ordering::Release);
    }

    /// The link is down: what the server said may not hold any more.
    pub(crate) fn unlinked(&self) {
        self.reconciled.store(false, Ordering::Release);
    }
}

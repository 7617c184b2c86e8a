//! Who wants to know what, within this process. A sweep stands behind each of these, so a lost
//! word costs time and nothing else.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use muster_core::id::{AttemptId, ExecutionId};
use muster_proto::v1::LogChunk;
use tokio::sync::{broadcast, watch};

/// How many log chunks a slow reader may be behind before it reads from the store instead.
const LOG_BACKLOG: usize = 64;

/// Changes of executions, the queue and logs.
#[derive(Debug)]
pub(crate) struct Hub {
    executions: Mutex<HashMap<ExecutionId, watch::Sender<u64>>>,
    logs: Mutex<HashMap<AttemptId, broadcast::Sender<LogChunk>>>,
    queue: watch::Sender<Turns>,
    ended: watch::Sender<u64>,
}

/// What has happened to the queue.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Turns {
    /// How often it may have got something that can be placed: something was queued, or an agent came
    /// or takes work again, or a project may begin more.
    pub(crate) queued: u64,
    /// How often a place of a quota or of a concurrency group became free.
    pub(crate) freed: u64,
}

impl Hub {
    pub(crate) fn new() -> Self {
        Self {
            executions: Mutex::default(),
            logs: Mutex::default(),
            queue: watch::Sender::default(),
            ended: watch::Sender::new(0),
        }
    }

    /// Something that waits may be placed, which could not be before or was not there.
    pub(crate) fn queue_changed(&self) {
        self.queue.send_modify(|turns| turns.queued += 1);
    }

    /// What has happened to the queue.
    pub(crate) fn turns(&self) -> Turns {
        *self.queue.borrow()
    }

    /// A quota or a concurrency group may have a place.
    pub(crate) fn place_freed(&self) {
        self.queue.send_modify(|turns| turns.freed += 1);
    }

    /// An agent has room.
    pub(crate) fn room_changed(&self) {
        self.queue.send_modify(|_| ());
    }

    /// Tells when something can be placed.
    pub(crate) fn watch_queue(&self) -> watch::Receiver<Turns> {
        self.queue.subscribe()
    }

    /// An attempt has ended: what it has started may have to end too.
    pub(crate) fn attempt_ended(&self) {
        self.ended.send_modify(|count| *count += 1);
    }

    /// Tells when attempts end.
    pub(crate) fn watch_ended(&self) -> watch::Receiver<u64> {
        self.ended.subscribe()
    }

    /// An execution changed.
    pub(crate) fn execution_changed(&self, id: ExecutionId) {
        let mut all = lock(&self.executions);
        if let Some(sender) = all.get(&id) {
            sender.send_modify(|count| *count += 1);
            if sender.receiver_count() == 0 {
                all.remove(&id);
            }
        }
    }

    /// Tells when an execution changes.
    pub(crate) fn watch_execution(&self, id: ExecutionId) -> watch::Receiver<u64> {
        lock(&self.executions)
            .entry(id)
            .or_insert_with(|| watch::Sender::new(0))
            .subscribe()
    }

    /// New bytes of a log, before they are durable.
    pub(crate) fn log_chunk(&self, attempt: AttemptId, chunk: &LogChunk) {
        let mut all = lock(&self.logs);
        if let Some(sender) = all.get(&attempt)
            && sender.send(chunk.clone()).is_err()
        {
            all.remove(&attempt);
        }
    }

    /// New bytes of a log from now on.
    pub(crate) fn watch_log(&self, attempt: AttemptId) -> broadcast::Receiver<LogChunk> {
        lock(&self.logs)
            .entry(attempt)
            .or_insert_with(|| broadcast::Sender::new(LOG_BACKLOG))
            .subscribe()
    }

    /// Forgets what nobody wants to know any more.
    pub(crate) fn prune(&self) {
        lock(&self.executions).retain(|_, sender| sender.receiver_count() > 0);
        lock(&self.logs).retain(|_, sender| sender.receiver_count() > 0);
    }

    /// Nothing comes any more.
    pub(crate) fn log_ended(&self, attempt: AttemptId) {
        lock(&self.logs).remove(&attempt);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

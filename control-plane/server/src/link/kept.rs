//! Uploads of artifacts that are on their way or broke: each path of an attempt has one turn, and who asks to
//! go on gets what the turn before has left. What nobody asks for goes after a while. All of it is in the
//! memory of this process; what is in the object store belongs to writers, who take it back when dropped.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use muster_core::{execution::Lease, id::AttemptId};
use muster_storage::blob::BlobWriter;
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Most uploads that are kept: they hold little memory, but their bytes are in the object store, or on the disk.
const MOST: usize = 64;
/// How long who goes on waits for a turn that is still busy.
const HANDOVER: Duration = Duration::from_secs(50);

/// What has come of a file so far.
#[derive(Debug)]
pub(crate) struct Partial {
    /// Key of the blob.
    pub(super) key: String,
    pub(super) writer: BlobWriter,
    /// The first bytes of the file.
    pub(super) head: Vec<u8>,
}

/// What an upload is of: an epoch that is over finds nothing.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Name {
    attempt: AttemptId,
    epoch: i64,
    path: String,
}

impl Name {
    fn new(lease: Lease, path: &str) -> Self {
        Self {
            attempt: lease.attempt,
            epoch: lease.epoch,
            path: path.to_owned(),
        }
    }
}

/// The uploads of this process.
#[derive(Debug, Default)]
pub(crate) struct Uploads {
    slots: Mutex<HashMap<Name, Slot>>,
    numbers: AtomicU64,
    /// A turn has ended.
    ended: Notify,
}

#[derive(Debug)]
struct Slot {
    number: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    /// It comes; it is left to another one when told so.
    Coming(CancellationToken),
    /// It broke, and waits; who waits for its time to be over is told when it is taken.
    Kept {
        partial: Box<Partial>,
        _taken: DropGuard,
    },
}

/// The right to write an upload, until it is dropped or another one takes it.
#[derive(Debug)]
pub(crate) struct Turn {
    uploads: Arc<Uploads>,
    name: Name,
    number: u64,
    stop: CancellationToken,
}

impl Uploads {
    /// Begins an upload from its first byte. What was kept of it is forgotten; another one that still comes
    /// goes on, and will not be kept.
    pub(super) fn begin(self: &Arc<Self>, lease: Lease, path: &str) -> Turn {
        let (turn, before) = self.enter(Name::new(lease, path), &mut self.lock());
        drop(before);
        turn
    }

    /// Goes on with an upload, and takes what there is of it: also from one that still comes, because nobody
    /// has noticed yet that its connection is gone.
    pub(super) async fn resume(
        self: &Arc<Self>,
        lease: Lease,
        path: &str,
    ) -> (Turn, Option<Partial>) {
        let name = Name::new(lease, path);
        let deadline = Instant::now() + HANDOVER;
        let mut patient = true;
        loop {
            let ended = self.ended.notified();
            {
                let mut slots = self.lock();
                match slots.get(&name).map(|slot| &slot.state) {
                    Some(State::Coming(stop)) if patient => stop.cancel(),
                    Some(State::Coming(_) | State::Kept { .. }) | None => {
                        return self.enter(name, &mut slots);
                    }
                }
            }
            patient = timeout_at(deadline, ended).await.is_ok();
        }
    }

    fn enter(
        self: &Arc<Self>,
        name: Name,
        slots: &mut HashMap<Name, Slot>,
    ) -> (Turn, Option<Partial>) {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let stop = CancellationToken::new();
        let state = State::Coming(stop.clone());
        let before = slots.insert(name.clone(), Slot { number, state });
        let turn = Turn {
            uploads: Arc::clone(self),
            name,
            number,
            stop,
        };
        let partial = before.and_then(|slot| match slot.state {
            State::Coming(_) => None,
            State::Kept { partial, .. } => Some(*partial),
        });
        (turn, partial)
    }

    /// Forgets what is kept of an attempt.
    pub(super) fn forget(&self, attempt: AttemptId) {
        let mut slots = self.lock();
        // One that comes is not kept any more when it breaks.
        let gone = slots.extract_if(|name, _slot| name.attempt == attempt);
        let gone: Vec<(Name, Slot)> = gone.collect();
        drop(slots);
        drop(gone);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Name, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// Told when somebody else wants to go on.
    pub(crate) fn stop(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Keeps what has come, unless the turn was taken. What is returned lasts as long as that is kept: for
    /// `time`, until `stop`, or until somebody goes on with it.
    pub(super) fn keep(
        self,
        partial: Partial,
        time: Duration,
        stop: CancellationToken,
    ) -> impl Future<Output = ()> + Send + 'static {
        let (uploads, name) = (Arc::clone(&self.uploads), self.name.clone());
        let number = uploads.numbers.fetch_add(1, Ordering::Relaxed);
        let taken = CancellationToken::new();
        let guard = taken.clone().drop_guard();
        let mut slots = uploads.lock();
        if let Some(slot) = slots.get_mut(&name)
            && slot.number == self.number
        {
            let state = State::Kept {
                partial: Box::new(partial),
                _taken: guard,
            };
            *slot = Slot { number, state };
        }
        let too_many = one_too_many(&slots).and_then(|least| slots.remove(&least));
        drop(slots);
        drop(too_many);
        drop(self);
        async move {
            // A server that stops keeps nothing, and neither does the object store.
            tokio::select! {
                () = tokio::time::sleep(time) => {}
                () = stop.cancelled() => {}
                () = taken.cancelled() => return,
            }
            let mut slots = uploads.lock();
            let is_it = slots.get(&name).is_some_and(|slot| slot.number == number);
            let gone = is_it.then(|| slots.remove(&name)).flatten();
            drop(slots);
            drop(gone);
        }
    }
}

/// The one that costs least to send again, when there are too many; of some of one size the oldest. So many small
/// files of one project do not take the place of a large one of another.
fn one_too_many(slots: &HashMap<Name, Slot>) -> Option<Name> {
    let kept = slots.iter().filter_map(|(name, slot)| match &slot.state {
        State::Coming(_) => None,
        State::Kept { partial, .. } => Some((partial.writer.size(), slot.number, name)),
    });
    let kept: Vec<(u64, u64, &Name)> = kept.collect();
    let is_too_many = kept.len() > MOST;
    let least = kept
        .into_iter()
        .min_by_key(|(size, number, _)| (*size, *number));
    least
        .filter(|_| is_too_many)
        .map(|(_, _, name)| name.clone())
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut slots = self.uploads.lock();
        // One that is kept has a number of its own.
        let number = slots.get(&self.name).map(|slot| slot.number);
        if number == Some(self.number) {
            slots.remove(&self.name);
        }
        drop(slots);
        self.uploads.ended.notify_waiters();
    }
}

//! What this agent owns, on disk: which attempts it was given, and for which of them something may
//! have been made. Written before a backend makes anything, so that an agent that comes back never
//! starts for a second time what it has begun, whatever is left of it.
//!
//! It says nothing of how attempts went: log and result are the conductor's until the server has
//! them.

mod file;
mod record;

use std::{
    collections::{BTreeMap, HashSet},
    fmt::Display,
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use muster_core::id::AttemptId;
use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{MissedTickBehavior, interval},
};

pub(crate) use self::record::Entry;
use self::{
    file::{Log, Trouble},
    record::{Record, Told, VERSION},
};
use crate::{Error, context::Context};

/// How often a disk that could not be written is tried again.
const AGAIN: Duration = Duration::from_secs(2);
/// Lines that may be added before the file is written anew, beside four for each attempt in it.
const SLACK: usize = 256;

/// Why something was not written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The disk is full, or can not be written for another reason; in words.
    Unwritable(String),
    /// An earlier process, or another one, has begun it.
    BegunBefore,
    /// A newer process has the journal: this one must begin nothing any more.
    TakenOver,
}

/// The journal.
#[derive(Debug)]
pub(crate) struct Journal {
    state: Mutex<State>,
    /// Number of the last change that is durable.
    synced: Mutex<u64>,
    condition: watch::Sender<Condition>,
}

/// Whether it can be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Condition {
    /// It can.
    Writable,
    /// Not now, and why.
    Failing(String),
    /// Never again by this process.
    TakenOver,
}

#[derive(Debug)]
struct State {
    entries: BTreeMap<AttemptId, Entry>,
    /// What this process has begun.
    ours: HashSet<AttemptId>,
    /// None when nothing outlives this process.
    log: Option<Log>,
    /// Lines in the file.
    lines: usize,
    /// Number of the last change.
    changes: u64,
}

impl State {
    /// The file as it should be.
    fn text(&self) -> Vec<u8> {
        text(&self.entries)
    }
}

fn text(entries: &BTreeMap<AttemptId, Entry>) -> Vec<u8> {
    let mut text = Vec::new();
    Record::Journal { version: VERSION }.write(&mut text);
    for entry in entries.values() {
        Record::of(*entry).write(&mut text);
    }
    text
}

fn read(bytes: &[u8]) -> io::Result<Told> {
    let told = Told::read(bytes);
    if let Some(version) = told.newer {
        let text =
            format!("it has version {version}; run an agent that is not older than its last one");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    if told.damaged > 0 {
        tracing::warn!(
            lines = told.damaged,
            "lines of the journal are damaged and left out"
        );
    }
    Ok(told)
}

impl Journal {
    /// A journal of attempts that end with this process.
    pub(crate) fn volatile() -> Self {
        Self::new(None, BTreeMap::new())
    }

    fn new(log: Option<Log>, entries: BTreeMap<AttemptId, Entry>) -> Self {
        let lines = entries.len() + 1;
        Self {
            state: Mutex::new(State {
                entries,
                ours: HashSet::new(),
                log,
                lines,
                changes: 0,
            }),
            synced: Mutex::new(0),
            condition: watch::Sender::new(Condition::Writable),
        }
    }

    /// Opens the journal at a path, or makes it. From now on no earlier process can write to it.
    /// That it can not be written is no error: what runs can go on.
    ///
    /// # Errors
    ///
    /// When its directory can not be made, or what it holds can not be read.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::File {
            action: "use the journal",
            path: path.to_owned(),
            source,
        };
        let mut log = Log::open(path).map_err(failed)?;
        let (told, replaced) = log
            .take_over(|bytes| read(&bytes), |told| text(&told.entries))
            .map_err(failed)?;
        let journal = Self::new(Some(log), told.entries);
        if let Err(error) = replaced {
            journal.fails(&error);
        }
        Ok(journal)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything in it.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.lock().entries.values().copied().collect()
    }

    /// Is told when it can not be written any more, and when it can again.
    pub(crate) fn condition(&self) -> watch::Receiver<Condition> {
        self.condition.subscribe()
    }

    /// Why it can not be written, if it can not.
    pub(crate) fn failing(&self) -> Option<String> {
        match &*self.condition.borrow() {
            Condition::Writable => None,
            Condition::Failing(why) => Some(why.clone()),
            Condition::TakenOver => Some("a newer process has the journal".to_owned()),
        }
    }

    /// An attempt was given to this agent. Survives the end of this process, not that of the
    /// machine: what is lost then was never begun.
    pub(crate) fn receive(&self, entry: Entry) -> Result<(), Failure> {
        let mut state = self.lock();
        if state.entries.contains_key(&entry.attempt) {
            return self.writable();
        }
        let entry = Entry {
            begun: false,
            ..entry
        };
        self.put(&mut state, entry)
    }

    /// Something will be made for an attempt. When this returns, that is known for ever.
    pub(crate) fn begin(&self, entry: Entry) -> Result<(), Failure> {
        let change = {
            let mut state = self.lock();
            if state.entries.get(&entry.attempt).is_some_and(|e| e.begun) {
                let ours = state.ours.contains(&entry.attempt);
                return if ours {
                    Ok(())
                } else {
                    Err(Failure::BegunBefore)
                };
            }
            let entry = Entry {
                begun: true,
                ..entry
            };
            self.put(&mut state, entry)?;
            state.changes
        };
        self.sync(change)?;
        // Not before: what is not known for ever is begun by nobody.
        self.lock().ours.insert(entry.attempt);
        Ok(())
    }

    /// An attempt that the backend has: it has begun, whoever did it.
    pub(crate) fn found(&self, entry: Entry) -> Result<(), Failure> {
        let mut state = self.lock();
        let entry = Entry {
            begun: true,
            ..entry
        };
        if state.entries.get(&entry.attempt) == Some(&entry) {
            return Ok(());
        }
        self.put(&mut state, entry)
    }

    /// The server has said anew when an attempt is to be killed.
    pub(crate) fn update(&self, entry: Entry) -> Result<(), Failure> {
        let mut state = self.lock();
        match state.entries.get(&entry.attempt).copied() {
            Some(held) if held.stop_after != entry.stop_after => {
                let stop_after = entry.stop_after;
                self.put(&mut state, Entry { stop_after, ..held })
            }
            _ => Ok(()),
        }
    }

    /// Nothing of an attempt is left.
    pub(crate) fn forget(&self, attempt: AttemptId) -> Result<(), Failure> {
        let mut state = self.lock();
        state.ours.remove(&attempt);
        if state.entries.remove(&attempt).is_none() {
            return Ok(());
        }
        self.write(&mut state, Record::Forgotten { attempt })
    }

    fn put(&self, state: &mut State, entry: Entry) -> Result<(), Failure> {
        self.write(state, Record::of(entry))?;
        state.entries.insert(entry.attempt, entry);
        Ok(())
    }

    fn writable(&self) -> Result<(), Failure> {
        match &*self.condition.borrow() {
            Condition::Writable => Ok(()),
            Condition::Failing(why) => Err(Failure::Unwritable(why.clone())),
            Condition::TakenOver => Err(Failure::TakenOver),
        }
    }

    /// Adds a line, or writes the file anew when it has grown too long.
    fn write(&self, state: &mut State, record: Record) -> Result<(), Failure> {
        // After a failure the end of the file is in doubt: only a new file helps.
        self.writable()?;
        state.changes += 1;
        let long = state.lines > state.entries.len() * 4 + SLACK;
        let Some(log) = &mut state.log else {
            return Ok(());
        };
        let mut line = Vec::new();
        record.write(&mut line);
        log.append(&line)
            .map_err(|trouble| self.troubled(trouble))?;
        state.lines += 1;
        if long {
            self.compact(state, Some(record))?;
        }
        Ok(())
    }

    /// Writes the file anew, with an entry that is about to be put.
    fn compact(&self, state: &mut State, last: Option<Record>) -> Result<(), Failure> {
        let mut text = state.text();
        let lines = state.entries.len() + 1 + usize::from(last.is_some());
        if let Some(last) = last {
            last.write(&mut text);
        }
        if let Some(log) = &mut state.log {
            log.rewrite(&text)
                .map_err(|trouble| self.troubled(trouble))?;
        }
        state.lines = lines;
        Ok(())
    }

    /// Makes changes durable up to `change`; who waits meanwhile is served by the same call.
    fn sync(&self, change: u64) -> Result<(), Failure> {
        let mut synced = self.synced.lock().unwrap_or_else(PoisonError::into_inner);
        if *synced >= change {
            return Ok(());
        }
        let (latest, file) = {
            let state = self.lock();
            (state.changes, state.log.as_ref().and_then(Log::file))
        };
        if let Some(file) = file {
            file.sync_data()
                .map_err(|error| self.troubled(error.into()))?;
        }
        *synced = latest;
        Ok(())
    }

    fn troubled(&self, trouble: Trouble) -> Failure {
        match trouble {
            Trouble::Io(error) => Failure::Unwritable(self.fails(&error)),
            Trouble::TakenOver => {
                self.condition.send_replace(Condition::TakenOver);
                Failure::TakenOver
            }
        }
    }

    /// It can not be written.
    fn fails(&self, error: &dyn Display) -> String {
        let why = error.to_string();
        let news = self.condition.send_if_modified(|condition| {
            let news = *condition == Condition::Writable;
            if news {
                *condition = Condition::Failing(why.clone());
            }
            news
        });
        if news {
            tracing::warn!(
                why,
                "the journal can not be written: what runs goes on, and nothing new is begun until it can"
            );
        }
        gauge(false);
        why
    }

    /// Tries whether it can be written again.
    fn repair(&self) -> Result<(), Failure> {
        let mut state = self.lock();
        let own = state.log.as_ref().is_none_or(Log::is_own);
        if own {
            self.compact(&mut state, None)?;
        } else if let Some(log) = &mut state.log {
            // What was read at the start may be old by now.
            let taken = log.take_over(|bytes| read(&bytes), |told| text(&told.entries));
            let (told, replaced) = taken.map_err(|error| self.troubled(error.into()))?;
            replaced.map_err(|error| self.troubled(error.into()))?;
            state.lines = told.entries.len() + 1;
            state.entries = told.entries;
        }
        tracing::info!("the journal can be written again");
        self.condition.send_replace(Condition::Writable);
        gauge(true);
        Ok(())
    }
}

fn gauge(writable: bool) {
    metrics::gauge!("muster_agent_journal_writable").set(if writable { 1.0 } else { 0.0 });
}

/// Tries again and again to write a journal that could not be written. Returns when a newer
/// process has it.
pub(crate) async fn keep(context: &Context) -> Error {
    let mut condition = context.journal.condition();
    let mut ticks = interval(AGAIN);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    gauge(context.journal.failing().is_none());
    loop {
        let now = condition.borrow_and_update().clone();
        // Wakes the link: how much work can be taken has changed.
        context.attempts.wake();
        match now {
            Condition::TakenOver => return Error::Superseded,
            Condition::Writable => {
                // The sender lives in the journal.
                let _changed = condition.changed().await;
            }
            Condition::Failing(_) => {
                ticks.reset();
                ticks.tick().await;
                let journal = Arc::clone(&context.journal);
                if let Err(error) = blocking(move || journal.repair()).await {
                    tracing::debug!(?error, "the journal can still not be written");
                }
            }
        }
    }
}

/// Does what may wait for a disk.
pub(crate) async fn blocking(
    work: impl FnOnce() -> Result<(), Failure> + Send + 'static,
) -> Result<(), Failure> {
    spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(Failure::Unwritable(error.to_string())))
}

#[cfg(test)]
mod tests;

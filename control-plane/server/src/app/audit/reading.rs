//! Who reads what runs left behind, for the audit log: the first time in an hour for each execution,
//! token and kind. It is written while the reader is served already: reading has to go on when the
//! database can not be written to, for that is when people look.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use muster_core::id::{ExecutionId, TokenId};
use muster_storage::{
    audit::{NewAuditEvent, Outcome},
    execution::Execution,
    project::Project,
};
use tokio::sync::Semaphore;

use crate::app::{App, Caller};

/// How long the hour of a reader is, in seconds.
const HOUR: i64 = 3600;
/// Most that are remembered, at about 50 bytes each. With more in an hour all are forgotten and may be
/// noted once more: an event too many is better than one too few.
const MOST_REMEMBERED: usize = 100_000;
/// Most that wait for the database.
const MOST_WAITING: usize = 1000;

/// What is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::app) enum Reading {
    /// A log.
    Log,
    /// A single artifact.
    Artifact,
    /// Artifacts as an archive.
    Archive,
}

type Key = (ExecutionId, TokenId, Reading);

/// Who was noted to read what.
#[derive(Debug)]
pub(in crate::app) struct Readings {
    noted: Mutex<Noted>,
    waiting: Arc<Semaphore>,
}

/// What was noted in an hour.
#[derive(Debug, Default)]
struct Noted {
    hour: i64,
    keys: HashSet<Key>,
}

impl Default for Readings {
    fn default() -> Self {
        Self {
            noted: Mutex::default(),
            waiting: Arc::new(Semaphore::new(MOST_WAITING)),
        }
    }
}

impl Noted {
    /// Whether it is the first time in this hour.
    fn begin(&mut self, key: Key, now: Timestamp) -> bool {
        let hour = now.as_second().div_euclid(HOUR);
        if self.hour != hour || self.keys.len() >= MOST_REMEMBERED {
            self.hour = hour;
            self.keys.clear();
        }
        self.keys.insert(key)
    }
}

impl Readings {
    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It could not be written: the next time is the first one again.
    fn failed(&self, key: &Key) {
        self.noted().keys.remove(key);
        metrics::counter!(crate::metrics::AUDIT_FAILED).increment(1);
    }
}

impl App {
    /// Notes that somebody reads what an execution left behind; `file` is the artifact, if it is one.
    pub(in crate::app) fn note_reading(
        &self,
        caller: &Caller,
        project: &Project,
        execution: &Execution,
        reading: Reading,
        file: Option<&str>,
    ) {
        let key = (execution.id, caller.token, reading);
        let now = self.clock.now();
        if !self.config.audit_reads || !self.readings.noted().begin(key, now) {
            return;
        }
        let Ok(place) = Arc::clone(&self.readings.waiting).try_acquire_owned() else {
            self.readings.failed(&key);
            tracing::warn!("too many readers wait for the audit log: one is not in it");
            return;
        };
        let mut note = caller.call.note();
        note.resource = format!("projects/{}/executions/{}", project.name, execution.id);
        let name = execution.display_name.clone();
        note.inputs.insert("execution".to_owned(), name);
        if let Some(file) = file {
            note.inputs.insert("first_file".to_owned(), file.to_owned());
        }
        let event = NewAuditEvent {
            note,
            project: Some(project.id),
            before: None,
            outcome: Outcome::Done,
            reason: String::new(),
        };
        let (store, readings) = (self.store.clone(), Arc::clone(&self.readings));
        self.tasks.spawn(async move {
            let _place = place;
            if let Err(error) = store.add_audit_event(event).await {
                readings.failed(&key);
                tracing::warn!(%error, "a reader is not in the audit log");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    fn key() -> Key {
        (ExecutionId::generate(), TokenId::generate(), Reading::Log)
    }

    fn noon() -> Timestamp {
        "2026-11-28T12:00:00Z".parse().expect("a time")
    }

    #[test]
    fn a_reader_is_noted_once_in_an_hour_for_each_execution_and_kind() {
        let (mut noted, now, log) = (Noted::default(), noon(), key());
        assert!(noted.begin(log, now));
        assert!(!noted.begin(log, now + SignedDuration::from_mins(59)));
        assert!(noted.begin((log.0, log.1, Reading::Archive), now));
        assert!(noted.begin((log.0, TokenId::generate(), Reading::Log), now));
        assert!(noted.begin((ExecutionId::generate(), log.1, Reading::Log), now));
        assert!(noted.begin(log, now + SignedDuration::from_mins(60)));
        assert_eq!(noted.keys.len(), 1, "what was before the hour is forgotten");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut noted = Noted::default();
        for _ in 0..=MOST_REMEMBERED {
            assert!(noted.begin(key(), noon()));
        }
        assert_eq!(noted.keys.len(), 1);
    }

    #[test]
    fn what_could_not_be_written_is_tried_again_with_the_next_reading() {
        let (readings, key) = (Readings::default(), key());
        assert!(readings.noted().begin(key, noon()));
        readings.failed(&key);
        assert!(readings.noted().begin(key, noon()));
    }
}

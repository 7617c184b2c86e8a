//! One line of the journal: a checksum, then what happened to one attempt as JSON. A line that was
//! cut short, or is not what was written, is told apart from one that is whole.

use std::{collections::BTreeMap, time::Duration};

use muster_core::id::AttemptId;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::convert;

/// Version of the lines.
pub(super) const VERSION: u32 = 1;
/// Bytes of the checksum; enough to tell a torn line, which is no attack.
const CHECKSUM: usize = 8;

/// What the journal holds of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Entry {
    /// The attempt.
    pub(crate) attempt: AttemptId,
    /// Epoch of its lease.
    pub(crate) epoch: i64,
    /// Kill it when its lease could not be renewed for this long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) stop_after: Option<Duration>,
    /// A pod or a process may have been made for it.
    #[serde(skip)]
    pub(crate) begun: bool,
}

/// One line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Record {
    /// The first line.
    Journal { version: u32 },
    /// It is this agent's; nothing was made for it.
    Received(Entry),
    /// From now on something may have been made for it.
    Begun(Entry),
    /// Nothing of it is left.
    Forgotten { attempt: AttemptId },
}

impl Record {
    /// The line that holds an entry as it is.
    pub(super) const fn of(entry: Entry) -> Self {
        if entry.begun {
            Self::Begun(entry)
        } else {
            Self::Received(entry)
        }
    }

    /// Adds it, as a line, to `text`.
    pub(super) fn write(self, text: &mut Vec<u8>) {
        // Ids, numbers and durations are always JSON.
        let json = serde_json::to_vec(&self).unwrap_or_default();
        text.extend_from_slice(checksum(&json).as_bytes());
        text.push(b' ');
        text.extend_from_slice(&json);
        text.push(b'\n');
    }

    fn read(line: &[u8]) -> Option<Self> {
        let (sum, json) = line.split_at_checked(CHECKSUM * 2)?;
        let json = json.strip_prefix(b" ")?;
        (sum == checksum(json).as_bytes())
            .then(|| serde_json::from_slice(json).ok())
            .flatten()
    }
}

fn checksum(json: &[u8]) -> String {
    let hash = Sha256::digest(json);
    convert::hex(hash.get(..CHECKSUM).unwrap_or_default())
}

/// What a file says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// By attempt.
    pub(super) entries: BTreeMap<AttemptId, Entry>,
    /// Lines before the last one that are not whole.
    pub(super) damaged: usize,
    /// It was written by a newer version, which may mean more by it.
    pub(super) newer: Option<u32>,
}

impl Told {
    /// Reads a file. What is behind the last end of a line was never finished.
    pub(super) fn read(bytes: &[u8]) -> Self {
        let mut told = Self::default();
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').unwrap_or(0);
        let lines = bytes
            .get(..whole)
            .unwrap_or_default()
            .split(|b| *b == b'\n');
        for line in lines.filter(|line| !line.is_empty()) {
            match Record::read(line) {
                Some(record) => told.take(record),
                None => told.damaged += 1,
            }
        }
        told
    }

    fn take(&mut self, record: Record) {
        match record {
            Record::Journal { version } => {
                self.newer = (version > VERSION).then_some(version);
            }
            Record::Received(entry) => self.put(entry),
            Record::Begun(entry) => self.put(Entry {
                begun: true,
                ..entry
            }),
            Record::Forgotten { attempt } => {
                self.entries.remove(&attempt);
            }
        }
    }

    fn put(&mut self, entry: Entry) {
        self.entries.insert(entry.attempt, entry);
    }
}

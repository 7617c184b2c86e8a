//! How long executions are kept: pure rules over what was chosen, the clock and what is there. Who
//! chose, server, project or workflow, is decided where the choices are put together; how something
//! is deleted is not known here.
//!
//! A unit is an execution that somebody asked for, with all that it has started: workers, services
//! and members of its suite live and die with it, and count with their bytes.

pub mod text;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::execution::State;

/// How long executions are kept when nobody says: long enough for a release that went wrong to be
/// compared with the one before, short enough that a disk does not fill up unseen.
pub const MAX_AGE_MS: u64 = 30 * 24 * 3600 * 1000;
/// How many executions of each workflow are kept when nobody says: a workflow that runs for each change
/// has a week or two in it, and no workflow takes the place of all others.
pub const MAX_COUNT: u64 = 1000;

/// What was chosen; what is not said is left to the level below. 0 stands for no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Retention {
    /// How long an execution is kept after its end, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_age_ms: Option<u64>,
    /// How many executions of a workflow are kept, the newest ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_count: Option<u64>,
    /// How many bytes the logs and artifacts of a workflow may have together, those of the newest
    /// executions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u64>,
    /// How long the log is kept, when that is shorter, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_age_ms: Option<u64>,
    /// How long artifacts are kept, when that is shorter, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifact_age_ms: Option<u64>,
}

impl Retention {
    /// What holds when nobody says anything.
    pub const DEFAULT: Self = Self {
        max_age_ms: Some(MAX_AGE_MS),
        max_count: Some(MAX_COUNT),
        max_bytes: Some(0),
        log_age_ms: Some(0),
        artifact_age_ms: Some(0),
    };

    /// This choice where it says something, and `below` where it does not.
    #[must_use]
    pub fn over(self, below: Self) -> Self {
        Self {
            max_age_ms: self.max_age_ms.or(below.max_age_ms),
            max_count: self.max_count.or(below.max_count),
            max_bytes: self.max_bytes.or(below.max_bytes),
            log_age_ms: self.log_age_ms.or(below.log_age_ms),
            artifact_age_ms: self.artifact_age_ms.or(below.artifact_age_ms),
        }
    }
}

/// One execution with all that it has started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// State of the execution itself.
    pub state: State,
    /// When the last of all of them ended; `None` while one has not.
    pub finish_time: Option<Timestamp>,
    /// Bytes of their logs that are there.
    pub log_bytes: u64,
    /// Bytes of their artifacts that are there.
    pub artifact_bytes: u64,
    /// One of them is pinned.
    pub pinned: bool,
    /// Their logs were not deleted yet.
    pub has_logs: bool,
    /// Their artifacts were not deleted yet.
    pub has_artifacts: bool,
}

/// Why a unit is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Keep {
    /// Something of it has not ended.
    Unfinished,
    /// Its project is under hold.
    Held,
    /// Somebody has pinned it.
    Pinned,
    /// It is the newest one of its workflow that has ended.
    Newest,
    /// It is the last one of its workflow that passed.
    LastPass,
    /// It is the last one of its workflow that failed, also by a timeout.
    LastFailure,
    /// No limit is reached.
    Within,
}

/// Which limit a unit is beyond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Limit {
    /// It ended too long ago.
    Age,
    /// There are enough newer ones.
    Count,
    /// Newer ones have all the bytes that there are to be.
    Size,
}

impl Limit {
    /// The name that is shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Age => "age",
            Self::Count => "count",
            Self::Size => "size",
        }
    }
}

/// What becomes of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// All of it stays.
    Keep(Keep),
    /// Its row stays, some of what hangs on it goes.
    Trim {
        /// The logs go.
        logs: bool,
        /// The artifacts go.
        artifacts: bool,
    },
    /// All of it goes.
    Delete(Limit),
}

/// Judges the units of one workflow, the newest first.
///
/// # Examples
///
/// ```
/// use muster_core::execution::State;
/// use muster_core::retention::{Judge, Keep, Limit, Retention, Unit, Verdict};
///
/// let now = jiff::Timestamp::from_second(1_000_000_000)?;
/// let unit = Unit {
///     state: State::Passed,
///     finish_time: Some(jiff::Timestamp::from_second(1)?),
///     log_bytes: 1,
///     artifact_bytes: 0,
///     pinned: false,
///     has_logs: true,
///     has_artifacts: true,
/// };
/// let mut judge = Judge::new(Retention::DEFAULT, false, now);
/// assert_eq!(judge.judge(&unit), Verdict::Keep(Keep::Newest));
/// assert_eq!(judge.judge(&unit), Verdict::Delete(Limit::Age));
/// # Ok::<(), jiff::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Judge {
    policy: Retention,
    held: bool,
    now: Timestamp,
    seen: u64,
    bytes: u64,
    newest: bool,
    passed: bool,
    failed: bool,
}

impl Judge {
    /// A judge under a choice, of which [`Retention::DEFAULT`] fills what is not said; `held` when the
    /// project is under hold.
    #[must_use]
    pub fn new(policy: Retention, held: bool, now: Timestamp) -> Self {
        Self {
            policy: policy.over(Retention::DEFAULT),
            held,
            now,
            seen: 0,
            bytes: 0,
            newest: false,
            passed: false,
            failed: false,
        }
    }

    /// Says what becomes of the next unit.
    pub fn judge(&mut self, unit: &Unit) -> Verdict {
        let bytes = unit.log_bytes.saturating_add(unit.artifact_bytes);
        self.seen = self.seen.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
        let Some(finish_time) = unit.finish_time else {
            return Verdict::Keep(Keep::Unfinished);
        };
        let newest = !std::mem::replace(&mut self.newest, true);
        let is_pass = unit.state == State::Passed;
        let is_failure = matches!(unit.state, State::Failed | State::TimedOut);
        let last_pass = is_pass && !std::mem::replace(&mut self.passed, true);
        let last_failure = is_failure && !std::mem::replace(&mut self.failed, true);
        for (holds, keep) in [
            (!unit.state.is_terminal(), Keep::Unfinished),
            (self.held, Keep::Held),
            (unit.pinned, Keep::Pinned),
            (newest, Keep::Newest),
            (last_pass, Keep::LastPass),
            (last_failure, Keep::LastFailure),
        ] {
            if holds {
                return Verdict::Keep(keep);
            }
        }
        let age = self.now.duration_since(finish_time).as_millis();
        let age = u64::try_from(age).unwrap_or(0);
        let beyond =
            |limit: Option<u64>, value: u64| limit.is_some_and(|limit| limit > 0 && value > limit);
        if beyond(self.policy.max_age_ms, age) {
            return Verdict::Delete(Limit::Age);
        }
        if beyond(self.policy.max_count, self.seen) {
            return Verdict::Delete(Limit::Count);
        }
        if beyond(self.policy.max_bytes, self.bytes) {
            return Verdict::Delete(Limit::Size);
        }
        let logs = unit.has_logs && beyond(self.policy.log_age_ms, age);
        let artifacts = unit.has_artifacts && beyond(self.policy.artifact_age_ms, age);
        match logs || artifacts {
            true => Verdict::Trim { logs, artifacts },
            false => Verdict::Keep(Keep::Within),
        }
    }
}

#[cfg(test)]
mod tests;

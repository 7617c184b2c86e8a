//! An attempt and its lease: whether it may begin, when it has to be killed, what the journal holds
//! of it.

use std::time::Duration;

use muster_core::policy::DISCONNECTED;
use tokio::time::Instant;

use super::{Attempt, End, Late, Past, Stage, State};
use crate::{journal::Entry, lease::Leases};

impl Attempt {
    /// What the journal holds of it.
    pub(crate) fn entry(&self) -> Entry {
        Entry {
            attempt: self.id,
            epoch: self.epoch,
            stop_after: self.lock().stop_after,
            begun: false,
        }
    }

    /// What it has behind it.
    pub(crate) fn past(&self) -> Past {
        self.lock().past
    }

    /// The backend has it after all.
    pub(crate) fn found(&self) {
        self.update(|state| {
            state.past = Past::Found;
            false
        });
    }

    /// From now on there may be something to kill.
    pub(crate) fn begun(&self) {
        self.update(|state| {
            state.begun = true;
            false
        });
    }

    /// A renewal that was sent then, and named it, was answered.
    pub(crate) fn prove(&self, sent: Instant) {
        self.update(|state| {
            state.proven = state.proven.max(Some(sent));
            false
        });
    }

    /// When its lease was last proven to this process.
    pub(crate) fn proven(&self) -> Option<Instant> {
        self.lock().proven
    }

    /// The server's wish for how long it may run without a renewal; none for ever.
    pub(super) fn stop_after(&self, wish: Option<&prost_types::Duration>) {
        let wish = wish.and_then(|wish| Duration::try_from(*wish).ok());
        self.update(|state| {
            state.stop_after = wish;
            false
        });
    }

    /// The same, as the journal has it.
    pub(crate) fn recall(&self, entry: &Entry) {
        self.lock().stop_after = entry.stop_after;
    }

    /// When it has to be killed unless its lease is renewed before. Not when its result is here,
    /// which waits for the server.
    pub(crate) fn expires_at(&self, leases: &Leases) -> Option<Instant> {
        let state = self.lock();
        let limit = state.limit(leases).filter(|_| state.end.is_none())?;
        leases.silent_since(state.proven).checked_add(limit)
    }

    /// It is lost if its time is over; says whether it was that.
    pub(crate) fn expire(&self, leases: &Leases) -> bool {
        let mut expired = false;
        self.update(|state| {
            let Some(limit) = state.limit(leases) else {
                return false;
            };
            expired = leases.silent_since(state.proven).elapsed() >= limit;
            if expired {
                state.stage = Stage::Lost;
                DISCONNECTED.clone_into(&mut state.reason);
                state.message = format!(
                    "killed: its lease could not be renewed for {}s",
                    limit.as_secs()
                );
            }
            expired
        });
        expired
    }

    /// The server says that its lease is lost. What runs is killed. A result that is here is told
    /// once more, though it does not count: the server keeps it for people. Its log can not follow.
    pub(crate) fn lease_lost(&self) {
        self.update(|state| {
            match (&state.stage, state.late) {
                (Stage::Completed(_), Late::No) => {
                    state.late = Late::Waits;
                    state.log_is_over = true;
                    return true;
                }
                // Its report is on its way to the stream.
                (Stage::Completed(_), Late::Waits) => {}
                _ => state.end = Some(End::Killed),
            }
            false
        });
    }

    /// It is given back, if the server was told nothing of it yet; else it is lost.
    pub(crate) fn decline(&self, reason: &'static str, message: &str) {
        let mut told = false;
        self.update(|state| {
            told = state.sequence > 0;
            if !told {
                state.declined = Some((reason, message.to_owned()));
            }
            false
        });
        if told {
            self.lost(reason, message);
        }
    }

    /// Why it is to be given back, if it is.
    pub(crate) fn declined(&self) -> Option<(&'static str, String)> {
        let state = self.lock();
        state.declined.clone().filter(|_| state.end.is_none())
    }
}

impl State {
    /// How long it may run without a proof of its lease; `None` when there is no limit, nothing to
    /// kill, or its result is here.
    fn limit(&self, leases: &Leases) -> Option<Duration> {
        let runs = matches!(self.stage, Stage::Preparing | Stage::Progress(_));
        let wish = self.stop_after.filter(|_| runs && self.begun)?;
        Some(leases.limit(wish))
    }
}

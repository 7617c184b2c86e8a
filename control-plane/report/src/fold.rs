//! Several tellings of one test become one: frameworks that write each try as a case of its own, and
//! the reports of parallel shards. What makes them the same test is in `identity`.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::case::{Case, State};
use crate::identity::Identity;
use crate::limits::Limits;

impl Case {
    /// Takes in what is told of the same test later.
    ///
    /// - The last telling decides state, message, duration and the rest, except that one that was
    ///   skipped gives way to one that ran: in another shard, most often.
    /// - It is flaky if one of them is, or if it passed after one that did not.
    /// - Tries are added up; those of a skipped one do not count beside one that ran.
    /// - Attachments of all are kept, up to [`Limits::attachments`].
    ///
    /// Tellings that name different files are different tests under one name, as Jest writes them
    /// from two files with the same titles. They can not be told apart later, so the worst state
    /// wins, and they are not flaky for it.
    pub fn take_in(&mut self, later: Self, limits: &Limits) {
        let different = matches!((&self.file, &later.file), (Some(a), Some(b)) if a != b);
        let (ran_before, runs) = (self.state != State::Skipped, later.state != State::Skipped);
        let flaky = self.flaky
            || later.flaky
            || (!different && self.state.is_bad() && later.state == State::Passed);
        let tries = match (ran_before, runs) {
            (true, true) => self.tries.saturating_add(later.tries),
            (false, true) => later.tries,
            (_, false) => self.tries,
        };
        let replaces = if different {
            rank(later.state) > rank(self.state)
        } else {
            runs || !ran_before
        };
        let mut other = later;
        if replaces {
            std::mem::swap(self, &mut other);
            // The earlier ones stay in front.
            std::mem::swap(&mut self.attachments, &mut other.attachments);
        }
        self.flaky = flaky && self.state == State::Passed;
        self.tries = tries;
        for path in other.attachments {
            if self.attachments.len() >= limits.attachments {
                break;
            }
            if !self.attachments.contains(&path) {
                self.attachments.push(path);
            }
        }
    }
}

/// Folds cases of the same identity, in the order in which each was told first. Reports of several
/// shards are folded by giving their cases one after another, in the order in which they were run.
#[must_use]
pub fn fold(cases: impl IntoIterator<Item = Case>, limits: &Limits) -> Vec<Case> {
    let mut folded: Vec<Case> = Vec::new();
    let mut places: HashMap<Identity, usize> = HashMap::new();
    for case in cases {
        match places.entry(case.identity()) {
            Entry::Occupied(place) => {
                if let Some(earlier) = folded.get_mut(*place.get()) {
                    earlier.take_in(case, limits);
                }
            }
            Entry::Vacant(place) => {
                place.insert(folded.len());
                folded.push(case);
            }
        }
    }
    folded
}

/// How bad a state is, of tests that are different ones.
fn rank(state: State) -> u8 {
    match state {
        State::Skipped => 0,
        State::Passed => 1,
        State::Failed => 2,
        State::Error => 3,
    }
}

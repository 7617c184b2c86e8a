//! Several tellings of one test become one: frameworks that write each try as a case of its own, and
//! the reports of parallel shards. What makes them the same test is in `identity`.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::case::{Case, State};
use crate::identity::Identity;
use crate::limits::Limits;
use crate::warning::{Warning, WarningKind};

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
    let mut folder = Folder::new(limits);
    for case in cases {
        folder.push(case);
    }
    folder.finish().collect()
}

/// Folds cases as they are read, and holds them until they are asked for: each once, and what most of them
/// have in common, which is suite, class and file, once for all.
#[derive(Debug)]
pub struct Folder<'a> {
    limits: &'a Limits,
    held: Vec<Held>,
    places: HashMap<Identity, usize>,
    shared: HashSet<Arc<str>>,
    /// Bytes of messages and stacks that fit still.
    left: usize,
    dropped: u64,
    overruled: u64,
}

/// A case, and what it has in common with others in the place of its own.
#[derive(Debug)]
struct Held {
    // By itself, so that the list of all is small where it grows.
    case: Box<Case>,
    suite: Arc<str>,
    class: Arc<str>,
    file: Option<Arc<str>>,
}

impl Held {
    fn whole(self) -> Case {
        Case {
            suite: self.suite.as_ref().to_owned(),
            class: self.class.as_ref().to_owned(),
            file: self.file.map(|file| file.as_ref().to_owned()),
            ..*self.case
        }
    }
}

impl<'a> Folder<'a> {
    /// Begins with none.
    #[must_use]
    pub fn new(limits: &'a Limits) -> Self {
        Self {
            limits,
            held: Vec::new(),
            places: HashMap::new(),
            shared: HashSet::new(),
            left: limits.texts,
            dropped: 0,
            overruled: 0,
        }
    }

    /// Takes the next case. A stack is left out that does not fit into what is left of `texts`, and then a
    /// message.
    pub fn push(&mut self, mut case: Case) {
        let mut fits = |text: &mut Option<String>| match text {
            Some(some) if some.len() > self.left => {
                *text = None;
                true
            }
            Some(some) => {
                self.left -= some.len();
                false
            }
            None => false,
        };
        let dropped = [fits(&mut case.message), fits(&mut case.stack)];
        self.dropped += dropped.into_iter().map(u64::from).sum::<u64>();
        match self.places.entry(case.identity()) {
            Entry::Occupied(place) => {
                let place = *place.get();
                // The last one stands in for it until it is whole again.
                if place < self.held.len() {
                    let mut earlier = self.held.swap_remove(place).whole();
                    let was_bad = earlier.state.is_bad();
                    earlier.take_in(case, self.limits);
                    self.overruled += u64::from(was_bad && !earlier.state.is_bad());
                    let held = self.hold(earlier);
                    self.held.push(held);
                    let last = self.held.len() - 1;
                    self.held.swap(place, last);
                }
            }
            Entry::Vacant(place) => {
                place.insert(self.held.len());
                let held = self.hold(case);
                self.held.push(held);
            }
        }
    }

    /// How each of them ended, and whether it is flaky.
    pub fn states(&self) -> impl Iterator<Item = (State, bool)> {
        self.held
            .iter()
            .map(|held| (held.case.state, held.case.flaky))
    }

    /// How often a test that did not pass was told again and passed then: in another try, or as another test
    /// of the same name in a file that nobody names.
    #[must_use]
    pub fn overruled(&self) -> u64 {
        self.overruled
    }

    /// What was left out because all texts together are too long.
    #[must_use]
    pub fn warning(&self) -> Option<Warning> {
        (self.dropped > 0).then_some(Warning {
            kind: WarningKind::TextDropped,
            count: self.dropped,
            most: Some(self.limits.texts as u64),
        })
    }

    /// Gives the cases, each made whole when it is its turn.
    #[must_use]
    pub fn finish(self) -> Folded {
        Folded(self.held.into_iter())
    }

    fn hold(&mut self, mut case: Case) -> Held {
        Held {
            suite: share(&mut self.shared, &std::mem::take(&mut case.suite)),
            class: share(&mut self.shared, &std::mem::take(&mut case.class)),
            file: case.file.take().map(|file| share(&mut self.shared, &file)),
            case: Box::new(case),
        }
    }
}

/// Folded cases.
#[derive(Debug)]
pub struct Folded(std::vec::IntoIter<Held>);

impl Iterator for Folded {
    type Item = Case;

    fn next(&mut self) -> Option<Case> {
        self.0.next().map(Held::whole)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl ExactSizeIterator for Folded {}

fn share(all: &mut HashSet<Arc<str>>, text: &str) -> Arc<str> {
    if let Some(known) = all.get(text) {
        return Arc::clone(known);
    }
    let new: Arc<str> = Arc::from(text);
    all.insert(Arc::clone(&new));
    new
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_that_a_later_telling_hides_is_counted() {
        let limits = Limits::default();
        let mut folder = Folder::new(&limits);
        for (name, state) in [
            ("one", State::Failed),
            ("one", State::Passed),
            ("two", State::Passed),
            ("two", State::Failed),
            ("three", State::Failed),
            ("three", State::Skipped),
        ] {
            folder.push(Case {
                state,
                ..case(name, 0)
            });
        }
        assert_eq!(folder.overruled(), 1);
    }

    fn case(name: &str, stack: usize) -> Case {
        Case {
            suite: "suite".to_owned(),
            name: name.to_owned(),
            state: State::Failed,
            message: Some("m".repeat(10)),
            stack: Some("s".repeat(stack)),
            ..Case::default()
        }
    }

    #[test]
    fn what_cases_have_in_common_is_held_once_and_comes_back() {
        let limits = Limits::default();
        let cases = [case("a", 5), case("b", 5), case("c", 5), case("a", 7)];
        let mut folder = Folder::new(&limits);
        cases.clone().into_iter().for_each(|case| folder.push(case));
        // The suite, and the class that none has.
        assert_eq!(folder.shared.len(), 2);
        assert_eq!(folder.warning(), None);
        let mut first = cases[0].clone();
        first.take_in(cases[3].clone(), &limits);
        let expected = [first, cases[1].clone(), cases[2].clone()];
        assert_eq!(folder.finish().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn stacks_beyond_the_sum_are_left_out_and_counted() {
        let limits = Limits {
            texts: 130,
            ..Limits::default()
        };
        let mut folder = Folder::new(&limits);
        for name in ["a", "b", "c", "d"] {
            folder.push(case(name, 90));
        }
        let warning = folder.warning().expect("a warning");
        assert_eq!((warning.kind, warning.count), (WarningKind::TextDropped, 3));
        let cases: Vec<Case> = folder.finish().collect();
        let has = |text: &Option<String>| text.is_some();
        let told: Vec<_> = cases
            .iter()
            .map(|it| (has(&it.message), has(&it.stack)))
            .collect();
        assert_eq!(
            told,
            [(true, true), (true, false), (true, false), (true, false)]
        );
    }
}

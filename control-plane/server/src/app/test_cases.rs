//! Tests, as people see them: in one execution, over many, and in two side by side.

use std::{collections::BTreeMap, collections::HashMap, time::Duration};

use jiff::{SignedDuration, Timestamp};
use muster_core::test_history::{Statistics, TestState};
use muster_storage::{
    Page,
    report::Counts,
    test::{Case, Cursor, Entry, Filter, Identity, Outcome, Test, Totals, Unsteady},
};

use super::{Access, App, Caller, Error};

/// How far back is looked for flaky tests when nobody says.
const FLAKY_WINDOW: Duration = Duration::from_secs(14 * 24 * 3600);
/// Most tests among which flaky ones are looked for.
const MOST_UNSTEADY: u32 = 500;
/// Most tests of each list of a comparison.
const MOST_CHANGES: usize = 500;
/// A test is slower that took more than this, in milliseconds, and half as long again.
const SLOWER: i64 = 100;
/// Most results from which a history is chosen.
const MOST_RUNS: u32 = 1000;

/// Which results of a test are wanted.
#[derive(Debug, Default)]
pub(crate) struct HistoryFilter {
    /// Only of executions with these tags.
    pub(crate) tags: BTreeMap<String, String>,
    /// Only of this agent; empty for all.
    pub(crate) agent: String,
    /// Only of this workflow; empty for all.
    pub(crate) workflow: String,
}

impl HistoryFilter {
    fn wants(&self, entry: &Entry) -> bool {
        (self.agent.is_empty() || entry.agent == self.agent)
            && (self.workflow.is_empty() || entry.workflow == self.workflow)
            && self
                .tags
                .iter()
                .all(|(name, value)| entry.tags.get(name) == Some(value))
    }
}

/// A test in two executions.
#[derive(Debug)]
pub(crate) struct Change {
    /// The test.
    pub(crate) test: Test,
    /// What came of it in the older one, when it was there.
    pub(crate) before: Option<Outcome>,
    /// What came of it in the newer one.
    pub(crate) after: Outcome,
}

/// Two executions side by side.
#[derive(Debug, Default)]
pub(crate) struct Comparison {
    /// Those that do not pass, and did.
    pub(crate) new_failures: Vec<Change>,
    /// Those that pass, and did not.
    pub(crate) fixed: Vec<Change>,
    /// Those that do not pass, as before.
    pub(crate) still_failing: Vec<Change>,
    /// Those that take longer.
    pub(crate) slower: Vec<Change>,
    /// Those that do not pass, and did, and are in quarantine.
    pub(crate) quarantined: Vec<Change>,
    /// How many are new.
    pub(crate) added: usize,
    /// How many are gone.
    pub(crate) removed: usize,
    /// Of the older one.
    pub(crate) base: Counts,
    /// Of the newer one.
    pub(crate) counts: Counts,
}

impl App {
    /// A page of the tests of an execution, and how all of them ended.
    pub(crate) async fn list_test_cases(
        &self,
        caller: &Caller,
        [project, execution]: [&str; 2],
        filter: &Filter,
        after: Option<&Cursor>,
        limit: u32,
    ) -> Result<(Page<Case, Cursor>, Totals), Error> {
        let project = self.project(caller, project, Access::Read).await?;
        let execution = self.store.executions(project.id).find(execution).await?;
        let tests = self.store.tests(project.id);
        let totals = tests.totals(execution.id).await?;
        Ok((
            tests.list(execution.id, filter, after, limit).await?,
            totals,
        ))
    }

    /// Tests by a part of their names.
    pub(crate) async fn find_tests(
        &self,
        caller: &Caller,
        project: &str,
        text: &str,
    ) -> Result<Vec<Test>, Error> {
        let project = self.project(caller, project, Access::Read).await?;
        Ok(self.store.tests(project.id).find(text).await?)
    }

    /// The results of a test over runs, the newest first.
    pub(crate) async fn get_test_history(
        &self,
        caller: &Caller,
        project: &str,
        test: Identity,
        filter: &HistoryFilter,
        limit: u32,
    ) -> Result<(Test, Vec<Entry>, Statistics), Error> {
        let project = self.project(caller, project, Access::Read).await?;
        let tests = self.store.tests(project.id);
        let (test, mut entries) = tests.history(test, MOST_RUNS).await?;
        entries.retain(|entry| filter.wants(entry));
        entries.truncate(limit as usize);
        let results: Vec<_> = entries.iter().map(|entry| entry.result.clone()).collect();
        let statistics = Statistics::of(&results);
        Ok((test, entries, statistics))
    }

    /// Tests that are flaky, those with the highest score first.
    pub(crate) async fn list_flaky_tests(
        &self,
        caller: &Caller,
        project: &str,
        since: Option<Timestamp>,
        limit: u32,
    ) -> Result<Vec<(Unsteady, Statistics)>, Error> {
        let project = self.project(caller, project, Access::Read).await?;
        let window = SignedDuration::try_from(FLAKY_WINDOW).unwrap_or_default();
        let since = match since {
            Some(since) => since,
            None => self
                .clock
                .now()
                .checked_sub(window)
                .unwrap_or(Timestamp::UNIX_EPOCH),
        };
        let found = self
            .store
            .tests(project.id)
            .unsteady(since, MOST_UNSTEADY)
            .await?;
        let mut flaky: Vec<(Unsteady, Statistics)> = found
            .into_iter()
            .map(|one| {
                let statistics = Statistics::of(&one.results);
                (one, statistics)
            })
            .filter(|(_, statistics)| statistics.flaky_score > 0.0)
            .collect();
        flaky.sort_by(|(a, of_a), (b, of_b)| {
            let score = of_b.flaky_score.total_cmp(&of_a.flaky_score);
            score
                .then_with(|| b.last_time.cmp(&a.last_time))
                .then_with(|| a.test.identity.cmp(&b.test.identity))
        });
        flaky.truncate(limit as usize);
        Ok(flaky)
    }

    /// Compares the tests of two executions of one project.
    pub(crate) async fn compare_executions(
        &self,
        caller: &Caller,
        project: &str,
        [base, execution]: [&str; 2],
    ) -> Result<Comparison, Error> {
        let project = self.project(caller, project, Access::Read).await?;
        let executions = self.store.executions(project.id);
        let (base, execution) = (
            executions.find(base).await?,
            executions.find(execution).await?,
        );
        let tests = self.store.tests(project.id);
        let before = tests.outcomes(base.id).await?;
        let after = tests.outcomes(execution.id).await?;
        let drafts = Drafts::of(&before, &after);
        let mut wanted: Vec<Identity> = drafts.all().map(|draft| draft.identity).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let mut names: HashMap<Identity, Test> = HashMap::with_capacity(wanted.len());
        for part in wanted.chunks(1000) {
            let named = tests.named(part).await?;
            names.extend(named.into_iter().map(|test| (test.identity, test)));
        }
        Ok(drafts.name(&names, &before, &after))
    }
}

/// A change of a test whose name is not known yet.
#[derive(Debug, Clone, Copy)]
struct Draft {
    identity: Identity,
    before: Option<Outcome>,
    after: Outcome,
}

impl Draft {
    fn slowdown(&self) -> Option<i64> {
        let (before, after) = (self.before?, self.after);
        let passed = |outcome: Outcome| outcome.state == TestState::Passed;
        let (old, new) = (before.duration?, after.duration?);
        let slower = passed(before)
            && passed(after)
            && new - old > SLOWER
            && new.saturating_mul(2) > old.saturating_mul(3);
        slower.then_some(new - old)
    }
}

#[derive(Debug, Default)]
struct Drafts {
    new_failures: Vec<Draft>,
    fixed: Vec<Draft>,
    still_failing: Vec<Draft>,
    slower: Vec<Draft>,
    quarantined: Vec<Draft>,
}

impl Drafts {
    fn of(before: &HashMap<Identity, Outcome>, after: &HashMap<Identity, Outcome>) -> Self {
        let mut drafts = Self::default();
        for (identity, outcome) in after {
            let draft = Draft {
                identity: *identity,
                before: before.get(identity).copied(),
                after: *outcome,
            };
            let was_bad = draft.before.map(|it| it.state.is_bad());
            match (was_bad, outcome.state.is_bad()) {
                (Some(true), true) => drafts.still_failing.push(draft),
                (_, true) if outcome.quarantined => drafts.quarantined.push(draft),
                (_, true) => drafts.new_failures.push(draft),
                (Some(true), false) if outcome.state == TestState::Passed => {
                    drafts.fixed.push(draft);
                }
                _ if draft.slowdown().is_some() => drafts.slower.push(draft),
                _ => {}
            }
        }
        // What is named is bounded; which of very many are, is the same every time.
        drafts
            .slower
            .sort_unstable_by_key(|draft| (std::cmp::Reverse(draft.slowdown()), draft.identity));
        for list in [
            &mut drafts.new_failures,
            &mut drafts.fixed,
            &mut drafts.still_failing,
            &mut drafts.quarantined,
        ] {
            list.sort_unstable_by_key(|draft| draft.identity);
        }
        for list in drafts.lists() {
            list.truncate(MOST_CHANGES);
        }
        drafts
    }

    fn lists(&mut self) -> [&mut Vec<Draft>; 5] {
        [
            &mut self.new_failures,
            &mut self.fixed,
            &mut self.still_failing,
            &mut self.slower,
            &mut self.quarantined,
        ]
    }

    fn all(&self) -> impl Iterator<Item = &Draft> {
        let lists = [
            &self.new_failures,
            &self.fixed,
            &self.still_failing,
            &self.slower,
            &self.quarantined,
        ];
        lists.into_iter().flatten()
    }

    fn name(
        self,
        names: &HashMap<Identity, Test>,
        before: &HashMap<Identity, Outcome>,
        after: &HashMap<Identity, Outcome>,
    ) -> Comparison {
        let changes = |drafts: Vec<Draft>| -> Vec<Change> {
            let named = drafts.into_iter().filter_map(|draft| {
                Some(Change {
                    test: names.get(&draft.identity)?.clone(),
                    before: draft.before,
                    after: draft.after,
                })
            });
            named.collect()
        };
        let by_name = |mut changes: Vec<Change>| {
            changes
                .sort_by(|a, b| (&a.test.class, &a.test.name).cmp(&(&b.test.class, &b.test.name)));
            changes
        };
        Comparison {
            new_failures: by_name(changes(self.new_failures)),
            fixed: by_name(changes(self.fixed)),
            still_failing: by_name(changes(self.still_failing)),
            quarantined: by_name(changes(self.quarantined)),
            slower: changes(self.slower),
            added: after.keys().filter(|id| !before.contains_key(*id)).count(),
            removed: before.keys().filter(|id| !after.contains_key(*id)).count(),
            base: count(before),
            counts: count(after),
        }
    }
}

fn count(outcomes: &HashMap<Identity, Outcome>) -> Counts {
    let mut counts = Counts::default();
    for outcome in outcomes.values() {
        match outcome.state {
            TestState::Passed => counts.passed += 1,
            TestState::Skipped => counts.skipped += 1,
            TestState::Failed => counts.failed += 1,
            TestState::Error => counts.errors += 1,
        }
        counts.quarantined += i64::from(outcome.quarantined);
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(state: TestState, duration: i64) -> Outcome {
        Outcome {
            state,
            duration: Some(duration),
            quarantined: false,
        }
    }

    #[test]
    fn what_changed_between_two_runs_is_told_apart() {
        use TestState::{Failed, Passed, Skipped};
        let id = |number: u8| [number; 16];
        let before = HashMap::from([
            (id(1), outcome(Passed, 10)),
            (id(2), outcome(Failed, 10)),
            (id(3), outcome(Failed, 10)),
            (id(4), outcome(Passed, 1000)),
            (id(5), outcome(Passed, 10)),
            (id(6), outcome(Passed, 1000)),
            (id(7), outcome(Failed, 10)),
        ]);
        let after = HashMap::from([
            (id(1), outcome(Failed, 10)),
            (id(2), outcome(Passed, 10)),
            (id(3), outcome(Failed, 10)),
            (id(4), outcome(Passed, 1501)),
            // Three times as long, and nobody notices.
            (id(5), outcome(Passed, 30)),
            (id(7), outcome(Skipped, 0)),
            (id(8), outcome(Failed, 10)),
            (
                id(9),
                Outcome {
                    quarantined: true,
                    ..outcome(Failed, 10)
                },
            ),
        ]);
        let drafts = Drafts::of(&before, &after);
        let ids = |list: &[Draft]| {
            list.iter()
                .map(|draft| draft.identity[0])
                .collect::<Vec<_>>()
        };
        assert_eq!(ids(&drafts.new_failures), [1, 8]);
        assert_eq!(ids(&drafts.fixed), [2]);
        assert_eq!(ids(&drafts.still_failing), [3]);
        assert_eq!(ids(&drafts.slower), [4]);
        assert_eq!(ids(&drafts.quarantined), [9]);
        let compared = drafts.name(&HashMap::new(), &before, &after);
        assert_eq!((compared.added, compared.removed), (2, 1));
        assert_eq!((compared.base.failed, compared.counts.failed), (3, 4));
        assert_eq!(compared.counts.quarantined, 1);
    }
}

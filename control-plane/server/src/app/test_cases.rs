//! Tests, as people see them: in one execution, over many, and in two side by side.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use muster_core::test_history::Statistics;
use muster_storage::{
    Page,
    test::{Case, Comparison, Cursor, Entry, Filter, Identity, RunFilter, Test, Totals, Unsteady},
};

use super::{Access, App, Caller, Error};

/// How far back is looked for flaky tests when nobody says.
const FLAKY_WINDOW: Duration = Duration::from_secs(14 * 24 * 3600);
/// Among how many tests at least flaky ones are looked for; more when more are wanted.
const SUSPECTS: u32 = 64;

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
        filter: &RunFilter,
        limit: u32,
    ) -> Result<(Test, Vec<Entry>, Statistics), Error> {
        let project = self.project(caller, project, Access::Read).await?;
        let tests = self.store.tests(project.id);
        let (test, entries) = tests.history(test, filter, limit).await?;
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
            .unsteady(since, limit.max(SUSPECTS))
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
        Ok(tests.compare(base.id, execution.id).await?)
    }
}

//! Reports and their tests: read once or twice, in whatever order, over attempts, children and runs.

use muster_core::{
    execution::Outcome,
    id::{AgentId, ArtifactId},
    test_history::TestState,
};
use muster_storage::{
    artifact::{NewArtifact, Preview},
    report::{Counts, NewCase, Read, State},
    test::{Case, Cursor, Filter, Identity, RunFilter},
    work,
};

use crate::fixture::Database;

on_every_database!(
    a_report_waits_until_it_is_read_and_its_tests_are_rows_then,
    bad_tests_come_first_and_pages_go_on,
    a_report_that_is_read_twice_counts_once,
    a_file_that_is_replaced_takes_its_tests_with_it,
    tests_are_found_by_a_part_of_their_names,
    results_of_a_test_are_told_newest_first_and_only_to_its_project,
    runs_of_a_filter_are_found_behind_many_others,
    what_changed_between_two_runs_is_told_apart,
    results_of_other_reports_are_counted,
    what_is_not_steady_is_found,
    durations_are_those_of_earlier_runs_of_the_same_workflow,
);

pub(crate) fn case(number: u8, state: TestState) -> NewCase {
    NewCase {
        identity: [number; 16],
        suite: "suite".to_owned(),
        class: "module.Class".to_owned(),
        name: format!("test_{number}"),
        parameters: None,
        variants: String::new(),
        file: Some("test.py".to_owned()),
        line: Some(7),
        state,
        flaky: false,
        tries: 1,
        duration: Some(1500),
        message: state.is_bad().then(|| "1 is not 2".to_owned()),
        kind: None,
        stack: None,
        detail: None,
    }
}

fn read() -> Read {
    Read {
        broken: None,
        counts: Counts {
            passed: 1,
            ..Counts::default()
        },
        duration: Some(2000),
        summary: "{}".to_owned(),
    }
}

pub(crate) async fn report(
    db: &Database,
    work: &work::Assignment,
    path: &str,
    sha: &str,
) -> ArtifactId {
    let new = NewArtifact {
        path: path.to_owned(),
        size: 3,
        sha256: sha.repeat(32),
        content_type: "application/xml".to_owned(),
        preview: Preview::Report,
        mode: 0o644,
        step: "s1".to_owned(),
        blob: format!("artifacts/{path}/{sha}"),
        report: Some("junit"),
    };
    let agent = work.attempt.agent;
    let added = db
        .store
        .agent(agent)
        .add_artifact(work.attempt.lease(), &new, i64::MAX)
        .await;
    added.expect("added").artifact.id
}

pub(crate) async fn keep(db: &Database, artifact: ArtifactId, cases: &[NewCase]) {
    let kept = db.store.queue().keep_report(artifact, cases, &read()).await;
    kept.expect("kept");
}

async fn list(db: &Database, work: &work::Assignment) -> Vec<Case> {
    let tests = db.store.tests(db.project);
    let all = Filter::default();
    let page = tests.list(work.execution.id, &all, None, 100);
    page.await.expect("a list").items
}

/// One more execution, which that agent runs.
async fn next(db: &Database, agent: AgentId) -> work::Assignment {
    db.submit("smoke").await;
    db.claim_one(agent).await
}

fn names(cases: &[Case]) -> Vec<(&str, &str)> {
    let named = cases.iter();
    named
        .map(|case| (case.test.name.as_str(), case.state.as_str()))
        .collect()
}

async fn a_report_waits_until_it_is_read_and_its_tests_are_rows_then(db: Database) {
    let (_, work) = db.running().await;
    let artifact = report(&db, &work, "junit.xml", "aa").await;
    let (queue, tests) = (db.store.queue(), db.store.tests(db.project));
    let pending = queue.pending_reports(10).await.expect("a look");
    assert_eq!(pending.len(), 1);
    assert_eq!(
        (pending[0].artifact, pending[0].format.as_str()),
        (artifact, "junit")
    );
    let totals = tests.totals(work.execution.id).await.expect("totals");
    assert_eq!((totals.counts, totals.pending), (Counts::default(), 1));
    keep(
        &db,
        artifact,
        &[case(1, TestState::Passed), case(2, TestState::Failed)],
    )
    .await;
    assert_eq!(queue.pending_reports(10).await.expect("a look"), []);
    let reports = db.store.reports(db.project).list(work.execution.id).await;
    let reports = reports.expect("a list");
    assert_eq!(
        (reports[0].state, reports[0].duration),
        (State::Read, Some(2000))
    );
    let cases = list(&db, &work).await;
    assert_eq!(names(&cases), [("test_2", "failed"), ("test_1", "passed")]);
    assert_eq!(cases[0].message.as_deref(), Some("1 is not 2"));
    assert_eq!(
        (cases[0].test.line, cases[0].duration),
        (Some(7), Some(1500))
    );
    let totals = tests.totals(work.execution.id).await.expect("totals");
    assert_eq!(
        (totals.counts.passed, totals.counts.failed, totals.pending),
        (1, 1, 0)
    );
    // One that is gone meanwhile is said to be.
    let gone = queue
        .keep_report(ArtifactId::generate(), &[], &read())
        .await;
    assert!(gone.expect_err("nowhere").is_not_found());
}

async fn bad_tests_come_first_and_pages_go_on(db: Database) {
    let (_, work) = db.running().await;
    let artifact = report(&db, &work, "junit.xml", "aa").await;
    let states = [TestState::Passed, TestState::Error, TestState::Skipped];
    // More than one part.
    let all: Vec<NewCase> = (0..=255_u8)
        .zip(states.iter().cycle())
        .map(|(number, state)| case(number, *state))
        .collect();
    keep(&db, artifact, &all).await;
    let tests = db.store.tests(db.project);
    let (mut after, mut found): (Option<Cursor>, Vec<Case>) = (None, Vec::new());
    let all = Filter::default();
    loop {
        let page = tests.list(work.execution.id, &all, after.as_ref(), 50);
        let page = page.await.expect("a page");
        found.extend(page.items);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(found.len(), 256);
    let bad = found.iter().take_while(|case| case.state.is_bad()).count();
    assert_eq!(bad, found.iter().filter(|case| case.state.is_bad()).count());
    let identities: Vec<Identity> = found.iter().map(|case| case.test.identity).collect();
    assert!(identities[..bad].is_sorted() && identities[bad..].is_sorted());
    let only = Filter {
        states: vec![TestState::Skipped],
        ..Filter::default()
    };
    let page = tests
        .list(work.execution.id, &only, None, 1000)
        .await
        .expect("a page");
    assert_eq!(page.items.len(), 85);
}

async fn a_report_that_is_read_twice_counts_once(db: Database) {
    let (_, work) = db.running().await;
    let artifact = report(&db, &work, "junit.xml", "aa").await;
    let cases = [case(1, TestState::Passed), case(2, TestState::Failed)];
    keep(&db, artifact, &cases[..1]).await;
    keep(&db, artifact, &cases).await;
    keep(&db, artifact, &cases).await;
    assert_eq!(list(&db, &work).await.len(), 2);
    // The same tests in another form, with a worse word for one of them.
    let other = report(&db, &work, "tap.txt", "bb").await;
    keep(
        &db,
        other,
        &[case(1, TestState::Error), case(2, TestState::Passed)],
    )
    .await;
    let cases = list(&db, &work).await;
    let states: Vec<_> = cases.iter().map(|case| case.state).collect();
    assert_eq!(states.len(), 2);
    assert!(states.iter().all(|state| state.is_bad()), "{states:?}");
    assert_eq!(
        db.store.tests(db.project).count().await.expect("a count"),
        2
    );
}

async fn a_file_that_is_replaced_takes_its_tests_with_it(db: Database) {
    let (_, work) = db.running().await;
    let first = report(&db, &work, "junit.xml", "aa").await;
    keep(&db, first, &[case(1, TestState::Failed)]).await;
    let second = report(&db, &work, "junit.xml", "bb").await;
    assert_eq!(list(&db, &work).await, []);
    keep(&db, second, &[case(2, TestState::Passed)]).await;
    assert_eq!(names(&list(&db, &work).await), [("test_2", "passed")]);
    let late = db.store.queue().keep_report(first, &[], &read()).await;
    assert!(late.expect_err("it is gone").is_not_found());
}

async fn tests_are_found_by_a_part_of_their_names(db: Database) {
    let (_, work) = db.running().await;
    let artifact = report(&db, &work, "junit.xml", "aa").await;
    let mut odd = case(3, TestState::Passed);
    odd.name = "100% of_it".to_owned();
    keep(
        &db,
        artifact,
        &[case(1, TestState::Passed), case(12, TestState::Passed), odd],
    )
    .await;
    let tests = db.store.tests(db.project);
    let found = async |text: &str| -> Vec<String> {
        let found = tests.find(text).await.expect("an answer");
        found.into_iter().map(|test| test.name).collect()
    };
    assert_eq!(found("TEST_1").await, ["test_1", "test_12"]);
    assert_eq!(found("class test_12").await, ["test_12"]);
    assert_eq!(found("0% of_").await, ["100% of_it"]);
    assert_eq!(found("%").await, ["100% of_it"]);
    assert_eq!(found("tests_1").await, [""; 0]);
}

async fn results_of_a_test_are_told_newest_first_and_only_to_its_project(db: Database) {
    let mut runs = Vec::new();
    let agent = db.new_agent("runner").await;
    for state in [TestState::Failed, TestState::Passed] {
        let work = next(&db, agent).await;
        let artifact = report(&db, &work, "junit.xml", "aa").await;
        keep(&db, artifact, &[case(1, state)]).await;
        runs.push(work);
        db.advance(60);
    }
    let tests = db.store.tests(db.project);
    let (test, entries) = tests
        .history([1; 16], &RunFilter::default(), 10)
        .await
        .expect("a history");
    assert_eq!(test.name, "test_1");
    let told: Vec<_> = entries
        .iter()
        .map(|entry| (entry.execution, entry.result.state))
        .collect();
    let expected = [
        (runs[1].execution.id, TestState::Passed),
        (runs[0].execution.id, TestState::Failed),
    ];
    assert_eq!(told, expected);
    assert_eq!(entries[0].display_name, runs[1].execution.display_name);
    assert_eq!(entries[0].agent, runs[1].attempt.agent_name);
    let agent = RunFilter {
        agent: "another".to_owned(),
        ..RunFilter::default()
    };
    let (_, entries) = tests.history([1; 16], &agent, 10).await.expect("one");
    assert_eq!(entries, []);

    let foreign = db.store.tests(db.new_project("foreign").await);
    let id = runs[0].execution.id;
    assert!(
        foreign
            .history([1; 16], &RunFilter::default(), 10)
            .await
            .expect_err("none")
            .is_not_found()
    );
    let compared = foreign.compare(id, id).await;
    assert!(compared.expect_err("none").is_not_found());
    assert!(foreign.totals(id).await.expect_err("none").is_not_found());
    let listed = foreign.list(id, &Filter::default(), None, 10).await;
    assert!(listed.expect_err("none").is_not_found());
    assert_eq!(foreign.find("test").await.expect("an answer"), []);
    assert_eq!(foreign.named(&[[1; 16]]).await.expect("an answer"), []);
    let reports = db
        .store
        .reports(db.new_project("third").await)
        .list(id)
        .await;
    assert!(reports.expect_err("none").is_not_found());
}

/// The filter looks further than one window, and no further than all windows.
async fn runs_of_a_filter_are_found_behind_many_others(db: Database) {
    let (old, new) = (db.new_agent("old").await, db.new_agent("new").await);
    let mut first = None;
    for number in 0..260 {
        let work = next(&db, if number == 0 { old } else { new }).await;
        let artifact = report(&db, &work, "junit.xml", "aa").await;
        keep(&db, artifact, &[case(1, TestState::Passed)]).await;
        first.get_or_insert_with(|| (work.execution.id, work.attempt.agent_name.clone()));
        // Some have one time.
        db.advance(number % 2);
    }
    let (id, agent) = first.expect("one");
    let tests = db.store.tests(db.project);
    let wanted = RunFilter {
        agent,
        ..RunFilter::default()
    };
    let (_, entries) = tests.history([1; 16], &wanted, 10).await.expect("one");
    let found: Vec<_> = entries.iter().map(|entry| entry.execution).collect();
    assert_eq!(found, [id]);
    let all = RunFilter {
        workflow: "smoke".to_owned(),
        ..RunFilter::default()
    };
    let (_, entries) = tests.history([1; 16], &all, 1000).await.expect("all");
    assert_eq!(entries.len(), 260);
    let mut ids: Vec<_> = entries.iter().map(|entry| entry.execution).collect();
    ids.dedup();
    assert_eq!(ids.len(), 260);
    let (_, entries) = tests.history([1; 16], &all, 3).await.expect("some");
    assert_eq!(entries.len(), 3);
}

async fn results_of_other_reports_are_counted(db: Database) {
    let agent = db.new_agent("runner").await;
    let work = next(&db, agent).await;
    let first = report(&db, &work, "first.xml", "aa").await;
    let second = report(&db, &work, "second.xml", "bb").await;
    let count = async |artifact| {
        let count = db.store.queue().count_other_results(artifact).await;
        count.expect("a count")
    };
    assert_eq!(count(second).await, 0);
    keep(&db, first, &[case(1, TestState::Passed)]).await;
    assert_eq!((count(first).await, count(second).await), (0, 1));
    // Another execution's are none of them, and one that is gone has none.
    let other = next(&db, agent).await;
    let third = report(&db, &other, "third.xml", "cc").await;
    assert_eq!(count(third).await, 0);
    assert_eq!(count(ArtifactId::generate()).await, 0);
}

async fn what_changed_between_two_runs_is_told_apart(db: Database) {
    use TestState::{Error, Failed, Passed, Skipped};
    let agent = db.new_agent("runner").await;
    let took = |number: u8, state: TestState, duration: i64| NewCase {
        duration: Some(duration),
        ..case(number, state)
    };
    let before = [
        took(1, Passed, 10),
        took(2, Failed, 10),
        took(3, Error, 10),
        took(4, Passed, 1000),
        took(5, Passed, 10),
        took(6, Passed, 1000),
        took(7, Failed, 10),
        took(9, Passed, 1000),
        took(10, Passed, i64::MAX),
    ];
    let after = [
        took(1, Failed, 10),
        took(2, Passed, 10),
        took(3, Failed, 10),
        took(4, Passed, 1501),
        // Three times as long, and nobody notices.
        took(5, Passed, 30),
        took(7, Skipped, 0),
        took(8, Error, 10),
        // Exactly half as long again is none of them.
        took(9, Passed, 1500),
        took(10, Passed, i64::MAX),
    ];
    let mut runs = Vec::new();
    for cases in [&before[..], &after[..]] {
        let work = next(&db, agent).await;
        let artifact = report(&db, &work, "junit.xml", "aa").await;
        keep(&db, artifact, cases).await;
        runs.push(work.execution.id);
        db.advance(60);
    }
    let tests = db.store.tests(db.project);
    let compared = tests.compare(runs[0], runs[1]).await.expect("an answer");
    let ids = |changes: &[muster_storage::test::Change]| {
        let ids = changes.iter().map(|change| change.test.identity[0]);
        ids.collect::<Vec<_>>()
    };
    assert_eq!(ids(&compared.new_failures), [1, 8]);
    assert_eq!(compared.new_failures[1].before, None);
    assert_eq!(ids(&compared.fixed), [2]);
    assert_eq!(ids(&compared.still_failing), [3]);
    assert_eq!(ids(&compared.slower), [4]);
    assert_eq!((compared.added, compared.removed), (1, 1));
    let (base, counts) = (compared.base, compared.counts);
    assert_eq!(
        (base.passed, base.failed, base.errors, base.skipped),
        (6, 2, 1, 0)
    );
    assert_eq!(
        (counts.passed, counts.failed, counts.errors, counts.skipped),
        (5, 2, 1, 1)
    );
    // With itself nothing differs.
    let same = tests.compare(runs[1], runs[1]).await.expect("an answer");
    assert_eq!(
        (same.added, same.removed, ids(&same.new_failures)),
        (0, 0, vec![])
    );
}

async fn what_is_not_steady_is_found(db: Database) {
    let since = db.clock.now();
    let agent = db.new_agent("runner").await;
    for _ in 0..3 {
        let work = next(&db, agent).await;
        let artifact = report(&db, &work, "junit.xml", "aa").await;
        let mut flaky = case(1, TestState::Passed);
        flaky.flaky = true;
        keep(
            &db,
            artifact,
            &[
                flaky,
                case(2, TestState::Passed),
                case(3, TestState::Failed),
            ],
        )
        .await;
        db.advance(60);
    }
    let tests = db.store.tests(db.project);
    let found = tests.unsteady(since, 10).await.expect("an answer");
    // One that always fails without a word of what was tested may be broken, and is not unsteady.
    let named: Vec<_> = found.iter().map(|one| one.test.name.as_str()).collect();
    assert_eq!(named, ["test_1"]);
    assert_eq!(found[0].results.len(), 3);
    assert_eq!(
        tests.unsteady(db.clock.now(), 10).await.expect("an answer"),
        []
    );
}

/// Ends an execution, which has passed.
async fn end(db: &Database, work: &work::Assignment) {
    let completion = work::Completion {
        outcome: Outcome::Passed,
        reason: String::new(),
        message: String::new(),
        log_size: 0,
        log_sha256: "0".repeat(64),
        finish_time: Some(db.clock.now()),
    };
    let told = crate::fixture::report(
        work.attempt.lease(),
        9,
        work::Progress::Completed(completion),
    );
    let agent = db.store.agent(work.attempt.agent);
    agent.report(told).await.expect("it ends");
}

async fn durations_are_those_of_earlier_runs_of_the_same_workflow(db: Database) {
    let agent = db.new_agent("runner").await;
    let took = |number, millis| NewCase {
        duration: millis,
        ..case(number, TestState::Passed)
    };
    // The middle one of three; one that took nobody knows how long; failures and skips say nothing.
    for millis in [100, 900, 300] {
        let work = next(&db, agent).await;
        let artifact = report(&db, &work, "junit.xml", "aa").await;
        let cases = [
            took(1, Some(millis)),
            took(2, None),
            case(3, TestState::Failed),
            case(4, TestState::Skipped),
        ];
        keep(&db, artifact, &cases).await;
        end(&db, &work).await;
        db.advance(60);
    }
    // Another workflow, and one without results.
    db.submit("other").await;
    let other = db.claim_one(agent).await;
    let artifact = report(&db, &other, "junit.xml", "aa").await;
    keep(&db, artifact, &[took(1, Some(5000))]).await;
    end(&db, &other).await;
    end(&db, &next(&db, agent).await).await;
    db.advance(60);
    // One that still runs does not count, nor does what the asking one has by now.
    let running = next(&db, agent).await;
    let artifact = report(&db, &running, "junit.xml", "aa").await;
    keep(&db, artifact, &[took(1, Some(5000))]).await;
    let asks = next(&db, agent).await;
    let artifact = report(&db, &asks, "junit.xml", "aa").await;
    keep(&db, artifact, &[took(1, Some(5000))]).await;

    let tests = db.store.tests(db.project);
    let known = tests.durations(asks.execution.id).await.expect("an answer");
    assert_eq!(known.runs, 3);
    let [one] = known.tests.as_slice() else {
        panic!("{known:?}");
    };
    assert_eq!((one.name.as_str(), one.millis), ("test_1", 300));
    assert_eq!(one.class, "module.Class");
    assert_eq!(one.file.as_deref(), Some("test.py"));
    // What ends while it runs changes nothing.
    db.advance(60);
    end(&db, &running).await;
    let again = tests.durations(asks.execution.id).await.expect("an answer");
    assert_eq!(again, known);
    let nothing = tests
        .durations(other.execution.id)
        .await
        .expect("an answer");
    assert_eq!((nothing.runs, nothing.tests.len()), (0, 0));
    let foreign = db.store.tests(db.new_project("foreign").await);
    let refused = foreign.durations(asks.execution.id).await;
    assert!(refused.expect_err("not its own").is_not_found());
}

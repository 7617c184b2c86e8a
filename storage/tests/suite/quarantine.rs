//! Tests in quarantine: for how long, for which workflows, and what reports that come say of them.

use muster_core::{id::ArtifactId, quarantine::MOST, test_history::TestState};
use muster_storage::{
    Error,
    artifact::{NewArtifact, Preview},
    quarantine::{NewQuarantine, QuarantinedTest},
    report::{Counts, NewCase, Read, State},
    test::{Change, Filter, RunFilter},
    work,
};

use crate::fixture::{Database, request};

on_every_database!(
    a_test_is_in_quarantine_until_it_expires_or_is_released,
    results_keep_the_mark_of_when_they_came,
    an_entry_of_a_workflow_is_for_its_runs_alone,
    reports_of_a_step_are_those_of_its_attempt,
    repeated_requests_do_nothing_twice,
    the_number_of_entries_is_limited_and_expired_ones_make_room,
    nothing_of_another_project_is_in_quarantine_here,
);

const DAY: i64 = 24 * 3600;

fn case(number: u8, state: TestState) -> NewCase {
    NewCase {
        identity: [number; 16],
        suite: String::new(),
        class: "module".to_owned(),
        name: format!("test_{number}"),
        parameters: None,
        variants: String::new(),
        file: None,
        line: None,
        state,
        flaky: false,
        tries: 1,
        duration: None,
        message: None,
        kind: None,
        stack: None,
        detail: None,
    }
}

fn new(db: &Database, number: u8, workflow: &str) -> NewQuarantine {
    NewQuarantine {
        identity: [number; 16],
        workflow: workflow.to_owned(),
        reason: format!("issue {number}"),
        creator: "ann".to_owned(),
        expire_time: db.in_seconds(DAY),
    }
}

/// A report of a step with these tests, read.
async fn report(
    db: &Database,
    work: &work::Assignment,
    step: &str,
    cases: &[NewCase],
) -> ArtifactId {
    let artifact = file(db, work, step).await;
    let bad = cases.iter().filter(|case| case.state.is_bad()).count();
    let read = Read {
        broken: None,
        counts: Counts {
            failed: i64::try_from(bad).expect("few"),
            ..Counts::default()
        },
        duration: None,
        summary: "{}".to_owned(),
    };
    let kept = db.store.queue().keep_report(artifact, cases, &read).await;
    kept.expect("kept");
    artifact
}

async fn file(db: &Database, work: &work::Assignment, step: &str) -> ArtifactId {
    let new = NewArtifact {
        path: format!("{step}/junit.xml"),
        size: 3,
        sha256: step.repeat(8),
        content_type: "application/xml".to_owned(),
        preview: Preview::Report,
        mode: 0o644,
        step: step.to_owned(),
        blob: format!("artifacts/{}/{step}", work.attempt.id),
        report: Some("junit"),
    };
    let agent = db.store.agent(work.attempt.agent);
    let added = agent
        .add_artifact(work.attempt.lease(), &new, i64::MAX)
        .await;
    added.expect("added").artifact.id
}

/// Whether the failure of a test counts in a run: how many of a report with it are in quarantine.
async fn quarantined(db: &Database, work: &work::Assignment) -> i64 {
    let quarantine = db.store.quarantine(db.project);
    let reports = quarantine.reports_of(work.attempt.id, "s1", 10).await;
    let reports = reports.expect("reports");
    reports.iter().map(|report| report.counts.quarantined).sum()
}

fn ids(entries: &[QuarantinedTest]) -> Vec<u8> {
    entries.iter().map(|it| it.test.identity[0]).collect()
}

async fn list(db: &Database, expired: bool) -> Vec<QuarantinedTest> {
    let listed = db
        .store
        .quarantine(db.project)
        .list(expired, None, 100)
        .await;
    listed.expect("a list").items
}

async fn a_test_is_in_quarantine_until_it_expires_or_is_released(db: Database) {
    let (agent, work) = db.running().await;
    let cases = [case(1, TestState::Failed), case(2, TestState::Passed)];
    report(&db, &work, "s1", &cases).await;
    assert_eq!(quarantined(&db, &work).await, 0, "it was not there then");
    let quarantine = db.store.quarantine(db.project);
    let unknown = quarantine.put(&new(&db, 9, ""), None).await;
    assert!(unknown.expect_err("no such test").is_not_found());
    let put = quarantine
        .put(&new(&db, 1, ""), None)
        .await
        .expect("put")
        .value;
    assert_eq!(
        (put.mark.reason.as_str(), put.creator.as_str()),
        ("issue 1", "ann")
    );
    assert_eq!(put.test.name, "test_1");
    assert!(quarantine.is_used("smoke").await.expect("a look"));

    db.submit("smoke").await;
    let second = db.claim_one(agent).await;
    report(&db, &second, "s1", &cases).await;
    assert_eq!(quarantined(&db, &second).await, 1);

    // Longer, which is the same entry.
    db.advance(3600);
    let longer = NewQuarantine {
        reason: "another".to_owned(),
        ..new(&db, 1, "")
    };
    let again = quarantine.put(&longer, None).await.expect("put").value;
    assert_eq!((again.id, again.create_time), (put.id, put.create_time));
    assert!(again.mark.expire_time > put.mark.expire_time);
    assert_eq!(list(&db, false).await, [again]);
    assert_eq!(list(&db, true).await, []);

    db.advance(DAY.unsigned_abs());
    assert_eq!(
        (list(&db, false).await, ids(&list(&db, true).await)),
        (vec![], vec![1])
    );
    assert!(!quarantine.is_used("smoke").await.expect("a look"));
    db.submit("smoke").await;
    let third = db.claim_one(agent).await;
    report(&db, &third, "s1", &cases).await;
    assert_eq!(quarantined(&db, &third).await, 0, "it has expired");

    quarantine
        .release([1; 16], "", None)
        .await
        .expect("released");
    assert_eq!(list(&db, true).await, []);
    let gone = quarantine.release([1; 16], "", None).await;
    assert!(gone.expect_err("it is gone").is_not_found());
}

async fn results_keep_the_mark_of_when_they_came(db: Database) {
    let (_, work) = db.running().await;
    let passed = [case(1, TestState::Passed), case(2, TestState::Passed)];
    report(&db, &work, "s0", &passed).await;
    let quarantine = db.store.quarantine(db.project);
    quarantine.put(&new(&db, 1, ""), None).await.expect("put");
    let cases = [case(1, TestState::Error), case(2, TestState::Failed)];
    report(&db, &work, "s1", &cases).await;
    quarantine
        .release([1; 16], "", None)
        .await
        .expect("released");

    let tests = db.store.tests(db.project);
    let listed = tests
        .list(work.execution.id, &Filter::default(), None, 10)
        .await;
    let listed = listed.expect("a list").items;
    let marks: Vec<_> = listed
        .iter()
        .map(|case| {
            (
                case.test.identity[0],
                case.quarantine.as_ref().map(|it| &*it.reason),
            )
        })
        .collect();
    assert_eq!(marks, [(1, Some("issue 1")), (2, None)]);
    let counts = tests
        .totals(work.execution.id)
        .await
        .expect("totals")
        .counts;
    assert_eq!(
        (counts.failed, counts.errors, counts.quarantined),
        (1, 1, 1)
    );
    let nothing = db.submit("smoke").await.id;
    let compared = tests.compare(nothing, work.execution.id).await;
    let compared = compared.expect("an answer");
    let ids =
        |changes: &[Change]| -> Vec<u8> { changes.iter().map(|it| it.test.identity[0]).collect() };
    assert_eq!(ids(&compared.quarantined), [1]);
    assert_eq!(ids(&compared.new_failures), [2]);
    assert_eq!(
        (
            compared.counts.failed,
            compared.counts.errors,
            compared.counts.quarantined
        ),
        (1, 1, 1)
    );
    let history = tests.history([1; 16], &RunFilter::default(), 10).await;
    let (_, entries) = history.expect("a history");
    assert_eq!(
        entries[0].quarantine.as_ref().map(|it| &*it.reason),
        Some("issue 1")
    );
    let reports = db.store.reports(db.project).list(work.execution.id).await;
    let counts: Vec<_> = reports
        .expect("a list")
        .iter()
        .map(|it| it.counts.quarantined)
        .collect();
    assert_eq!(counts, [0, 1]);
}

async fn an_entry_of_a_workflow_is_for_its_runs_alone(db: Database) {
    let (agent, work) = db.running().await;
    let cases = [case(1, TestState::Failed)];
    report(&db, &work, "s0", &cases).await;
    let quarantine = db.store.quarantine(db.project);
    quarantine
        .put(&new(&db, 1, "nightly"), None)
        .await
        .expect("put");
    let mut found = Vec::new();
    for workflow in ["smoke", "nightly"] {
        db.submit(workflow).await;
        let work = db.claim_one(agent).await;
        report(&db, &work, "s1", &cases).await;
        found.push(quarantined(&db, &work).await);
        assert_eq!(
            quarantine.is_used(workflow).await.expect("a look"),
            workflow == "nightly"
        );
    }
    assert_eq!(found, [0, 1]);
    // One for all stands beside it, and each is taken out by itself.
    quarantine.put(&new(&db, 1, ""), None).await.expect("put");
    assert_eq!(list(&db, false).await.len(), 2);
    quarantine
        .release([1; 16], "nightly", None)
        .await
        .expect("released");
    assert_eq!(list(&db, false).await[0].workflow, "");
}

async fn reports_of_a_step_are_those_of_its_attempt(db: Database) {
    let (agent, work) = db.running().await;
    report(&db, &work, "s1", &[case(1, TestState::Failed)]).await;
    report(&db, &work, "s2", &[case(2, TestState::Failed)]).await;
    file(&db, &work, "s3").await;
    let quarantine = db.store.quarantine(db.project);
    let of = async |work: &work::Assignment, step: &str| {
        let reports = quarantine.reports_of(work.attempt.id, step, 10).await;
        let reports = reports.expect("reports");
        let told = reports
            .into_iter()
            .map(|report| (report.path, report.state));
        told.collect::<Vec<_>>()
    };
    assert_eq!(
        of(&work, "s1").await,
        [("s1/junit.xml".to_owned(), State::Read)]
    );
    assert_eq!(
        of(&work, "s3").await,
        [("s3/junit.xml".to_owned(), State::Pending)]
    );
    assert_eq!(of(&work, "s4").await, []);
    db.submit("smoke").await;
    let other = db.claim_one(agent).await;
    assert_eq!(of(&other, "s1").await, []);
}

async fn repeated_requests_do_nothing_twice(db: Database) {
    let (_, work) = db.running().await;
    report(&db, &work, "s1", &[case(1, TestState::Failed)]).await;
    let quarantine = db.store.quarantine(db.project);
    let put = request("QuarantineTest", 1);
    let first = quarantine
        .put(&new(&db, 1, ""), Some(&put))
        .await
        .expect("put");
    db.advance(60);
    let again = quarantine
        .put(&new(&db, 1, ""), Some(&put))
        .await
        .expect("put");
    assert!(again.replayed && again.value == first.value);
    let release = request("ReleaseTest", 2);
    quarantine
        .release([1; 16], "", Some(&release))
        .await
        .expect("released");
    let again = quarantine.release([1; 16], "", Some(&release)).await;
    assert!(again.expect("a repeat").replayed);
}

async fn the_number_of_entries_is_limited_and_expired_ones_make_room(db: Database) {
    let (_, work) = db.running().await;
    report(
        &db,
        &work,
        "s1",
        &[case(1, TestState::Failed), case(2, TestState::Failed)],
    )
    .await;
    let quarantine = db.store.quarantine(db.project);
    let short = NewQuarantine {
        expire_time: db.in_seconds(60),
        ..new(&db, 2, "")
    };
    quarantine.put(&short, None).await.expect("put");
    for number in 1..MOST {
        let one = new(&db, 1, &format!("workflow-{number}"));
        quarantine.put(&one, None).await.expect("put");
    }
    let full = quarantine.put(&new(&db, 1, ""), None).await;
    assert!(matches!(full, Err(Error::Invalid { .. })), "{full:?}");
    // What is there can be changed all the same.
    quarantine
        .put(&new(&db, 1, "workflow-1"), None)
        .await
        .expect("put");
    db.advance(61);
    quarantine
        .put(&new(&db, 1, ""), None)
        .await
        .expect("there is room");
    assert_eq!(list(&db, true).await, []);
}

async fn nothing_of_another_project_is_in_quarantine_here(db: Database) {
    let (_, work) = db.running().await;
    let cases = [case(1, TestState::Failed)];
    report(&db, &work, "s0", &cases).await;
    db.store
        .quarantine(db.project)
        .put(&new(&db, 1, ""), None)
        .await
        .expect("put");
    let project = db.new_project("other").await;
    let other = db.store.quarantine(project);
    assert_eq!(other.list(false, None, 10).await.expect("a list").items, []);
    assert!(!other.is_used("smoke").await.expect("a look"));
    assert_eq!(
        other
            .reports_of(work.attempt.id, "s0", 10)
            .await
            .expect("reports"),
        []
    );
    let foreign = other.put(&new(&db, 1, ""), None).await;
    assert!(foreign.expect_err("no such test there").is_not_found());
    let foreign = other.release([1; 16], "", None).await;
    assert!(foreign.expect_err("no such test there").is_not_found());
    assert_eq!(list(&db, false).await.len(), 1);
}

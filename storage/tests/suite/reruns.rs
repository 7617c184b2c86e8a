//! Reruns of what failed: what is known again, what is taken over, and what that counts for.

use muster_core::{
    execution::{IllegalTransition, Outcome as Ended, Phase, State},
    id::{AgentId, ExecutionId},
    test_history::TestState,
};
use muster_storage::{
    Error,
    execution::{Execution, Origin, Rerun, Role},
    retention::{Kept, Outcome, Part},
    test::{Failed, Filter},
    work::{Assignment, Completion, Progress},
};

use crate::{
    fixture::{Database, report as told},
    test_cases::{case, keep, report},
};

on_every_database!(
    an_execution_says_which_one_it_runs_again,
    the_newest_of_each_former_child_is_known_again,
    what_is_taken_over_is_a_child_and_its_tests_count,
    what_was_taken_over_before_is_taken_over_again,
    what_is_deleted_is_no_child_any_more,
    only_what_the_live_attempt_has_taken_over_counts,
    what_was_skipped_beside_a_failed_test_is_told_with_it,
);

fn origin(parent: &Assignment, group: &str, index: i64, inputs: &str) -> Origin {
    Origin {
        parent: parent.execution.id,
        attempt: parent.attempt.id,
        group: group.to_owned(),
        index,
        step: "s2".to_owned(),
        role: Role::Worker,
        description: format!("number {index}"),
        inputs: Some(inputs.to_owned()),
        taken_over: false,
    }
}

async fn start(db: &Database, origin: Origin) -> Execution {
    let start = db.submit_with("tree", |new| {
        new.origin = Some(origin);
        new.priority = 1;
    });
    start.await
}

async fn end(db: &Database, work: &Assignment, outcome: Ended) {
    for (sequence, progress) in [
        Progress::At(Phase::Preparing),
        Progress::At(Phase::Running),
        Progress::Completed(Completion {
            outcome,
            reason: String::new(),
            message: String::new(),
            log_size: 0,
            log_sha256: String::new(),
            finish_time: None,
        }),
    ]
    .into_iter()
    .enumerate()
    {
        let sequence = i64::try_from(sequence).expect("few") + 1;
        let report = told(work.attempt.lease(), sequence, progress);
        let agent = db.store.agent(work.attempt.agent);
        agent.report(report).await.expect("it is taken");
    }
}

async fn take_over(db: &Database, by: &Assignment, children: &[(Origin, ExecutionId)]) {
    let executions = db.store.executions(db.project);
    let taken = executions.take_over(by.attempt.lease(), children).await;
    taken.expect("noted");
}

/// A child that has ended, with a test in its report.
async fn child(db: &Database, parent: &Assignment, index: i64, outcome: Ended) -> Execution {
    let made = start(db, origin(parent, "s2", index, "same")).await;
    let work = db.claim_one(parent.attempt.agent).await;
    assert_eq!(work.execution.id, made.id);
    let artifact = report(db, &work, &format!("junit-{index}.xml"), "aa").await;
    let state = match outcome {
        Ended::Passed => TestState::Passed,
        _ => TestState::Failed,
    };
    let number = u8::try_from(index).expect("few");
    keep(db, artifact, &[case(number, state)]).await;
    end(db, &work, outcome).await;
    let executions = db.store.executions(db.project);
    executions.get(made.id).await.expect("it is there")
}

async fn next(db: &Database, agent: AgentId, rerun: Option<ExecutionId>) -> Assignment {
    db.submit_with("tree", |new| {
        new.rerun = rerun.map(|execution| Rerun {
            execution,
            name: "tree-1".to_owned(),
            failed: true,
        });
    })
    .await;
    db.claim_one(agent).await
}

/// A parent with a child that has passed and one that has failed, and a rerun of it.
async fn rerun(db: &Database) -> (Assignment, [Execution; 2], Assignment) {
    let agent = db.new_agent("east").await;
    let first = next(db, agent, None).await;
    let passed = child(db, &first, 0, Ended::Passed).await;
    let failed = child(db, &first, 1, Ended::Failed).await;
    end(db, &first, Ended::Failed).await;
    let second = next(db, agent, Some(first.execution.id)).await;
    (first, [passed, failed], second)
}

async fn an_execution_says_which_one_it_runs_again(db: Database) {
    let agent = db.new_agent("east").await;
    let first = next(&db, agent, None).await;
    assert_eq!(first.execution.rerun, None);
    let second = next(&db, agent, Some(first.execution.id)).await;
    let executions = db.store.executions(db.project);
    let read = executions
        .get(second.execution.id)
        .await
        .expect("it is there");
    let rerun = read.rerun.expect("it is a rerun");
    assert_eq!(rerun.execution, first.execution.id);
    assert_eq!((rerun.name.as_str(), rerun.failed), ("tree-1", true));
    let events = executions.events(read.id, 0, 1).await.expect("events");
    assert!(
        events.items[0]
            .message
            .ends_with("to run what failed of tree-1 again"),
        "{:?}",
        events.items[0]
    );
}

async fn the_newest_of_each_former_child_is_known_again(db: Database) {
    let agent = db.new_agent("east").await;
    let first = next(&db, agent, None).await;
    let before = child(&db, &first, 0, Ended::Failed).await;
    let again = start(&db, origin(&first, "s2_try2", 0, "same")).await;
    let executions = db.store.executions(db.project);
    let found = executions.former_children(first.execution.id, "s2", &[0, 1]);
    let found = found.await.expect("a list");
    let ids: Vec<_> = found.iter().map(|one| one.execution.id).collect();
    assert_eq!(ids, [again.id], "the second try, not {}", before.id);
    for (step, index) in [("s1", 0), ("s2", 1)] {
        let none = executions
            .former_children(first.execution.id, step, &[index])
            .await;
        assert_eq!(none.expect("a list"), [], "{step} {index}");
    }
    let known = |other: Origin| found[0].origin.is_same(&other);
    assert!(known(origin(&first, "s2", 0, "same")));
    assert!(!known(origin(&first, "s2", 0, "other")));
    // A balanced shard tells how long it took the last time.
    let described = Origin {
        description: "1 of 2: 3 files, about 2m10s".to_owned(),
        ..origin(&first, "s2", 0, "same")
    };
    assert!(known(described));
    // From before inputs were noted: nobody knows what it was given.
    let old = Origin {
        inputs: None,
        ..origin(&first, "s2", 0, "")
    };
    assert!(!known(old.clone()));
    assert!(!old.is_same(&old.clone()) && !old.is_again(&old.clone()));
    // With another config it is the one from before, and not the same.
    let one = origin(&first, "s2", 0, "place.config");
    let other = origin(&first, "s2", 0, "place.other");
    assert!(one.is_again(&other) && !one.is_same(&other));
    assert!(!one.is_again(&origin(&first, "s2", 0, "another.config")));
}

async fn what_is_taken_over_is_a_child_and_its_tests_count(db: Database) {
    let (first, [passed, failed], second) = rerun(&db).await;
    let executions = db.store.executions(db.project);
    let taken = [(origin(&second, "s2", 0, "same"), passed.id)];
    take_over(&db, &second, &taken).await;
    take_over(&db, &second, &taken).await;
    let again = start(&db, origin(&second, "s2", 1, "same")).await;

    let children = executions.children(second.attempt.id).await.expect("two");
    let ids: Vec<_> = children.iter().map(|child| child.execution.id).collect();
    assert_eq!(ids, [passed.id, again.id], "by group and index");
    let taken = children[0].execution.origin.clone().expect("it has one");
    assert!(taken.taken_over);
    assert_eq!(taken.parent, second.execution.id);
    assert_eq!(children[0].execution.state(), State::Passed);
    let details = executions
        .details(second.execution.id)
        .await
        .expect("it is there");
    assert_eq!(details.children.len(), 2);

    let tests = db.store.tests(db.project);
    let counted = |id| async move { tests.totals(id).await.expect("totals").counts };
    let counts = counted(second.execution.id).await;
    assert_eq!((counts.passed, counts.failed), (1, 0));
    let tests = db.store.tests(db.project);
    let all = Filter::default();
    let page = tests.list(second.execution.id, &all, None, 10);
    let page = page.await.expect("a list");
    let of: Vec<_> = page.items.iter().map(|case| case.execution).collect();
    assert_eq!(of, [passed.id]);
    let reports = db.store.reports(db.project);
    let reports = reports.list(second.execution.id).await;
    assert_eq!(reports.expect("a list").len(), 1);
    // The first one is as it was.
    let page = tests.list(first.execution.id, &all, None, 10);
    assert_eq!(page.await.expect("a list").items.len(), 2);

    let other = executions.has_taken_over(second.execution.id, failed.id);
    assert!(!other.await.expect("an answer"));
    let this = executions.has_taken_over(second.execution.id, passed.id);
    assert!(this.await.expect("an answer"));
    let failed = tests.failed(failed.id, 10).await.expect("a list");
    assert_eq!(failed.tests.len(), 1);
    assert_eq!(failed.tests[0].report, "junit-1.xml");
    assert_eq!(failed.tests[0].format, "junit");
    let none = tests.failed(passed.id, 10).await.expect("a list");
    assert_eq!(none, Failed::default());
}

async fn what_was_taken_over_before_is_taken_over_again(db: Database) {
    let (_, [passed, _], second) = rerun(&db).await;
    let executions = db.store.executions(db.project);
    let taken = [(origin(&second, "s2", 0, "same"), passed.id)];
    take_over(&db, &second, &taken).await;
    let third = next(&db, second.attempt.agent, Some(second.execution.id)).await;
    let found = executions.former_children(second.execution.id, "s2", &[0]);
    let found = found.await.expect("a list");
    assert_eq!(found[0].execution.id, passed.id);
    assert!(found[0].origin.is_same(&origin(&third, "s2", 0, "same")));
    let taken = [(origin(&third, "s2", 0, "same"), passed.id)];
    take_over(&db, &third, &taken).await;
    let tests = db.store.tests(db.project);
    let totals = tests.totals(third.execution.id).await;
    assert_eq!(totals.expect("totals").counts.passed, 1);
}

async fn what_is_deleted_is_no_child_any_more(db: Database) {
    let (first, [passed, _], second) = rerun(&db).await;
    let executions = db.store.executions(db.project);
    let taken = [(origin(&second, "s2", 0, "same"), passed.id)];
    take_over(&db, &second, &taken).await;
    db.execute("UPDATE attempts SET log_ended = TRUE").await;
    let retained = db.store.retained(db.project);
    let first = first.execution.id;
    let kept = retained.delete(first, Part::All, false, None).await;
    assert_eq!(kept.expect("an answer"), Outcome::Kept(Kept::TakenOver));
    end(&db, &second, Ended::Passed).await;
    let gone = retained.delete(first, Part::All, false, None).await;
    let gone = gone.expect("an answer");
    assert!(matches!(gone, Outcome::Deleted(_)), "{gone:?}");
    let children = executions.children(second.attempt.id).await;
    assert_eq!(children.expect("a list"), []);
    let tests = db.store.tests(db.project);
    let totals = tests.totals(second.execution.id).await;
    assert_eq!(totals.expect("totals").counts.passed, 0);
    // Nor is it taken over once more.
    let third = next(&db, second.attempt.agent, Some(second.execution.id)).await;
    let gone = executions.take_over(third.attempt.lease(), &taken).await;
    assert!(gone.expect_err("it is gone").is_not_found());
}

async fn only_what_the_live_attempt_has_taken_over_counts(db: Database) {
    let (_, [passed, _], second) = rerun(&db).await;
    let executions = db.store.executions(db.project);
    let taken = [(origin(&second, "s2", 0, "same"), passed.id)];
    let old = second.attempt.lease();
    executions.take_over(old, &taken).await.expect("noted");
    let lost = db.store.agent(second.attempt.agent);
    let lost = lost.decline(old, "NO_ROOM", "no room").await;
    lost.expect("it is declined");
    let west = db.new_agent("west").await;
    let again = db.claim_one(west).await;
    assert_eq!(again.execution.id, second.execution.id);

    let late = executions.take_over(old, &taken).await;
    let late = late.expect_err("another attempt has the lease");
    assert!(
        matches!(
            late,
            Error::IllegalTransition(IllegalTransition::LeaseLost { epoch: 1 })
        ),
        "{late:?}"
    );
    let tests = db.store.tests(db.project);
    let passed_tests = async || {
        let totals = tests.totals(second.execution.id).await;
        totals.expect("totals").counts.passed
    };
    assert_eq!(passed_tests().await, 1);
    // The new attempt starts all of them.
    let new = again.attempt.lease();
    executions.take_over(new, &[]).await.expect("noted");
    assert_eq!(passed_tests().await, 0);
    let details = executions.details(second.execution.id).await;
    assert_eq!(details.expect("it is there").children, []);
    let has = executions.has_taken_over(second.execution.id, passed.id);
    assert!(!has.await.expect("an answer"));
    // Or it takes over too.
    let taken = [(origin(&again, "s2", 0, "same"), passed.id)];
    executions.take_over(new, &taken).await.expect("noted");
    assert_eq!(passed_tests().await, 1);
}

async fn what_was_skipped_beside_a_failed_test_is_told_with_it(db: Database) {
    let agent = db.new_agent("east").await;
    let work = next(&db, agent, None).await;
    let first = report(&db, &work, "first.xml", "aa").await;
    let other = report(&db, &work, "other.xml", "bb").await;
    let skipped = [case(4, TestState::Skipped), case(5, TestState::Passed)];
    keep(&db, other, &skipped).await;
    let tests = db.store.tests(db.project);
    let told = async |limit| {
        let failed = tests.failed(work.execution.id, limit).await;
        let failed = failed.expect("a list").tests.into_iter();
        failed.map(|one| one.test.name).collect::<Vec<_>>()
    };
    assert_eq!(told(10).await, [""; 0], "nothing failed");
    let cases = [
        case(1, TestState::Skipped),
        case(2, TestState::Failed),
        case(3, TestState::Passed),
    ];
    keep(&db, first, &cases).await;
    db.execute("UPDATE reports SET failed = 1 WHERE path = 'first.xml'")
        .await;
    let failed = tests.failed(work.execution.id, 10).await;
    assert_eq!(Vec::from_iter(failed.expect("a list").steps), ["s1"]);
    // The step has left the other one too.
    assert_eq!(told(10).await, ["test_2", "test_1", "test_4"]);
    assert_eq!(told(1).await, ["test_2", "test_1"], "one more than wanted");
}

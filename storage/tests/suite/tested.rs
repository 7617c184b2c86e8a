//! Finding executions by their tests, on every database alike.

use muster_core::{id::ExecutionId, test_history::TestState};
use muster_storage::{
    execution::{Execution, Filter, Origin, Role},
    work::Assignment,
};

use crate::{
    fixture::Database,
    test_cases::{case, keep, report},
};

on_every_database!(
    a_test_finds_the_executions_that_have_it_newest_first,
    a_test_of_a_child_finds_those_above_it_that_are_shown,
    pages_of_a_test_meet_without_gap,
);

async fn run(db: &Database, origin: Option<Origin>) -> Assignment {
    db.submit_with("smoke", |new| new.origin = origin).await;
    let agent = db.new_agent(&format!("a{}", uuid::Uuid::new_v4())).await;
    db.claim_one(agent).await
}

async fn tested(db: &Database, work: &Assignment, tests: &[(u8, TestState)]) -> ExecutionId {
    let artifact = report(db, work, "junit.xml", "aa").await;
    let cases: Vec<_> = tests.iter().map(|(n, state)| case(*n, *state)).collect();
    keep(db, artifact, &cases).await;
    work.execution.id
}

fn filter(tests: &[u8], states: &[TestState]) -> Filter {
    Filter {
        tests: Some(tests.iter().map(|number| [*number; 16]).collect()),
        test_states: states.to_vec(),
        ..Filter::default()
    }
}

async fn find(db: &Database, filter: &Filter) -> Vec<ExecutionId> {
    let executions = db.store.executions(db.project);
    let page = executions.list(filter, None, 100).await.expect("a page");
    assert_eq!(page.next, None, "there are few");
    page.items.iter().map(|it: &Execution| it.id).collect()
}

async fn a_test_finds_the_executions_that_have_it_newest_first(db: Database) {
    use TestState::{Error, Failed, Passed, Skipped};
    let one = run(&db, None).await;
    let one = tested(&db, &one, &[(1, Passed), (2, Failed)]).await;
    let two = run(&db, None).await;
    let two = tested(&db, &two, &[(1, Failed)]).await;
    let three = run(&db, None).await;
    let three = tested(&db, &three, &[(1, Error), (3, Skipped)]).await;
    for (tests, states, expected) in [
        (&[1][..], &[][..], &[three, two, one][..]),
        (&[1], &[Failed], &[two]),
        (&[1], &[Failed, Error], &[three, two]),
        (&[1], &[Passed], &[one]),
        (&[1], &[Passed, Failed], &[two, one]),
        (&[2, 3], &[], &[three, one]),
        (&[2, 3], &[Failed], &[one]),
        (&[9], &[], &[]),
        (&[], &[], &[]),
    ] {
        assert_eq!(
            find(&db, &filter(tests, states)).await,
            expected,
            "{tests:?} {states:?}"
        );
    }
    let other = Filter {
        workflow: Some("other".to_owned()),
        ..filter(&[1], &[])
    };
    assert_eq!(find(&db, &other).await, []);
    let foreign = db.new_project("another").await;
    let executions = db.store.executions(foreign);
    let page = executions.list(&filter(&[1], &[]), None, 10).await;
    assert_eq!(page.expect("a page").items, []);
}

async fn a_test_of_a_child_finds_those_above_it_that_are_shown(db: Database) {
    let top = run(&db, None).await;
    let below = |role: Role, index: i64| Origin {
        parent: top.execution.id,
        attempt: top.attempt.id,
        group: "g".to_owned(),
        index,
        step: "s1".to_owned(),
        role,
        description: String::new(),
        inputs: None,
        taken_over: false,
    };
    let worker = run(&db, Some(below(Role::Worker, 0))).await;
    tested(&db, &worker, &[(1, TestState::Failed)]).await;
    let member = run(&db, Some(below(Role::Member, 1))).await;
    let member = tested(&db, &member, &[(2, TestState::Failed)]).await;
    let top = top.execution.id;
    assert_eq!(find(&db, &filter(&[1], &[])).await, [top]);
    assert_eq!(find(&db, &filter(&[2], &[])).await, [member, top]);
    let failed = filter(&[2], &[TestState::Failed]);
    assert_eq!(find(&db, &failed).await, [member, top]);
    let started = Filter {
        parent: Some(top),
        ..filter(&[1], &[])
    };
    assert_eq!(find(&db, &started).await, [worker.execution.id]);
}

async fn pages_of_a_test_meet_without_gap(db: Database) {
    let mut all = Vec::new();
    for number in 0..7 {
        let work = run(&db, None).await;
        let test = u8::from(number % 2 == 0);
        let id = tested(&db, &work, &[(test, TestState::Passed)]).await;
        if test == 1 {
            all.insert(0, id);
        }
    }
    let executions = db.store.executions(db.project);
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = executions.list(&filter(&[1], &[]), after, 2).await;
        let page = page.expect("a page");
        seen.extend(page.items.iter().map(|it| it.id));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen, all);
}

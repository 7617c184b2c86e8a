//! Accepting, finding, listing and canceling executions.

use std::collections::BTreeSet;

use bytes::Bytes;
use muster_core::{
    execution::{Effect, Phase, State, Stop},
    id::{ExecutionId, ProjectId},
};
use muster_storage::{
    Error, Request, Store,
    execution::{Filter, Identity, NewExecution, StepState},
    work::Reported,
};

use crate::fixture::{Database, at, map, new_execution, request};

on_every_database!(
    an_accepted_execution_is_stored_whole,
    a_repeated_request_accepts_one_execution,
    numbers_count_from_one_for_each_workflow,
    numbers_are_given_once_to_writers_of_several_servers,
    a_number_is_taken_with_the_execution_that_gets_it,
    what_another_server_has_changed_is_read_again,
    a_list_shows_what_its_filter_asks_for,
    pages_are_stable_while_executions_arrive,
    a_cancel_in_the_queue_ends_it_at_once,
    a_cancel_under_a_lease_asks_the_agent,
    a_repeated_cancel_changes_nothing,
    events_are_listed_in_pages,
);

async fn an_accepted_execution_is_stored_whole(db: Database) {
    let executions = db.store.executions(db.project);
    let accepted = db
        .submit_with("smoke", |new| {
            new.tags = map(&[("branch", "main")]);
            new.labels = map(&[("team", "a")]);
            new.config = map(&[("url", "http://x\0y")]);
            new.warnings = vec!["no effect here".to_owned()];
            new.target
                .matches
                .insert("zone".to_owned(), vec!["a".to_owned()]);
            new.priority = 3;
        })
        .await;
    assert_eq!(accepted.state(), State::Queued);
    assert_eq!(accepted.display_name, "smoke-1");
    assert_eq!(executions.get(accepted.id).await.expect("by id"), accepted);
    assert_eq!(executions.find("smoke-1").await.expect("by name"), accepted);
    let uid = accepted.id.to_string();
    assert_eq!(executions.find(&uid).await.expect("by uid"), accepted);
    let plan = executions.plan(accepted.id).await.expect("the plan");
    assert_eq!(&plan[..], b"{\"version\":1}");
    let resolved = executions
        .resolved(accepted.id)
        .await
        .expect("the workflow");
    assert_eq!(resolved.as_deref(), Some("kind: TestWorkflow\n"));
    let details = executions.details(accepted.id).await.expect("details");
    assert_eq!(details.execution, accepted);
    assert_eq!(details.steps.len(), 2);
    assert_eq!(details.attempts, []);
}

async fn a_repeated_request_accepts_one_execution(db: Database) {
    let executions = db.store.executions(db.project);
    let request = request("CreateExecution", 1);
    let none = executions.replay(&request).await.expect("a look");
    assert_eq!(none, None);
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (store, project, request) = (db.store.clone(), db.project, request.clone());
        calls.spawn(async move {
            let executions = store.executions(project);
            let identity = executions.reserve("smoke").await.expect("a number");
            executions
                .create(new_execution(identity), Some(&request))
                .await
        });
    }
    let mut made = BTreeSet::new();
    let mut first = 0;
    for result in calls.join_all().await {
        let written = result.expect("every call succeeds");
        made.insert(written.value.id);
        first += i32::from(!written.replayed);
    }
    assert_eq!((made.len(), first), (1, 1));
    let replayed = executions.replay(&request).await.expect("a look");
    assert_eq!(
        made.first().copied(),
        replayed.map(|execution| execution.id)
    );
    let listed = executions
        .list(&Filter::default(), None, 10)
        .await
        .expect("a list");
    assert_eq!(listed.items.len(), 1);

    let mut other = request;
    other.hash = [2; 32];
    let identity = executions.reserve("smoke").await.expect("a number");
    let refused = executions
        .create(new_execution(identity), Some(&other))
        .await;
    assert!(
        matches!(refused, Err(Error::RequestIdReused { .. })),
        "{refused:?}"
    );
    let refused = executions.replay(&other).await;
    assert!(
        matches!(refused, Err(Error::RequestIdReused { .. })),
        "{refused:?}"
    );
}

async fn numbers_count_from_one_for_each_workflow(db: Database) {
    let names: Vec<String> = [
        db.submit("a").await,
        db.submit("a").await,
        db.submit("b").await,
    ]
    .map(|execution| execution.display_name)
    .into();
    assert_eq!(names, ["a-1", "a-2", "b-1"]);
    let other = db.new_project("other").await;
    let identity = db
        .store
        .executions(other)
        .reserve("a")
        .await
        .expect("a number");
    assert_eq!(identity.number, 1);
}

async fn numbers_are_given_once_to_writers_of_several_servers(db: Database) {
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let store = db.another_store().await;
        for _ in 0..20 {
            let (store, project) = (store.clone(), db.project);
            calls.spawn(async move { store.executions(project).reserve("busy").await });
        }
    }
    let numbers: BTreeSet<i64> = calls
        .join_all()
        .await
        .into_iter()
        .map(|identity| identity.expect("contention is retried").number)
        .collect();
    assert_eq!(numbers, (1..=60).collect());
}

async fn a_number_is_taken_with_the_execution_that_gets_it(db: Database) {
    let create = |store: Store, request: Option<Request>, project| async move {
        let id = ExecutionId::generate();
        let identity = Identity::unnumbered(id, "w", store.clock().now());
        let new = NewExecution {
            plan: Bytes::new(),
            ..new_execution(identity)
        };
        let plan = |identity: &Identity| Ok(Bytes::from(format!("plan of {}", identity.number)));
        let executions = store.executions(project);
        executions.create_next(new, plan, request.as_ref()).await
    };
    // Several servers, some calls with the same request.
    let repeated = request("CreateExecution", 1);
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let store = db.another_store().await;
        for call in 0..20 {
            let request = (call % 5 == 0).then(|| repeated.clone());
            let request = request.unwrap_or_else(|| self::request("CreateExecution", 1));
            calls.spawn(create(store.clone(), Some(request), db.project));
        }
    }
    let mut numbers = BTreeSet::new();
    for written in calls.join_all().await {
        let made = written.expect("contention is retried").value;
        let number = made.number;
        assert_eq!(made.display_name, format!("w-{number}"));
        let plan = db.store.executions(db.project).plan(made.id).await;
        let plan = plan.expect("a plan");
        assert_eq!(plan, format!("plan of {number}").as_bytes());
        numbers.insert(number);
    }
    // Those that were made already have taken none: 48 and the one that all the others are.
    assert_eq!(numbers, (1..=49).collect());
    let missing = create(db.store.clone(), None, ProjectId::generate()).await;
    assert!(missing.expect_err("no project").is_not_found());
}

async fn what_another_server_has_changed_is_read_again(db: Database) {
    let other = db.another_store().await;
    // Known to this server: made here.
    let canceled = db.submit("w").await;
    let paused = db.submit("w").await;
    let executions = other.executions(db.project);
    let word = "elsewhere";
    let ended = executions.cancel(canceled.id, Stop::Orderly, word, None);
    ended.await.expect("canceled");
    executions
        .pause(paused.id, word, None)
        .await
        .expect("paused");
    let agent = db.new_agent("a").await;
    let given = db.store.agent(agent).claim(&db.claim(9)).await;
    let given = given.expect("a claim");
    assert_eq!(given.len(), 1, "one of them is over");
    let execution = &given[0].execution;
    assert_eq!(execution.id, paused.id);
    assert!(execution.lifecycle.pause.paused, "what the other one wrote");
    assert_eq!(given[0].plan, &b"{\"version\":1}"[..]);
    // Known to both: the other one reports, then this one again.
    let lease = given[0].attempt.lease();
    let first = other.agent(agent).report(at(lease, 1, Phase::Preparing));
    first.await.expect("told there");
    let second = db.store.agent(agent).report(at(lease, 2, Phase::Running));
    let Reported::Applied { changed, .. } = second.await.expect("told here") else {
        panic!("it is new");
    };
    let read = other.executions(db.project).get(paused.id).await;
    assert_eq!(changed.execution, read.expect("it is there"));
}

async fn a_list_shows_what_its_filter_asks_for(db: Database) {
    let executions = db.store.executions(db.project);
    db.submit_with("a", |new| new.tags = map(&[("x", "1"), ("y", "1")]))
        .await;
    db.submit_with("a", |new| new.tags = map(&[("x", "1")]))
        .await;
    let canceled = db.submit("b").await;
    let stop = executions
        .cancel(canceled.id, Stop::Orderly, "", None)
        .await;
    stop.expect("canceled");
    let names = async |filter: Filter| {
        let page = executions.list(&filter, None, 10).await.expect("a list");
        let items = page.items.into_iter();
        items.map(|item| item.display_name).collect::<Vec<_>>()
    };
    assert_eq!(names(Filter::default()).await, ["b-1", "a-2", "a-1"]);
    let filter = Filter {
        workflow: Some("a".to_owned()),
        ..Filter::default()
    };
    assert_eq!(names(filter).await, ["a-2", "a-1"]);
    let filter = Filter {
        states: vec![State::Canceled, State::Passed],
        ..Filter::default()
    };
    assert_eq!(names(filter).await, ["b-1"]);
    let filter = Filter {
        tags: map(&[("x", "1"), ("y", "1")]),
        ..Filter::default()
    };
    assert_eq!(names(filter).await, ["a-1"]);
    let filter = Filter {
        tags: map(&[("x", "2")]),
        ..Filter::default()
    };
    assert_eq!(names(filter).await, [""; 0]);
}

async fn pages_are_stable_while_executions_arrive(db: Database) {
    let executions = db.store.executions(db.project);
    for _ in 0..7 {
        db.submit("w").await;
    }
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = executions
            .list(&Filter::default(), after, 3)
            .await
            .expect("a page");
        seen.extend(page.items.iter().map(|item| item.number));
        // One that arrives while somebody turns pages.
        db.submit("w").await;
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen, [7, 6, 5, 4, 3, 2, 1]);
}

async fn a_cancel_in_the_queue_ends_it_at_once(db: Database) {
    let executions = db.store.executions(db.project);
    let execution = db.submit("smoke").await;
    db.advance(5);
    let changed = executions
        .cancel(execution.id, Stop::Orderly, "not today", None)
        .await;
    let changed = changed.expect("canceled");
    assert_eq!(changed.execution.state(), State::Canceled);
    assert_eq!(changed.execution.message, "not today");
    assert_eq!(changed.execution.finish_time, Some(db.clock.now()));
    assert_eq!(changed.effects, []);
    let details = executions.details(execution.id).await.expect("details");
    assert_eq!(details.execution, changed.execution);
    assert!(
        details
            .steps
            .iter()
            .all(|step| step.state == StepState::Skipped)
    );
    let agent = db.new_agent("idle").await;
    let claimed = db.store.agent(agent).claim(&db.claim(5)).await;
    assert_eq!(
        claimed.expect("a claim"),
        [],
        "it is not in the queue any more"
    );
}

async fn a_cancel_under_a_lease_asks_the_agent(db: Database) {
    let executions = db.store.executions(db.project);
    let (_, assignment) = db.running().await;
    let id = assignment.execution.id;
    let lease = assignment.attempt.lease();
    let changed = executions
        .cancel(id, Stop::Orderly, "stop", None)
        .await
        .expect("asked");
    assert_eq!(changed.execution.state(), State::Assigned);
    assert_eq!(changed.effects, [Effect::StopAttempt(lease, Stop::Orderly)]);
    let changed = executions
        .cancel(id, Stop::Orderly, "again", None)
        .await
        .expect("asked");
    assert_eq!(changed.effects, [], "nothing new is asked for");
    assert_eq!(changed.execution.message, "stop");
    let changed = executions
        .cancel(id, Stop::Forced, "now", None)
        .await
        .expect("asked");
    assert_eq!(changed.effects, [Effect::StopAttempt(lease, Stop::Forced)]);
}

async fn a_repeated_cancel_changes_nothing(db: Database) {
    let executions = db.store.executions(db.project);
    let execution = db.submit("smoke").await;
    let request = request("CancelExecution", 1);
    let first = executions
        .cancel(execution.id, Stop::Orderly, "x", Some(&request))
        .await;
    let again = executions
        .cancel(execution.id, Stop::Orderly, "x", Some(&request))
        .await;
    assert_eq!(
        first.expect("canceled").execution,
        again.expect("repeated").execution
    );
}

async fn events_are_listed_in_pages(db: Database) {
    let executions = db.store.executions(db.project);
    let (_, assignment) = db.running().await;
    let id = assignment.execution.id;
    executions
        .cancel(id, Stop::Orderly, "stop", None)
        .await
        .expect("asked");
    let first = executions.events(id, 0, 2).await.expect("a page");
    let kinds: Vec<_> = first
        .items
        .iter()
        .map(|event| event.kind.as_str())
        .collect();
    assert_eq!(kinds, ["QUEUED", "ASSIGNED"]);
    assert_eq!(first.next, Some(2));
    let rest = executions.events(id, 2, 2).await.expect("the rest");
    assert_eq!(rest.items.len(), 1);
    assert_eq!(rest.items[0].kind, "CANCEL_REQUESTED");
    assert_eq!(rest.items[0].message, "stop");
    assert_eq!(rest.next, None);
}

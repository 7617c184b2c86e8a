//! Children: what was started is not left behind, whether it was heard of or not.

use std::time::Duration;

use muster_proto::runner::v1::{
    ChildStatus, ChildrenNews, Outcome, StepState, agent_message::Message, children_order::Order,
};
use muster_spec::{
    plan::{Operation, Parallel, Service, Strategy},
    schema::{Balance, Spec},
};

use serde_json::{Value, json};

use crate::{
    agent::{Heard, Manner},
    plan::{Changed as _, plan, step},
    run::Run,
};

/// Long enough for a conductor that does not wait to have ended.
const WHILE: Duration = Duration::from_millis(600);

fn service() -> Operation {
    Operation::Services {
        services: vec![Service {
            working_dir: None,
            service_dir: None,
            name: "db".to_owned(),
            env: Vec::new(),
            strategy: Strategy::default(),
            description: None,
            timeout: Some("300ms".to_owned()),
            transfer: Vec::new(),
            spec: Box::new(Spec::default()),
            readiness_probe: None,
            restarts: true,
        }],
        lasting: false,
    }
}

fn workers(paused: bool) -> Operation {
    Operation::Parallel(Box::new(Parallel {
        working_dir: None,
        worker_dir: None,
        env: Vec::new(),
        strategy: Strategy {
            count: Some("2".to_owned()),
            ..Strategy::default()
        },
        parallelism: None,
        fail_fast: false,
        paused,
        description: None,
        transfer: Vec::new(),
        fetch: Vec::new(),
        spec: Box::new(Spec::default()),
        spread: false,
    }))
}

/// Workers that split names of files by how long those take.
fn balanced(files: &[&str]) -> Operation {
    let Operation::Parallel(mut parallel) = workers(false) else {
        unreachable!("they are workers")
    };
    parallel.strategy.shards = [("files".to_owned(), files.into())].into();
    parallel.strategy.balance = Balance::Duration;
    Operation::Parallel(parallel)
}

/// Tells of the children of the group that was started.
fn tell(run: &Run, count: u32, change: impl Fn(&mut ChildStatus)) {
    let group = run
        .agent
        .heard()
        .children
        .iter()
        .find_map(|order| match order {
            Order::Start(start) => Some(start.group.clone()),
            _ => None,
        });
    let group = group.expect("something was started");
    let children = (0..count).map(|index| {
        let mut status = ChildStatus {
            group: group.clone(),
            index,
            display_name: format!("smoke-1.{group}.{index}"),
            ..ChildStatus::default()
        };
        change(&mut status);
        status
    });
    let children = children.collect();
    run.agent
        .order(Message::ChildrenNews(ChildrenNews { children }));
}

fn has_ended(status: &mut ChildStatus) {
    status.terminal = true;
    status.outcome = Outcome::Canceled.into();
}

async fn hears(run: &Run, what: &str, is: fn(&Order) -> bool) {
    let any = |heard: &Heard| heard.children.iter().any(is);
    run.agent.until(what, any).await;
}

async fn goes_on(run: &Run) {
    tokio::time::sleep(WHILE).await;
    assert!(run.agent.heard().completed.is_none(), "it waits for nobody");
}

/// What the workers of each order were given, and what they are called.
fn given(heard: &Heard) -> Vec<(Value, String)> {
    let started = heard.children.iter().filter_map(|order| match order {
        Order::Start(start) => Some(&start.instances),
        _ => None,
    });
    let instances = started.flatten().map(|one| {
        let variables: Value = serde_json::from_slice(&one.variables).expect("variables");
        (variables["shard"]["files"].clone(), one.description.clone())
    });
    instances.collect()
}

#[tokio::test]
async fn balanced_shards_are_asked_for_once_and_split_alike_again() {
    let manner = Manner {
        durations: [("a", 1000), ("b", 9000), ("c", 2000)]
            .map(|(value, millis)| (value.to_owned(), millis))
            .into(),
        ..Manner::default()
    };
    let files = ["a", "b", "c", "d"];
    let steps = vec![
        step("s1", vec![balanced(&files)]).timeout("300ms"),
        step("s2", vec![balanced(&files)])
            .timeout("300ms")
            .when("always"),
    ];
    let mut run = Run::with(&plan(steps), manner, &[]);
    for (group, stops) in [("s1", 1), ("s2", 2)] {
        let is_stopped = |heard: &Heard| {
            let stops_heard = heard.children.iter();
            let stops_heard = stops_heard.filter(|order| matches!(order, Order::Stop(_)));
            stops_heard.count() >= stops
        };
        run.agent.until("the stop", is_stopped).await;
        let children = (0..2).map(|index| {
            let mut status = ChildStatus {
                group: group.to_owned(),
                index,
                ..ChildStatus::default()
            };
            has_ended(&mut status);
            status
        });
        let children = children.collect();
        run.agent
            .order(Message::ChildrenNews(ChildrenNews { children }));
    }
    run.ends_as(Outcome::Failed).await;
    let heard = run.agent.heard();
    // `d` is new and takes the median.
    let split = [
        (json!(["b"]), "shard 1 of 2: 1 files, about 9.0s".to_owned()),
        (
            json!(["a", "c", "d"]),
            "shard 2 of 2: 3 files, about 5.0s".to_owned(),
        ),
    ];
    assert_eq!(given(&heard), [split.clone(), split].concat());
    assert_eq!(heard.weighed, [files.map(str::to_owned)]);
    let remarks = heard.remarks();
    for told in [
        "balanced by the durations of the last run: 3 of 4 values are known",
        "each shard takes about 5.0s to 9.0s",
        "shard 2 of 2: 3 files, about 5.0s",
    ] {
        assert!(remarks.contains(told), "{told}: {remarks}");
    }
}

#[tokio::test]
async fn shards_without_durations_are_split_evenly_and_that_is_told() {
    let steps = vec![step("s1", vec![balanced(&["a", "b", "c"])]).timeout("300ms")];
    let mut run = Run::start(&plan(steps));
    hears(&run, "the stop", |order| matches!(order, Order::Stop(_))).await;
    tell(&run, 2, has_ended);
    run.ends_as(Outcome::Failed).await;
    let heard = run.agent.heard();
    let split = [
        (json!(["a", "b"]), "shard 1 of 2".to_owned()),
        (json!(["c"]), "shard 2 of 2".to_owned()),
    ];
    assert_eq!(given(&heard), split);
    let remarks = heard.remarks();
    assert!(
        remarks.contains("shards are split evenly: no earlier run of this workflow"),
        "{remarks}"
    );
}

#[tokio::test]
async fn the_end_waits_for_services_of_which_nothing_was_heard_yet() {
    let mut run = Run::start(&plan(vec![step("s1", vec![service()])]));
    hears(&run, "the stop", |order| matches!(order, Order::Stop(_))).await;
    goes_on(&run).await;
    tell(&run, 1, has_ended);
    run.ends_as(Outcome::Failed).await;
    let heard = run.agent.heard();
    assert_eq!(heard.step("s1").reason, "SERVICE");
    let told = &heard.step("s1").message;
    assert!(
        told.contains("not ready within 300ms: 1 of 1 are not"),
        "{told}"
    );
}

#[tokio::test]
async fn a_timeout_waits_for_workers_of_which_nothing_was_heard_yet() {
    let steps = vec![step("s1", vec![workers(false)]).timeout("300ms")];
    let mut run = Run::start(&plan(steps));
    hears(&run, "the stop", |order| matches!(order, Order::Stop(_))).await;
    goes_on(&run).await;
    tell(&run, 1, has_ended);
    goes_on(&run).await;
    tell(&run, 2, has_ended);
    run.ends_as(Outcome::Failed).await;
    let state = run.agent.heard().step("s1").state();
    assert_eq!(state, StepState::TimedOut);
}

#[tokio::test]
async fn a_timeout_ends_the_wait_for_workers_that_are_to_go_on_together() {
    let manner = Manner {
        holds_children: true,
        ..Manner::default()
    };
    let steps = vec![step("s1", vec![workers(true)]).timeout("2s")];
    let mut run = Run::with(&plan(steps), manner, &[]);
    hears(&run, "the start", |order| matches!(order, Order::Start(_))).await;
    tell(&run, 2, |status| status.held = true);
    hears(&run, "the resume", |order| {
        matches!(order, Order::Resume(_))
    })
    .await;
    hears(&run, "the stop", |order| matches!(order, Order::Stop(_))).await;
    tell(&run, 2, has_ended);
    run.ends_as(Outcome::Failed).await;
    let state = run.agent.heard().step("s1").state();
    assert_eq!(state, StepState::TimedOut);
}

//! Children: what was started is not left behind, whether it was heard of or not.

use std::time::Duration;

use muster_proto::runner::v1::{
    ChildStatus, ChildrenNews, Outcome, StepState, agent_message::Message, children_order::Order,
};
use muster_spec::{
    plan::{Operation, Parallel, Service, Strategy},
    schema::Spec,
};

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

//! When a service without a probe counts as ready.

use std::time::{Duration, Instant};

use muster_proto::runner::v1::Outcome;
use muster_spec::plan::{Plan, ServiceRole};

use crate::{
    plan::{Changed as _, plan, shell},
    run::Run,
};

fn service(script: &str, restarts: u32) -> Plan {
    let mut step = shell("s1", script);
    if restarts > 0 {
        step = step.retry(restarts, "passed");
    }
    let role = ServiceRole {
        readiness_probe: None,
    };
    Plan {
        service: Some(role),
        ..plan(vec![step])
    }
}

#[tokio::test]
async fn a_service_without_a_probe_is_ready_when_it_has_lived_for_a_while() {
    let began = Instant::now();
    let mut run = Run::start(&service("echo up; exec sleep 600", 1000));
    run.agent
        .until("it is ready", |heard| heard.progress.ready)
        .await;
    assert!(began.elapsed() >= Duration::from_secs(1));
    run.agent.cancel(true);
    run.ends_as(Outcome::Canceled).await;
}

#[tokio::test]
async fn a_service_that_fails_at_once_is_never_ready() {
    let mut run = Run::start(&service("exit 1", 0));
    run.ends_as(Outcome::Failed).await;
    assert!(!run.agent.heard().progress.ready);
}

#[tokio::test]
async fn a_service_that_fails_at_once_each_time_is_given_up() {
    let mut run = Run::start(&service("echo again; exit 1", 1000));
    run.ends_as(Outcome::Failed).await;
    assert!(!run.agent.heard().progress.ready);
    assert_eq!(run.output("s1"), "again\n".repeat(5));
}

#[tokio::test]
async fn a_service_that_fails_once_is_ready_when_its_second_life_lasts() {
    let script = "test -e /data/first || { touch /data/first; exit 1; }; exec sleep 600";
    let mut run = Run::start(&service(script, 1000));
    run.agent
        .until("it is ready", |heard| heard.progress.ready)
        .await;
    run.agent.cancel(true);
    run.ends_as(Outcome::Canceled).await;
}

//! Batches: so many runs at once, through Muster and by hand, in turn.

use std::time::{Duration, Instant};

use anyhow::ensure;
use futures::future::try_join_all;
use muster_proto::v1::{ListExecutionsRequest, execution::State};
use muster_tests::{control_plane::ControlPlane, namespace::Namespace, run::PROJECT, wait::within};

use crate::by_hand::{self, IMAGE, Shape};

/// How often the state of a batch is asked for, the same for all kinds.
const POLL: Duration = Duration::from_millis(250);

/// Longest time of one batch.
const LIMIT: Duration = Duration::from_mins(10);

/// Seconds of each batch, in the order of the rounds.
#[derive(Debug, Default, serde::Serialize)]
pub(crate) struct Batches {
    /// Through Muster, until the last result is committed.
    pub(crate) muster: Vec<f64>,
    /// Bare Jobs of one container, until the last one is complete.
    pub(crate) one: Vec<f64>,
    /// Bare Jobs of two containers.
    pub(crate) two: Vec<f64>,
}

/// Runs `rounds` batches of each kind; every round begins with another kind.
pub(crate) async fn measure(
    server: &ControlPlane,
    namespace: &Namespace,
    runs: usize,
    rounds: usize,
) -> anyhow::Result<Batches> {
    // Images are pulled and caches filled before anything counts.
    muster(server, namespace, 2).await?;
    bare(namespace, 2, Shape::Two).await?;
    let mut batches = Batches::default();
    for round in 0..rounds {
        for turn in 0..3 {
            match (round + turn) % 3 {
                0 => {
                    let batch = bare(namespace, runs, Shape::One);
                    let seconds = within(LIMIT, "bare Jobs of one container", batch).await?;
                    batches.one.push(seconds);
                }
                1 => {
                    let batch = bare(namespace, runs, Shape::Two);
                    let seconds = within(LIMIT, "bare Jobs of two containers", batch).await?;
                    batches.two.push(seconds);
                }
                _ => {
                    let batch = muster(server, namespace, runs);
                    let seconds = within(LIMIT, "runs through Muster", batch).await?;
                    batches.muster.push(seconds);
                }
            }
        }
        eprintln!("round {}: {batches:.2?}", round + 1);
    }
    Ok(batches)
}

async fn bare(namespace: &Namespace, runs: usize, shape: Shape) -> anyhow::Result<f64> {
    let jobs = (0..runs).map(|number| by_hand::job(&format!("bare-{number}"), shape));
    let jobs = jobs.collect::<anyhow::Result<Vec<_>>>()?;
    let begin = Instant::now();
    try_join_all(jobs.iter().map(|job| by_hand::create(namespace, job))).await?;
    while by_hand::completed(namespace).await? < runs {
        tokio::time::sleep(POLL).await;
    }
    let seconds = begin.elapsed().as_secs_f64();
    by_hand::delete_all(namespace).await?;
    Ok(seconds)
}

async fn muster(server: &ControlPlane, namespace: &Namespace, runs: usize) -> anyhow::Result<f64> {
    let workflow = format!("no-op-{}", uuid::Uuid::new_v4().simple());
    let manifest = no_op(&workflow);
    let begin = Instant::now();
    let starts = (0..runs).map(|_| server.client.start(&manifest, None));
    try_join_all(starts).await?;
    loop {
        let request = ListExecutionsRequest {
            parent: PROJECT.to_owned(),
            page_size: 1000,
            workflow: workflow.clone(),
            ..ListExecutionsRequest::default()
        };
        let mut client = server.client.executions();
        let executions = client.list_executions(request).await?.into_inner();
        let mut passed = 0;
        for execution in &executions.executions {
            let state = execution.state();
            ensure!(
                !matches!(
                    state,
                    State::Failed | State::Aborted | State::Canceled | State::TimedOut
                ),
                "{}",
                muster_tests::run::describe(execution)
            );
            passed += usize::from(state == State::Passed);
        }
        if passed == runs {
            break;
        }
        tokio::time::sleep(POLL).await;
    }
    let seconds = begin.elapsed().as_secs_f64();
    namespace.expect_clean().await?;
    Ok(seconds)
}

/// A workflow of one step that prints one line.
pub(crate) fn no_op(name: &str) -> String {
    format!(
        "apiVersion: testworkflows.testkube.io/v1\n\
         kind: TestWorkflow\n\
         metadata:\n  name: {name}\n\
         spec:\n  steps:\n  - name: no-op\n    run:\n      image: {IMAGE}\n      \
         command: [/bin/echo, hello]\n"
    )
}

//! The work that is submitted all the time, each with one request id until a server has accepted
//! it.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use futures::future::join_all;
use muster_proto::v1::{
    CreateExecutionRequest, Execution, InlineWorkflow, create_execution_request::Source,
};
use muster_tests::run::{PROJECT, Run, is_terminal};
use rand::{SeedableRng as _, rngs::StdRng};
use tokio::time::{Instant, sleep, timeout};
use tonic::Code;
use uuid::Uuid;

use crate::{fleet::Fleet, options::Options, report::Report, shape::Shape};

/// How long a call may take until it is tried again, at another server.
const CALL: Duration = Duration::from_secs(10);
/// Between two looks at an execution.
const LOOK: Duration = Duration::from_millis(500);
/// How long what is under way may take when all faults are over.
const DRAIN: Duration = Duration::from_secs(7 * 60);

/// What was submitted, by name of its execution.
pub(crate) type Submitted = BTreeMap<String, Shape>;

/// Submits work until `end`, some at a time, and waits for the end of all of it.
pub(crate) async fn run(
    fleet: &Fleet,
    options: Options,
    end: Instant,
    report: &Report,
) -> anyhow::Result<Submitted> {
    let submitted = Mutex::new(Submitted::new());
    let lanes = (0..options.width).map(|lane| {
        let submitted = &submitted;
        async move {
            let mut dice = StdRng::seed_from_u64(options.seed.wrapping_add(lane + 1));
            while Instant::now() < end {
                let shape = Shape::any(&mut dice);
                let name = submit(fleet, shape, end + DRAIN).await?;
                note(submitted, &name, shape);
                report.submitted();
                follow(fleet, &name, shape, end + DRAIN).await?;
                report.ended();
            }
            anyhow::Ok(())
        }
    });
    for lane in join_all(lanes).await {
        lane?;
    }
    Ok(submitted
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner))
}

/// Remembers what was accepted.
fn note(submitted: &Mutex<Submitted>, name: &str, shape: Shape) {
    let mut all = submitted.lock().unwrap_or_else(PoisonError::into_inner);
    all.insert(name.to_owned(), shape);
}

/// Submits one, whatever becomes of the servers meanwhile; returns its name.
async fn submit(fleet: &Fleet, shape: Shape, limit: Instant) -> anyhow::Result<String> {
    let request = CreateExecutionRequest {
        parent: PROJECT.to_owned(),
        request_id: Uuid::new_v4().to_string(),
        source: Some(Source::Inline(InlineWorkflow {
            manifest: shape.manifest(),
            workflow: String::new(),
        })),
        ..CreateExecutionRequest::default()
    };
    let mut turn = usize::from(request.request_id.as_bytes()[0]);
    loop {
        let mut executions = fleet.client(turn).executions();
        let answer = timeout(CALL, executions.create_execution(request.clone())).await;
        match answer {
            Ok(Ok(response)) => {
                let execution = response.into_inner().execution;
                return Ok(execution.context("no execution")?.name);
            }
            Ok(Err(status)) if is_refusal(status.code()) => return Err(status.into()),
            Ok(Err(status)) if Instant::now() > limit => return Err(status.into()),
            Err(elapsed) if Instant::now() > limit => return Err(elapsed.into()),
            // The answer may be lost, so the same request is sent again.
            Ok(Err(_)) | Err(_) => sleep(LOOK).await,
        }
        turn += 1;
    }
}

/// Waits for the end of one, and asks for it where its shape says so.
async fn follow(fleet: &Fleet, name: &str, shape: Shape, limit: Instant) -> anyhow::Result<()> {
    let mut cancel = match shape {
        Shape::Canceled(after) => Some(Instant::now() + Duration::from_secs(after.into())),
        _ => None,
    };
    let mut last = Execution::default();
    for turn in 0.. {
        let run = Run::of(fleet.client(turn), name.to_owned());
        if let Ok(Ok(now)) = timeout(CALL, run.now()).await {
            if is_terminal(now.state()) {
                return Ok(());
            }
            last = now;
        }
        if cancel.is_some_and(|at| Instant::now() >= at)
            && let Ok(Ok(())) = timeout(CALL, run.cancel(false)).await
        {
            cancel = None;
        }
        anyhow::ensure!(
            Instant::now() < limit,
            "it does not end: {}",
            muster_tests::run::describe(&last)
        );
        sleep(LOOK).await;
    }
    Ok(())
}

/// Whether the answer would be the same again.
const fn is_refusal(code: Code) -> bool {
    matches!(
        code,
        Code::InvalidArgument | Code::Unauthenticated | Code::PermissionDenied | Code::NotFound
    )
}

//! `muster pause` and `muster resume`.

use clap::Args;
use muster_proto::v1::{
    Execution, PauseExecutionRequest, ResumeExecutionRequest, execution::State,
};

use crate::{
    arguments::Global, client, error::Error, exit::Exit, json, place::Session,
    terminal::escape::visible,
};

const PAUSE: &str = "\
Examples:
  muster pause smoke-3               stop all its processes; no timeout goes on meanwhile
  muster pause smoke-3 -m 'look at the page by hand'
  muster resume smoke-3              let it go on";

const RESUME: &str = "\
Examples:
  muster resume smoke-3              after `muster pause`, or at a step with `paused: true`
  muster resume smoke-3 && muster wait smoke-3";

/// Stop an execution for a while
///
/// Every process of its steps is stopped where it is, those of its workers and of the workflows of a
/// suite too; services go on. Timeouts of steps do not count the time. A deadline of the cluster
/// (activeDeadlineSeconds) does.
#[derive(Debug, Args)]
#[command(after_help = PAUSE)]
pub(crate) struct Pause {
    /// Name such as smoke-3, or id
    #[arg(value_name = "EXECUTION")]
    id: String,
    /// Shown to people as the reason
    #[arg(long, short, value_name = "TEXT", default_value = "")]
    message: String,
}

/// Let an execution go on that is paused
#[derive(Debug, Args)]
#[command(after_help = RESUME)]
pub(crate) struct Resume {
    /// Name such as smoke-3, or id
    #[arg(value_name = "EXECUTION")]
    id: String,
}

/// Runs `muster pause`.
pub(crate) async fn pause(arguments: Pause, global: &Global) -> Result<Exit, Error> {
    let session = Session::open(global).await?;
    let client = &session.client;
    let paused = async {
        let request = PauseExecutionRequest {
            name: client.execution_name(&arguments.id)?,
            request_id: client::request_id(),
            message: arguments.message,
        };
        client
            .call(async || client.executions().pause_execution(request.clone()).await)
            .await
    }
    .await;
    session.close().await;
    let execution = paused?.execution.unwrap_or_default();
    show(&execution, "pause", global)
}

/// Runs `muster resume`.
pub(crate) async fn resume(arguments: Resume, global: &Global) -> Result<Exit, Error> {
    let session = Session::open(global).await?;
    let client = &session.client;
    let resumed = async {
        let request = ResumeExecutionRequest {
            name: client.execution_name(&arguments.id)?,
            request_id: client::request_id(),
        };
        client
            .call(async || client.executions().resume_execution(request.clone()).await)
            .await
    }
    .await;
    session.close().await;
    let execution = resumed?.execution.unwrap_or_default();
    show(&execution, "resume", global)
}

fn show(execution: &Execution, asked: &str, global: &Global) -> Result<Exit, Error> {
    if global.json() {
        json::print(&json::Execution::new(execution, &[]))?;
        return Ok(Exit::Success);
    }
    let name = visible(&execution.display_name);
    let state = json::state(execution.state()).replace('_', " ");
    let text = match (asked, execution.state()) {
        ("pause", State::Paused) => format!("{name} is {state}\n"),
        _ => format!("{name} is {state}, {asked} requested\n"),
    };
    super::print(&text)?;
    Ok(Exit::Success)
}

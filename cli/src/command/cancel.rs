//! `muster cancel`.

use clap::Args;
use muster_proto::v1::{CancelExecutionRequest, Execution};

use crate::{
    arguments::Global,
    client::{self, Client},
    error::Error,
    exit::Exit,
    follow::is_terminal,
    json,
    place::Session,
};

const EXAMPLES: &str = "\
Examples:
  muster cancel smoke-3              `after` steps and `always` artifacts still run
  muster cancel smoke-3 --force      kill everything now
  muster cancel smoke-3 && muster wait smoke-3";

/// Cancel an execution
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Name such as smoke-3, or id
    #[arg(value_name = "EXECUTION")]
    id: String,
    /// Kill everything now, without `after` steps
    #[arg(long)]
    force: bool,
    /// Shown to people as the reason
    #[arg(long, short, value_name = "TEXT", default_value = "")]
    message: String,
}

/// Runs it.
pub(crate) async fn execute(arguments: Arguments, global: &Global) -> Result<Exit, Error> {
    let session = Session::open(global).await?;
    let canceled = async {
        let name = session.client.execution_name(&arguments.id)?;
        cancel(&session.client, name, arguments.force, &arguments.message).await
    }
    .await;
    session.close().await;
    let execution = canceled?;
    if global.json() {
        json::print(&json::Execution::new(&execution, &[]))?;
    } else {
        let name = crate::terminal::escape::visible(&execution.display_name);
        let state = json::state(execution.state()).replace('_', " ");
        let text = match is_terminal(execution.state()) {
            true => format!("{name} is {state}\n"),
            false => format!("{name} is {state}, cancel requested\n"),
        };
        super::print(&text)?;
    }
    Ok(Exit::Success)
}

/// Cancels an execution.
pub(crate) async fn cancel(
    client: &Client,
    name: String,
    force: bool,
    message: &str,
) -> Result<Execution, Error> {
    let request = CancelExecutionRequest {
        name,
        request_id: client::request_id(),
        force,
        message: message.to_owned(),
    };
    let response = client
        .call(async || client.executions().cancel_execution(request.clone()).await)
        .await?;
    Ok(response.execution.unwrap_or_default())
}

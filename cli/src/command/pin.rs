//! `muster pin` and `muster unpin`.

use clap::Args;
use muster_proto::v1::{Execution, PinExecutionRequest, UnpinExecutionRequest};

use crate::{
    arguments::Global, client, error::Error, exit::Exit, json, place::Session,
    terminal::escape::visible,
};

const PIN: &str = "\
Examples:
  muster pin smoke-3                 keep it, with its log and its artifacts
  muster pin suite-7 -m 'evidence for the incident of May'
  muster unpin smoke-3               leave it to the retention again";

const UNPIN: &str = "\
Examples:
  muster unpin smoke-3
  muster unpin smoke-3 && muster delete smoke-3";

/// Keep an execution whatever the retention is
///
/// Its log, its artifacts and all that it has started stay with it, until `muster unpin`. A second pin
/// takes the place of the first. `muster get` and `muster ls` show pins.
#[derive(Debug, Args)]
#[command(after_help = PIN)]
pub(crate) struct Pin {
    /// Name such as smoke-3, or id
    #[arg(value_name = "EXECUTION")]
    id: String,
    /// Why, for people
    #[arg(long, short, value_name = "TEXT", default_value = "")]
    message: String,
}

/// Leave a pinned execution to the retention again
#[derive(Debug, Args)]
#[command(after_help = UNPIN)]
pub(crate) struct Unpin {
    /// Name such as smoke-3, or id
    #[arg(value_name = "EXECUTION")]
    id: String,
}

/// Runs `muster pin`.
pub(crate) async fn pin(arguments: Pin, global: &Global) -> Result<Exit, Error> {
    let session = Session::open(global).await?;
    let client = &session.client;
    let pinned = async {
        let request = PinExecutionRequest {
            name: client.execution_name(&arguments.id)?,
            request_id: client::request_id(),
            message: arguments.message,
        };
        client
            .call(async || client.executions().pin_execution(request.clone()).await)
            .await
    }
    .await;
    session.close().await;
    show(
        &pinned?.execution.unwrap_or_default(),
        "is pinned: it stays until `muster unpin`",
        global,
    )
}

/// Runs `muster unpin`.
pub(crate) async fn unpin(arguments: Unpin, global: &Global) -> Result<Exit, Error> {
    let session = Session::open(global).await?;
    let client = &session.client;
    let free = async {
        let request = UnpinExecutionRequest {
            name: client.execution_name(&arguments.id)?,
            request_id: client::request_id(),
        };
        client
            .call(async || client.executions().unpin_execution(request.clone()).await)
            .await
    }
    .await;
    session.close().await;
    show(
        &free?.execution.unwrap_or_default(),
        "is not pinned",
        global,
    )
}

fn show(execution: &Execution, what: &str, global: &Global) -> Result<Exit, Error> {
    if global.json() {
        json::print(&json::Execution::new(execution, &[]))?;
    } else {
        let name = visible(&execution.display_name);
        super::print(&format!("{name} {what}\n"))?;
    }
    Ok(Exit::Success)
}

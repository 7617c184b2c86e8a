//! `muster wait`: until executions are finished.

use std::time::Duration;

use clap::Args;
use muster_proto::v1::Execution;
use serde::Serialize;
use tokio::task::JoinSet;

use super::server::duration;
use crate::{
    arguments::Global,
    client::Client,
    error::Error,
    exit::{self, Exit},
    follow::{Follower, Update, What, is_terminal},
    json,
    place::Session,
    report,
};

/// Executions that can be waited for at once.
const MAX_EXECUTIONS: usize = 1000;

/// Wait until executions are finished
///
/// Ends with the exit code of the first one, in the given order, that did not pass.
#[derive(Debug, Args)]
#[command(after_help = examples())]
pub(crate) struct Arguments {
    /// Names such as smoke-3, or ids
    #[arg(required = true, value_name = "EXECUTION")]
    ids: Vec<String>,
    /// Leave after this time; the executions go on
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    timeout: Option<Duration>,
}

#[derive(Serialize)]
struct Executions {
    executions: Vec<json::Execution>,
}

fn examples() -> String {
    format!(
        "Examples:\n  muster wait smoke-3\n  muster wait smoke-3 smoke-4 || echo not all passed\n  muster wait smoke-3 --timeout 15m\n\n{}",
        exit::TABLE
    )
}

/// Runs it.
pub(crate) async fn execute(arguments: Arguments, global: &Global) -> Result<Exit, Error> {
    if arguments.ids.len() > MAX_EXECUTIONS {
        let message = format!("at most {MAX_EXECUTIONS} executions can be waited for at once");
        return Err(Error::Usage(message));
    }
    let session = Session::open(global).await?;
    let all = within(
        arguments.timeout,
        wait_for_all(&session.client, &arguments.ids, global),
    )
    .await;
    session.close().await;
    let all = all?;
    let exits = all.iter().map(|one| Exit::of_state(one.state()));
    let exit = exits.into_iter().find(|exit| *exit != Exit::Success);
    if global.json() {
        let executions = all.iter().map(|one| json::Execution::new(one, &[]));
        json::print(&Executions {
            executions: executions.collect(),
        })?;
    }
    Ok(exit.unwrap_or(Exit::Success))
}

/// The outcome of `waiting`, or an error when `limit` passes before.
async fn within<T>(
    limit: Option<Duration>,
    waiting: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    match limit {
        None => waiting.await,
        Some(limit) => tokio::time::timeout(limit, waiting)
            .await
            .unwrap_or(Err(Error::Waiting(limit))),
    }
}

async fn wait_for_all(
    client: &Client,
    ids: &[String],
    global: &Global,
) -> Result<Vec<Execution>, Error> {
    let mut tasks = JoinSet::new();
    for (index, id) in ids.iter().enumerate() {
        let name = client.execution_name(id)?;
        let client = client.clone();
        tasks.spawn(async move { (index, wait(&client, &name).await) });
    }
    let mut done = Vec::with_capacity(ids.len());
    while let Some(task) = tasks.join_next().await {
        let (index, execution) = task.map_err(|error| Error::Local(error.to_string()))?;
        let execution = execution?;
        if !global.json() {
            super::print(&report::heading(&execution, &global.stdout()))?;
        }
        done.push((index, execution));
    }
    done.sort_by_key(|(index, _)| *index);
    Ok(done.into_iter().map(|(_, execution)| execution).collect())
}

/// Waits for the end of one execution.
pub(super) async fn wait(client: &Client, name: &str) -> Result<Execution, Error> {
    let mut follower = Follower::start(client, name, What::States);
    while let Some(update) = follower.next().await {
        match update {
            Update::Execution(execution) if is_terminal(execution.state()) => {
                return Ok(*execution);
            }
            Update::Failed(error) => return Err(error),
            Update::Disconnected(cause) => {
                tracing::warn!(cause, "the connection is lost, trying again");
            }
            _ => {}
        }
    }
    Err(Error::Corrupt("the server stopped telling".to_owned()))
}

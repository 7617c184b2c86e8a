//! `muster delete EXECUTION`.

use muster_proto::v1::DeleteExecutionRequest;
use serde::Serialize;

use crate::{
    arguments::Global,
    client::request_id,
    error::Error,
    exit::Exit,
    json,
    place::Session,
    terminal::{escape::visible, measure},
};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Deleted {
    executions: i64,
    log_bytes: i64,
    artifact_bytes: i64,
}

/// Deletes an execution with all that it has started.
pub(crate) async fn execution(id: &str, force: bool, global: &Global) -> Result<Exit, Error> {
    let session = Session::open(global).await?;
    let client = &session.client;
    let deleted = async {
        let request = DeleteExecutionRequest {
            name: client.execution_name(id)?,
            request_id: request_id(),
            force,
        };
        client
            .call(async || client.executions().delete_execution(request.clone()).await)
            .await
    }
    .await;
    session.close().await;
    let deleted = deleted?;
    if global.json() {
        json::print(&Deleted {
            executions: deleted.executions,
            log_bytes: deleted.log_bytes,
            artifact_bytes: deleted.artifact_bytes,
        })?;
        return Ok(Exit::Success);
    }
    let others = match deleted.executions.saturating_sub(1) {
        0 => String::new(),
        others => format!(" with {others} that it had started"),
    };
    super::print(&format!(
        "{} deleted{others}: {} of logs, {} of artifacts\n",
        visible(id),
        measure::size(deleted.log_bytes),
        measure::size(deleted.artifact_bytes),
    ))?;
    Ok(Exit::Success)
}

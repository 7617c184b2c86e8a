//! Calls that a client gets wrong, or makes twice.

use anyhow::ensure;
use muster_proto::v1::{
    CreateExecutionRequest, GetExecutionRequest, InlineWorkflow, ListExecutionsRequest,
    create_execution_request::Source, execution::State,
};
use muster_tests::{
    agent::Agent,
    control_plane::ControlPlane,
    run::{Client, PROJECT},
};
use tonic::Code;
use uuid::Uuid;

use crate::workflow::HELLO;

#[tokio::test(flavor = "multi_thread")]
async fn call_without_a_valid_token_is_refused() -> anyhow::Result<()> {
    let server = ControlPlane::start().await?;
    let stranger = Client::new(&server.url, None, "mst_not-a-token")?;
    let request = ListExecutionsRequest {
        parent: PROJECT.to_owned(),
        ..ListExecutionsRequest::default()
    };
    let refused = stranger.executions().list_executions(request).await;
    ensure!(refused.is_err_and(|status| status.code() == Code::Unauthenticated));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn token_of_an_agent_opens_no_service_of_people() -> anyhow::Result<()> {
    let server = ControlPlane::start().await?;
    let token = server.client.create_agent("only", &[]).await?;
    let agent = Client::new(&server.url, None, &token)?;
    let request = ListExecutionsRequest {
        parent: PROJECT.to_owned(),
        ..ListExecutionsRequest::default()
    };
    let refused = agent.executions().list_executions(request).await;
    ensure!(refused.is_err_and(|status| {
        matches!(
            status.code(),
            Code::PermissionDenied | Code::Unauthenticated
        )
    }));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn same_request_id_returns_the_same_execution() -> anyhow::Result<()> {
    let server = ControlPlane::start().await?;
    let request = CreateExecutionRequest {
        parent: PROJECT.to_owned(),
        request_id: Uuid::new_v4().to_string(),
        source: Some(Source::Inline(InlineWorkflow {
            manifest: HELLO.to_owned(),
            workflow: String::new(),
        })),
        ..CreateExecutionRequest::default()
    };
    let mut client = server.client.executions();
    let first = client.create_execution(request.clone()).await?.into_inner();
    let second = client.create_execution(request.clone()).await?.into_inner();
    let name = |execution: &muster_proto::v1::CreateExecutionResponse| {
        execution.execution.as_ref().map(|e| e.name.clone())
    };
    ensure!(name(&first).is_some() && name(&first) == name(&second));

    let mut other = request;
    other.config.insert("changed".to_owned(), "yes".to_owned());
    let refused = client.create_execution(other).await;
    ensure!(refused.is_err_and(|status| status.code() == Code::InvalidArgument));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_field_is_refused_with_its_path() -> anyhow::Result<()> {
    let server = ControlPlane::start().await?;
    let manifest = HELLO.replace("shell:", "shel:");
    let refused = server.client.start(&manifest, None).await;
    let Err(status) = refused else {
        anyhow::bail!("accepted");
    };
    ensure!(status.code() == Code::InvalidArgument, "{status}");
    ensure!(status.message().contains("steps[0]"), "{status}");
    ensure!(status.message().contains("shel"), "{status}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn execution_of_nobody_is_not_found() -> anyhow::Result<()> {
    let server = ControlPlane::start().await?;
    let request = GetExecutionRequest {
        name: format!("{PROJECT}/executions/{}", Uuid::now_v7()),
    };
    let refused = server.client.executions().get_execution(request).await;
    ensure!(refused.is_err_and(|status| status.code() == Code::NotFound));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn oversized_manifest_is_refused_with_the_limit_named() -> anyhow::Result<()> {
    let server = ControlPlane::start().await?;
    let manifest = format!("{HELLO}\n# {}", "x".repeat(1 << 20));
    let refused = server.client.start(&manifest, None).await;
    let Err(status) = refused else {
        anyhow::bail!("accepted");
    };
    ensure!(status.code() == Code::ResourceExhausted, "{status}");
    ensure!(status.message().contains("1048576"), "{status}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_hold_every_execution_once() -> anyhow::Result<()> {
    let server = ControlPlane::start().await?;
    let _agent = Agent::on_this_machine(&server, "here").await?;
    let mut expected = Vec::new();
    for _ in 0..7 {
        let run = server.client.start(HELLO, None).await?;
        run.ends_as(State::Passed).await?;
        expected.push(run.name);
    }
    expected.reverse();
    let (mut seen, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListExecutionsRequest {
            parent: PROJECT.to_owned(),
            page_size: 3,
            page_token,
            ..ListExecutionsRequest::default()
        };
        let mut client = server.client.executions();
        let page = client.list_executions(request).await?.into_inner();
        ensure!(page.executions.len() <= 3);
        seen.extend(page.executions.into_iter().map(|execution| execution.name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    ensure!(seen == expected, "{seen:?}");
    Ok(())
}

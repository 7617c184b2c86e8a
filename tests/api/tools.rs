//! The examples with real test tools, where this machine has the tool.

use muster_tests::{
    agent::Agent,
    control_plane::ControlPlane,
    example::{BATS, Example, NODE, PYTEST},
};

async fn prove(example: Example) -> anyhow::Result<()> {
    if !example.has_its_tool_here().await {
        return Ok(());
    }
    let server = ControlPlane::start().await?;
    let _agent = Agent::on_this_machine(&server, "here").await?;
    example.prove(&server.client, None).await
}

#[tokio::test(flavor = "multi_thread")]
async fn tests_of_pytest_are_test_cases() -> anyhow::Result<()> {
    prove(PYTEST).await
}

#[tokio::test(flavor = "multi_thread")]
async fn tests_of_node_are_test_cases() -> anyhow::Result<()> {
    prove(NODE).await
}

#[tokio::test(flavor = "multi_thread")]
async fn tests_of_another_tool_that_writes_junit_are_test_cases() -> anyhow::Result<()> {
    prove(BATS).await
}

//! The examples with real test tools: what fails in a pod is found as a test case.

use muster_tests::{
    example::{BATS, Example, NODE, PYTEST},
    image,
    site::Site,
};

async fn prove(example: Example) -> anyhow::Result<()> {
    let Some(site) = Site::open("baseline").await? else {
        return Ok(());
    };
    let image = image::tools();
    example.prove(&site.server.client, image.as_deref()).await?;
    site.namespace.expect_clean().await
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

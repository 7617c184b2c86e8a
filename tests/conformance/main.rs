//! The language, row by row, on both backends: Muster's own manifests in `manifests/`, the examples
//! of the language guide, and the manifests that `MUSTER_TEST_MANIFESTS` names. The cluster's part needs `MUSTER_TEST_KUBECONFIGS`.
//!
//! A case is a workflow that checks itself; annotations say how it must end, see
//! `harness/conformance.rs`. `--nocapture` shows the table of results.

use std::path::Path;

use muster_tests::{
    agent::Agent,
    conformance::{self, Backend, Case, Outcome},
    control_plane::ControlPlane,
    site::Site,
};

fn cases() -> anyhow::Result<Vec<Case>> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut cases = conformance::folder(&own.join("conformance/manifests"))?;
    cases.extend(conformance::guide(&own.join("../docs/language.md"))?);
    Ok(cases)
}

fn foreign() -> anyhow::Result<Vec<Case>> {
    let mut cases = Vec::new();
    for file in conformance::foreign() {
        cases.extend(conformance::read(&file)?);
    }
    Ok(cases)
}

/// Shows what came out, with `--nocapture`.
#[expect(clippy::print_stdout, reason = "a table for people")]
fn show(outcomes: &[Outcome]) {
    println!("{}", conformance::table(outcomes));
    println!("slowest:\n{}", conformance::slowest(outcomes));
}

async fn on_this_machine(cases: &[Case]) -> anyhow::Result<()> {
    let server = ControlPlane::start().await?;
    let agent = Agent::on_this_machine(&server, "here").await?;
    let outcomes = conformance::run_all(&server.client, &agent.name, Backend::Process, cases).await;
    show(&outcomes);
    conformance::expect_all(&outcomes)
}

async fn on_a_cluster(cases: &[Case]) -> anyhow::Result<()> {
    let Some(site) = Site::open("privileged").await? else {
        return Ok(());
    };
    let client = &site.server.client;
    conformance::pull_images(client).await?;
    let outcomes = conformance::run_all(client, &site.agent.name, Backend::Kubernetes, cases).await;
    show(&outcomes);
    conformance::expect_all(&outcomes)?;
    site.namespace.expect_clean().await
}

#[test]
fn every_case_is_in_the_table_of_the_documentation() -> anyhow::Result<()> {
    let table = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/compatibility.md");
    let table = std::fs::read_to_string(table)?;
    let missing: Vec<String> = cases()?
        .into_iter()
        .map(|case| case.name)
        .filter(|name| !table.contains(&format!("| `{name}` |")))
        .collect();
    anyhow::ensure!(
        missing.is_empty(),
        "not in docs/compatibility.md: {missing:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_of_the_language_holds_on_this_machine() -> anyhow::Result<()> {
    on_this_machine(&cases()?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_of_the_language_holds_on_a_cluster() -> anyhow::Result<()> {
    on_a_cluster(&cases()?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn manifests_of_others_run_unchanged_on_this_machine() -> anyhow::Result<()> {
    match foreign()? {
        cases if cases.is_empty() => Ok(()),
        cases => on_this_machine(&cases).await,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn manifests_of_others_run_unchanged_on_a_cluster() -> anyhow::Result<()> {
    match foreign()? {
        cases if cases.is_empty() => Ok(()),
        cases => on_a_cluster(&cases).await,
    }
}

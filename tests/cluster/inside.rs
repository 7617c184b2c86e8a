//! Everything in one cluster, by the published manifests alone.

use anyhow::{Context as _, ensure};
use muster_tests::{
    agent::LABEL,
    cluster::Clusters,
    installation::Installation,
    kubectl::{kubectl, manifest},
    server_installation::ServerInstallation,
    wait,
};

const WORKFLOW: &str = r#"
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflow
metadata:
  name: inside
spec:
  steps:
  - name: greet
    run:
      image: alpine:3.22.0
      shell: echo hello from the cluster | tee greeting.txt
    artifacts:
      paths: [greeting.txt]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn server_and_agent_run_in_one_cluster_by_their_manifests() -> anyhow::Result<()> {
    let Some(clusters) = Clusters::from_environment()? else {
        return Ok(());
    };
    let cluster = &clusters.all[0];
    let server = ServerInstallation::apply(cluster).await?;
    let create = [
        "agents",
        "create",
        "inside",
        "--label",
        &format!("{LABEL}=in"),
    ];
    let token = server.muster(&create, "")?;
    let agent =
        Installation::place("inside", cluster, &server.url, &token, &server.authority).await?;
    policies(&server, &agent)?;
    agent.ready().await?;

    let target = format!("--target={LABEL}=in");
    let run = ["run", "-", "--output", "json", "--detach", &target];
    let started = server.muster(&run, WORKFLOW)?;
    let started: serde_json::Value = serde_json::from_str(&started)?;
    let name = started["name"].as_str().context("no name")?;
    wait::until("the run passes", async || {
        let now = server.muster(&["get", name, "--output", "json"], "")?;
        let now: serde_json::Value = serde_json::from_str(&now)?;
        let state = now["state"].as_str().unwrap_or_default().to_owned();
        let over =
            !["queued", "assigned", "preparing", "running", "finishing"].contains(&state.as_str());
        Ok(over.then_some((state, now)))
    })
    .await
    .and_then(|(state, now)| {
        ensure!(state == "passed", "{now}");
        Ok(())
    })?;
    let log = server.muster(&["logs", name], "")?;
    ensure!(log.contains("hello from the cluster\n"), "{log}");
    agent.tests.expect_clean().await
}

/// Applies the network policies; the run behind them shows that they forbid nothing it needs.
fn policies(server: &ServerInstallation, agent: &Installation) -> anyhow::Result<()> {
    let mut text = manifest("network-policy.yaml")?;
    for (from, to) in [
        ("namespace: muster-tests\n", &agent.tests.name),
        ("namespace: muster-agent\n", &agent.own.name),
        ("namespace: muster\n", &server.own.name),
    ] {
        ensure!(text.contains(from), "the manifest does not hold '{from}'");
        text = text.replace(from, &format!("namespace: {to}\n"));
    }
    for (from, to) in [
        ("metadata.name: muster-tests\n", &agent.tests.name),
        ("metadata.name: muster-agent\n", &agent.own.name),
    ] {
        ensure!(text.contains(from), "the manifest does not hold '{from}'");
        text = text.replace(from, &format!("metadata.name: {to}\n"));
    }
    kubectl(&agent.own.cluster, &["apply", "-f", "-"], &text)?;
    Ok(())
}

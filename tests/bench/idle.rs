//! Memory of every part when nothing happens.

use std::time::Duration;

use anyhow::Context as _;
use muster_tests::{
    agent::Agent, container, control_plane::ControlPlane, memory::Memory, namespace::Namespace,
    node,
};

use crate::by_hand::IMAGE;

/// Memory of every part.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Idle {
    /// The server, after its start.
    pub(crate) server: Memory,
    /// The agent, after its start.
    pub(crate) agent: Memory,
    /// The conductor of a pod whose step sleeps.
    pub(crate) conductor: Memory,
    /// The shim of that step.
    pub(crate) shim: Memory,
}

/// Measures all parts.
pub(crate) async fn measure(
    server: &ControlPlane,
    agent: &Agent,
    namespace: &Namespace,
    helpers: &Namespace,
) -> anyhow::Result<Idle> {
    tokio::time::sleep(Duration::from_secs(5)).await;
    let server_memory = Memory::of_process(server.id().context("no server")?)?;
    let agent_memory = Memory::of_process(agent.id().context("no agent")?)?;
    let manifest = format!(
        "apiVersion: testworkflows.testkube.io/v1\nkind: TestWorkflow\n\
         metadata:\n  name: sleeper\nspec:\n  steps:\n  - name: sleep\n    \
         run:\n      image: {IMAGE}\n      shell: |\n        echo ready\n        exec sleep 300\n"
    );
    let run = server.client.start(&manifest, None).await?;
    run.prints("ready\n").await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let names = container::names(namespace).await?;
    let step = names.first().context("no container")?;
    let conductor = of_runner(namespace, "conductor", helpers).await?;
    let shim = of_runner(namespace, step, helpers).await?;
    run.cancel(true).await?;
    run.end().await?;
    namespace.expect_clean().await?;
    Ok(Idle {
        server: server_memory,
        agent: agent_memory,
        conductor,
        shim,
    })
}

/// Sums up the processes of the runner in one container, without those of the step.
async fn of_runner(
    namespace: &Namespace,
    name: &str,
    helpers: &Namespace,
) -> anyhow::Result<Memory> {
    let container = container::running(namespace, name).await?;
    let script = format!(
        "for f in $(grep -l {} /proc/[0-9]*/cgroup); do p=${{f%/cgroup}}; \
         case $(readlink $p/exe) in */muster-runner*) cat $p/smaps_rollup;; esac; done",
        container.id
    );
    let text = node::run(helpers, &container.node, &script).await?;
    Ok(Memory::sum_of(&text))
}

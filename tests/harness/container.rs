//! Containers of a test pod, seen from outside.

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Pod;
use kube::{ResourceExt as _, api::ListParams};

use crate::{namespace::Namespace, node, wait};

/// A container that runs.
#[derive(Debug, Clone)]
pub struct Running {
    /// The runtime's id, as in `/proc/PID/cgroup`.
    pub id: String,
    /// Its node.
    pub node: String,
}

/// Waits until the container `name` of the only pod in `namespace` runs.
///
/// # Errors
///
/// When it does not.
pub async fn running(namespace: &Namespace, name: &str) -> anyhow::Result<Running> {
    wait::until("the container runs", async || {
        let pods = namespace.api::<Pod>().list(&ListParams::default()).await?;
        Ok(pods.items.iter().find_map(|pod| find(pod, name)))
    })
    .await
}

/// Returns the running containers called `name` of all pods in `namespace`.
///
/// # Errors
///
/// When the cluster does not answer.
pub async fn all_running(namespace: &Namespace, name: &str) -> anyhow::Result<Vec<Running>> {
    let pods = namespace.api::<Pod>().list(&ListParams::default()).await?;
    Ok(pods
        .items
        .iter()
        .filter_map(|pod| find(pod, name))
        .collect())
}

/// Kills all processes of a container at once, as the kernel of a cgroup v2 node does when the
/// container's memory is over; with a helper pod in `helpers`. One that is gone before its turn,
/// because the kernel ends all that belong to a first process, is not a failure.
///
/// # Errors
///
/// When the helper fails.
pub async fn kill_all_processes(container: &Running, helpers: &Namespace) -> anyhow::Result<()> {
    let script = format!(
        "pids=$(grep -l {} /proc/[0-9]*/cgroup | cut -d/ -f3); \
         echo \"killing $pids\"; [ -n \"$pids\" ] || exit 1; kill -KILL $pids || true",
        container.id
    );
    node::run(helpers, &container.node, &script).await?;
    Ok(())
}

/// Returns the names of the containers of the only pod in `namespace`, without the conductor's.
///
/// # Errors
///
/// When there is no pod.
pub async fn names(namespace: &Namespace) -> anyhow::Result<Vec<String>> {
    let pods = namespace.api::<Pod>().list(&ListParams::default()).await?;
    let pod = pods.items.first().context("no pod")?;
    let spec = pod.spec.as_ref();
    let spec = spec.with_context(|| format!("pod {} has no spec", pod.name_any()))?;
    let names = spec
        .containers
        .iter()
        .map(|container| container.name.clone());
    Ok(names.filter(|name| name != "conductor").collect())
}

fn find(pod: &Pod, name: &str) -> Option<Running> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    let status = statuses.iter().find(|status| {
        let state = status.state.as_ref();
        status.name == name && state.is_some_and(|state| state.running.is_some())
    })?;
    let id = status.container_id.as_ref()?.split("//").last()?;
    Some(Running {
        id: id.to_owned(),
        node: pod.spec.as_ref()?.node_name.clone()?,
    })
}

//! A look at a cluster's node from inside: a privileged helper pod, because no API tells what
//! processes a container has, and none kills them all at once.
//!
//! It works on any node whose container ids show in `/proc/PID/cgroup`.

use anyhow::bail;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{DeleteParams, LogParams, PostParams},
};
use serde_json::json;

use crate::{image, namespace::Namespace, wait};

/// Runs a shell script as root among all processes of `node`, in a pod in `helpers`, a
/// namespace that does not forbid it. Returns what it printed.
///
/// # Errors
///
/// When the script or the cluster fails.
pub async fn run(helpers: &Namespace, node: &str, script: &str) -> anyhow::Result<String> {
    let name = format!("helper-{}", uuid::Uuid::new_v4().simple());
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {
            "hostPID": true,
            "nodeName": node,
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "helper",
                "image": image::shell(),
                "command": ["/bin/sh", "-c", script],
                "securityContext": {"privileged": true, "runAsUser": 0},
            }],
        },
    }))?;
    let api: Api<Pod> = helpers.api();
    api.create(&PostParams::default(), &pod).await?;
    let phase = wait::until("the helper is done", async || {
        let status = api.get_status(&name).await?.status.unwrap_or_default();
        let done = |phase: &String| phase == "Succeeded" || phase == "Failed";
        Ok(status.phase.filter(done))
    })
    .await?;
    let output = api.logs(&name, &LogParams::default()).await?;
    api.delete(&name, &DeleteParams::default()).await?;
    if phase != "Succeeded" {
        bail!("the helper failed: {output}");
    }
    Ok(output)
}

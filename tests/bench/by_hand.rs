//! The same work without Muster: bare Jobs of one and of two containers.

use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use kube::{
    ResourceExt as _,
    api::{DeleteParams, ListParams, PostParams, PropagationPolicy},
};
use muster_tests::{image, namespace::Namespace, wait};
use serde_json::json;

/// Image of the step.
pub(crate) const IMAGE: &str = "alpine:3.22.0";

/// How a bare Job's pod is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// The step alone.
    One,
    /// As Muster's pod: a first container places a binary with its `postStart` hook on a shared
    /// volume and stays until the step, which runs that binary, is over.
    Two,
}

/// Describes a Job that prints one line.
pub(crate) fn job(name: &str, shape: Shape) -> anyhow::Result<Job> {
    let volumes = ["muster", "data", "testkube", "tmp"];
    let mounts = json!([
        {"name": "muster", "mountPath": "/.muster"},
        {"name": "data", "mountPath": "/data"},
        {"name": "testkube", "mountPath": "/testkube"},
        {"name": "tmp", "mountPath": "/tmp"},
    ]);
    // It waits without using the processor, as a conductor does.
    let place = "mkfifo /.muster/done && cp /bin/busybox /.muster/busybox";
    let stay = "until [ -p /.muster/done ]; do sleep 0.1; done; read line </.muster/done";
    let containers = match shape {
        Shape::One => json!([{
            "name": "step", "image": IMAGE, "command": ["/bin/echo", "hello"],
        }]),
        Shape::Two => json!([
            {
                "name": "first", "image": image::runner(),
                "command": ["/bin/busybox", "sh", "-c", stay],
                "lifecycle": {"postStart": {"exec": {"command": ["/bin/busybox", "sh", "-c", place]}}},
                "volumeMounts": mounts,
            },
            {
                "name": "step", "image": IMAGE,
                "command": ["/.muster/busybox", "sh", "-c", "echo hello; echo done >/.muster/done"],
                "volumeMounts": mounts,
            },
        ]),
    };
    let volumes = match shape {
        Shape::One => Vec::new(),
        Shape::Two => volumes
            .map(|name| json!({"name": name, "emptyDir": {}}))
            .to_vec(),
    };
    Ok(serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {
            "backoffLimit": 0,
            "template": {"spec": {
                "restartPolicy": "Never",
                "automountServiceAccountToken": false,
                "enableServiceLinks": false,
                "containers": containers,
                "volumes": volumes,
            }},
        },
    }))?)
}

/// Creates a Job.
pub(crate) async fn create(namespace: &Namespace, job: &Job) -> anyhow::Result<()> {
    let api = namespace.api::<Job>();
    api.create(&PostParams::default(), job).await?;
    Ok(())
}

/// Counts the Jobs that are complete; a failed one is an error.
pub(crate) async fn completed(namespace: &Namespace) -> anyhow::Result<usize> {
    let jobs = namespace.api::<Job>().list(&ListParams::default()).await?;
    let mut count = 0;
    for job in jobs {
        let name = job.name_any();
        let conditions = job.status.unwrap_or_default().conditions;
        for condition in conditions.unwrap_or_default() {
            match (condition.type_.as_str(), condition.status.as_str()) {
                ("Complete", "True") => count += 1,
                ("Failed", "True") => anyhow::bail!("job {name} failed: {condition:?}"),
                _ => {}
            }
        }
    }
    Ok(count)
}

/// Deletes all Jobs and waits until their pods are gone.
pub(crate) async fn delete_all(namespace: &Namespace) -> anyhow::Result<()> {
    let parameters = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Background),
        ..DeleteParams::default()
    };
    let all = ListParams::default();
    let jobs = namespace.api::<Job>();
    drop(jobs.delete_collection(&parameters, &all).await?);
    wait::until("all pods are gone", async || {
        let pods = namespace.api::<Pod>().list(&all).await?;
        Ok(pods.items.is_empty().then_some(()))
    })
    .await
}

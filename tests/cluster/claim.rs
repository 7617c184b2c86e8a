//! `pvcs`: claims that are made for one execution, and volumes of a real cluster behind them.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, PostParams},
};
use muster_proto::v1::execution::State;
use muster_tests::{namespace::LABEL, run::step, site::Site, wait};
use serde_json::json;

/// A step writes into a claim of the workflow, its workers read that and write into one of their
/// own, which they find empty.
const MANIFEST: &str = r#"
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflow
metadata:
  name: claims
spec:
  container:
    image: alpine:3.22.0
    volumeMounts: [{name: shared, mountPath: /shared}]
  pvcs:
    cache: &claim
      accessModes: [ReadWriteMany]
      storageClassName: CLASS
      resources: {requests: {storage: 1Mi}}
  pod:
    volumes:
    - {name: shared, persistentVolumeClaim: {claimName: '{{ pvcs.cache.name }}'}}
  steps:
  - name: write
    shell: echo "of the workflow" > /shared/given
  - name: workers
    parallel:
      count: 2
      pvcs: {own: *claim}
      pod:
        volumes:
        - {name: shared, persistentVolumeClaim: {claimName: '{{ pvcs.cache.name }}'}}
        - {name: own, persistentVolumeClaim: {claimName: '{{ pvcs.own.name }}'}}
      container:
        volumeMounts: [{name: shared, mountPath: /shared}, {name: own, mountPath: /own}]
      shell: |
        set -e
        test -z "$(ls -A /own)"
        echo mine > /own/mine
        cat /shared/given > /shared/copy-{{ index }}
  - name: read
    shell: cat /shared/copy-*
"#;

#[tokio::test(flavor = "multi_thread")]
async fn claims_are_made_shared_with_workers_and_removed_with_their_execution() -> anyhow::Result<()>
{
    // Pods need the host's folders for volumes alone; the agent does not give them those.
    let Some(site) = Site::open("baseline").await? else {
        return Ok(());
    };
    let class = site.namespace.name.clone();
    let volumes = Volumes::create(&site, &class, 3).await?;
    let outcome = claims(&site, &class).await;
    volumes.delete().await?;
    outcome
}

async fn claims(site: &Site, class: &str) -> anyhow::Result<()> {
    let run = site.start(&MANIFEST.replace("CLASS", class)).await?;
    let execution = run.ends_as(State::Passed).await?;
    let log = run.whole_log().await?;
    let printed = log.of_step(&step(&execution, "read")?.reference);
    ensure!(printed == "of the workflow\n".repeat(2), "{printed}");
    site.namespace.expect_clean().await?;
    let claims = site.namespace.api::<PersistentVolumeClaim>();
    wait::until("claims that are gone", async || {
        let left = claims.list(&ListParams::default()).await?;
        Ok(left.items.is_empty().then_some(()))
    })
    .await
}

/// Volumes in the cluster itself, as an administrator provides them.
struct Volumes {
    api: Api<PersistentVolume>,
    names: Vec<String>,
}

impl Volumes {
    async fn create(site: &Site, class: &str, count: usize) -> anyhow::Result<Self> {
        let api = Api::all(site.namespace.client.clone());
        let mut names = Vec::new();
        for index in 0..count {
            let name = format!("{class}-{index}");
            let mut volume: PersistentVolume = serde_json::from_value(json!({
                "metadata": {"name": name},
                "spec": {
                    "accessModes": ["ReadWriteMany"],
                    "capacity": {"storage": "1Mi"},
                    "storageClassName": class,
                    "persistentVolumeReclaimPolicy": "Retain",
                    "hostPath": {"path": format!("/tmp/{name}"), "type": "DirectoryOrCreate"},
                },
            }))?;
            volume.metadata.labels = Some(BTreeMap::from([(LABEL.to_owned(), "1".to_owned())]));
            let made = api.create(&PostParams::default(), &volume).await;
            names.push(made.context("the cluster takes the volume")?.name_any());
        }
        Ok(Self { api, names })
    }

    async fn delete(self) -> anyhow::Result<()> {
        for name in &self.names {
            self.api.delete(name, &DeleteParams::default()).await?;
        }
        Ok(())
    }
}

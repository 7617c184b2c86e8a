//! A namespace of its own for each test, and the proof that nothing is left in it.

use std::{collections::BTreeMap, fmt};

use anyhow::Context as _;
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{Namespace as Object, Pod, Secret},
};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, ObjectMeta, PostParams},
};

use crate::{cluster::Cluster, wait};

/// Secrets of an agent itself, not of an execution.
const AGENT_SECRETS: [&str; 2] = ["muster-agent-relay", "muster-agent"];
/// Labels every namespace of the suites, so that what a killed test left is found.
pub const LABEL: &str = "muster.dev/test";

/// A namespace that lives as long as one test.
pub struct Namespace {
    /// Its name.
    pub name: String,
    /// Its cluster.
    pub cluster: Cluster,
    /// A connection to that cluster.
    pub client: kube::Client,
}

impl Namespace {
    /// Makes a namespace that enforces the Pod Security Standard `level`.
    ///
    /// # Errors
    ///
    /// When the cluster refuses.
    pub async fn create(cluster: &Cluster, level: &str) -> anyhow::Result<Self> {
        let client = cluster.client().await?;
        let id = uuid::Uuid::new_v4().simple().to_string();
        let name = format!("muster-test-{}", &id[..10]);
        let labels = BTreeMap::from([
            (LABEL.to_owned(), "1".to_owned()),
            (
                "pod-security.kubernetes.io/enforce".to_owned(),
                level.to_owned(),
            ),
        ]);
        let object = Object {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                labels: Some(labels),
                ..ObjectMeta::default()
            },
            ..Object::default()
        };
        Api::<Object>::all(client.clone())
            .create(&PostParams::default(), &object)
            .await
            .with_context(|| format!("creating namespace {name} in cluster {}", cluster.name))?;
        Ok(Self {
            name,
            cluster: cluster.clone(),
            client,
        })
    }

    /// A handle on objects in it.
    #[must_use]
    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.name)
    }

    /// Waits until no Job, pod or Secret of an execution is in it. An object that a finalizer
    /// holds is still listed, so it counts.
    ///
    /// # Errors
    ///
    /// Names what is left when [`wait::PATIENCE`] is over.
    pub async fn expect_clean(&self) -> anyhow::Result<()> {
        let mut left = Vec::new();
        wait::until("a clean namespace", async || {
            left = self.objects().await?;
            Ok(left.is_empty().then_some(()))
        })
        .await
        .with_context(|| format!("left in namespace {}: {}", self.name, left.join(", ")))
    }

    /// Names every Job, pod and Secret that belongs to an execution.
    ///
    /// # Errors
    ///
    /// When the cluster does not answer.
    pub async fn objects(&self) -> anyhow::Result<Vec<String>> {
        let all = ListParams::default();
        let mut names = Vec::new();
        for job in self.api::<Job>().list(&all).await? {
            names.push(format!("job/{}", job.name_any()));
        }
        for pod in self.api::<Pod>().list(&all).await? {
            let labels = pod.labels();
            if labels.get("app.kubernetes.io/name").map(String::as_str) != Some("muster-agent") {
                names.push(format!("pod/{}", pod.name_any()));
            }
        }
        for secret in self.api::<Secret>().list(&all).await? {
            if !AGENT_SECRETS.contains(&secret.name_any().as_str()) {
                names.push(format!("secret/{}", secret.name_any()));
            }
        }
        Ok(names)
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "namespace {} of cluster {}",
            self.name, self.cluster.name
        )
    }
}

impl Drop for Namespace {
    /// Deletes it with all that is in it, without waiting for the end of that.
    fn drop(&mut self) {
        let (cluster, name) = (self.cluster.clone(), self.name.clone());
        // A connection belongs to the runtime it was made in, which may be ending.
        let deleted = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(async {
                let api = Api::<Object>::all(cluster.client().await?);
                api.delete(&name, &DeleteParams::default()).await?;
                anyhow::Ok(())
            })
        })
        .join();
        if !matches!(deleted, Ok(Ok(()))) {
            eprintln!("namespace {} may be left: {deleted:?}", self.name);
        }
    }
}

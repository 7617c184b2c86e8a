//! The Kubernetes backend: a Job with one pod per attempt.
//!
//! The Job is made in [`job`] by what [`policy`] lets through, watched in [`watch`], where
//! [`status`] says what a pod's status means. What the agent needs to be allowed to do:
//!
//! | where | what | why |
//! | --- | --- | --- |
//! | namespaces of tests | `jobs` create, get, list, watch, delete | one per attempt |
//! | | `pods` get, list, watch, delete | their status; a shorter end when a lease is lost |
//! | | `secrets` create, get, list, patch, delete | the conductor's token; pull secrets of images |
//! | | `events` list, watch | a pod that admission refuses shows only there |
//! | | `namespaces` get, by name | its Pod Security label |
//! | its own namespace | `secrets` create; get of `muster-agent-relay` | the relay's key |

mod claim;
mod client;
mod create;
mod job;
mod policy;
mod relay_secret;
mod resources;
mod security;
mod status;
mod sweep;
mod watch;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{Pod, Secret},
};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams},
};
use muster_core::id::{AgentId, AttemptId};
use muster_proto::runner::v1::ImageConfig;
use muster_spec::plan::Plan;

use crate::{
    Error,
    attempt::{Attempt, Past, Work},
    backend::{Denied, Found, Removal},
    config,
    context::Context,
    key::AttemptKey,
    registry::Registry,
    relay::{Listener, certificate::Certificate},
};

/// How long a pod may take to end when its attempt is killed.
const KILL_GRACE: u32 = 5;

/// The Kubernetes backend.
pub(crate) struct Kubernetes {
    shared: Arc<Shared>,
}

/// What its tasks need.
struct Shared {
    client: Client,
    settings: config::Kubernetes,
    key: AttemptKey,
    /// This agent, for labels.
    agent: AgentId,
    certificate: String,
    registry: Registry,
    /// Namespace of each attempt that has a Job, or had one a moment ago.
    jobs: Mutex<BTreeMap<AttemptId, String>>,
}

impl Shared {
    fn jobs(&self) -> MutexGuard<'_, BTreeMap<AttemptId, String>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every namespace that may hold a Job.
    fn namespaces(&self) -> BTreeSet<String> {
        let mut all = self.settings.namespaces.clone();
        all.insert(self.settings.namespace.clone());
        all
    }

    /// The namespace of a plan's Job.
    fn namespace<'a>(&'a self, plan: &'a Plan) -> &'a str {
        plan.pod
            .namespace
            .as_deref()
            .unwrap_or(&self.settings.namespace)
    }

    /// Selects everything of this agent.
    fn selector(&self) -> String {
        let (key, value) = job::MANAGED;
        format!("{key}={value},{}={}", job::AGENT, self.agent)
    }

    fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), namespace)
    }
}

impl Kubernetes {
    /// Connects to the cluster and opens the relay.
    pub(crate) async fn open(
        settings: &config::Kubernetes,
        agent: AgentId,
    ) -> Result<(Self, Listener), Error> {
        let client = client::connect(&settings.cluster).await?;
        let own = client::state_namespace(settings).await;
        let certificate: Certificate = relay_secret::load_or_make(&client, &own).await?;
        let listener = Listener::tls(settings.relay_listen, &certificate).await?;
        let shared = Shared {
            client,
            settings: settings.clone(),
            key: AttemptKey::derive(certificate.key.as_bytes()),
            agent,
            certificate: certificate.certificate,
            registry: Registry::new(settings.registries.clone())?,
            jobs: Mutex::default(),
        };
        let shared = Arc::new(shared);
        Ok((Self { shared }, listener))
    }

    /// From which the tokens of its attempts follow.
    pub(crate) fn key(&self) -> &AttemptKey {
        &self.shared.key
    }

    pub(crate) fn capabilities(&self) -> Vec<String> {
        match self.shared.settings.policy.level {
            config::PodSecurity::Auto => Vec::new(),
            config::PodSecurity::Restricted => vec!["restricted".to_owned()],
            config::PodSecurity::Baseline => vec!["baseline".to_owned()],
            config::PodSecurity::Privileged => vec!["privileged".to_owned()],
        }
    }

    /// The attempts that have a Job.
    pub(crate) async fn list(&self) -> Result<Vec<Found>, Error> {
        let mut found = Vec::new();
        for namespace in self.shared.namespaces() {
            let jobs: Api<Job> = self.shared.api(&namespace);
            let params = ListParams::default().labels(&self.shared.selector());
            let listed = client::limited(jobs.list(&params))
                .await
                .map_err(|trouble| trouble.error("list Jobs"))?;
            for job in listed {
                let labels = job.metadata.labels.unwrap_or_default();
                let attempt = labels.get(job::ATTEMPT).and_then(|id| id.parse().ok());
                let epoch = labels.get(job::EPOCH).and_then(|epoch| epoch.parse().ok());
                let (Some(attempt), Some(epoch)) = (attempt, epoch) else {
                    continue;
                };
                if job.metadata.deletion_timestamp.is_some() {
                    continue;
                }
                self.shared.jobs().insert(attempt, namespace.clone());
                found.push(Found {
                    attempt,
                    epoch,
                    begun: true,
                });
            }
        }
        Ok(found)
    }

    /// Makes the Job of an attempt, unless it is there.
    pub(crate) async fn start(
        &self,
        context: &Context,
        attempt: &Arc<Attempt>,
        work: &Work,
    ) -> Result<(), Denied> {
        if attempt.past() != Past::None {
            // It has a Job, or had one: a second one would be a second run.
            return Ok(());
        }
        create::create(context, &self.shared, attempt, work).await
    }

    /// Asks every namespace for the Job of an attempt.
    pub(crate) async fn has(&self, attempt: AttemptId) -> Result<bool, Error> {
        for namespace in self.shared.namespaces() {
            let jobs: Api<Job> = self.shared.api(&namespace);
            match client::limited(jobs.get_metadata(&job::name(attempt))).await {
                Ok(job) => {
                    let labels = job.metadata.labels.unwrap_or_default();
                    if labels.get(job::ATTEMPT) == Some(&attempt.to_string()) {
                        self.shared.jobs().insert(attempt, namespace);
                        return Ok(true);
                    }
                }
                Err(client::Trouble::Missing(_)) => {}
                Err(trouble) => return Err(trouble.error("look for a Job")),
            }
        }
        Ok(false)
    }

    /// Configs of images that steps rely on.
    pub(crate) async fn image_configs(&self, plan: &Plan) -> HashMap<String, ImageConfig> {
        let needy: Vec<_> = plan
            .containers
            .iter()
            .filter(|container| container.needs_image_config)
            .filter_map(|container| Some((container.name.clone(), container.image.clone()?)))
            .collect();
        if needy.is_empty() {
            return HashMap::new();
        }
        let namespace = self.shared.namespace(plan);
        let names = job::pull_secrets(plan, &self.shared.settings);
        let logins = client::pull_logins(&self.shared.api(namespace), &names).await;
        let reads = needy.into_iter().map(|(name, image)| {
            let logins = &logins;
            async move {
                let read = self.shared.registry.image_config(&image, logins).await;
                let config = read.unwrap_or_else(|error| ImageConfig {
                    error: error.to_string(),
                    ..ImageConfig::default()
                });
                (name, config)
            }
        });
        futures::future::join_all(reads).await.into_iter().collect()
    }

    /// Removes Job, pod and Secret of an attempt.
    pub(crate) async fn remove(&self, attempt: AttemptId, how: Removal) -> Result<(), Error> {
        let known = self.shared.jobs().get(&attempt).cloned();
        let namespaces =
            known.map_or_else(|| self.shared.namespaces(), |one| BTreeSet::from([one]));
        for namespace in namespaces {
            remove(&self.shared, attempt, &namespace, how).await?;
        }
        self.shared.jobs().remove(&attempt);
        Ok(())
    }

    /// Watches pods and events, and sweeps orphans.
    pub(crate) fn watch(&self, context: &Arc<Context>) {
        for namespace in self.shared.namespaces() {
            context.spawn(watch::run(
                Arc::clone(context),
                Arc::clone(&self.shared),
                namespace,
            ));
        }
        context.spawn(sweep::run(Arc::clone(context), Arc::clone(&self.shared)));
    }
}

/// Removes Job, pod and Secret of an attempt in one namespace.
async fn remove(
    shared: &Shared,
    attempt: AttemptId,
    namespace: &str,
    how: Removal,
) -> Result<(), Error> {
    let name = job::name(attempt);
    let background = DeleteParams::background();
    let jobs: Api<Job> = shared.api(namespace);
    client::gone(jobs.delete(&name, &background), "delete a Job").await?;
    if how == Removal::Kill {
        let pods: Api<Pod> = shared.api(namespace);
        let selector = format!("{}={attempt}", job::ATTEMPT);
        let listed = client::limited(pods.list(&ListParams::default().labels(&selector)))
            .await
            .map_err(|trouble| trouble.error("list pods"))?;
        let quick = DeleteParams::default().grace_period(KILL_GRACE);
        for pod in listed {
            let name = pod.metadata.name.unwrap_or_default();
            client::gone(pods.delete(&name, &quick), "delete a pod").await?;
        }
    }
    let secrets: Api<Secret> = shared.api(namespace);
    client::gone(secrets.delete(&name, &background), "delete a Secret").await
}

#[cfg(test)]
mod tests;

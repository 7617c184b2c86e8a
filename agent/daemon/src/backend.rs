//! What runs attempts: one noun for both kinds.
//!
//! A backend starts, finds and removes; it tells an [`Attempt`] what becomes of it. It does not
//! talk to conductors, nor to the server.

use std::{collections::HashMap, sync::Arc};

use muster_core::id::AttemptId;
use muster_proto::runner::v1::ImageConfig;

use crate::{
    Error,
    attempt::{Attempt, Work},
    attempts::Attempts,
    config,
    config::Config,
    context::Context,
    key::AttemptKey,
    kubernetes::Kubernetes,
    process::Process,
    relay::Listener,
};

/// What runs attempts.
pub(crate) enum Backend {
    /// A Job per attempt.
    Kubernetes(Box<Kubernetes>),
    /// A process per attempt.
    Process(Process),
}

/// An attempt that a backend had when the agent started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) attempt: AttemptId,
    pub(crate) epoch: i64,
    /// A pod or process was made for it; else only the place for one.
    pub(crate) begun: bool,
}

/// Why an attempt can not be started here, for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Denied {
    /// `UPPER_SNAKE_CASE`.
    pub(crate) reason: &'static str,
    /// For people; the cluster's own words where it has some.
    pub(crate) message: String,
}

/// How an attempt is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Removal {
    /// Its conductor is done, or gone.
    Done,
    /// It still runs: end it quickly.
    Kill,
}

impl Backend {
    /// Opens the backend and its door for conductors.
    pub(crate) async fn open(config: &Config) -> Result<(Self, Listener), Error> {
        match &config.backend {
            config::Backend::Kubernetes(settings) => {
                let (backend, listener) =
                    Box::pin(Kubernetes::open(settings, config.agent()?)).await?;
                Ok((Self::Kubernetes(Box::new(backend)), listener))
            }
            config::Backend::Process(settings) => {
                let (backend, listener) = Process::open(settings)?;
                Ok((Self::Process(backend), listener))
            }
        }
    }

    /// Its name on the wire.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Kubernetes(_) => "kubernetes",
            Self::Process(_) => "process",
        }
    }

    /// From which the tokens of its attempts follow.
    pub(crate) fn key(&self) -> &AttemptKey {
        match self {
            Self::Kubernetes(backend) => backend.key(),
            Self::Process(backend) => backend.key(),
        }
    }

    /// What it can do, for people who choose agents.
    pub(crate) fn capabilities(&self) -> Vec<String> {
        match self {
            Self::Kubernetes(backend) => backend.capabilities(),
            Self::Process(_) => Vec::new(),
        }
    }

    /// The attempts that are there.
    pub(crate) async fn list(&self) -> Result<Vec<Found>, Error> {
        match self {
            Self::Kubernetes(backend) => backend.list().await,
            Self::Process(backend) => backend.list(),
        }
    }

    /// Asks for one attempt by its name: whether anything of it is there.
    pub(crate) async fn has(&self, attempt: AttemptId) -> Result<bool, Error> {
        match self {
            Self::Kubernetes(backend) => backend.has(attempt).await,
            Self::Process(backend) => Ok(backend.has(attempt)),
        }
    }

    /// Starts an attempt, or does nothing when it is there. Retries what may pass, as long as the
    /// attempt is live.
    pub(crate) async fn start(
        &self,
        context: &Arc<Context>,
        attempt: &Arc<Attempt>,
        work: &Work,
    ) -> Result<(), Denied> {
        match self {
            Self::Kubernetes(backend) => backend.start(context, attempt, work).await,
            Self::Process(backend) => backend.start(context, attempt, work).await,
        }
    }

    /// Configs of the images that steps rely on, by container; each has its own error.
    pub(crate) async fn image_configs(&self, work: &Work) -> HashMap<String, ImageConfig> {
        match self {
            Self::Kubernetes(backend) => backend.image_configs(&work.plan).await,
            Self::Process(_) => process_image_configs(work),
        }
    }

    /// Removes all traces of an attempt. May be called again.
    pub(crate) async fn remove(&self, attempt: AttemptId, how: Removal) -> Result<(), Error> {
        match self {
            Self::Kubernetes(backend) => backend.remove(attempt, how).await,
            Self::Process(backend) => backend.remove(attempt, how).await,
        }
    }

    /// Begins to watch attempts and to sweep what nobody knows, until the agent stops.
    pub(crate) fn watch(&self, context: &Arc<Context>) {
        match self {
            Self::Kubernetes(backend) => backend.watch(context),
            Self::Process(backend) => backend.watch(context),
        }
    }

    /// The agent stops: ends what must not outlive it.
    pub(crate) async fn close(&self, attempts: &Attempts) {
        match self {
            Self::Kubernetes(_) => {}
            Self::Process(backend) => backend.close(attempts).await,
        }
    }
}

/// There are no images on a machine.
fn process_image_configs(work: &Work) -> HashMap<String, ImageConfig> {
    let needy = work.plan.containers.iter().filter(|c| c.needs_image_config);
    needy
        .map(|container| {
            let config = ImageConfig {
                error: "the process backend has no images, so there is no ENTRYPOINT or CMD; give the step a 'command' or 'shell'".to_owned(),
                ..ImageConfig::default()
            };
            (container.name.clone(), config)
        })
        .collect()
}

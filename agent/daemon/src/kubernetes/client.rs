//! Calls to the API server: how to reach it, how long they may take, what their errors mean.

use std::{collections::BTreeSet, future::Future, time::Duration};

use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio::time::timeout;

use crate::{
    Error, config,
    registry::{Login, Logins},
};

/// How long one call may take.
const CALL_LIMIT: Duration = Duration::from_secs(30);
/// Where a pod finds its namespace.
const OWN_NAMESPACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// A client of the cluster.
pub(super) async fn connect(cluster: &config::Cluster) -> Result<Client, Error> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| Error::Cluster {
        action: "use the settings of the cluster",
        source,
    };
    let mut config = match cluster {
        config::Cluster::InCluster => Config::incluster().map_err(|error| failed(error.into()))?,
        config::Cluster::Kubeconfig { file, context } => {
            let options = KubeConfigOptions {
                context: context.clone(),
                ..KubeConfigOptions::default()
            };
            let kubeconfig = match file {
                Some(file) => Kubeconfig::read_from(file),
                None => Kubeconfig::read(),
            };
            let kubeconfig = kubeconfig.map_err(|error| failed(error.into()))?;
            Config::from_custom_kubeconfig(kubeconfig, &options)
                .await
                .map_err(|error| failed(error.into()))?
        }
    };
    // Calls are repeated here, where it is known what for.
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_secs(10));
    Client::try_from(config).map_err(|error| failed(error.into()))
}

/// Namespace of the agent's own Secret.
pub(super) async fn state_namespace(settings: &config::Kubernetes) -> String {
    if let Some(namespace) = &settings.state_namespace {
        return namespace.clone();
    }
    if matches!(settings.cluster, config::Cluster::InCluster)
        && let Ok(own) = tokio::fs::read_to_string(OWN_NAMESPACE).await
    {
        return own.trim().to_owned();
    }
    settings.namespace.clone()
}

/// Why a call failed.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The object is there already.
    Exists,
    /// The object, or its namespace, is not there.
    Missing(String),
    /// The API server says no; its words.
    Refused { code: u16, message: String },
    /// It may work later.
    Passing(Box<dyn std::error::Error + Send + Sync>),
}

impl Trouble {
    fn of(error: kube::Error) -> Self {
        let kube::Error::Api(status) = &error else {
            return Self::Passing(error.into());
        };
        let message = status.message.clone();
        match status.code {
            409 if status.reason == "AlreadyExists" => Self::Exists,
            404 => Self::Missing(message),
            code @ 400..=499 if !matches!(code, 408 | 409 | 429) => Self::Refused { code, message },
            _ => Self::Passing(error.into()),
        }
    }

    /// The error of the agent.
    pub(super) fn error(self, action: &'static str) -> Error {
        let source = match self {
            Self::Exists => "it is there already".into(),
            Self::Missing(message) | Self::Refused { message, .. } => message.into(),
            Self::Passing(source) => source,
        };
        Error::Cluster { action, source }
    }
}

/// Makes a call that does not take for ever.
pub(super) async fn limited<T>(
    call: impl Future<Output = Result<T, kube::Error>> + Send,
) -> Result<T, Trouble> {
    match timeout(CALL_LIMIT, call).await {
        Ok(result) => result.map_err(Trouble::of),
        Err(_elapsed) => Err(Trouble::Passing(
            "the API server did not answer in time".into(),
        )),
    }
}

/// Makes a call that deletes; that the object is not there is what was wanted.
pub(super) async fn gone<T>(
    call: impl Future<Output = Result<T, kube::Error>> + Send,
    action: &'static str,
) -> Result<(), Error> {
    match limited(call).await {
        Ok(_) | Err(Trouble::Missing(_)) => Ok(()),
        Err(trouble) => Err(trouble.error(action)),
    }
}

/// Logins of registries from pull secrets. One that can not be read is logged and left out: the
/// registry's answer will say what is missing.
pub(super) async fn pull_logins(secrets: &Api<Secret>, names: &BTreeSet<String>) -> Logins {
    let mut logins = Logins::default();
    for name in names {
        let secret = match limited(secrets.get(name)).await {
            Ok(secret) => secret,
            Err(trouble) => {
                tracing::warn!(secret = name, ?trouble, "cannot read a pull secret");
                continue;
            }
        };
        let data = secret.data.unwrap_or_default();
        let json = data
            .get(".dockerconfigjson")
            .map(|bytes| bytes.0.as_slice());
        match json.map(Login::parse_docker_config) {
            Some(Ok(read)) => logins.extend(read),
            Some(Err(error)) => {
                tracing::warn!(secret = name, %error, "a pull secret is not readable");
            }
            None => tracing::warn!(secret = name, "a pull secret has no .dockerconfigjson"),
        }
    }
    logins
}

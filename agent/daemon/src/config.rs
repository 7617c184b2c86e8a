//! What an agent is told before it starts. Reading flags, files and the environment is the
//! caller's business.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use muster_core::id::AgentId;
use tonic::transport::Uri;

use crate::Error;
pub use crate::token::Token;

/// Most attempts that one agent may run at the same time.
pub const MAX_CAPACITY: u32 = 10_000;

/// All settings of an agent.
#[derive(Debug, Clone)]
pub struct Config {
    /// URLs of the control plane, tried in turn: `https://host:port`, or `http://` on loopback.
    pub servers: Vec<String>,
    /// The agent's credential.
    pub token: Token,
    /// Which certificates of the server are trusted.
    pub trust: Trust,
    /// Allow `http://` to other machines. Everybody on the way can read tokens and logs.
    pub insecure: bool,
    /// Labels that targets of executions select by; those set at the server win.
    pub labels: BTreeMap<String, String>,
    /// How many attempts it runs at most.
    pub capacity: u32,
    /// What runs the attempts.
    pub backend: Backend,
}

/// Which certificates of the server are trusted.
#[derive(Debug, Clone, Default)]
pub enum Trust {
    /// Those signed by an authority that this machine trusts.
    #[default]
    System,
    /// Those signed by an authority of this file (PEM).
    CaFile(PathBuf),
    /// Those signed by one of these authorities (PEM).
    Ca(String),
}

/// What runs the attempts.
#[derive(Debug, Clone)]
pub enum Backend {
    /// A Job per attempt.
    Kubernetes(Box<Kubernetes>),
    /// A process per attempt, on this machine.
    Process(Process),
}

/// Settings of the process backend.
#[derive(Debug, Clone)]
pub struct Process {
    /// Holds a directory for each attempt and the socket; made when missing.
    pub directory: PathBuf,
    /// Program and first arguments by which the runner is called: `[…/muster, runner]`.
    pub runner: Vec<String>,
    /// The agent is a part of a command: its attempts end with this process. Several such agents
    /// may share a directory. Otherwise attempts outlive the agent, and the next one finds them.
    pub embedded: bool,
}

/// Settings of the Kubernetes backend.
#[derive(Debug, Clone)]
pub struct Kubernetes {
    /// Where the cluster is.
    pub cluster: Cluster,
    /// Namespace of the Jobs.
    pub namespace: String,
    /// Other namespaces that a workflow may ask for.
    pub namespaces: BTreeSet<String>,
    /// Namespace of the agent's own Secret, best one without tests in it; absent for the one that
    /// the agent runs in, or [`Self::namespace`] outside a cluster.
    pub state_namespace: Option<String>,
    /// Where the journal of this agent is kept; made when missing. Several agents may share it.
    pub state_directory: PathBuf,
    /// Image with the runner and its tools.
    pub runner_image: String,
    /// Image with git, for repositories; absent for none, so that plans with one are refused.
    pub git_image: Option<String>,
    /// Pull policy of both images; absent for the cluster's default.
    pub image_pull_policy: Option<String>,
    /// Pull secrets of every pod, beside those of a workflow.
    pub image_pull_secrets: Vec<String>,
    /// Where conductors are listened for.
    pub relay_listen: SocketAddr,
    /// Where pods reach that listener: `address:port`, several with commas.
    pub relay_advertise: String,
    /// What pods may ask for.
    pub policy: PodPolicy,
    /// How the configs of images are read.
    pub registries: Registries,
    /// How long an image may fail to be pulled for a reason that may pass.
    pub image_pull_deadline: Duration,
    /// How long a pod may wait for a node, and for its conductor to start.
    pub start_deadline: Duration,
    /// Longest life of a Job whose workflow gives no `activeDeadlineSeconds`, in whole seconds:
    /// the cluster ends it also when no agent is left to do so.
    pub job_deadline: Duration,
}

impl Kubernetes {
    /// Settings with all defaults.
    #[must_use]
    pub fn new(
        namespace: &str,
        runner_image: &str,
        relay_advertise: &str,
        state_directory: &Path,
    ) -> Self {
        Self {
            cluster: Cluster::default(),
            namespace: namespace.to_owned(),
            namespaces: BTreeSet::new(),
            state_namespace: None,
            state_directory: state_directory.to_owned(),
            runner_image: runner_image.to_owned(),
            git_image: git_image_beside(runner_image),
            image_pull_policy: None,
            image_pull_secrets: Vec::new(),
            relay_listen: SocketAddr::from(([0, 0, 0, 0], 8444)),
            relay_advertise: relay_advertise.to_owned(),
            policy: PodPolicy::default(),
            registries: Registries::default(),
            image_pull_deadline: Duration::from_secs(120),
            start_deadline: Duration::from_secs(600),
            job_deadline: Duration::from_hours(24),
        }
    }
}

/// The image with git that was built together with a runner image: `muster/git:1` beside
/// `muster/runner:1`. None when that image has another name, or is one by its digest.
#[must_use]
pub fn git_image_beside(runner_image: &str) -> Option<String> {
    let at = runner_image.rfind('/').map_or(0, |slash| slash + 1);
    let (path, last) = runner_image.split_at(at);
    let (name, tag) = last.split_once(':').unwrap_or((last, ""));
    if name != "runner" || tag.contains('@') {
        return None;
    }
    let colon = if tag.is_empty() { "" } else { ":" };
    Some(format!("{path}git{colon}{tag}"))
}

/// Where a cluster is.
#[derive(Debug, Clone, Default)]
pub enum Cluster {
    /// The one that the agent runs in, by its service account.
    #[default]
    InCluster,
    /// The one of a kubeconfig file.
    Kubeconfig {
        /// The file; absent for `KUBECONFIG` or `~/.kube/config`.
        file: Option<PathBuf>,
        /// Its context; absent for the current one.
        context: Option<String>,
    },
}

/// What pods may ask for: a level of the Pod Security Standards, and what is allowed beyond it.
#[derive(Debug, Clone)]
pub struct PodPolicy {
    /// The level.
    pub level: PodSecurity,
    /// Service accounts that a workflow may name. Their tokens are never mounted.
    pub service_accounts: BTreeSet<String>,
    /// Whether a workflow may choose nodes: `nodeSelector`, `affinity`, `tolerations`,
    /// `topologySpreadConstraints`.
    pub scheduling: bool,
    /// Whether a workflow may name a node past the scheduler (`nodeName`).
    pub node_name: bool,
    /// Priority classes that a workflow may name.
    pub priority_classes: BTreeSet<String>,
}

impl Default for PodPolicy {
    fn default() -> Self {
        Self {
            level: PodSecurity::Auto,
            service_accounts: BTreeSet::new(),
            scheduling: true,
            node_name: false,
            priority_classes: BTreeSet::new(),
        }
    }
}

/// Levels of the Pod Security Standards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PodSecurity {
    /// `restricted` where the namespace enforces that, else `baseline`.
    #[default]
    Auto,
    /// Every container is set up for `restricted`; a workflow that contradicts it is refused.
    Restricted,
    /// Privileged pods, host namespaces, host paths and unusual capabilities are refused.
    Baseline,
    /// Nothing is refused for its privileges. Tests own the nodes that they run on.
    Privileged,
}

/// How the configs of images are read.
#[derive(Debug, Clone, Default)]
pub struct Registries {
    /// Base URLs that are asked in place of a registry, by its host: `docker.io` →
    /// `https://mirror.example.com`; `*` stands for all others.
    pub mirrors: BTreeMap<String, String>,
    /// Registries, `host` or `host:port`, that are spoken to without TLS.
    pub insecure: BTreeSet<String>,
}

impl Config {
    /// The agent that these settings are for, which its token names.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] when the token is not that of an agent.
    pub(crate) fn agent(&self) -> Result<AgentId, Error> {
        self.token.agent().ok_or_else(|| Error::Invalid {
            field: "token",
            reason: "it is not the token of an agent; make one with 'muster agents create'"
                .to_owned(),
        })
    }

    /// Where the journal is; none for attempts that end with their agent.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] when the token is not that of an agent.
    pub(crate) fn journal(&self) -> Result<Option<PathBuf>, Error> {
        Ok(match &self.backend {
            Backend::Process(process) if process.embedded => None,
            Backend::Process(process) => Some(process.directory.join("agent.journal")),
            Backend::Kubernetes(kubernetes) => {
                let name = format!("{}.journal", self.agent()?);
                Some(kubernetes.state_directory.join(name))
            }
        })
    }

    /// Checks all settings.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] names the first wrong setting and what would be right.
    pub fn validate(&self) -> Result<(), Error> {
        let wrong = |field, reason: String| Err(Error::Invalid { field, reason });
        if self.servers.is_empty() {
            return wrong("server", "give the URL of the control plane".to_owned());
        }
        for server in &self.servers {
            check_server(server, self.insecure)?;
        }
        self.agent()?;
        if !(1..=MAX_CAPACITY).contains(&self.capacity) {
            let reason = format!("{} is not between 1 and {MAX_CAPACITY}", self.capacity);
            return wrong("capacity", reason);
        }
        match &self.backend {
            Backend::Kubernetes(kubernetes) => kubernetes.validate(),
            Backend::Process(process) if process.runner.is_empty() => {
                wrong("runner", "give the program of the runner".to_owned())
            }
            Backend::Process(_) => Ok(()),
        }
    }
}

impl Kubernetes {
    fn validate(&self) -> Result<(), Error> {
        let wrong = |field, reason: String| Err(Error::Invalid { field, reason });
        for namespace in self.namespaces.iter().chain([&self.namespace]) {
            if let Err(error) = muster_core::name::check_label(namespace) {
                return wrong("namespace", error.to_string());
            }
        }
        if self.runner_image.is_empty() {
            return wrong("runner-image", "give the image of the runner".to_owned());
        }
        let policies = [None, Some("Always"), Some("IfNotPresent"), Some("Never")];
        if !policies.contains(&self.image_pull_policy.as_deref()) {
            let reason = "it is Always, IfNotPresent or Never".to_owned();
            return wrong("runner-image-pull-policy", reason);
        }
        if !self.relay_advertise.split(',').all(has_port) {
            let reason = format!(
                "'{}' is not address:port, by which pods reach this agent",
                self.relay_advertise
            );
            return wrong("relay-advertise", reason);
        }
        if self.job_deadline.as_secs() == 0 {
            return wrong("job-deadline", "give at least one second".to_owned());
        }
        Ok(())
    }
}

fn has_port(address: &str) -> bool {
    address
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|p| p != 0))
}

fn check_server(server: &str, insecure: bool) -> Result<(), Error> {
    let wrong = |reason: String| Error::Invalid {
        field: "server",
        reason,
    };
    let uri: Uri = server
        .parse()
        .map_err(|error| wrong(format!("'{server}' is not a URL: {error}")))?;
    let host = uri.host().unwrap_or_default();
    match uri.scheme_str() {
        Some("https") if !host.is_empty() => Ok(()),
        Some("http") if insecure || is_loopback(host) => Ok(()),
        Some("http") => Err(wrong(format!(
            "'{server}' is not encrypted and not on this machine; use https://, or --insecure when everybody on the way may read tokens and logs"
        ))),
        _ => Err(wrong(format!(
            "'{server}' is not a URL such as https://muster.example.com:8443"
        ))),
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || bare
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(server: &str) -> Config {
        Config {
            servers: vec![server.to_owned()],
            token: Token::new("msa_0198c0de00007000800000000000000a_x"),
            trust: Trust::System,
            insecure: false,
            labels: BTreeMap::new(),
            capacity: 1,
            backend: Backend::Process(Process {
                directory: PathBuf::from("/nowhere"),
                runner: vec!["runner".to_owned()],
                embedded: false,
            }),
        }
    }

    #[test]
    fn plaintext_is_for_loopback_or_on_purpose() {
        for good in [
            "http://127.0.0.1:1",
            "http://[::1]:1",
            "http://localhost:1",
            "https://a.b",
        ] {
            assert!(config(good).validate().is_ok(), "{good}");
        }
        for bad in [
            "http://10.0.0.1:1",
            "http://localhost.example.com",
            "ftp://x",
            "x",
        ] {
            assert!(config(bad).validate().is_err(), "{bad}");
        }
        let on_purpose = Config {
            insecure: true,
            ..config("http://10.0.0.1:1")
        };
        assert!(on_purpose.validate().is_ok());
    }

    #[test]
    fn the_advertised_address_needs_a_port() {
        let with = |address: &str| {
            Kubernetes::new("tests", "runner", address, Path::new("/nowhere")).validate()
        };
        assert!(with("10.0.0.1:8444,[::1]:8444").is_ok());
        for bad in ["", "10.0.0.1", "host:0", ":1"] {
            assert!(with(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_token_is_not_in_the_debug_text() {
        assert!(!format!("{:?}", config("https://a")).contains("msa_"));
    }
}

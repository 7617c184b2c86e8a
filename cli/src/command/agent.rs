//! `muster agent`: the daemon of one cluster or machine. What it does is `muster_agent`'s business.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr, UdpSocket},
    path::PathBuf,
    time::Duration,
};

use clap::{Args, ValueEnum};
use muster_agent::{
    Config,
    config::{self, Cluster, Kubernetes, PodPolicy, PodSecurity, Process, Registries, Trust},
};
use tokio_util::sync::CancellationToken;

use super::server::{duration, stop_on_signal};
use crate::{
    arguments::{Global, pair},
    error::{self, Error},
    exit::Exit,
    place::{self, Place},
};

const EXAMPLES: &str = "\
Examples:
  muster agent --server https://muster.example:8443 --ca-file ca.pem --token-file east-token \\
      --backend kubernetes --namespace tests --runner-image muster/runner:0.1.0
  muster agent --server http://127.0.0.1:8080 --token-file laptop-token --backend process

The token comes from `muster agents create`. An agent keeps a journal of what it has begun, in
--state-dir or, with the process backend, in `agent` in --data-dir; when that can not be written it
takes no work until it can. With the Kubernetes backend, pods dial the agent at
--relay-address; give it where the agent can not find out by itself, such as behind a Service.";

/// Run an agent: take work from a server and run it here
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// What runs the attempts
    #[arg(long, value_enum)]
    backend: Backend,
    /// Label for targets, unless the server sets it; may be given several times
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = pair)]
    labels: Vec<(String, String)>,
    /// Attempts at a time [default: 100 with kubernetes, the number of CPUs with process]
    #[arg(long, value_name = "COUNT")]
    capacity: Option<u32>,
    /// Speak plain text to another machine: everybody on the way can read tokens and logs
    #[arg(long)]
    insecure: bool,
    #[command(flatten)]
    kubernetes: KubernetesArguments,
}

impl Arguments {
    /// Whether attempts are Jobs, and no processes of its own.
    pub(crate) const fn is_for_cluster(&self) -> bool {
        matches!(self.backend, Backend::Kubernetes)
    }
}

/// What runs attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Backend {
    /// A Job for each, in a cluster
    Kubernetes,
    /// A process for each, on this machine
    Process,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Kubernetes backend")]
struct KubernetesArguments {
    /// Kubeconfig; when not given, the cluster that the agent runs in, else `KUBECONFIG` or
    /// ~/.kube/config
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig [default: its current one]
    #[arg(long, value_name = "NAME")]
    kube_context: Option<String>,
    /// Namespace of the Jobs
    #[arg(long, value_name = "NAME", default_value = "default")]
    namespace: String,
    /// Other namespace that a workflow may ask for; may be given several times
    #[arg(long = "allow-namespace", value_name = "NAME")]
    allow_namespaces: Vec<String>,
    /// Namespace of the agent's own Secret, best one without tests in it [default: that of the
    /// agent's own pod, or --namespace]
    #[arg(long, value_name = "NAME")]
    state_namespace: Option<String>,
    /// Folder of the agent's journal of what it has begun, best on a disk that outlives the process;
    /// several agents may share it [default: `agent` in --data-dir]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Image with conductor, shim and tools
    #[arg(long, value_name = "IMAGE", default_value = concat!("muster/runner:", env!("CARGO_PKG_VERSION")))]
    runner_image: String,
    /// Image with git, which fetches `content.git` [default: `git` of the same tag beside a runner
    /// image that is called `runner`, else none]
    #[arg(long, value_name = "IMAGE")]
    git_image: Option<String>,
    /// Pull policy of these images: Always, `IfNotPresent`, Never
    #[arg(long, value_name = "POLICY")]
    runner_image_pull_policy: Option<String>,
    /// Pull secret of every pod; may be given several times
    #[arg(long = "image-pull-secret", value_name = "NAME")]
    image_pull_secrets: Vec<String>,
    /// Where to listen for conductors
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "0.0.0.0:8444")]
    relay_listen: SocketAddr,
    /// Where pods reach this agent, several with commas [default: the address of --relay-listen,
    /// or that of the way to the server]
    #[arg(long, value_name = "ADDRESS:PORT", visible_alias = "relay-advertise")]
    relay_address: Option<String>,
    /// What pods may ask for
    #[arg(long, value_enum, value_name = "LEVEL", default_value = "auto")]
    pod_security: Level,
    /// Service account that a workflow may name; may be given several times
    #[arg(long = "allow-service-account", value_name = "NAME")]
    service_accounts: Vec<String>,
    /// Priority class that a workflow may name; may be given several times
    #[arg(long = "allow-priority-class", value_name = "NAME")]
    priority_classes: Vec<String>,
    /// Let a workflow name a node past the scheduler
    #[arg(long)]
    allow_node_name: bool,
    /// Refuse workflows that choose nodes by selector, affinity or toleration
    #[arg(long)]
    deny_node_selection: bool,
    /// Read image configs from URL in place of a registry; `*` for all; may be given several times
    #[arg(long = "registry-mirror", value_name = "HOST=URL", value_parser = pair)]
    registry_mirrors: Vec<(String, String)>,
    /// Registry that is spoken to without TLS; may be given several times
    #[arg(long = "insecure-registry", value_name = "HOST[:PORT]")]
    insecure_registries: Vec<String>,
    /// How long an image may fail to be pulled for a reason that may pass
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = duration)]
    image_pull_deadline: Duration,
    /// How long a pod may wait for a node and for its conductor
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration)]
    start_deadline: Duration,
    /// Longest life of a Job whose workflow gives no activeDeadlineSeconds
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = duration)]
    job_deadline: Duration,
}

/// A level of the Pod Security Standards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Level {
    /// `restricted` where the namespace enforces it, else `baseline`
    Auto,
    /// Every container fits `restricted`
    Restricted,
    /// No privileges beyond the usual ones
    Baseline,
    /// Everything is allowed: tests own the nodes that they run on
    Privileged,
}

/// Runs it until SIGTERM or Ctrl-C. Attempts go on without it.
pub(crate) async fn execute(arguments: Arguments, global: &Global) -> Result<Exit, Error> {
    let config = config(arguments, global)?;
    let stop = CancellationToken::new();
    let _signals = stop_on_signal(&stop)?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "starting an agent");
    muster_agent::run(config, stop)
        .await
        .map_err(|error| refusal(&error))?;
    Ok(Exit::Success)
}

/// The error of an agent, for people.
pub(crate) fn refusal(error: &muster_agent::Error) -> Error {
    let text = error::chain(error);
    match error {
        muster_agent::Error::Invalid { .. } => Error::Usage(format!("--{text}")),
        muster_agent::Error::Unauthenticated { .. } => Error::Refused {
            missing: false,
            message: text,
            usage: false,
            violations: Vec::new(),
        },
        _ => Error::Local(text),
    }
}

fn config(arguments: Arguments, global: &Global) -> Result<Config, Error> {
    let Place::Server(remote) = place::place(global)? else {
        return Err(Error::Usage(
            "give the server by --server; `muster run` needs no agent on this machine".to_owned(),
        ));
    };
    let Some(token) = remote.token else {
        return Err(Error::Usage(
            "give the agent's token by --token-file; `muster agents create` makes one".to_owned(),
        ));
    };
    let trust = match remote.authority {
        Some(pem) => Trust::Ca(
            String::from_utf8(pem)
                .map_err(|_error| Error::Usage("--ca-file holds no PEM certificates".to_owned()))?,
        ),
        None => Trust::System,
    };
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let (backend, capacity) = match arguments.backend {
        Backend::Kubernetes => (
            kubernetes(arguments.kubernetes, global, &remote.url)
                .map(Box::new)
                .map(config::Backend::Kubernetes)?,
            100,
        ),
        Backend::Process => (
            config::Backend::Process(Process {
                directory: place::data_dir(global)?.join("agent"),
                runner: runner()?,
                embedded: false,
            }),
            u32::try_from(cpus).unwrap_or(1),
        ),
    };
    Ok(Config {
        servers: vec![remote.url],
        token: config::Token::new(&token),
        trust,
        insecure: arguments.insecure,
        labels: arguments.labels.into_iter().collect::<BTreeMap<_, _>>(),
        capacity: arguments.capacity.unwrap_or(capacity),
        backend,
    })
}

/// How this very program is called as a runner.
pub(crate) fn runner() -> Result<Vec<String>, Error> {
    let path = std::env::current_exe()
        .map_err(|error| Error::Local(format!("can not find this program: {error}")))?;
    match path.to_str() {
        Some(path) => Ok(vec![path.to_owned(), "runner".to_owned()]),
        None => Err(Error::Local(format!(
            "the path {} is not UTF-8; put this program elsewhere",
            path.display()
        ))),
    }
}

fn kubernetes(
    arguments: KubernetesArguments,
    global: &Global,
    server: &str,
) -> Result<Kubernetes, Error> {
    let state_dir = match &arguments.state_dir {
        Some(path) => path.clone(),
        None => place::data_dir(global)?.join("agent"),
    };
    let relay_advertise = match arguments.relay_address {
        Some(address) => address,
        None => advertised(arguments.relay_listen, server)?,
    };
    let in_cluster = std::env::var_os("KUBERNETES_SERVICE_HOST").is_some();
    let cluster =
        if arguments.kubeconfig.is_none() && arguments.kube_context.is_none() && in_cluster {
            Cluster::InCluster
        } else {
            Cluster::Kubeconfig {
                file: arguments.kubeconfig,
                context: arguments.kube_context,
            }
        };
    let set = |names: Vec<String>| names.into_iter().collect::<BTreeSet<_>>();
    let git_image = arguments
        .git_image
        .filter(|image| !image.is_empty())
        .or_else(|| muster_agent::config::git_image_beside(&arguments.runner_image));
    Ok(Kubernetes {
        cluster,
        git_image,
        namespaces: set(arguments.allow_namespaces),
        state_namespace: arguments.state_namespace,
        image_pull_policy: arguments.runner_image_pull_policy,
        image_pull_secrets: arguments.image_pull_secrets,
        relay_listen: arguments.relay_listen,
        policy: PodPolicy {
            level: match arguments.pod_security {
                Level::Auto => PodSecurity::Auto,
                Level::Restricted => PodSecurity::Restricted,
                Level::Baseline => PodSecurity::Baseline,
                Level::Privileged => PodSecurity::Privileged,
            },
            service_accounts: set(arguments.service_accounts),
            scheduling: !arguments.deny_node_selection,
            node_name: arguments.allow_node_name,
            priority_classes: set(arguments.priority_classes),
        },
        registries: Registries {
            mirrors: arguments.registry_mirrors.into_iter().collect(),
            insecure: set(arguments.insecure_registries),
        },
        image_pull_deadline: arguments.image_pull_deadline,
        start_deadline: arguments.start_deadline,
        job_deadline: arguments.job_deadline,
        ..Kubernetes::new(
            &arguments.namespace,
            &arguments.runner_image,
            &relay_advertise,
            &state_dir,
        )
    })
}

/// Where pods reach this agent when nobody says it: the address that is listened on, or, when
/// that is every address, the one from which this machine reaches the server.
fn advertised(listen: SocketAddr, server: &str) -> Result<String, Error> {
    if !listen.ip().is_unspecified() {
        return Ok(listen.to_string());
    }
    let unknown = || {
        Error::Usage(
            "can not find out where pods reach this agent; say it by --relay-address".to_owned(),
        )
    };
    let ip = own_address(server).ok_or_else(unknown)?;
    if ip.is_loopback() {
        return Err(unknown());
    }
    Ok(SocketAddr::new(ip, listen.port()).to_string())
}

/// The address from which this machine reaches a server. Nothing is sent.
fn own_address(server: &str) -> Option<IpAddr> {
    use std::net::ToSocketAddrs as _;
    let uri: tonic::transport::Uri = server.parse().ok()?;
    let host = uri.host()?.trim_matches(['[', ']']);
    let port = uri.port_u16().unwrap_or(443);
    let target = (host, port).to_socket_addrs().ok()?.next()?;
    let any: IpAddr = if target.is_ipv4() {
        std::net::Ipv4Addr::UNSPECIFIED.into()
    } else {
        std::net::Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(target).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_concrete_address_is_advertised_as_it_is() {
        let listen = SocketAddr::from(([10, 0, 0, 1], 8444));
        assert_eq!(advertised(listen, "https://x").unwrap(), "10.0.0.1:8444");
    }

    #[test]
    fn pods_never_get_a_loopback_address_by_guess() {
        let listen = SocketAddr::from(([0, 0, 0, 0], 8444));
        let error = advertised(listen, "http://127.0.0.1:8080").unwrap_err();
        assert!(error.to_string().contains("--relay-address"), "{error}");
    }
}

//! The containers of the run: which shims are connected, and what the cluster says of the others.

use std::{
    collections::HashMap,
    io,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use muster_proto::runner::v1::{
    ContainerStatus, Exit, Grant, PROTOCOL, ShimMessage, ShimRequest, shim_message, shim_request,
};
use muster_spec::plan::Plan;
use serde_json::Value;
use tokio::{
    net::{
        UnixListener, UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    time::timeout,
};

use super::{mask::Secrets, operation::Failure};
use crate::{
    credit, fail,
    frame::{FrameReader, FrameWriter},
    socket,
};

/// How long a shim may take for its hello.
const HELLO: Duration = Duration::from_secs(10);
/// How long the cluster may take to say why a container ended.
const EXPLANATION: Duration = Duration::from_secs(10);
/// The same where the container is a child of this process.
const EXPLANATION_HERE: Duration = Duration::from_secs(2);

/// The containers.
#[derive(Debug)]
pub(super) struct Pod {
    listener: UnixListener,
    containers: Mutex<HashMap<String, Container>>,
    secrets: Arc<Secrets>,
    /// Names of the variables of each container that have values of Secrets; once the plan is there.
    secret_names: OnceLock<HashMap<String, Vec<String>>>,
    changed: watch::Sender<u64>,
    /// A cluster tells about containers.
    explained: bool,
    /// There is nothing more to do.
    dismissed: AtomicBool,
}

#[derive(Debug, Default)]
struct Container {
    shim: Option<Arc<Shim>>,
    lost: bool,
    status: Option<ContainerStatus>,
}

/// A connected shim.
#[derive(Debug)]
pub(super) struct Shim {
    pub(super) container: String,
    /// Working directory of the image.
    pub(super) working_dir: String,
    /// Environment of the container, `NAME=value`.
    pub(super) environment: Vec<String>,
    pub(super) line: tokio::sync::Mutex<Line>,
}

/// What is said between conductor and shim.
#[derive(Debug)]
pub(super) struct Line {
    reader: FrameReader<OwnedReadHalf>,
    writer: FrameWriter<OwnedWriteHalf>,
    /// Numbers requests.
    pub(super) last_id: u64,
    /// Bytes that were taken and not granted again.
    taken: u64,
}

/// The shim is gone.
#[derive(Debug)]
pub(super) struct Gone;

impl Line {
    /// The next message. Loses nothing when it is dropped before it is done.
    pub(super) async fn hear(&mut self) -> Result<shim_message::Message, Gone> {
        loop {
            match self.reader.next::<ShimMessage>().await {
                Ok(Some(ShimMessage {
                    message: Some(message),
                })) => return Ok(message),
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return Err(Gone),
            }
        }
    }

    pub(super) async fn say(&mut self, message: shim_request::Message) -> Result<(), Gone> {
        let message = ShimRequest {
            message: Some(message),
        };
        self.writer.send(&message).await.map_err(|_broken| Gone)
    }

    /// Takes note of a message that belongs to something older: its bytes were granted too.
    pub(super) async fn pass_over(&mut self, message: shim_message::Message) -> Result<(), Gone> {
        match message {
            shim_message::Message::Output(output) => {
                self.grant(credit::cost(output.data.len())).await
            }
            shim_message::Message::Data(data) => self.grant(data.data.len()).await,
            _ => Ok(()),
        }
    }

    /// Takes note of bytes that were dealt with, so that as many more may come.
    pub(super) async fn grant(&mut self, bytes: usize) -> Result<(), Gone> {
        self.taken += bytes as u64;
        if self.taken < credit::WINDOW / 4 {
            return Ok(());
        }
        let bytes = std::mem::take(&mut self.taken);
        self.say(shim_request::Message::Grant(Grant { bytes }))
            .await
    }
}

impl Pod {
    /// Listens for shims.
    pub(super) fn listen(path: &Path, explained: bool, secrets: Arc<Secrets>) -> io::Result<Self> {
        use std::os::unix::fs::PermissionsExt as _;
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let listener = socket::listen(path)?;
        // Steps may run as any user.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777))?;
        Ok(Self {
            listener,
            containers: Mutex::default(),
            secrets,
            secret_names: OnceLock::new(),
            changed: watch::Sender::new(0),
            explained,
            dismissed: AtomicBool::default(),
        })
    }

    /// Takes shims in, for ever.
    pub(super) async fn accept(self: Arc<Self>) {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let pod = Arc::clone(&self);
                    tokio::task::spawn_local(async move {
                        // Whoever does not say hello is no shim.
                        drop(timeout(HELLO, pod.admit(stream)).await);
                    });
                }
                Err(error) => {
                    fail::say(format_args!("a shim can not be accepted: {error}"));
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// The first connection of a container wins: later ones could be a step's own process.
    async fn admit(&self, stream: UnixStream) -> Result<(), Gone> {
        let (read, write) = stream.into_split();
        let mut line = Line {
            reader: FrameReader::new(read),
            writer: FrameWriter::new(write),
            last_id: 0,
            taken: 0,
        };
        let shim_message::Message::Hello(hello) = line.hear().await? else {
            return Err(Gone);
        };
        if hello.protocol != PROTOCOL {
            fail::say(format_args!("a shim speaks protocol {}", hello.protocol));
            return Err(Gone);
        }
        line.say(shim_request::Message::Grant(Grant {
            bytes: credit::WINDOW,
        }))
        .await?;
        if self.dismissed.load(Ordering::Relaxed) {
            return line.say(shim_request::Message::Exit(Exit {})).await;
        }
        self.secrets.add(hello.secrets.iter().map(String::as_bytes));
        let shim = Arc::new(Shim {
            container: hello.container.clone(),
            working_dir: hello.working_dir,
            environment: hello.environment,
            line: tokio::sync::Mutex::new(line),
        });
        let mut containers = self.lock();
        let container = containers.entry(hello.container).or_default();
        if container.shim.is_none() && !container.lost {
            self.learn(&shim);
            container.shim = Some(shim);
        }
        drop(containers);
        self.touch();
        Ok(())
    }

    /// Takes note of which variables have values of Secrets: those values are masked before a step
    /// begins.
    pub(super) fn know_secrets(&self, plan: &Plan) {
        let is_secret = |variable: &&Value| {
            let source = variable.get("valueFrom");
            source.is_some_and(|source| source.get("secretKeyRef").is_some())
        };
        let names = plan.containers.iter().map(|container| {
            let secret = container.env_from_cluster.iter().filter(is_secret);
            let names = secret.filter_map(|variable| variable.get("name")?.as_str());
            (container.name.clone(), names.map(str::to_owned).collect())
        });
        let containers = self.lock();
        let _known = self.secret_names.set(names.collect());
        for shim in containers
            .values()
            .filter_map(|container| container.shim.as_ref())
        {
            self.learn(shim);
        }
    }

    /// Masks what a container has of Secrets. The caller holds the lock, so that none is left out.
    fn learn(&self, shim: &Shim) {
        let names = self
            .secret_names
            .get()
            .and_then(|all| all.get(&shim.container));
        let values = shim.environment.iter().filter_map(|line| {
            let (name, value) = line.split_once('=')?;
            names?.iter().any(|one| one == name).then_some(value)
        });
        self.secrets.add(values.map(str::as_bytes));
    }

    /// Takes note of what the cluster says.
    pub(super) fn status(&self, status: ContainerStatus) {
        let name = status.container.clone();
        self.lock().entry(name).or_default().status = Some(status);
        self.touch();
    }

    /// The shim of a container, once it is there.
    pub(super) async fn shim(&self, name: &str) -> Result<Arc<Shim>, Failure> {
        let mut changed = self.changed.subscribe();
        loop {
            let lost = {
                let mut containers = self.lock();
                let container = containers.entry(name.to_owned()).or_default();
                match (&container.shim, &container.status) {
                    (Some(shim), _) if !container.lost => return Ok(Arc::clone(shim)),
                    (None, Some(status)) if status.terminal => return Err(explain(status)),
                    _ => container.lost,
                }
            };
            if lost {
                return Err(self.why_lost(name).await);
            }
            // The sender lives in `self`.
            let _closed = changed.changed().await;
        }
    }

    /// The shim of a container if it is connected now.
    pub(super) fn connected(&self, name: &str) -> Option<Arc<Shim>> {
        let containers = self.lock();
        let container = containers.get(name)?;
        container
            .shim
            .as_ref()
            .filter(|_| !container.lost)
            .map(Arc::clone)
    }

    /// A shim's connection ended: nothing in that container runs any more.
    pub(super) async fn lose(&self, name: &str) -> Failure {
        self.lock().entry(name.to_owned()).or_default().lost = true;
        self.touch();
        self.why_lost(name).await
    }

    /// Why a container ended, in the cluster's words if they come in time.
    async fn why_lost(&self, name: &str) -> Failure {
        let mut changed = self.changed.subscribe();
        let told = async {
            loop {
                let status = self.lock().get(name).and_then(|known| known.status.clone());
                if let Some(status) = status.filter(|status| status.terminal) {
                    return status;
                }
                // The sender lives in `self`.
                let _closed = changed.changed().await;
            }
        };
        let patience = if self.explained {
            EXPLANATION
        } else {
            EXPLANATION_HERE
        };
        match timeout(patience, told).await {
            Ok(status) => explain(&status),
            Err(_) => Failure::new(
                "CONTAINER_LOST",
                "all processes of the container were killed from outside",
            ),
        }
    }

    /// Tells every shim that there is nothing more to do, also those that come only now.
    pub(super) async fn dismiss(&self) {
        self.dismissed.store(true, Ordering::Relaxed);
        let shims: Vec<_> = self
            .lock()
            .values()
            .filter_map(|c| c.shim.clone())
            .collect();
        for shim in shims {
            // One that is in the middle of something is ended by the end of its connection.
            if let Ok(mut line) = shim.line.try_lock() {
                drop(line.say(shim_request::Message::Exit(Exit {})).await);
            }
        }
        self.lock().clear();
    }

    fn touch(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Container>> {
        self.containers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// A failure in the cluster's words.
fn explain(status: &ContainerStatus) -> Failure {
    let said = match status.message.as_str() {
        "" => status.reason.clone(),
        message => format!("{}: {message}", status.reason),
    };
    let code = status
        .exit_code
        .map_or_else(String::new, |code| format!(" with code {code}"));
    match status.reason.as_str() {
        "OOMKilled" => Failure::new(
            "OUT_OF_MEMORY",
            match status.message.as_str() {
                "" => {
                    "the container was killed for memory; raise resources.limits.memory".to_owned()
                }
                message => format!("the container was killed for memory: {message}"),
            },
        ),
        reason if reason.contains("Image") && status.exit_code.is_none() => {
            Failure::new("IMAGE_PULL", said)
        }
        _ if status.exit_code.is_none() => Failure::new("CONTAINER_START", said),
        _ => Failure::new(
            "CONTAINER_LOST",
            format!("the container ended{code}: {said}"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(reason: &str, exit_code: Option<i32>) -> ContainerStatus {
        ContainerStatus {
            container: "step-1".to_owned(),
            terminal: true,
            reason: reason.to_owned(),
            message: "said".to_owned(),
            exit_code,
        }
    }

    #[test]
    fn the_clusters_words_become_a_reason() {
        for (reason, code, expected) in [
            ("OOMKilled", Some(137), "OUT_OF_MEMORY"),
            ("ImagePullBackOff", None, "IMAGE_PULL"),
            ("CreateContainerConfigError", None, "CONTAINER_START"),
            ("Error", Some(137), "CONTAINER_LOST"),
        ] {
            assert_eq!(explain(&status(reason, code)).reason, expected);
        }
    }
}

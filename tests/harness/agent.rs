//! Agents as child processes, so that they can be killed.

use std::path::Path;

use anyhow::Context as _;

use crate::{
    cluster::Clusters, control_plane::ControlPlane, image, namespace::Namespace, port,
    process::Process, program, proxy::Proxy,
};

/// Label by which a test chooses an agent; its value is the agent's name.
pub const LABEL: &str = "site";

/// An agent outside any cluster.
#[derive(Debug)]
pub struct Agent {
    /// Its name, which is also the value of its label [`LABEL`].
    pub name: String,
    process: Option<Process>,
    arguments: Vec<String>,
    folder: std::path::PathBuf,
}

impl Agent {
    /// Starts an agent that runs steps as processes of this machine.
    ///
    /// # Errors
    ///
    /// When it does not connect.
    pub async fn on_this_machine(server: &ControlPlane, name: &str) -> anyhow::Result<Self> {
        let backend = vec!["--backend".to_owned(), "process".to_owned()];
        Self::start(server, name, backend).await
    }

    /// The same, and reaches the server by a wire.
    ///
    /// # Errors
    ///
    /// When it does not connect.
    pub async fn by_a_wire_on_this_machine(
        server: &ControlPlane,
        name: &str,
        wire: &Proxy,
    ) -> anyhow::Result<Self> {
        let (scheme, _) = server.url.split_once("://").context("a URL")?;
        let url = format!("{scheme}://{}", wire.address);
        let backend = vec!["--backend".to_owned(), "process".to_owned()];
        Self::start_at(server, &url, name, backend).await
    }

    /// The same with a limit on how many attempts it runs at once.
    ///
    /// # Errors
    ///
    /// When it does not connect.
    pub async fn with_slots_on_this_machine(
        server: &ControlPlane,
        name: &str,
        capacity: u32,
    ) -> anyhow::Result<Self> {
        let backend = ["--backend", "process", "--capacity", &capacity.to_string()];
        Self::start(server, name, backend.map(str::to_owned).into()).await
    }

    /// Starts an agent that runs Jobs in `namespace`, from outside of its cluster.
    ///
    /// # Errors
    ///
    /// When it does not connect.
    pub async fn of_cluster(
        server: &ControlPlane,
        name: &str,
        clusters: &Clusters,
        namespace: &Namespace,
    ) -> anyhow::Result<Self> {
        Self::with_arguments(server, name, clusters, namespace, &[]).await
    }

    /// The same with more arguments on its command line.
    ///
    /// # Errors
    ///
    /// When it does not connect.
    pub async fn with_arguments(
        server: &ControlPlane,
        name: &str,
        clusters: &Clusters,
        namespace: &Namespace,
        more: &[&str],
    ) -> anyhow::Result<Self> {
        let relay = port::free(clusters.host)?;
        let mut backend: Vec<String> = [
            ("--backend", "kubernetes".to_owned()),
            (
                "--kubeconfig",
                namespace.cluster.kubeconfig.display().to_string(),
            ),
            ("--namespace", namespace.name.clone()),
            ("--runner-image", image::runner()),
            ("--relay-listen", format!("{}:{relay}", clusters.host)),
        ]
        .into_iter()
        .flat_map(|(flag, value)| [flag.to_owned(), value])
        .collect();
        if let Some(registry) = image::registry() {
            backend.extend([
                "--registry-mirror".to_owned(),
                format!("*=http://{registry}"),
            ]);
        }
        backend.extend(more.iter().map(|&argument| argument.to_owned()));
        Self::start(server, name, backend).await
    }

    async fn start(
        server: &ControlPlane,
        name: &str,
        backend: Vec<String>,
    ) -> anyhow::Result<Self> {
        Self::start_at(server, &server.url, name, backend).await
    }

    async fn start_at(
        server: &ControlPlane,
        url: &str,
        name: &str,
        backend: Vec<String>,
    ) -> anyhow::Result<Self> {
        let token = server.client.create_agent(name, &[(LABEL, name)]).await?;
        let folder = server.folder().to_path_buf();
        let token_file = folder.join(format!("{name}.token"));
        std::fs::write(&token_file, token)?;
        let mut arguments: Vec<String> = [
            "agent".to_owned(),
            "--server".to_owned(),
            url.to_owned(),
            "--token-file".to_owned(),
            token_file.display().to_string(),
            "--data-dir".to_owned(),
            folder.join(name).display().to_string(),
        ]
        .into();
        if let Some(authority) = server.authority() {
            arguments.extend(["--ca-file".to_owned(), authority.display().to_string()]);
        }
        arguments.extend(backend);
        let process = spawn(name, &arguments, &folder)?;
        let agent = Self {
            name: name.to_owned(),
            process: Some(process),
            arguments,
            folder,
        };
        agent.connected(server).await?;
        Ok(agent)
    }

    /// Waits until the server sees it.
    ///
    /// # Errors
    ///
    /// When it does not come; the message holds its last words.
    pub async fn connected(&self, server: &ControlPlane) -> anyhow::Result<()> {
        let connected = server.client.agent_connected(&self.name).await;
        let tail = || self.process.as_ref().map(Process::tail).unwrap_or_default();
        connected.with_context(tail)?;
        Ok(())
    }

    /// Kills it with SIGKILL.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill()?;
        }
        Ok(())
    }

    /// Starts it again, the same as before.
    ///
    /// # Errors
    ///
    /// When it can not be started.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.process = Some(spawn(&self.name, &self.arguments, &self.folder)?);
        Ok(())
    }

    /// Process id of the agent.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }
}

fn spawn(name: &str, arguments: &[String], folder: &Path) -> anyhow::Result<Process> {
    Process::start(name, &program::path()?, arguments, &[], folder)
}

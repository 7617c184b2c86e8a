//! A real server as a child process.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use tempfile::TempDir;

use crate::{port, process::Process, program, run::Client, wait};

/// A server with its data in a folder of its own.
#[derive(Debug)]
pub struct ControlPlane {
    /// Where clients and agents find it.
    pub url: String,
    /// An administrator.
    pub client: Client,
    process: Option<Process>,
    arguments: Vec<String>,
    options: Options,
    data: TempDir,
}

/// What a server is started with, beside its address and its folder.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// More arguments.
    pub arguments: Vec<String>,
    /// Variables of its environment.
    pub variables: Vec<(&'static str, String)>,
    /// In the place of the binary under test.
    pub program: Option<PathBuf>,
}

/// What a server on an object store has from its environment.
const CREDENTIALS: [&str; 2] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"];

impl Options {
    /// More arguments, and nothing else.
    #[must_use]
    pub fn of(arguments: &[&str]) -> Self {
        Self {
            arguments: arguments.iter().map(|&word| word.to_owned()).collect(),
            ..Self::default()
        }
    }

    /// Keeps blobs at a URL, with the credentials for object stores that this test has.
    #[must_use]
    pub fn with_blobs(mut self, url: &str) -> Self {
        let given = |name| Some((name, std::env::var(name).ok()?));
        self.arguments
            .extend(["--blobs".to_owned(), url.to_owned()]);
        self.variables
            .extend(CREDENTIALS.into_iter().filter_map(given));
        self
    }
}

impl ControlPlane {
    /// Starts a server on loopback, in plain text.
    ///
    /// # Errors
    ///
    /// When it does not come up.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_at(IpAddr::V4(Ipv4Addr::LOCALHOST)).await
    }

    /// Starts a server on loopback with more arguments.
    ///
    /// # Errors
    ///
    /// When it does not come up.
    pub async fn start_with(extra: &[&str]) -> anyhow::Result<Self> {
        Self::start_as(IpAddr::V4(Ipv4Addr::LOCALHOST), Options::of(extra)).await
    }

    /// Starts a server at a port of `address`; outside loopback it speaks TLS with a
    /// certificate that it makes itself.
    ///
    /// # Errors
    ///
    /// When it does not come up.
    pub async fn start_at(address: IpAddr) -> anyhow::Result<Self> {
        Self::start_as(address, Options::default()).await
    }

    /// The same with arguments and variables of its own.
    ///
    /// # Errors
    ///
    /// When it does not come up.
    pub async fn start_as(address: IpAddr, options: Options) -> anyhow::Result<Self> {
        Self::launch(address, options, TempDir::with_prefix("muster-test-")?).await
    }

    /// Starts another server beside this one, at another port of `address`: the same options, which
    /// name a database for both, the same key of credentials and the same administrator.
    ///
    /// # Errors
    ///
    /// When it does not come up.
    pub async fn beside(&self, address: IpAddr) -> anyhow::Result<Self> {
        let data = TempDir::with_prefix("muster-test-")?;
        let (from, to) = (self.data.path().join("server"), data.path().join("server"));
        std::fs::create_dir(&to)?;
        for file in ["admin-token", "credential-key"] {
            std::fs::copy(from.join(file), to.join(file)).with_context(|| file.to_owned())?;
        }
        Self::launch(address, self.options.clone(), data).await
    }

    async fn launch(address: IpAddr, options: Options, data: TempDir) -> anyhow::Result<Self> {
        program::install_tls_provider();
        let port = port::free(address)?;
        let scheme = if address.is_loopback() {
            "http"
        } else {
            "https"
        };
        let mut arguments = vec![
            "server".to_owned(),
            "--listen".to_owned(),
            format!("{address}:{port}"),
            "--data-dir".to_owned(),
            data.path().join("server").display().to_string(),
        ];
        arguments.extend(options.arguments.iter().cloned());
        let url = format!("{scheme}://{address}:{port}");
        let mut process = spawn(&arguments, &options, data.path())?;
        let token_file = data.path().join("server/admin-token");
        let authority_file = data.path().join("server").join(AUTHORITY);
        let client = wait::until("the server answers", async || {
            process.expect_alive()?;
            let Ok(token) = std::fs::read_to_string(&token_file) else {
                return Ok(None);
            };
            let authority = match scheme {
                "https" => Some(std::fs::read(&authority_file)?),
                _ => None,
            };
            let client = Client::new(&url, authority.as_deref(), token.trim())?;
            let request = muster_proto::v1::ListAgentsRequest::default();
            client.agents().list_agents(request).await?;
            Ok(Some(client))
        })
        .await
        .with_context(|| process.tail())?;
        Ok(Self {
            url,
            client,
            process: Some(process),
            arguments,
            options,
            data,
        })
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

    /// Stops it with SIGTERM and returns how it ended.
    ///
    /// # Errors
    ///
    /// When it does not run.
    pub fn terminate(&mut self) -> anyhow::Result<std::process::ExitStatus> {
        let mut process = self.process.take().context("the server does not run")?;
        process.terminate()
    }

    /// Starts it again at the same address with the same data, and waits until it answers.
    ///
    /// # Errors
    ///
    /// When it does not come up.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        let mut process = spawn(&self.arguments, &self.options, self.data.path())?;
        wait::until("the server answers", async || {
            process.expect_alive()?;
            let request = muster_proto::v1::ListAgentsRequest::default();
            Ok(self.client.agents().list_agents(request).await.ok())
        })
        .await
        .with_context(|| process.tail())?;
        self.process = Some(process);
        Ok(())
    }

    /// Runs the command line against it, as the administrator, and returns what it prints on standard
    /// output and on standard error.
    ///
    /// # Errors
    ///
    /// When its exit code is not 0, with what it said.
    pub async fn muster(&self, arguments: &[&str]) -> anyhow::Result<(Vec<u8>, String)> {
        let program = program::path()?;
        let ended = tokio::process::Command::new(program)
            .args(arguments)
            .env("HOME", self.data.path())
            .env("MUSTER_SERVER", &self.url)
            .env(
                "MUSTER_TOKEN_FILE",
                self.data.path().join("server/admin-token"),
            )
            .stdin(std::process::Stdio::null())
            .output()
            .await?;
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        ensure!(ended.status.success(), "{arguments:?}: {}", said.trim());
        Ok((ended.stdout, said))
    }

    /// Folder for files of this test; removed at its end.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.data.path()
    }

    /// Certificate that clients must trust; absent on loopback.
    #[must_use]
    pub fn authority(&self) -> Option<PathBuf> {
        let path = self.data.path().join("server").join(AUTHORITY);
        self.url.starts_with("https").then_some(path)
    }

    /// Process id of the server.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }
}

/// Certificate of the authority that a server makes for itself, in its data folder.
const AUTHORITY: &str = "tls/ca.pem";

fn spawn(arguments: &[String], options: &Options, folder: &Path) -> anyhow::Result<Process> {
    let variables = &options.variables;
    let program = match &options.program {
        Some(program) => program.clone(),
        None => program::path()?,
    };
    Process::start("server", &program, arguments, variables, folder)
}

//! How a server starts and stops.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt as _, future::BoxFuture};
use metrics_exporter_prometheus::PrometheusHandle;
use muster_core::clock::Clock;
use muster_storage::{
    Blobs, Store,
    blob::DirectOptions,
    token::{NewToken, Role},
    word::Word,
};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use crate::{
    app::App,
    config::{self, Config, Tls},
    http,
    link::{direct::Direct, dispatch},
    replicas::{self, Replicas},
    tasks, tls,
    token::{Holder, generate, hash},
    vault::{self, Vault},
};

/// How soon `muster cancel` and `muster pause` are heard by a `muster run` in another terminal.
const EMBEDDED_ORDERS: Duration = Duration::from_secs(1);

/// Name of the file with the first administrator's token.
const ADMIN_TOKEN: &str = "admin-token";
/// The same before the database knows it.
const COMING_TOKEN: &str = "admin-token.new";
/// How long streams may take to say farewell before connections are closed.
const FAREWELL: Duration = Duration::from_millis(500);

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting can not be used.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// The database or the blob store can not be used.
    #[error(transparent)]
    Storage(#[from] muster_storage::Error),
    /// There is no usable certificate.
    #[error(transparent)]
    Tls(#[from] tls::Error),
    /// There is no key for credentials.
    #[error(transparent)]
    Vault(#[from] vault::Error),
    /// The address can not be listened on.
    #[error("can not listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The data directory can not be used.
    #[error("{path}: {source}")]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A defect of the build.
    #[error("the services can not be set up: {0}")]
    Services(String),
}

/// A server that runs. Dropped without [`Server::stop`] it stops by itself, a little later.
#[derive(Debug)]
pub struct Server {
    app: Arc<App>,
    address: SocketAddr,
    secure: bool,
    ca: Option<PathBuf>,
    admin_token: Option<PathBuf>,
    stop: CancellationToken,
    _stop_when_dropped: DropGuard,
    tasks: TaskTracker,
    /// An essential task has ended.
    failed: CancellationToken,
}

impl Server {
    /// Starts a server.
    ///
    /// The first start on a database writes an administrator's token to `admin-token` in the data
    /// directory, readable by its owner alone; it is never written again.
    ///
    /// # Errors
    ///
    /// [`Error`]; then nothing runs.
    pub async fn start(
        config: Config,
        clock: Clock,
        metrics: Option<PrometheusHandle>,
    ) -> Result<Self, Error> {
        config.validate()?;
        make_private(&config.data_dir)?;
        let (app, listener, words) = prepare(config, clock).await?;
        let admin_token = write_first_token(&app).await?;
        tasks::grant_grace(&app)
            .await
            .map_err(|error| Error::Services(error.to_string()))?;
        let mut server = Self::serve(app, listener, words, metrics).await?;
        server.admin_token = admin_token;
        Ok(server)
    }

    /// Starts a server for this process alone: on a free port of loopback, with a token that is
    /// returned and ends with this process.
    ///
    /// # Errors
    ///
    /// [`Error`]; then nothing runs.
    pub async fn start_embedded(
        data_dir: &Path,
        global_template: Option<String>,
        clock: Clock,
    ) -> Result<(Self, String), Error> {
        let mut config = Config::new(data_dir.to_owned());
        config.global_template = global_template;
        config.listen = SocketAddr::from(([127, 0, 0, 1], 0));
        config.tls = Tls::Plaintext;
        // Every command is a process of its own here.
        config.order_interval = Some(EMBEDDED_ORDERS);
        // Its agent is this process: one that is gone does not come back.
        config.recovery.lost_agent_after_ms = Some(0);
        config.validate()?;
        make_private(&config.data_dir)?;
        let (app, listener, words) = prepare(config, clock).await?;
        let secret = generate(Holder::Person);
        let expire_time = app
            .clock
            .now()
            .checked_add(jiff::SignedDuration::from_hours(24 * 7))
            .ok();
        let new = NewToken {
            hash: hash(&secret),
            display_name: embedded_name(),
            role: Role::Admin,
            project: None,
            expire_time,
        };
        let token = app.store.tokens().create(&new, None).await?.value;
        // Others may share the data, and keep their own leases alive: there was no outage. What
        // ended without a word is settled before the first call.
        tasks::settle(&app)
            .await
            .map_err(|error| Error::Services(error.to_string()))?;
        let server = Self::serve(Arc::clone(&app), listener, words, None).await?;
        server.tasks.spawn({
            let stop = server.stop.clone();
            async move {
                stop.cancelled().await;
                if let Err(error) = app.store.tokens().delete(token.id, None).await {
                    tracing::warn!(%error, "this process's token stays until it expires");
                }
            }
        });
        Ok((server, secret))
    }

    async fn serve(
        app: Arc<App>,
        listener: TcpListener,
        words: mpsc::Receiver<Word>,
        metrics: Option<PrometheusHandle>,
    ) -> Result<Self, Error> {
        let address = app.config.listen;
        let files = certificate(&app.config)?;
        let config = files.as_ref().map(tls::load).transpose()?;
        let router = http::router(&app, metrics)
            .await
            .map_err(|error| Error::Services(error.to_string()))?;
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let failed = CancellationToken::new();
        let essential = |task: BoxFuture<'static, ()>| {
            // Dropped at the end of the task, by a panic too.
            let end = failed.clone().drop_guard();
            tasks.spawn(async move {
                let _end = end;
                task.await;
            });
        };
        essential(tasks::watch_leases(Arc::clone(&app), stop.clone()).boxed());
        essential(tasks::keep_house(Arc::clone(&app), stop.clone()).boxed());
        essential(tasks::finish_evidence(Arc::clone(&app), stop.clone()).boxed());
        essential(tasks::watch_orphans(Arc::clone(&app), stop.clone()).boxed());
        essential(tasks::keep_retention(Arc::clone(&app), stop.clone()).boxed());
        essential(tasks::delete_blobs(Arc::clone(&app), stop.clone()).boxed());
        essential(tasks::watch_blobs(Arc::clone(&app), stop.clone()).boxed());
        app.store
            .set_giver(Arc::new(dispatch::AtOnce(Arc::downgrade(&app))));
        essential(dispatch::run(Arc::clone(&app), stop.clone()).boxed());
        essential(replicas::speak(Arc::clone(&app), words, stop.clone()).boxed());
        essential(replicas::hear(Arc::clone(&app), stop.clone()).boxed());
        let grace = app.config.stop_grace;
        let closing = CancellationToken::new();
        tasks.spawn({
            let (stop, closing, app) = (stop.clone(), closing.clone(), Arc::clone(&app));
            async move {
                stop.cancelled().await;
                // Agents are told to go before their connections are closed.
                let farewell = if app.link.is_empty() {
                    Duration::ZERO
                } else {
                    FAREWELL
                };
                app.link.drain.cancel();
                tokio::time::sleep(farewell).await;
                closing.cancel();
            }
        });
        let secure = config.is_some();
        essential(http::serve(listener, router, config, closing, grace).boxed());
        Ok(Self {
            app,
            address,
            secure,
            ca: files.and_then(|files| files.ca),
            admin_token: None,
            _stop_when_dropped: stop.clone().drop_guard(),
            stop,
            tasks,
            failed,
        })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether connections are protected by TLS.
    #[must_use]
    pub const fn is_secure(&self) -> bool {
        self.secure
    }

    /// The certificate authority that clients must trust, when the server made its own.
    #[must_use]
    pub fn ca(&self) -> Option<&Path> {
        self.ca.as_deref()
    }

    /// The file with the first administrator's token, when this start wrote it.
    #[must_use]
    pub fn admin_token(&self) -> Option<&Path> {
        self.admin_token.as_deref()
    }

    /// Whether nothing is read from or written to the database now; see
    /// [`Store::is_at_rest`]. Work that waits for a timer or for a client may be under way.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        self.app.store.is_at_rest()
    }

    /// Waits until the server has ended by itself, which it never should.
    pub async fn ended(&mut self) {
        self.failed.cancelled().await;
        tracing::error!("a task that the server can not do without has ended");
    }

    /// Stops in order: agents are told, calls end, logs become durable, the database is closed.
    pub async fn stop(self) {
        self.stop.cancel();
        self.app.tasks.close();
        self.tasks.close();
        let grace = self.app.config.stop_grace + FAREWELL;
        let ended = async {
            self.app.tasks.wait().await;
            self.tasks.wait().await;
        };
        if tokio::time::timeout(grace, ended).await.is_err() {
            tracing::warn!("some work did not end in time; it is taken up at the next start");
        }
        self.app.blobs.clone().close().await;
        self.app.store.clone().close().await;
    }
}

type Prepared = (Arc<App>, TcpListener, mpsc::Receiver<Word>);

async fn prepare(mut config: Config, clock: Clock) -> Result<Prepared, Error> {
    crate::metrics::describe();
    let options = muster_storage::Options {
        clock: clock.clone(),
        max_connections: config.database_connections,
        ..muster_storage::Options::default()
    };
    let store = Store::connect(&config.database_url(), &options).await?;
    let mut blob_options = config.blob_options.clone();
    blob_options.direct = config.direct_uploads.as_ref().map(|it| DirectOptions {
        endpoint: it.endpoint.clone(),
    });
    let blobs = Blobs::open(&config.blobs_url(), &blob_options).await?;
    blobs.check().await?;
    let direct = match &config.direct_uploads {
        Some(wanted) => {
            blobs.check_direct(clock.now()).await?;
            Some(Direct::load(wanted, blobs.direct() == Some(true))?)
        }
        None => None,
    };
    let key_file = config.credential_key_file.as_deref();
    let vault = Vault::open(key_file, &config.data_dir, &store).await?;
    let address = config.listen;
    let listen = |source| Error::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(listen)?;
    config.listen = listener.local_addr().map_err(listen)?;
    let (replicas, words) = Replicas::new();
    let app = App::new(store, blobs, direct, vault, clock, config, replicas);
    Ok((app, listener, words))
}

fn certificate(config: &Config) -> Result<Option<tls::Files>, Error> {
    Ok(match &config.tls {
        Tls::Plaintext if !config.listen.ip().is_loopback() => {
            tracing::warn!("without TLS everybody on the way can read tokens and logs");
            None
        }
        Tls::Plaintext => None,
        Tls::Automatic { .. } if config.listen.ip().is_loopback() => None,
        Tls::Automatic { names } => {
            let names = tls::names(config.listen.ip(), names);
            Some(tls::make(&config.data_dir, &names)?)
        }
        Tls::Files { certificate, key } => Some(tls::Files {
            certificate: certificate.clone(),
            key: key.clone(),
            ca: None,
        }),
    })
}

/// Makes the data directory, for its owner alone.
fn make_private(path: &Path) -> Result<(), Error> {
    use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
    let failed = |source| Error::DataDir {
        path: path.to_owned(),
        source,
    };
    if path.is_dir() {
        return Ok(());
    }
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).map_err(failed)
}

/// Makes the first administrator's token, once for each database.
///
/// The secret is on disk before the database knows its hash, and gets its final name after: a
/// crash in between locks nobody out.
async fn write_first_token(app: &App) -> Result<Option<PathBuf>, Error> {
    let coming = app.config.data_dir.join(COMING_TOKEN);
    let path = app.config.data_dir.join(ADMIN_TOKEN);
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::DataDir { path, source }
    };
    let secret = match std::fs::read_to_string(&coming) {
        Ok(text) if !text.trim().is_empty() => text.trim().to_owned(),
        _ => generate(Holder::Person),
    };
    let new = NewToken {
        hash: hash(&secret),
        display_name: "admin".to_owned(),
        role: Role::Admin,
        project: None,
        expire_time: None,
    };
    tls::write(&coming, &format!("{secret}\n"), 0o600)?;
    let tokens = app.store.tokens();
    let made = tokens.create_first(&new).await?.is_some();
    // Made by an earlier start that did not come to the next line.
    if made || tokens.find_by_hash(&new.hash).await?.is_some() {
        std::fs::rename(&coming, &path).map_err(failed(&path))?;
        return Ok(Some(path));
    }
    std::fs::remove_file(&coming).map_err(failed(&coming))?;
    Ok(None)
}

/// Who an execution of the embedded server was made by.
fn embedded_name() -> String {
    let read = |path: &str| {
        std::fs::read_to_string(path).map_or_else(|_| String::new(), |text| text.trim().to_owned())
    };
    let host = read("/proc/sys/kernel/hostname");
    let user = ["USER", "LOGNAME"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok())
        .unwrap_or_else(|| "local".to_owned());
    if host.is_empty() {
        user
    } else {
        format!("{user}@{host}")
    }
}

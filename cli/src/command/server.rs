//! `muster server`: the control plane as a daemon. What it does is `muster_server`'s business.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::Args;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use muster_core::{
    clock::Clock,
    retention::{self, Retention},
};
use muster_server::{
    Config, Server,
    config::{DirectUploads, Tls},
};
use muster_storage::blob;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    arguments::Global,
    error::{self, Error},
    exit::Exit,
    place,
    signal::Interruptions,
    terminal::measure,
};

/// How often recorded metrics are summed up.
const UPKEEP: Duration = Duration::from_secs(5);

const EXAMPLES: &str = "\
Examples:
  muster server
  muster server --listen 0.0.0.0:8443 --data-dir /var/lib/muster --tls-name muster.example
  muster server --listen 0.0.0.0:8443 --tls-cert tls.crt --tls-key tls.key \\
      --database postgres://muster@db/muster --blobs 's3://bucket?endpoint=https://s3.example'

The first start writes an administrator's token to DATA_DIR/admin-token, and never again. Outside
loopback the server speaks TLS; without --tls-cert it makes an authority and a certificate, and
clients trust DATA_DIR/tls/ca.pem. Credentials of S3 come from AWS_ACCESS_KEY_ID,
AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN; MUSTER_DATABASE may hold the URL of the database.";

/// Run the control plane
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Where to listen
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Database
    #[arg(
        long,
        value_name = "URL",
        help = "Database, sqlite:///path or postgres://… [env: MUSTER_DATABASE] [default: sqlite in the data folder]"
    )]
    database: Option<String>,
    /// Most connections to the database; to PostgreSQL a quarter as many more, at least two, for searches
    #[arg(long, value_name = "COUNT", default_value_t = 16)]
    database_connections: u32,
    /// Blobs
    #[arg(
        long,
        value_name = "URL",
        help = "Blobs, file:///path or s3://bucket/prefix?endpoint=… [default: files in the data folder]"
    )]
    blobs: Option<String>,
    /// File with the key that credentials are sealed with: 32 random bytes in base64
    ///
    /// `openssl rand -base64 32` makes one. Without the option the first start makes
    /// DATA_DIR/credential-key, for its owner alone. Servers that share a database must all have the
    /// same file. It is not in the database: keep a copy apart from the database's backups, for
    /// without it credentials must be set again.
    #[arg(
        long,
        value_name = "FILE",
        help = "File with the key of credentials, 32 bytes in base64; the same for all servers of a database [default: made in the data folder]"
    )]
    credential_key_file: Option<PathBuf>,
    /// Certificate chain, PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Key of the certificate, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Name or address for the certificate that the server makes; may be given several times
    #[arg(long = "tls-name", value_name = "NAME", conflicts_with = "tls_cert")]
    tls_names: Vec<String>,
    /// Speak plain text outside loopback: everybody on the way can read tokens and logs
    #[arg(long, conflicts_with_all = ["tls_cert", "tls_names"])]
    insecure_plaintext: bool,
    /// Template that is put below every execution, as if its workflow named it first in `use`
    ///
    /// It is looked up in the project of the execution, so each project may have its own; in one
    /// without it executions go on, with a warning.
    #[arg(long, value_name = "TEMPLATE")]
    global_template: Option<String>,
    /// How long an agent may be silent before its work counts as lost
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    lease_duration: Duration,
    /// How often agents say that they live
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    renew_interval: Duration,
    /// Longest log of an execution, where its project does not say
    #[arg(long, value_name = "BYTES", default_value = "4GiB", value_parser = measure::bytes)]
    max_log: i64,
    /// Most bytes of one artifact, such as 500MiB
    #[arg(long, value_name = "SIZE", default_value = "10GiB", value_parser = measure::bytes)]
    max_artifact_size: i64,
    /// Most bytes of all artifacts of one execution
    #[arg(long, value_name = "SIZE", default_value = "50GiB", value_parser = measure::bytes)]
    max_artifacts_size: i64,
    /// Let pods put large artifacts into the object store themselves
    ///
    /// A pod gets a URL that is good for one file of one content, for fifteen minutes, and needs a way to
    /// the store: a network policy that lets pods reach nothing else must let them reach it. Small files,
    /// archives, and those of pods that do not reach it come through agent and server as ever. The store
    /// must check what it is sent against x-amz-checksum-sha256, which is tried out at the start.
    #[arg(long)]
    direct_uploads: bool,
    /// Only files of so many bytes or more go directly
    #[arg(long, value_name = "SIZE", default_value = "8MiB", value_parser = measure::bytes)]
    direct_uploads_from: i64,
    /// The object store's endpoint as pods see it
    #[arg(
        long,
        value_name = "URL",
        requires = "direct_uploads",
        help = "The object store's endpoint as pods see it, such as https://s3.example [default: that of --blobs]"
    )]
    direct_uploads_endpoint: Option<String>,
    /// Certificates of authorities by which pods know the object store, PEM
    #[arg(
        long,
        value_name = "FILE",
        requires = "direct_uploads",
        help = "Certificates of authorities by which pods know the object store, PEM [default: SSL_CERT_FILE or those of this machine]"
    )]
    direct_uploads_ca_file: Option<PathBuf>,
    /// How long after their end executions are kept, such as 14d, where neither project nor workflow says;
    /// `none` for no limit
    #[arg(long, value_name = "AGE", default_value = "30d", value_parser = retention::text::age)]
    keep_age: u64,
    /// How many executions of each workflow are kept; `none` for no limit
    #[arg(long, value_name = "COUNT", default_value = "1000", value_parser = retention::text::count)]
    keep_count: u64,
    /// How many bytes logs and artifacts of each workflow may have, such as 20GiB
    #[arg(long, value_name = "BYTES", default_value = "none", value_parser = retention::text::bytes)]
    keep_size: u64,
    /// How long logs are kept, when that is shorter
    #[arg(long, value_name = "AGE", default_value = "none", value_parser = retention::text::age)]
    keep_logs: u64,
    /// How long artifacts are kept, when that is shorter
    #[arg(long, value_name = "AGE", default_value = "none", value_parser = retention::text::age)]
    keep_artifacts: u64,
    /// How long events of the audit log are kept; at least 24h
    #[arg(long, value_name = "DURATION", default_value = "8760h", value_parser = duration)]
    audit_max_age: Duration,
    /// Leave out of the audit log who reads logs and artifacts
    #[arg(long)]
    no_audit_reads: bool,
    /// Take the last address of `x-forwarded-for` as the one that a call comes from, for the audit log
    ///
    /// Only behind a proxy of your own that sets it: anybody else can write what they like there.
    #[arg(long)]
    trust_forwarded_for: bool,
    /// How long open calls may take when the server stops
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    stop_grace: Duration,
}

/// Runs it until SIGTERM or Ctrl-C.
pub(crate) async fn execute(arguments: Arguments, global: &Global) -> Result<Exit, Error> {
    let config = config(arguments, global)?;
    let stop = CancellationToken::new();
    let _signals = stop_on_signal(&stop)?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "starting a server");
    let mut tasks = JoinSet::new();
    let metrics = record_metrics(&mut tasks)?;
    let started = Box::pin(Server::start(config, Clock::system(), Some(metrics))).await;
    let mut server = started.map_err(|error| Error::Local(error::chain(&error)))?;
    announce(&server);
    let ended = tokio::select! {
        () = stop.cancelled() => false,
        () = server.ended() => true,
    };
    server.stop().await;
    if ended {
        return Err(Error::Local(
            "the server ended by itself; see its log".to_owned(),
        ));
    }
    tracing::info!("stopped");
    Ok(Exit::Success)
}

/// Records metrics; what they sum up is kept small by a task.
fn record_metrics(tasks: &mut JoinSet<()>) -> Result<PrometheusHandle, Error> {
    let metrics = PrometheusBuilder::new()
        .install_recorder()
        .map_err(|error| Error::Local(error::chain(&error)))?;
    let handle = metrics.clone();
    tasks.spawn(async move {
        let mut ticks = tokio::time::interval(UPKEEP);
        loop {
            ticks.tick().await;
            handle.run_upkeep();
        }
    });
    Ok(metrics)
}

fn announce(server: &Server) {
    let scheme = if server.is_secure() { "https" } else { "http" };
    let url = format!("{scheme}://{}", server.address());
    tracing::info!(url, "listening");
    if let Some(path) = server.admin_token() {
        tracing::info!(file = %path.display(), "wrote the administrator's token, once and never again");
    }
    if let Some(path) = server.ca() {
        tracing::info!(file = %path.display(), "clients trust this authority by --ca-file");
    }
}

fn config(arguments: Arguments, global: &Global) -> Result<Config, Error> {
    if !arguments.tls_names.is_empty() && arguments.listen.ip().is_loopback() {
        tracing::warn!(
            listen = %arguments.listen,
            "--tls-name has no effect: on a loopback address there is no TLS without --tls-cert"
        );
    }
    let tls = match (arguments.tls_cert, arguments.tls_key) {
        (Some(certificate), Some(key)) => Tls::Files { certificate, key },
        _ if arguments.insecure_plaintext => Tls::Plaintext,
        _ => Tls::Automatic {
            names: arguments.tls_names,
        },
    };
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let credentials = variable("AWS_ACCESS_KEY_ID")
        .zip(variable("AWS_SECRET_ACCESS_KEY"))
        .map(|(access_key_id, secret_access_key)| blob::Credentials {
            access_key_id,
            secret_access_key,
            session_token: variable("AWS_SESSION_TOKEN"),
        });
    let config = Config {
        listen: arguments.listen,
        database: arguments.database.or_else(|| variable("MUSTER_DATABASE")),
        database_connections: arguments.database_connections,
        blobs: arguments.blobs,
        blob_options: blob::Options {
            credentials,
            ..blob::Options::default()
        },
        credential_key_file: arguments.credential_key_file,
        tls,
        global_template: arguments
            .global_template
            .map(|name| name.replace('/', "--")),
        lease_duration: arguments.lease_duration,
        renew_interval: arguments.renew_interval,
        max_log: arguments.max_log,
        retention: Retention {
            max_age_ms: Some(arguments.keep_age),
            max_count: Some(arguments.keep_count),
            max_bytes: Some(arguments.keep_size),
            log_age_ms: Some(arguments.keep_logs),
            artifact_age_ms: Some(arguments.keep_artifacts),
        },
        audit_max_age: arguments.audit_max_age,
        audit_reads: !arguments.no_audit_reads,
        trust_forwarded_for: arguments.trust_forwarded_for,
        stop_grace: arguments.stop_grace,
        max_artifact_size: arguments.max_artifact_size.unsigned_abs(),
        max_artifacts_size: arguments.max_artifacts_size.unsigned_abs(),
        direct_uploads: arguments.direct_uploads.then(|| DirectUploads {
            from: arguments.direct_uploads_from.unsigned_abs(),
            endpoint: arguments.direct_uploads_endpoint,
            ca_file: arguments.direct_uploads_ca_file,
        }),
        ..Config::new(place::data_dir(global)?)
    };
    config
        .validate()
        .map_err(|error| Error::Usage(format!("--{error}")))?;
    Ok(config)
}

/// Parses a duration such as `1m30s`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    muster_spec::duration::parse(text).map_err(|error| error.to_string())
}

/// Cancels `stop` at the first signal; a second one ends the process at once.
pub(super) fn stop_on_signal(stop: &CancellationToken) -> Result<JoinSet<()>, Error> {
    let mut interruptions = Interruptions::listen()?;
    let stop = stop.clone();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        interruptions.next().await;
        tracing::info!("stopping; once more to stop at once");
        stop.cancel();
        interruptions.next().await;
        std::process::exit(Exit::Interrupted.code().into());
    });
    Ok(tasks)
}

//! How a server is set up, with what holds when nothing is said.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use muster_core::{policy::Policy, retention::Retention};
use muster_storage::blob;

/// Largest manifest, in bytes.
pub const MAX_MANIFEST: usize = 1 << 20;
/// Largest gRPC message that is read, in bytes.
pub const MAX_MESSAGE: usize = 4 << 20;
/// Most tags, labels or config values of an execution.
pub const MAX_PAIRS: usize = 64;
/// Longest queue wait when a request says nothing.
pub const DEFAULT_QUEUE_WAIT: Duration = Duration::from_secs(24 * 3600);
/// How long request ids are remembered.
pub const REQUEST_MEMORY: Duration = Duration::from_secs(24 * 3600);

/// How long events of the audit log are kept when nothing is said.
pub const DEFAULT_AUDIT_AGE: Duration = Duration::from_secs(365 * 24 * 3600);
/// Shortest time that events of the audit log are kept: one who changes something must not be able to
/// have it forgotten within a day.
pub const MIN_AUDIT_AGE: Duration = Duration::from_secs(24 * 3600);

/// Set-up of a server.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Directory of everything that is not said to be elsewhere.
    pub data_dir: PathBuf,
    /// Database URL; `sqlite://` in the data directory when absent.
    pub database: Option<String>,
    /// Most database connections; PostgreSQL has a quarter as many more, at least two, for searches.
    pub database_connections: u32,
    /// Blob URL; `file://` in the data directory when absent.
    pub blobs: Option<String>,
    /// Credentials of the blob store.
    pub blob_options: blob::Options,
    /// File with the key of credentials; made in the data directory when absent. All servers of
    /// a database need the same one.
    pub credential_key_file: Option<PathBuf>,
    /// How connections are protected.
    pub tls: Tls,
    /// Name of the template that is put below every execution.
    pub global_template: Option<String>,
    /// How long a lease lives after a renewal.
    pub lease_duration: Duration,
    /// How often agents renew.
    pub renew_interval: Duration,
    /// How often to look for wishes to end or pause what an agent runs that another process has
    /// written; with every renewal when absent.
    pub order_interval: Option<Duration>,
    /// How long open calls may take when the server stops.
    pub stop_grace: Duration,
    /// Longest log of an execution in bytes, where its project does not say.
    pub max_log: i64,
    /// What follows when attempts end badly, where neither workflow nor project says.
    pub recovery: Policy,
    /// How long executions are kept, where neither workflow nor project says; what is not said here
    /// either is left to [`Retention::DEFAULT`].
    pub retention: Retention,
    /// How often one of the servers looks for what is beyond its retention.
    pub retention_interval: Duration,
    /// Most bytes of one artifact.
    pub max_artifact_size: u64,
    /// Most bytes of all artifacts of one execution.
    pub max_artifacts_size: u64,
    /// How long an upload of an artifact that broke is kept for who goes on with it.
    pub keep_uploads: Duration,
    /// Which artifacts go from pods to the object store directly; none when absent.
    pub direct_uploads: Option<DirectUploads>,
    /// How long events of the audit log are kept.
    pub audit_max_age: Duration,
    /// Whether the audit log is told who reads logs and artifacts.
    pub audit_reads: bool,
    /// Whether the last address of `x-forwarded-for` counts as the one that a call comes from: only
    /// where a proxy that is trusted stands before the server.
    pub trust_forwarded_for: bool,
}

/// Artifacts that go from pods to the object store directly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectUploads {
    /// Those of so many bytes or more.
    pub from: u64,
    /// The store's endpoint as pods see it; as the server does when absent.
    pub endpoint: Option<String>,
    /// Certificates of authorities by which pods know the store, PEM; those that the server's machine
    /// trusts when absent.
    pub ca_file: Option<PathBuf>,
}

/// How connections are protected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tls {
    /// Outside loopback with a certificate of its own, made in the data directory; on loopback
    /// without.
    Automatic {
        /// Names and addresses by which clients reach the server, beside the one it listens on.
        names: Vec<String>,
    },
    /// With this certificate chain and key, both PEM.
    Files {
        /// The chain.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
    },
    /// Without, knowingly.
    Plaintext,
}

/// A setting that can not be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A value is out of range.
    #[error("{name}: {reason}")]
    Value {
        /// The setting.
        name: &'static str,
        /// What is wrong and what is allowed.
        reason: String,
    },
}

impl Config {
    /// The default on this data directory: loopback, SQLite and files.
    #[must_use]
    pub fn new(data_dir: PathBuf) -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            data_dir,
            database: None,
            database_connections: 16,
            blobs: None,
            blob_options: blob::Options::default(),
            credential_key_file: None,
            tls: Tls::Automatic { names: Vec::new() },
            global_template: None,
            lease_duration: Duration::from_secs(30),
            renew_interval: Duration::from_secs(10),
            order_interval: None,
            stop_grace: Duration::from_secs(10),
            max_log: 4 << 30,
            recovery: Policy::default(),
            retention: Retention::default(),
            retention_interval: Duration::from_secs(5 * 60),
            max_artifact_size: 10 << 30,
            max_artifacts_size: 50 << 30,
            keep_uploads: Duration::from_secs(10 * 60),
            direct_uploads: None,
            audit_max_age: DEFAULT_AUDIT_AGE,
            audit_reads: true,
            trust_forwarded_for: false,
        }
    }

    /// Checks values that depend on one another.
    ///
    /// # Errors
    ///
    /// [`Error::Value`] names the setting and what is allowed.
    pub fn validate(&self) -> Result<(), Error> {
        if !self.data_dir.is_absolute() {
            return Err(Error::Value {
                name: "data-dir",
                reason: format!("'{}' is not an absolute path", self.data_dir.display()),
            });
        }
        if self.renew_interval.is_zero() || self.lease_duration < self.renew_interval * 2 {
            return Err(Error::Value {
                name: "lease-duration",
                reason: "must be at least twice the renew interval, so that one lost renewal \
                         does not lose a lease"
                    .to_owned(),
            });
        }
        if self.max_artifact_size == 0 || self.max_artifact_size > blob::LARGEST {
            return Err(Error::Value {
                name: "max-artifact-size",
                reason: format!(
                    "must be from 1 to {} bytes, which is the most that an object store takes in parts",
                    blob::LARGEST
                ),
            });
        }
        if self.direct_uploads.as_ref().is_some_and(|it| it.from == 0) {
            return Err(Error::Value {
                name: "direct-uploads-from",
                reason: "must be at least 1 byte".to_owned(),
            });
        }
        if self.database_connections == 0 {
            return Err(Error::Value {
                name: "database-connections",
                reason: "must be at least 1".to_owned(),
            });
        }
        if self.audit_max_age < MIN_AUDIT_AGE {
            return Err(Error::Value {
                name: "audit-max-age",
                reason: "must be at least 24h".to_owned(),
            });
        }
        if self.max_log < 1 << 10 {
            return Err(Error::Value {
                name: "max-log",
                reason: "must be at least 1KiB".to_owned(),
            });
        }
        Ok(())
    }

    /// The database URL.
    #[must_use]
    pub fn database_url(&self) -> String {
        self.database
            .clone()
            .unwrap_or_else(|| format!("sqlite://{}", self.data_dir.join("muster.db").display()))
    }

    /// The blob URL.
    #[must_use]
    pub fn blobs_url(&self) -> String {
        self.blobs
            .clone()
            .unwrap_or_else(|| format!("file://{}", self.data_dir.join("blobs").display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_shorter_than_two_renewals_is_refused() {
        let mut config = Config::new("/d".into());
        assert!(config.validate().is_ok());
        config.lease_duration = Duration::from_secs(15);
        let error = config.validate().expect_err("it is too short");
        assert!(error.to_string().contains("lease-duration"), "{error}");
    }

    #[test]
    fn everything_is_in_the_data_directory_unless_said() {
        let config = Config::new("/d".into());
        assert_eq!(config.database_url(), "sqlite:///d/muster.db");
        assert_eq!(config.blobs_url(), "file:///d/blobs");
    }
}

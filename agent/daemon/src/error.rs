//! Why an agent could not start or had to stop. Troubles that pass by themselves are not here:
//! they are retried and logged.

use std::path::PathBuf;

/// Why an agent could not start or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting is wrong.
    #[error("{field}: {reason}")]
    Invalid {
        /// Name of the setting.
        field: &'static str,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// A file or directory can not be used.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The address for conductors can not be listened on.
    #[error(
        "cannot listen on {address} for conductors; choose another address with --relay-listen"
    )]
    Listen {
        /// The address.
        address: String,
        /// Why not.
        source: std::io::Error,
    },
    /// The cluster can not be used.
    #[error("cannot {action}")]
    Cluster {
        /// What was tried.
        action: &'static str,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Keys and certificates can not be made or read.
    #[error("cannot {action}")]
    Tls {
        /// What was tried.
        action: &'static str,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The server does not know the token.
    #[error(
        "the server refused the agent's token ({message}); make a new one with 'muster agents create'"
    )]
    Unauthenticated {
        /// The server's words.
        message: String,
    },
    /// A newer process of the same agent has connected.
    #[error(
        "another process with the same agent token has connected; give each agent a token of its own"
    )]
    Superseded,
    /// Server and agent have no protocol in common.
    #[error(
        "the server speaks no protocol version of this agent ({message}); upgrade the older of the two"
    )]
    Protocol {
        /// The server's words.
        message: String,
    },
}

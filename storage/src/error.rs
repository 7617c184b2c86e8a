//! The one error of this crate, its variants named for what the caller does next.
//!
//! How an error of the database becomes one of these is in `error/database.rs`.

mod database;

use std::fmt;

use muster_core::execution::IllegalTransition;
use uuid::Uuid;

pub(crate) use database::{Certainty, convert, is_reference_violation, is_unique_violation};

/// Whatever lies below; shown in logs, never to a client.
pub type Source = Box<dyn std::error::Error + Send + Sync>;

/// What an error is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A project.
    Project,
    /// A token of a person or a program.
    Token,
    /// An agent.
    Agent,
    /// A workflow.
    Workflow,
    /// A template.
    Template,
    /// An execution.
    Execution,
    /// An attempt.
    Attempt,
    /// An artifact.
    Artifact,
    /// A test of a project.
    Test,
    /// A test in quarantine.
    QuarantinedTest,
    /// A credential.
    Credential,
    /// A blob.
    Blob,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Project => "project",
            Self::Token => "token",
            Self::Agent => "agent",
            Self::Workflow => "workflow",
            Self::Template => "template",
            Self::Execution => "execution",
            Self::Attempt => "attempt",
            Self::Artifact => "artifact",
            Self::Test => "test",
            Self::QuarantinedTest => "quarantined test",
            Self::Credential => "credential",
            Self::Blob => "blob",
        })
    }
}

/// Why a database takes no changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unwritable {
    /// There is no room left where it keeps its files.
    Full,
    /// It, or the disk below it, is read-only.
    ReadOnly,
}

impl fmt::Display for Unwritable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the database has no room left",
            Self::ReadOnly => "the database is read-only",
        })
    }
}

/// Why an object store does nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Away {
    /// It does not answer, or with errors that pass.
    Unreachable,
    /// It refuses the credentials, or what is asked for by them.
    Refusing,
}

impl fmt::Display for Away {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreachable => "the object store can not be reached, has no room or is busy",
            Self::Refusing => "the object store refuses what the server asks for",
        })
    }
}

/// Why an operation of the store or the blobs did not happen.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not there, or belongs to somebody else, which is not told apart.
    #[error("{kind} '{id}' was not found")]
    NotFound {
        /// What was looked for.
        kind: Kind,
        /// The id or name that was given.
        id: String,
    },
    /// Its name is taken.
    #[error("{kind} '{id}' exists already")]
    AlreadyExists {
        /// What should have been made.
        kind: Kind,
        /// The name that is taken.
        id: String,
    },
    /// It was changed since the caller read it: read again, decide again.
    #[error("{kind} '{id}' was changed meanwhile; read it again and repeat the change")]
    Conflict {
        /// What should have been changed.
        kind: Kind,
        /// Its id or name.
        id: String,
    },
    /// The caller's value is refused; the same call fails again.
    #[error("{field}: {reason}")]
    Invalid {
        /// The refused field.
        field: &'static str,
        /// What is wrong and what is allowed.
        reason: String,
    },
    /// The state machine refuses the event.
    #[error(transparent)]
    IllegalTransition(#[from] IllegalTransition),
    /// A quota of the project is used up; the same call may succeed later.
    #[error("{0}")]
    QuotaExceeded(String),
    /// The request id was used for a request with other content.
    #[error("request id {id} was used before for a request with other content; use a new id")]
    RequestIdReused {
        /// The id.
        id: Uuid,
    },
    /// Nothing happened, and the same call may succeed later.
    #[error("{operation}: the storage can not be reached or is busy; try again")]
    Unavailable {
        /// What was tried.
        operation: &'static str,
        /// Why.
        #[source]
        source: Source,
    },
    /// The object store did not do it, and the same call may succeed later.
    #[error("{operation}: {why}")]
    StoreAway {
        /// What was tried.
        operation: &'static str,
        /// Why it was not done.
        why: Away,
        /// What the object store said.
        #[source]
        source: Source,
    },
    /// Nothing happened, because the database takes no changes now. It can still be read, and the
    /// same call succeeds when it was made to take changes again.
    #[error("{operation}: {why}")]
    Unwritable {
        /// What was tried.
        operation: &'static str,
        /// Why no changes are taken.
        why: Unwritable,
        /// What the database said.
        #[source]
        source: Source,
    },
    /// The connection broke during the commit: it happened or not. Read before doing it again,
    /// or repeat the call where it carries a request id, a sequence or an offset.
    #[error("{operation}: the connection broke during the commit, its outcome is unknown")]
    CommitUnknown {
        /// What was tried.
        operation: &'static str,
        /// Why.
        #[source]
        source: Source,
    },
    /// The database was migrated by a newer program; nothing was changed.
    #[error(
        "the database has the migration '{migration}', which this version of Muster does not know; \
         start the version that made it or a newer one, or restore a backup from before that upgrade"
    )]
    UnknownSchema {
        /// The first migration that is not known.
        migration: String,
    },
    /// The configured place can not be used; the text names the cure.
    #[error("{place}: {reason}")]
    Configuration {
        /// The URL without credentials.
        place: String,
        /// What is wrong and what to do.
        reason: String,
        /// Why, where something below said so.
        #[source]
        source: Option<Source>,
    },
    /// A defect or a damaged store.
    #[error("{operation} failed")]
    Internal {
        /// What was tried.
        operation: &'static str,
        /// Why.
        #[source]
        source: Source,
    },
}

impl Error {
    /// Whether nothing happened and the same call may succeed later.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::Unavailable { .. } | Self::StoreAway { .. } | Self::Unwritable { .. }
        )
    }

    /// Whether it was not there.
    #[must_use]
    pub const fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    pub(crate) fn not_found(kind: Kind, id: impl fmt::Display) -> Self {
        Self::NotFound {
            kind,
            id: id.to_string(),
        }
    }

    pub(crate) fn invalid(field: &'static str, reason: impl Into<String>) -> Self {
        Self::Invalid {
            field,
            reason: reason.into(),
        }
    }

    pub(crate) fn internal(operation: &'static str, source: impl Into<Source>) -> Self {
        Self::Internal {
            operation,
            source: source.into(),
        }
    }
}

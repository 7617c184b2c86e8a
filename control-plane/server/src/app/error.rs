//! Why a use case did not happen, in the words of its caller.

use muster_core::execution::IllegalTransition;
use muster_storage as storage;

/// Why a use case did not happen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// There is no credential, or it is not known.
    #[error("{0}")]
    Unauthenticated(&'static str),
    /// The role does not allow it.
    #[error("{0}")]
    PermissionDenied(String),
    /// It is not there, or belongs to somebody else.
    #[error("{0}")]
    NotFound(String),
    /// It was there and was deleted, by retention or by somebody.
    #[error("{0}")]
    Deleted(String),
    /// Its name is taken.
    #[error("{0}")]
    AlreadyExists(String),
    /// It was changed meanwhile.
    #[error("{0}")]
    Conflict(String),
    /// Fields are wrong.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Invalid(Vec<Violation>),
    /// The state does not allow it.
    #[error("{0}")]
    FailedPrecondition(String),
    /// An agent's lease is not the live one.
    #[error("the lease with epoch {epoch} is not the live one: stop the attempt")]
    LeaseLost {
        /// The epoch that was told.
        epoch: i64,
    },
    /// A limit was reached.
    #[error("{0}")]
    LimitReached(String),
    /// What is stored is not what was taken in.
    #[error("{0}")]
    DataLoss(String),
    /// It may work later.
    #[error("the server can not reach its database, or it is busy; try again")]
    Unavailable(#[source] storage::Error),
    /// The object store does not do it now.
    #[error("{}", away(*why))]
    StoreAway {
        /// Why not.
        why: storage::Away,
        /// What the object store said.
        #[source]
        source: storage::Error,
    },
    /// The database takes no changes; reading goes on.
    #[error("{why}, so nothing was changed; try again when that is mended")]
    Unwritable {
        /// Why not.
        why: storage::Unwritable,
        /// What the database said.
        #[source]
        source: storage::Error,
    },
    /// This server stops; another one, or the next one, can do it.
    #[error("the server stops; try again")]
    Stopping,
    /// A defect.
    #[error("internal error")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// What the object store does, with the cure.
const fn away(why: storage::Away) -> &'static str {
    match why {
        storage::Away::Unreachable => {
            "the server can not reach its object store, or that has no room or is busy; try again"
        }
        storage::Away::Refusing => {
            "the object store refuses what the server asks for; see to the server's credentials and their \
             rights on the bucket, then try again"
        }
    }
}

/// One wrong field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    /// Its path, such as `spec.steps[2].run.image`.
    pub(crate) field: String,
    /// What was found, what is allowed, and where.
    pub(crate) description: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A place in a manifest names the field already.
        let names_it = |place: &str| place.split(", ").any(|part| part == self.field);
        let place = self.description.split_once(": ").map(|(place, _)| place);
        if self.field.is_empty() || place.is_some_and(names_it) {
            return f.write_str(&self.description);
        }
        write!(f, "{}: {}", self.field, self.description)
    }
}

impl Error {
    /// One wrong field.
    pub(crate) fn invalid(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self::Invalid(vec![Violation {
            field: field.into(),
            description: description.into(),
        }])
    }
}

impl From<muster_spec::problem::Problems> for Error {
    fn from(problems: muster_spec::problem::Problems) -> Self {
        let violations = problems.into_iter().map(|problem| Violation {
            field: problem.place.path.to_string(),
            description: problem.to_string(),
        });
        Self::Invalid(violations.collect())
    }
}

impl From<IllegalTransition> for Error {
    fn from(illegal: IllegalTransition) -> Self {
        match illegal {
            IllegalTransition::LeaseLost { epoch } => Self::LeaseLost { epoch },
            IllegalTransition::State { .. } => Self::FailedPrecondition(illegal.to_string()),
        }
    }
}

impl From<storage::Error> for Error {
    fn from(error: storage::Error) -> Self {
        use storage::Error as E;
        match error {
            E::NotFound { .. } => Self::NotFound(error.to_string()),
            E::AlreadyExists { .. } => Self::AlreadyExists(error.to_string()),
            E::Conflict { .. } => Self::Conflict(error.to_string()),
            E::Invalid { field, reason } => Self::invalid(field, reason),
            E::IllegalTransition(illegal) => illegal.into(),
            E::QuotaExceeded(text) => Self::LimitReached(text),
            E::RequestIdReused { .. } => Self::invalid("request_id", error.to_string()),
            E::Unavailable { .. } | E::CommitUnknown { .. } => Self::Unavailable(error),
            E::StoreAway { why, .. } => Self::StoreAway { why, source: error },
            E::Unwritable { why, .. } => Self::Unwritable { why, source: error },
            E::UnknownSchema { .. } | E::Configuration { .. } | E::Internal { .. } => {
                Self::Internal(error.into())
            }
        }
    }
}

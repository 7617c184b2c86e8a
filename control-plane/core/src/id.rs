//! Ids: UUID version 7, so that they sort by creation, in a type of their own for each noun.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A text that is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not a UUID")]
pub struct ParseIdError {
    text: String,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Makes a new id; later ones sort behind earlier ones.
            #[must_use]
            pub fn generate() -> Self {
                Self(Uuid::now_v7())
            }

            /// The bare UUID, for storage.
            #[must_use]
            pub const fn as_uuid(self) -> Uuid {
                self.0
            }
        }

        impl From<Uuid> for $name {
            fn from(uuid: Uuid) -> Self {
                Self(uuid)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                text.parse().map(Self).map_err(|_: uuid::Error| ParseIdError {
                    text: text.chars().take(64).collect(),
                })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }
    };
}

id!(
    /// A project (tenant).
    ProjectId
);
id!(
    /// One requested run of a workflow.
    ExecutionId
);
id!(
    /// One placement of an execution on one agent.
    AttemptId
);
id!(
    /// The daemon of one cluster.
    AgentId
);
id!(
    /// A credential of a person or a program.
    TokenId
);
id!(
    /// A stored workflow.
    WorkflowId
);
id!(
    /// A stored template.
    TemplateId
);
id!(
    /// A file that an execution left behind.
    ArtifactId
);
id!(
    /// A process of an agent; a newer one takes the place of an older one.
    SessionId
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_ids_sort_behind_earlier_ones() {
        let ids: Vec<_> = (0..100).map(|_| ExecutionId::generate()).collect();
        assert!(ids.is_sorted());
    }

    #[test]
    fn a_text_that_is_no_id_is_named_and_cut() {
        let error = "x".repeat(1000).parse::<AgentId>().unwrap_err();
        assert!(error.to_string().len() < 100);
    }
}

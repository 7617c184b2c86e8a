//! The audit log: who changed or reached what, from where, and what came of it.
//!
//! Nothing here changes an event: they are added, listed, and removed when they are old, which the
//! database itself refuses in any other way. What is told of a change is written in the transaction
//! of the change (`audit/write.rs`); secrets are never given to it.

mod accepted;
mod list;
mod write;

use std::collections::BTreeMap;

use jiff::Timestamp;
use muster_core::id::ProjectId;
use uuid::Uuid;

use crate::{Error, Page, Store};

pub(crate) use accepted::Accepted;
pub(crate) use write::{Done, json, record};

/// What kind of caller it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActorKind {
    /// A person or a program with a token.
    Token,
    /// An agent.
    Agent,
    /// Somebody whose token is missing or not good.
    Nobody,
    /// The server itself, by a rule that it was given.
    Server,
}

impl ActorKind {
    const ALL: [Self; 4] = [Self::Token, Self::Agent, Self::Nobody, Self::Server];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Agent => "agent",
            Self::Nobody => "nobody",
            Self::Server => "server",
        }
    }
}

/// Who it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// Its kind.
    pub kind: ActorKind,
    /// Id of the token or the agent.
    pub id: Option<Uuid>,
    /// Its name at that time, or that of the rule; empty for nobody.
    pub name: String,
    /// Role of the token; empty for others.
    pub role: String,
}

impl Actor {
    /// Somebody who is not known.
    #[must_use]
    pub const fn nobody() -> Self {
        Self {
            kind: ActorKind::Nobody,
            id: None,
            name: String::new(),
            role: String::new(),
        }
    }

    /// The server itself, by a rule of this name.
    #[must_use]
    pub fn server(rule: &str) -> Self {
        Self {
            kind: ActorKind::Server,
            name: rule.to_owned(),
            ..Self::nobody()
        }
    }
}

/// What is known of a call before it is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Who calls.
    pub actor: Actor,
    /// `Service/Method`.
    pub action: String,
    /// Name of what it is about, such as `projects/p/workflows/w`; may be empty.
    pub resource: String,
    /// Address that it comes from; may be empty.
    pub peer: String,
    /// What the caller gave, without secrets.
    pub inputs: BTreeMap<String, String>,
    /// The caller's id of the request.
    pub request_id: Option<Uuid>,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Done,
    /// It was refused.
    Refused,
}

impl Outcome {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
        }
    }
}

/// An event that is in no transaction of a change: an access, a refusal, or what is about to be deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAuditEvent {
    /// What is known of the call.
    pub note: Note,
    /// The project that may see it; `None` for administrators alone.
    pub project: Option<ProjectId>,
    /// JSON of what is there before it, as far as it is longer than an input; cut to a word about its
    /// length when it is too long.
    pub before: Option<String>,
    /// What came of it.
    pub outcome: Outcome,
    /// Why it was refused; empty otherwise.
    pub reason: String,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEvent {
    /// Its id; later ones sort behind earlier ones of the same server.
    pub id: Uuid,
    /// When it happened.
    pub time: Timestamp,
    /// The project that may see it; `None` for administrators alone.
    pub project: Option<ProjectId>,
    /// What was known of the call.
    pub note: Note,
    /// JSON of what was there before a change.
    pub before: Option<String>,
    /// JSON of what is there after it.
    pub after: Option<String>,
    /// What came of it.
    pub outcome: Outcome,
    /// Why it was refused; empty otherwise.
    pub reason: String,
}

/// Whose events can be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// All; for administrators.
    Instance,
    /// Those of one project.
    Project(ProjectId),
}

/// Which events a list shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Name or id of who it was.
    pub actor: Option<String>,
    /// Beginning of the action.
    pub action: Option<String>,
    /// Beginning of the resource's name.
    pub resource: Option<String>,
    /// Not earlier than this.
    pub since: Option<Timestamp>,
    /// Earlier than this.
    pub until: Option<Timestamp>,
}

/// The audit log, as far as one may see it.
#[derive(Debug)]
pub struct Audit<'a> {
    pub(crate) store: &'a Store,
    pub(crate) scope: Scope,
}

impl Audit<'_> {
    /// Lists events, newest first.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn list(
        &self,
        filter: &AuditFilter,
        after: Option<Uuid>,
        limit: u32,
    ) -> Result<Page<AuditEvent, Uuid>, Error> {
        self.load_page(filter, after, limit).await
    }
}

impl Store {
    /// The audit log, as far as one may see it.
    #[must_use]
    pub const fn audit(&self, scope: Scope) -> Audit<'_> {
        Audit { store: self, scope }
    }

    /// Adds an event that belongs to no change, together with those that come at the same time.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn add_audit_event(&self, event: NewAuditEvent) -> Result<(), Error> {
        self.gathers().audit.call(self, event).await
    }

    /// Removes events that are older than this; the database refuses it for all others. Returns how
    /// many; there may be more when it is as many as one call removes at most.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn expire_audit_events(&self, before: Timestamp) -> Result<u64, Error> {
        self.expire_audit(before).await
    }
}

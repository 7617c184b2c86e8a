//! Who calls, and what that allows.

use std::sync::Arc;

use muster_core::id::{ProjectId, TokenId};
use muster_storage::{
    audit::{Actor, ActorKind},
    project::Project,
    token::Role,
};

use super::{App, Call, Error};

/// A person or a program that calls.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// Its token.
    pub(crate) token: TokenId,
    /// Name of the token.
    pub(crate) name: String,
    /// What the token allows.
    pub(crate) role: Role,
    /// The only project that it can see; `None` for administrators.
    pub(crate) project: Option<ProjectId>,
    /// What it calls.
    pub(crate) call: Arc<Call>,
}

/// What a use case needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// To look.
    Read,
    /// To change.
    Write,
}

impl Caller {
    /// Only administrators go on.
    pub(crate) fn require_admin(&self) -> Result<(), Error> {
        if self.role == Role::Admin {
            return Ok(());
        }
        Err(Error::PermissionDenied(
            "only an administrator's token allows this".to_owned(),
        ))
    }

    /// Whether it can see a project.
    pub(crate) fn can_see(&self, project: ProjectId) -> bool {
        self.role == Role::Admin || self.project == Some(project)
    }
}

impl App {
    /// The caller of a secret.
    pub(crate) async fn authenticate(
        &self,
        secret: &str,
        call: Arc<Call>,
    ) -> Result<Caller, Error> {
        let hash = crate::token::hash(secret);
        let token = self.store.tokens().find_by_hash(&hash).await?;
        let token = token.ok_or(Error::Unauthenticated(
            "the token is not known, was revoked or has expired",
        ))?;
        call.is_by(Actor {
            kind: ActorKind::Token,
            id: Some(token.id.as_uuid()),
            name: token.display_name.clone(),
            role: token.role.as_str().to_owned(),
        });
        if let Some(project) = token.project {
            call.is_in(project);
        }
        Ok(Caller {
            token: token.id,
            name: token.display_name,
            role: token.role,
            project: token.project,
            call,
        })
    }

    /// The project of a name, when the caller may do this there. One that it can not see is as
    /// good as not there.
    pub(crate) async fn project(
        &self,
        caller: &Caller,
        name: &str,
        access: Access,
    ) -> Result<Project, Error> {
        let hidden = || Error::NotFound(format!("project '{name}' was not found"));
        let project = match self.store.projects().find(name).await {
            Ok(project) => project,
            Err(error) if error.is_not_found() => return Err(hidden()),
            Err(error) => return Err(error.into()),
        };
        if !caller.can_see(project.id) {
            caller.call.is_foreign();
            return Err(hidden());
        }
        caller.call.is_in(project.id);
        if access == Access::Write && caller.role == Role::Viewer {
            return Err(Error::PermissionDenied(format!(
                "the token '{}' may only read in project '{name}': use one with role member",
                caller.name
            )));
        }
        Ok(project)
    }
}

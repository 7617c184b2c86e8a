//! Credentials of projects: values go in by callers who may change the project, and come out to
//! nobody but agents, for attempts that they run.

use std::collections::BTreeSet;

use muster_core::{execution::Lease, id::ProjectId, name};
use muster_storage::{
    Page, Request,
    agent::Agent,
    credential::{Credential, NewCredential},
};
use serde::Deserialize;

use super::{Access, App, Call, Caller, Error};

/// Largest value, in bytes: it travels in one message, and ends in variables and scripts.
const MAX_VALUE: usize = 64 << 10;
/// Longest description, in bytes.
const MAX_DESCRIPTION: usize = 1024;

/// A wanted change of a credential.
pub(crate) struct CredentialChange<'a> {
    pub(crate) name: &'a str,
    pub(crate) value: &'a str,
    /// Absent to keep what is there.
    pub(crate) description: Option<&'a str>,
    /// The revision that it is based on, empty for any.
    pub(crate) etag: &'a str,
    /// Make it when it is not there.
    pub(crate) allow_missing: bool,
}

/// The part of a plan that says which credentials it is about.
#[derive(Deserialize)]
struct Named {
    #[serde(default)]
    credentials: BTreeSet<String>,
}

impl App {
    /// Stores a new credential.
    pub(crate) async fn create_credential(
        &self,
        caller: &Caller,
        project: &str,
        change: &CredentialChange<'_>,
        request: Option<&Request>,
    ) -> Result<Credential, Error> {
        let project = self.project(caller, project, Access::Write).await?;
        let new = self.seal(project.id, change)?;
        let credentials = self.store.credentials(project.id);
        Ok(credentials.create(&new, request).await?.value)
    }

    pub(crate) async fn get_credential(
        &self,
        caller: &Caller,
        project: &str,
        name: &str,
    ) -> Result<Credential, Error> {
        let project = self.project(caller, project, Access::Write).await?;
        Ok(self.store.credentials(project.id).get(name).await?)
    }

    pub(crate) async fn list_credentials(
        &self,
        caller: &Caller,
        project: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Page<Credential, String>, Error> {
        let project = self.project(caller, project, Access::Write).await?;
        let credentials = self.store.credentials(project.id);
        Ok(credentials.list(after, limit).await?)
    }

    /// Replaces a value.
    pub(crate) async fn update_credential(
        &self,
        caller: &Caller,
        project: &str,
        change: &CredentialChange<'_>,
        request: Option<&Request>,
    ) -> Result<Credential, Error> {
        let project = self.project(caller, project, Access::Write).await?;
        let expected = match change.etag {
            "" => None,
            _ if change.allow_missing => {
                let text = "can not be given with `allow_missing`: a new one has none";
                return Err(Error::invalid("etag", text));
            }
            etag => Some(etag.parse().map_err(|_refused| {
                Error::invalid("etag", format!("'{etag}' is not an etag of this server"))
            })?),
        };
        let new = self.seal(project.id, change)?;
        let credentials = self.store.credentials(project.id);
        let updated = credentials.update(&new, expected, change.allow_missing, request);
        Ok(updated.await?.value)
    }

    pub(crate) async fn delete_credential(
        &self,
        caller: &Caller,
        project: &str,
        name: &str,
        request: Option<&Request>,
    ) -> Result<(), Error> {
        let project = self.project(caller, project, Access::Write).await?;
        self.store
            .credentials(project.id)
            .delete(name, request)
            .await?;
        Ok(())
    }

    /// The value of a credential, for a live attempt of this agent whose plan names it.
    pub(crate) async fn read_credential(
        &self,
        call: &Call,
        agent: &Agent,
        lease: Lease,
        name: &str,
    ) -> Result<String, Error> {
        let execution = self.parent(agent, lease).await?.execution;
        call.is_in(execution.project);
        let executions = self.store.executions(execution.project);
        let plan = executions.plan(execution.id).await?;
        let plan: Named =
            serde_json::from_slice(&plan).map_err(|error| Error::Internal(error.into()))?;
        if !plan.credentials.contains(name) {
            let shown: String = name.chars().take(80).collect();
            return Err(Error::PermissionDenied(format!(
                "the workflow of this execution does not name the credential '{shown}': one whose \
                 name comes about only while it runs is not given"
            )));
        }
        let credentials = self.store.credentials(execution.project);
        let (_, sealed) = match credentials.value(name).await {
            Err(error) if error.is_not_found() => {
                return Err(Error::NotFound(format!(
                    "the project has no credential '{name}': store it by `muster credentials set \
                     {name}`"
                )));
            }
            found => found?,
        };
        let value = self.vault.unseal(execution.project, name, sealed);
        let value = value.map_err(|closed| {
            tracing::error!(credential = name, %closed, "a credential can not be given");
            Error::FailedPrecondition(format!("the credential '{name}' {closed}"))
        })?;
        let id = execution.id.to_string();
        self.note_credential(call, execution.project, name, &id, lease)
            .await?;
        tracing::info!(
            credential = name,
            execution = %execution.id,
            attempt = %lease.attempt,
            agent = agent.name,
            "gave a credential"
        );
        Ok(value)
    }

    fn seal(
        &self,
        project: ProjectId,
        change: &CredentialChange<'_>,
    ) -> Result<NewCredential, Error> {
        check(change)?;
        let sealed = self.vault.seal(project, change.name, change.value);
        Ok(NewCredential {
            name: change.name.to_owned(),
            value: sealed.map_err(|error| Error::Internal(error.into()))?,
            description: change.description.map(str::to_owned),
        })
    }
}

/// Refuses what can not be used. No message has anything of the value.
fn check(change: &CredentialChange<'_>) -> Result<(), Error> {
    name::check_credential(change.name)
        .map_err(|error| Error::invalid("credential_id", error.to_string()))?;
    let size = change.value.len();
    if size == 0 {
        return Err(Error::invalid("value", "must not be empty"));
    }
    if size > MAX_VALUE {
        let text = format!("has {size} bytes, at most {MAX_VALUE} are allowed");
        return Err(Error::invalid("value", text));
    }
    if change.value.contains('\0') {
        let text = "must not hold NUL, which neither scripts nor variables can";
        return Err(Error::invalid("value", text));
    }
    let described = change.description.map_or(0, str::len);
    if described > MAX_DESCRIPTION {
        let text = format!("has {described} bytes, at most {MAX_DESCRIPTION} are allowed");
        return Err(Error::invalid("description", text));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(name: &str, value: &str, description: &str) -> Option<String> {
        let change = CredentialChange {
            name,
            value,
            description: Some(description),
            etag: "",
            allow_missing: false,
        };
        check(&change).err().map(|error| error.to_string())
    }

    #[test]
    fn what_can_not_be_used_is_refused_without_the_value() {
        let long = "x".repeat(MAX_VALUE + 1);
        assert_eq!(refusal("token", &long[1..], ""), None);
        for (name, value, description, expected) in [
            ("To/ken", "x", "", "credential_id"),
            ("token", "", "", "must not be empty"),
            ("token", &long, "", "at most 65536"),
            ("token", "hunter\0two", "", "NUL"),
            ("token", "x", &long, "description"),
        ] {
            let refused = refusal(name, value, description).expect(expected);
            assert!(refused.contains(expected), "{refused}");
            assert!(!refused.contains("hunter") && refused.len() < 300);
        }
    }
}

//! Projects.

use muster_core::{id::ProjectId, name, policy::MAX_RETRIES};
use muster_storage::{
    Page, Request, Written,
    project::{NewProject, Project, Settings},
};

use super::{Access, App, Caller, Error, agents::by};

/// Greatest weight of a project.
const MAX_WEIGHT: u32 = 10_000;

/// Smallest limit for logs, in bytes and in bytes a second.
const MIN_LOG: i64 = 1024;

/// Checks what an administrator wants.
fn check(settings: &Settings) -> Result<(), Error> {
    if !(1..=MAX_WEIGHT).contains(&settings.weight) {
        let text = format!("{} is not from 1 to {MAX_WEIGHT}", settings.weight);
        return Err(Error::invalid("project.weight", text));
    }
    let logs = &settings.logs;
    for (field, bytes) in [
        ("project.max_log_bytes", logs.max_size),
        ("project.max_log_rate", logs.max_rate),
        ("project.max_log_rate_each", logs.max_rate_each),
    ] {
        if bytes.is_some_and(|bytes| bytes < MIN_LOG) {
            let text = format!("less than {MIN_LOG}, the smallest that leaves anything to read");
            return Err(Error::invalid(field, text));
        }
    }
    let policy = &settings.policy;
    for (field, retries) in [
        (
            "project.recovery.infrastructure_retries",
            policy.infrastructure_retries,
        ),
        ("project.recovery.test_retries", policy.test_retries),
    ] {
        if retries.is_some_and(|retries| retries > MAX_RETRIES) {
            let text = format!("more than {MAX_RETRIES}, which is the limit");
            return Err(Error::invalid(field, text));
        }
    }
    Ok(())
}

impl App {
    pub(crate) async fn create_project(
        &self,
        caller: &Caller,
        new: &NewProject,
        request: Option<&Request>,
    ) -> Result<Project, Error> {
        caller.require_admin()?;
        name::check_label(&new.name)
            .map_err(|error| Error::invalid("project_id", error.to_string()))?;
        let Written { value, .. } = self.store.projects().create(new, request).await?;
        Ok(value)
    }

    /// Changes how a project is served; `change` has the values as they are.
    pub(crate) async fn update_project(
        &self,
        caller: &Caller,
        name: &str,
        change: impl FnOnce(&mut Settings) -> Result<(), Error>,
        request: Option<&Request>,
    ) -> Result<Project, Error> {
        caller.require_admin()?;
        let project = self.project(caller, name, Access::Write).await?;
        let mut settings = project.settings;
        let held = settings.hold.clone();
        change(&mut settings)?;
        if let Some(hold) = settings.hold.as_mut()
            && held.as_ref() != Some(hold)
        {
            hold.message = by(caller, &hold.message);
        }
        check(&settings)?;
        let projects = self.store.projects();
        let written = projects.set(project.id, &settings, request).await?;
        self.wake_scheduler();
        Ok(written.value)
    }

    /// Lets nothing of a project begin, or lets it go on.
    pub(crate) async fn hold_project(
        &self,
        caller: &Caller,
        name: &str,
        pause: Option<&str>,
        request: Option<&Request>,
    ) -> Result<Project, Error> {
        let project = self.project(caller, name, Access::Write).await?;
        let mut settings = project.settings;
        settings.pause = pause.map(|message| by(caller, message));
        let projects = self.store.projects();
        let written = projects.set(project.id, &settings, request).await?;
        self.wake_scheduler();
        Ok(written.value)
    }

    /// The name of a project that a record names by id.
    pub(crate) async fn project_name(&self, id: ProjectId) -> Result<String, Error> {
        Ok(self.store.projects().get(id).await?.name)
    }

    pub(crate) async fn get_project(&self, caller: &Caller, name: &str) -> Result<Project, Error> {
        self.project(caller, name, Access::Read).await
    }

    pub(crate) async fn list_projects(
        &self,
        caller: &Caller,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Page<Project, String>, Error> {
        if let Some(only) = caller.project {
            let project = self.store.projects().get(only).await?;
            let items = match after {
                Some(after) if project.name.as_str() <= after => Vec::new(),
                _ => vec![project],
            };
            return Ok(Page { items, next: None });
        }
        caller.require_admin()?;
        Ok(self.store.projects().list(after, limit).await?)
    }
}

//! Projects.

use muster_core::{id::ProjectId, name};
use muster_storage::{
    Page, Request, Written,
    project::{NewProject, Project},
};

use super::{Access, App, Caller, Error};

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

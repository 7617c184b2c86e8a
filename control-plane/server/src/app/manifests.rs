//! Stored workflows and templates. Both are manifests; the kind says which.

use muster_core::{name, retention};
use muster_spec::{manifest::Document, yaml::Limits};
use muster_storage::{
    Page, Request, Written,
    manifest::{Kind, Manifest, Manifests, NewManifest},
};

use super::{Access, App, Caller, Error};
use crate::config::MAX_MANIFEST;

/// A wanted change of a manifest.
#[derive(Debug)]
pub(crate) struct ManifestChange<'a> {
    pub(crate) kind: Kind,
    pub(crate) name: &'a str,
    /// The new YAML document.
    pub(crate) text: &'a str,
    /// The revision that it is based on, empty for any.
    pub(crate) etag: &'a str,
}

impl App {
    fn manifests(&self, kind: Kind, project: muster_core::id::ProjectId) -> Manifests<'_> {
        match kind {
            Kind::Workflow => self.store.workflows(project),
            Kind::Template => self.store.templates(project),
        }
    }

    pub(crate) async fn create_manifest(
        &self,
        caller: &Caller,
        project: &str,
        kind: Kind,
        text: &str,
        request: Option<&Request>,
    ) -> Result<Manifest, Error> {
        let project = self.project(caller, project, Access::Write).await?;
        let new = read(kind, text)?;
        let Written { value, .. } = self
            .manifests(kind, project.id)
            .create(&new, request)
            .await?;
        Ok(value)
    }

    pub(crate) async fn get_manifest(
        &self,
        caller: &Caller,
        project: &str,
        kind: Kind,
        name: &str,
        revision: Option<i64>,
    ) -> Result<Manifest, Error> {
        let project = self.project(caller, project, Access::Read).await?;
        Ok(self.manifests(kind, project.id).get(name, revision).await?)
    }

    pub(crate) async fn list_manifests(
        &self,
        caller: &Caller,
        project: &str,
        kind: Kind,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Page<Manifest, String>, Error> {
        let project = self.project(caller, project, Access::Read).await?;
        Ok(self.manifests(kind, project.id).list(after, limit).await?)
    }

    /// The revisions of a manifest, newest first.
    pub(crate) async fn list_manifest_revisions(
        &self,
        caller: &Caller,
        project: &str,
        kind: Kind,
        name: &str,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Page<Manifest, i64>, Error> {
        let project = self.project(caller, project, Access::Read).await?;
        let manifests = self.manifests(kind, project.id);
        Ok(manifests.revisions(name, before, limit).await?)
    }

    /// Stores a new revision.
    pub(crate) async fn update_manifest(
        &self,
        caller: &Caller,
        project: &str,
        change: &ManifestChange<'_>,
        request: Option<&Request>,
    ) -> Result<Manifest, Error> {
        let ManifestChange {
            kind,
            name,
            text,
            etag,
        } = *change;
        let project = self.project(caller, project, Access::Write).await?;
        let new = read(kind, text)?;
        if new.name != name {
            let text = format!("'{}' can not become '{}': a name stays", name, new.name);
            return Err(Error::invalid("manifest.metadata.name", text));
        }
        let expected = match etag {
            "" => None,
            etag => Some(etag.parse().map_err(|_refused| {
                Error::invalid("etag", format!("'{etag}' is not an etag of this server"))
            })?),
        };
        let manifests = self.manifests(kind, project.id);
        let Written { value, .. } = manifests.update(&new, expected, request).await?;
        Ok(value)
    }

    pub(crate) async fn delete_manifest(
        &self,
        caller: &Caller,
        project: &str,
        kind: Kind,
        name: &str,
        request: Option<&Request>,
    ) -> Result<(), Error> {
        let project = self.project(caller, project, Access::Write).await?;
        self.manifests(kind, project.id)
            .delete(name, request)
            .await?;
        Ok(())
    }
}

/// Reads YAML documents within the server's limits.
pub(super) fn documents(text: &str) -> Result<Vec<Document>, Error> {
    if text.len() > MAX_MANIFEST {
        return Err(Error::LimitReached(format!(
            "the manifest has {} bytes, at most {MAX_MANIFEST} are allowed",
            text.len()
        )));
    }
    Ok(muster_spec::manifest::parse(text, Limits::default())?)
}

/// Reads exactly one document of a kind.
fn read(kind: Kind, text: &str) -> Result<NewManifest, Error> {
    let mut documents = documents(text)?.into_iter();
    let (Some(document), None) = (documents.next(), documents.next()) else {
        let text = "must hold exactly one YAML document: store the documents one by one";
        return Err(Error::invalid("manifest", text));
    };
    let wanted = match kind {
        Kind::Workflow => "TestWorkflow",
        Kind::Template => "TestWorkflowTemplate",
    };
    let (metadata, description) = match (kind, &document) {
        (Kind::Workflow, Document::Workflow(it)) => (&it.metadata, &it.description),
        (Kind::Template, Document::Template(it)) => (&it.metadata, &it.description),
        (_, Document::Request(_)) => {
            let text = "a TestWorkflowExecution asks for a run and is not stored: run it";
            return Err(Error::invalid("manifest.kind", text));
        }
        (_, document) => {
            let text = format!("is a {}, expected a {wanted}", document.kind());
            return Err(Error::invalid("manifest.kind", text));
        }
    };
    name::check_subdomain(document.name())
        .map_err(|error| Error::invalid("manifest.metadata.name", error.to_string()))?;
    let retention = retention::text::annotations(&metadata.annotations)
        .map_err(|error| Error::invalid("manifest.metadata.annotations", error.to_string()))?;
    Ok(NewManifest {
        name: metadata.name.clone(),
        text: text.to_owned(),
        labels: metadata.labels.clone(),
        description: description.clone().unwrap_or_default(),
        retention,
    })
}

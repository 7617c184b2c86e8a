//! What an execution is made of: its workflow with all templates that it may use, from the request
//! or stored.

use std::sync::Arc;

use muster_core::id::ProjectId;
use muster_spec::{
    compile,
    manifest::{self, Choice, Chosen, Document},
    problem::{Place, Problem, Problems},
    schema::{self, Template, Workflow},
};
use muster_storage::manifest::Manifest;

use super::{Source, known::Revision};
use crate::app::{App, Error, manifests::documents};

/// Most stored templates that are read for one execution.
const MAX_TEMPLATES: usize = 1000;

/// A workflow with all that it may use.
pub(in crate::app) struct Loaded {
    pub(in crate::app) workflow: Arc<Workflow>,
    /// Which stored revision it is.
    stored: Option<Revision>,
    pub(super) templates: Vec<Template>,
    /// The template below every execution of this server.
    pub(super) global: Option<Template>,
    /// What is to be said of it.
    pub(super) warnings: Vec<Problem>,
    pub(super) revision: i64,
    /// Documents that came with the request: members of a suite may be among them, and the run may be
    /// wanted again.
    pub(super) source: Option<String>,
    /// The document that asked for the run.
    pub(super) request: Option<schema::Request>,
}

impl Loaded {
    /// The stored revision, when nothing beside it matters.
    pub(super) fn alone(&self) -> Option<Revision> {
        let alone = self.templates.is_empty() && self.global.is_none() && self.request.is_none();
        self.stored.filter(|_| alone)
    }
}

impl App {
    pub(in crate::app) async fn load(
        &self,
        project: ProjectId,
        source: &Source,
    ) -> Result<Loaded, Error> {
        let mut revision_of = 0;
        let of_revision;
        let (text, choice) = match source {
            Source::Stored(name) => (None, Choice::stored(name)),
            Source::Revision { name, revision } => {
                let stored = self.store.workflows(project);
                let stored = stored.get(name, Some(*revision)).await?;
                revision_of = stored.revision;
                of_revision = stored.text;
                let choice = manifest::choose_member(documents(&of_revision)?, name);
                (Some(&of_revision), choice.map_err(not_chosen)?)
            }
            // It stands for another one, which was found before.
            Source::Earlier(name) => return Err(Error::NotFound(name.clone())),
            Source::Inline { text, workflow } => {
                let choice = manifest::choose(documents(text)?, workflow.as_deref());
                (Some(text), choice.map_err(not_chosen)?)
            }
            Source::Member { text, workflow } => {
                let choice = manifest::choose_member(documents(text)?, workflow);
                (Some(text), choice.map_err(not_chosen)?)
            }
        };
        let mut templates = choice.templates;
        let mut known = None;
        let mut names_templates = text.is_some_and(|text| may_name_templates(text));
        let (workflow, revision) = match choice.workflow {
            Chosen::Here(workflow) => (Arc::new(*workflow), revision_of),
            Chosen::Stored(name) => {
                let stored = self.store.workflows(project).get(&name, None).await;
                let stored = stored.map_err(|error| not_stored(error, choice.request.as_ref()))?;
                names_templates |= may_name_templates(&stored.text);
                let revision = (stored.id, stored.revision);
                known = Some(revision);
                (self.workflow(revision, &stored)?, stored.revision)
            }
        };
        let mut warnings = Vec::new();
        let global = match &self.config.global_template {
            Some(name) => {
                self.global(project, name, &templates, &mut warnings)
                    .await?
            }
            None => None,
        };
        // The global one may use others.
        if names_templates || global.is_some() {
            templates.extend(self.stored_templates(project, &templates).await?);
        }
        Ok(Loaded {
            workflow,
            stored: known,
            templates,
            global,
            warnings,
            revision,
            source: text.filter(|_| revision == 0).cloned(),
            request: choice.request,
        })
    }

    /// The document of a stored revision.
    fn workflow(&self, revision: Revision, stored: &Manifest) -> Result<Arc<Workflow>, Error> {
        if let Some(known) = self.known.workflow(revision) {
            return Ok(known);
        }
        let own = manifest::choose_member(documents(&stored.text)?, &stored.name);
        let workflow = match own.map_err(not_chosen)?.workflow {
            Chosen::Here(workflow) => Arc::new(*workflow),
            Chosen::Stored(name) => return Err(Error::NotFound(name)),
        };
        self.known.keep(revision, &workflow, stored.text.len());
        Ok(workflow)
    }

    /// The global template: a stored one, else one beside the workflow or of every installation.
    /// Executions go on without it, with a warning: a project need not have it.
    async fn global(
        &self,
        project: ProjectId,
        name: &str,
        beside: &[Template],
        warnings: &mut Vec<Problem>,
    ) -> Result<Option<Template>, Error> {
        let stored = match self.store.templates(project).get(name, None).await {
            Ok(stored) => documents(&stored.text)?,
            Err(muster_storage::Error::NotFound { .. }) => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        let stored = stored.into_iter().find_map(|document| match document {
            Document::Template(template) => Some(template),
            Document::Workflow(_) | Document::Request(_) | Document::Foreign(_) => None,
        });
        let beside = || beside.iter().find(|it| it.metadata.name == name).cloned();
        let found = stored
            .or_else(beside)
            .or_else(|| compile::builtin_template(name).cloned());
        if found.is_none() {
            let message = format!("there is no template `{name}`, the global one of this server");
            let problem = Problem::new(&Place::default(), message)
                .with_cure("store it in the project; this execution goes on without it");
            warnings.push(problem);
        }
        Ok(found)
    }

    /// Stored templates, apart from those that came with the request.
    async fn stored_templates(
        &self,
        project: ProjectId,
        known: &[Template],
    ) -> Result<Vec<Template>, Error> {
        let mut templates = Vec::new();
        let mut after: Option<String> = None;
        while templates.len() < MAX_TEMPLATES {
            let page = self
                .store
                .templates(project)
                .list(after.as_deref(), 1000)
                .await?;
            for stored in page.items {
                if known
                    .iter()
                    .any(|template| template.metadata.name == stored.name)
                {
                    continue;
                }
                for document in documents(&stored.text)? {
                    if let Document::Template(template) = document {
                        templates.push(template);
                    }
                }
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        Ok(templates)
    }
}

/// Only a manifest that can name a template makes the stored ones worth reading.
fn may_name_templates(text: &str) -> bool {
    text.contains("use") || text.contains("template")
}

fn not_chosen(error: manifest::NotChosen) -> Error {
    Error::invalid("workflow", error.to_string())
}

/// That a workflow is missing, where a document names it.
fn not_stored(error: muster_storage::Error, request: Option<&schema::Request>) -> Error {
    let Some(request) = request.filter(|_| matches!(error, muster_storage::Error::NotFound { .. }))
    else {
        return error.into();
    };
    let message = format!("there is no workflow `{}`", request.workflow.text);
    let problem = Problem::new(&request.place(), message)
        .with_cure("put it into the same file or store it with `muster apply`");
    Problems::from(problem).into()
}

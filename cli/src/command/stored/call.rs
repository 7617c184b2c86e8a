//! The calls of the two services that keep manifests; they differ in nothing but their names.

use muster_proto::v1::{
    CreateTemplateRequest, CreateWorkflowRequest, DeleteTemplateRequest, DeleteWorkflowRequest,
    GetTemplateRequest, GetWorkflowRequest, ListTemplateRevisionsRequest, ListTemplatesRequest,
    ListWorkflowRevisionsRequest, ListWorkflowsRequest, Template, UpdateTemplateRequest,
    UpdateWorkflowRequest, Workflow,
};

use super::Kind;
use crate::{
    client::{Client, PAGE_SIZE, pages, request_id},
    error::Error,
};

/// A manifest that a server keeps.
#[derive(Debug)]
pub(in crate::command) struct Stored {
    pub(in crate::command) name: String,
    pub(in crate::command) revision: i64,
    pub(in crate::command) manifest: String,
    pub(in crate::command) description: String,
    pub(in crate::command) update_time: Option<prost_types::Timestamp>,
}

impl From<Workflow> for Stored {
    fn from(workflow: Workflow) -> Self {
        Self {
            name: workflow.name,
            revision: workflow.revision,
            manifest: workflow.manifest,
            description: workflow.description,
            update_time: workflow.update_time,
        }
    }
}

impl From<Template> for Stored {
    fn from(template: Template) -> Self {
        Self {
            name: template.name,
            revision: template.revision,
            manifest: template.manifest,
            description: template.description,
            update_time: template.update_time,
        }
    }
}

/// Stores a new manifest.
pub(in crate::command) async fn create(
    client: &Client,
    kind: Kind,
    manifest: String,
) -> Result<Stored, Error> {
    let (parent, request_id) = (client.parent(), request_id());
    match kind {
        Kind::Workflow => {
            let request = CreateWorkflowRequest {
                parent,
                request_id,
                manifest,
            };
            let response = client
                .call(async || client.workflows().create_workflow(request.clone()).await)
                .await?;
            there(response.workflow)
        }
        Kind::Template => {
            let request = CreateTemplateRequest {
                parent,
                request_id,
                manifest,
            };
            let response = client
                .call(async || client.templates().create_template(request.clone()).await)
                .await?;
            there(response.template)
        }
    }
}

/// Stores a new revision.
pub(in crate::command) async fn update(
    client: &Client,
    kind: Kind,
    name: String,
    manifest: String,
) -> Result<Stored, Error> {
    let (request_id, etag) = (request_id(), String::new());
    match kind {
        Kind::Workflow => {
            let request = UpdateWorkflowRequest {
                name,
                request_id,
                manifest,
                etag,
            };
            let response = client
                .call(async || client.workflows().update_workflow(request.clone()).await)
                .await?;
            there(response.workflow)
        }
        Kind::Template => {
            let request = UpdateTemplateRequest {
                name,
                request_id,
                manifest,
                etag,
            };
            let response = client
                .call(async || client.templates().update_template(request.clone()).await)
                .await?;
            there(response.template)
        }
    }
}

/// Returns a revision; 0 for the newest.
pub(in crate::command) async fn get(
    client: &Client,
    kind: Kind,
    name: String,
    revision: i64,
) -> Result<Stored, Error> {
    match kind {
        Kind::Workflow => {
            let request = GetWorkflowRequest { name, revision };
            let response = client
                .call(async || client.workflows().get_workflow(request.clone()).await)
                .await?;
            there(response.workflow)
        }
        Kind::Template => {
            let request = GetTemplateRequest { name, revision };
            let response = client
                .call(async || client.templates().get_template(request.clone()).await)
                .await?;
            there(response.template)
        }
    }
}

/// Returns all of the project, by name.
pub(in crate::command) async fn list(client: &Client, kind: Kind) -> Result<Vec<Stored>, Error> {
    pages(async |page_token| page(client, kind, page_token).await).await
}

async fn page(
    client: &Client,
    kind: Kind,
    page_token: String,
) -> Result<(Vec<Stored>, String), Error> {
    let (parent, page_size) = (client.parent(), PAGE_SIZE);
    match kind {
        Kind::Workflow => {
            let request = ListWorkflowsRequest {
                parent,
                page_size,
                page_token,
            };
            let response = client
                .call(async || client.workflows().list_workflows(request.clone()).await)
                .await?;
            let items = response.workflows.into_iter().map(Stored::from);
            Ok((items.collect(), response.next_page_token))
        }
        Kind::Template => {
            let request = ListTemplatesRequest {
                parent,
                page_size,
                page_token,
            };
            let response = client
                .call(async || client.templates().list_templates(request.clone()).await)
                .await?;
            let items = response.templates.into_iter().map(Stored::from);
            Ok((items.collect(), response.next_page_token))
        }
    }
}

/// Returns all revisions, newest first.
pub(in crate::command) async fn revisions(
    client: &Client,
    kind: Kind,
    name: String,
) -> Result<Vec<Stored>, Error> {
    pages(async |page_token| {
        let (name, page_size) = (name.clone(), PAGE_SIZE);
        match kind {
            Kind::Workflow => {
                let request = ListWorkflowRevisionsRequest {
                    name,
                    page_size,
                    page_token,
                };
                let call = async || {
                    client
                        .workflows()
                        .list_workflow_revisions(request.clone())
                        .await
                };
                let response = client.call(call).await?;
                let items = response.workflows.into_iter().map(Stored::from);
                Ok((items.collect(), response.next_page_token))
            }
            Kind::Template => {
                let request = ListTemplateRevisionsRequest {
                    name,
                    page_size,
                    page_token,
                };
                let call = async || {
                    client
                        .templates()
                        .list_template_revisions(request.clone())
                        .await
                };
                let response = client.call(call).await?;
                let items = response.templates.into_iter().map(Stored::from);
                Ok((items.collect(), response.next_page_token))
            }
        }
    })
    .await
}

/// Deletes it.
pub(in crate::command) async fn delete(
    client: &Client,
    kind: Kind,
    name: String,
) -> Result<(), Error> {
    let request_id = request_id();
    match kind {
        Kind::Workflow => {
            let request = DeleteWorkflowRequest { name, request_id };
            client
                .call(async || client.workflows().delete_workflow(request.clone()).await)
                .await?;
        }
        Kind::Template => {
            let request = DeleteTemplateRequest { name, request_id };
            client
                .call(async || client.templates().delete_template(request.clone()).await)
                .await?;
        }
    }
    Ok(())
}

fn there(stored: Option<impl Into<Stored>>) -> Result<Stored, Error> {
    stored
        .map(Into::into)
        .ok_or_else(|| Error::Corrupt("the server sent an empty answer".to_owned()))
}

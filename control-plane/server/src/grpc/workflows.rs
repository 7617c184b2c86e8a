//! `muster.v1.WorkflowService`.

use muster_proto::v1::{
    CreateWorkflowRequest, CreateWorkflowResponse, DeleteWorkflowRequest, DeleteWorkflowResponse,
    GetWorkflowRequest, GetWorkflowResponse, ListWorkflowRevisionsRequest,
    ListWorkflowRevisionsResponse, ListWorkflowsRequest, ListWorkflowsResponse,
    UpdateWorkflowRequest, UpdateWorkflowResponse, Workflow,
    workflow_service_server::WorkflowService,
};
use muster_storage::manifest::{Kind, Manifest};
use tonic::{Request, Response, Status};

use super::{Api, convert::timestamp, name, page, request::Content};
use crate::app::Error;

/// Names of this resource.
const FORM: &str = "projects/{project}/workflows/{workflow}";

#[tonic::async_trait]
impl WorkflowService for Api {
    async fn create_workflow(
        &self,
        request: Request<CreateWorkflowRequest>,
    ) -> Result<Response<CreateWorkflowResponse>, Status> {
        let (caller, message) = self.authenticate(request).await?;
        let project = name::project("parent", &message.parent)?;
        let request = Content::new("CreateWorkflow")
            .on(format!("{}/workflows", message.parent))
            .field(&message.parent)
            .field(&message.manifest)
            .request(&caller, &message.request_id)?;
        let made = self
            .app
            .create_manifest(
                &caller,
                project,
                Kind::Workflow,
                &message.manifest,
                request.as_ref(),
            )
            .await?;
        Ok(Response::new(CreateWorkflowResponse {
            workflow: Some(workflow(project, made)),
        }))
    }

    async fn get_workflow(
        &self,
        request: Request<GetWorkflowRequest>,
    ) -> Result<Response<GetWorkflowResponse>, Status> {
        let (caller, message) = self.authenticate(request).await?;
        let [project, name] = name::parts("name", &message.name, FORM)?;
        let revision = match message.revision {
            0 => None,
            1.. => Some(message.revision),
            ..0 => return Err(Error::invalid("revision", "must not be negative").into()),
        };
        let found = self
            .app
            .get_manifest(&caller, project, Kind::Workflow, name, revision)
            .await?;
        Ok(Response::new(GetWorkflowResponse {
            workflow: Some(workflow(project, found)),
        }))
    }

    async fn list_workflows(
        &self,
        request: Request<ListWorkflowsRequest>,
    ) -> Result<Response<ListWorkflowsResponse>, Status> {
        let (caller, message) = self.authenticate(request).await?;
        let project = name::project("parent", &message.parent)?;
        let list = page::List::new(&["ListWorkflows", project]);
        let after: Option<String> = list.after(&message.page_token)?;
        let limit = page::size(message.page_size)?;
        let page = self
            .app
            .list_manifests(&caller, project, Kind::Workflow, after.as_deref(), limit)
            .await?;
        Ok(Response::new(ListWorkflowsResponse {
            next_page_token: list.token(page.next),
            workflows: page
                .items
                .into_iter()
                .map(|record| workflow(project, record))
                .collect(),
        }))
    }

    async fn list_workflow_revisions(
        &self,
        request: Request<ListWorkflowRevisionsRequest>,
    ) -> Result<Response<ListWorkflowRevisionsResponse>, Status> {
        let (caller, message) = self.authenticate(request).await?;
        let [project, name] = name::parts("name", &message.name, FORM)?;
        let list = page::List::new(&["ListWorkflowRevisions", project, name]);
        let before: Option<i64> = list.after(&message.page_token)?;
        let limit = page::size(message.page_size)?;
        let page = self
            .app
            .list_manifest_revisions(&caller, project, Kind::Workflow, name, before, limit)
            .await?;
        Ok(Response::new(ListWorkflowRevisionsResponse {
            next_page_token: list.token(page.next),
            workflows: page
                .items
                .into_iter()
                .map(|record| workflow(project, record))
                .collect(),
        }))
    }

    async fn update_workflow(
        &self,
        request: Request<UpdateWorkflowRequest>,
    ) -> Result<Response<UpdateWorkflowResponse>, Status> {
        let (caller, message) = self.authenticate(request).await?;
        let [project, name] = name::parts("name", &message.name, FORM)?;
        let request = Content::new("UpdateWorkflow")
            .on(&message.name)
            .note("etag", &message.etag)
            .field(&message.name)
            .field(&message.manifest)
            .field(&message.etag)
            .request(&caller, &message.request_id)?;
        let change = crate::app::ManifestChange {
            kind: Kind::Workflow,
            name,
            text: &message.manifest,
            etag: &message.etag,
        };
        let stored = self
            .app
            .update_manifest(&caller, project, &change, request.as_ref())
            .await?;
        Ok(Response::new(UpdateWorkflowResponse {
            workflow: Some(workflow(project, stored)),
        }))
    }

    async fn delete_workflow(
        &self,
        request: Request<DeleteWorkflowRequest>,
    ) -> Result<Response<DeleteWorkflowResponse>, Status> {
        let (caller, message) = self.authenticate(request).await?;
        let [project, name] = name::parts("name", &message.name, FORM)?;
        let request = Content::new("DeleteWorkflow")
            .on(&message.name)
            .field(&message.name)
            .request(&caller, &message.request_id)?;
        self.app
            .delete_manifest(&caller, project, Kind::Workflow, name, request.as_ref())
            .await?;
        Ok(Response::new(DeleteWorkflowResponse {}))
    }
}

fn workflow(project: &str, record: Manifest) -> Workflow {
    Workflow {
        name: format!("projects/{project}/workflows/{}", record.name),
        uid: record.id.to_string(),
        revision: record.revision,
        manifest: record.text,
        labels: record.labels.into_iter().collect(),
        description: record.description,
        create_time: Some(timestamp(record.create_time)),
        update_time: Some(timestamp(record.update_time)),
        etag: record.revision.to_string(),
    }
}

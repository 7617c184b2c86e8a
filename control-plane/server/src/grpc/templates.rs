//! `muster.v1.TemplateService`.

use muster_proto::v1::{
    CreateTemplateRequest, CreateTemplateResponse, DeleteTemplateRequest, DeleteTemplateResponse,
    GetTemplateRequest, GetTemplateResponse, ListTemplateRevisionsRequest,
    ListTemplateRevisionsResponse, ListTemplatesRequest, ListTemplatesResponse, Template,
    UpdateTemplateRequest, UpdateTemplateResponse, template_service_server::TemplateService,
};
use muster_storage::manifest::{Kind, Manifest};
use tonic::{Request, Response, Status};

use super::{Api, convert::timestamp, name, page, request::Content};
use crate::app::Error;

/// Names of this resource.
const FORM: &str = "projects/{project}/templates/{template}";

#[tonic::async_trait]
impl TemplateService for Api {
    async fn create_template(
        &self,
        request: Request<CreateTemplateRequest>,
    ) -> Result<Response<CreateTemplateResponse>, Status> {
        let (caller, message) = self.authenticate(request).await?;
        let project = name::project("parent", &message.parent)?;
        let request = Content::new("CreateTemplate")
            .on(format!("{}/templates", message.parent))
            .field(&message.parent)
            .field(&message.manifest)
            .request(&caller, &message.request_id)?;
        let made = self
            .app
            .create_manifest(
                &caller,
                project,
                Kind::Template,
                &message.manifest,
                request.as_ref(),
            )
            .await?;
        Ok(Response::new(CreateTemplateResponse {
            template: Some(template(project, made)),
        }))
    }

    async fn get_template(
        &self,
        request: Request<GetTemplateRequest>,
    ) -> Result<Response<GetTemplateResponse>, Status> {
        let (caller, message) = self.authenticate(request).await?;
        let [project, name] = name::parts("name", &message.name, FORM)?;
        let revision = match message.revision {
            0 => None,
            1.. => Some(message.revision),
            ..0 => return Err(Error::invalid("revision", "must not be negative").into()),
        };
        let found = self
            .app
            .get_manifest(&caller, project, Kind::Template, name, revision)
            .await?;
        Ok(Response::new(GetTemplateResponse {
            template: Some(template(project, found)),
        }))
    }

    async fn list_templates(
        &self,
        request: Request<ListTemplatesRequest>,
    ) -> Result<Response<ListTemplatesResponse>, Status> {
        let (caller, message) = self.authenticate(request).await?;
        let project = name::project("parent", &message.parent)?;
        let list = page::List::new(&["ListTemplates", project]);
        let after: Option<String> = list.after(&message.page_token)?;
        let limit = page::size(message.page_size)?;
        let page = self
            .app
            .list_manifests(&caller, project, Kind::Template, after.as_deref(), limit)
            .await?;
        Ok(Response::new(ListTemplatesResponse {
            next_page_token: list.token(page.next),
            templates: page
                .items
                .into_iter()
                .map(|record| template(project, record))
                .collect(),
        }))
    }

    async fn list_template_revisions(
        &self,
        request: Request<ListTemplateRevisionsRequest>,
    ) -> Result<Response<ListTemplateRevisionsResponse>, Status> {
        let (caller, message) = self.authenticate(request).await?;
        let [project, name] = name::parts("name", &message.name, FORM)?;
        let list = page::List::new(&["ListTemplateRevisions", project, name]);
        let before: Option<i64> = list.after(&message.page_token)?;
        let limit = page::size(message.page_size)?;
        let page = self
            .app
            .list_manifest_revisions(&caller, project, Kind::Template, name, before, limit)
            .await?;
        Ok(Response::new(ListTemplateRevisionsResponse {
            next_page_token: list.token(page.next),
            templates: page
                .items
                .into_iter()
                .map(|record| template(project, record))
                .collect(),
        }))
    }

    async fn update_template(
        &self,
        request: Request<UpdateTemplateRequest>,
    ) -> Result<Response<UpdateTemplateResponse>, Status> {
        let (caller, message) = self.authenticate(request).await?;
        let [project, name] = name::parts("name", &message.name, FORM)?;
        let request = Content::new("UpdateTemplate")
            .on(&message.name)
            .note("etag", &message.etag)
            .field(&message.name)
            .field(&message.manifest)
            .field(&message.etag)
            .request(&caller, &message.request_id)?;
        let change = crate::app::ManifestChange {
            kind: Kind::Template,
            name,
            text: &message.manifest,
            etag: &message.etag,
        };
        let stored = self
            .app
            .update_manifest(&caller, project, &change, request.as_ref())
            .await?;
        Ok(Response::new(UpdateTemplateResponse {
            template: Some(template(project, stored)),
        }))
    }

    async fn delete_template(
        &self,
        request: Request<DeleteTemplateRequest>,
    ) -> Result<Response<DeleteTemplateResponse>, Status> {
        let (caller, message) = self.authenticate(request).await?;
        let [project, name] = name::parts("name", &message.name, FORM)?;
        let request = Content::new("DeleteTemplate")
            .on(&message.name)
            .field(&message.name)
            .request(&caller, &message.request_id)?;
        self.app
            .delete_manifest(&caller, project, Kind::Template, name, request.as_ref())
            .await?;
        Ok(Response::new(DeleteTemplateResponse {}))
    }
}

fn template(project: &str, record: Manifest) -> Template {
    Template {
        name: format!("projects/{project}/templates/{}", record.name),
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

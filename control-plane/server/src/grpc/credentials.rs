//! `muster.v1.CredentialService`.

use muster_proto::v1::{
    CreateCredentialRequest, CreateCredentialResponse, Credential, DeleteCredentialRequest,
    DeleteCredentialResponse, GetCredentialRequest, GetCredentialResponse, ListCredentialsRequest,
    ListCredentialsResponse, UpdateCredentialRequest, UpdateCredentialResponse,
    credential_service_server::CredentialService,
};
use muster_storage::credential;
use tonic::{Request, Response, Status};

use super::{Api, convert::timestamp, name, page, request::Content};
use crate::app::CredentialChange;

/// Names of this resource.
const FORM: &str = "projects/{project}/credentials/{credential}";

#[tonic::async_trait]
impl CredentialService for Api {
    async fn create_credential(
        &self,
        request: Request<CreateCredentialRequest>,
    ) -> Result<Response<CreateCredentialResponse>, Status> {
        let (caller, message) = self.authenticate(request).await?;
        let project = name::project("parent", &message.parent)?;
        let request = Content::new("CreateCredential")
            .on(format!(
                "{}/credentials/{}",
                message.parent, message.credential_id
            ))
            .note("description", &message.description)
            .field(&message.parent)
            .field(&message.credential_id)
            .field(self.app.vault.mark(&message.value))
            .field(&message.description)
            .request(&caller, &message.request_id)?;
        let change = CredentialChange {
            name: &message.credential_id,
            value: &message.value,
            description: Some(&message.description),
            etag: "",
            allow_missing: false,
        };
        let made = self
            .app
            .create_credential(&caller, project, &change, request.as_ref())
            .await?;
        Ok(Response::new(CreateCredentialResponse {
            credential: Some(credential(project, made)),
        }))
    }

    async fn get_credential(
        &self,
        request: Request<GetCredentialRequest>,
    ) -> Result<Response<GetCredentialResponse>, Status> {
        let (caller, message) = self.authenticate(request).await?;
        let [project, name] = name::parts("name", &message.name, FORM)?;
        let found = self.app.get_credential(&caller, project, name).await?;
        Ok(Response::new(GetCredentialResponse {
            credential: Some(credential(project, found)),
        }))
    }

    async fn list_credentials(
        &self,
        request: Request<ListCredentialsRequest>,
    ) -> Result<Response<ListCredentialsResponse>, Status> {
        let (caller, message) = self.authenticate(request).await?;
        let project = name::project("parent", &message.parent)?;
        let list = page::List::new(&["ListCredentials", project]);
        let after: Option<String> = list.after(&message.page_token)?;
        let limit = page::size(message.page_size)?;
        let page = self
            .app
            .list_credentials(&caller, project, after.as_deref(), limit)
            .await?;
        Ok(Response::new(ListCredentialsResponse {
            next_page_token: list.token(page.next),
            credentials: page
                .items
                .into_iter()
                .map(|record| credential(project, record))
                .collect(),
        }))
    }

    async fn update_credential(
        &self,
        request: Request<UpdateCredentialRequest>,
    ) -> Result<Response<UpdateCredentialResponse>, Status> {
        let (caller, message) = self.authenticate(request).await?;
        let [project, name] = name::parts("name", &message.name, FORM)?;
        let described = message.description.is_some();
        let request = Content::new("UpdateCredential")
            .on(&message.name)
            .note(
                "description",
                message.description.as_deref().unwrap_or_default(),
            )
            .field(&message.name)
            .field(self.app.vault.mark(&message.value))
            .field([u8::from(described), u8::from(message.allow_missing)])
            .field(message.description.as_deref().unwrap_or_default())
            .field(&message.etag)
            .request(&caller, &message.request_id)?;
        let change = CredentialChange {
            name,
            value: &message.value,
            description: message.description.as_deref(),
            etag: &message.etag,
            allow_missing: message.allow_missing,
        };
        let stored = self
            .app
            .update_credential(&caller, project, &change, request.as_ref())
            .await?;
        Ok(Response::new(UpdateCredentialResponse {
            credential: Some(credential(project, stored)),
        }))
    }

    async fn delete_credential(
        &self,
        request: Request<DeleteCredentialRequest>,
    ) -> Result<Response<DeleteCredentialResponse>, Status> {
        let (caller, message) = self.authenticate(request).await?;
        let [project, name] = name::parts("name", &message.name, FORM)?;
        let request = Content::new("DeleteCredential")
            .on(&message.name)
            .field(&message.name)
            .request(&caller, &message.request_id)?;
        self.app
            .delete_credential(&caller, project, name, request.as_ref())
            .await?;
        Ok(Response::new(DeleteCredentialResponse {}))
    }
}

fn credential(project: &str, record: credential::Credential) -> Credential {
    Credential {
        name: format!("projects/{project}/credentials/{}", record.name),
        uid: record.id.to_string(),
        description: record.description,
        revision: record.revision,
        create_time: Some(timestamp(record.create_time)),
        update_time: Some(timestamp(record.update_time)),
        etag: record.revision.to_string(),
    }
}

//! `muster.v1.ProjectService`.

use std::collections::HashMap;

use muster_core::id::{ProjectId, TokenId};
use muster_proto::v1::{
    CreateProjectRequest, CreateProjectResponse, CreateTokenRequest, CreateTokenResponse,
    DeleteTokenRequest, DeleteTokenResponse, GetProjectRequest, GetProjectResponse,
    ListProjectsRequest, ListProjectsResponse, ListTokensRequest, ListTokensResponse,
    PauseProjectRequest, PauseProjectResponse, Project, ResumeProjectRequest,
    ResumeProjectResponse, UpdateProjectRequest, UpdateProjectResponse,
    project_service_server::ProjectService,
};
use muster_storage::project::{NewProject, Settings};
use tonic::{Request, Response, Status};

use super::{Api, convert, name, page, recovery, request::Content, retention};
use crate::app::Error;

/// What can be changed.
const FIELDS: [&str; 15] = [
    "weight",
    "max_running",
    "max_queued",
    "max_per_minute",
    "recovery",
    "max_log_bytes",
    "max_log_rate",
    "max_log_rate_each",
    "hold",
    "retention",
    "retention.max_age_seconds",
    "retention.max_count",
    "retention.max_bytes",
    "retention.log_age_seconds",
    "retention.artifact_age_seconds",
];

/// Changes one field.
fn set(settings: &mut Settings, told: &Project, path: &str) -> Result<(), Error> {
    let number = |told| recovery::number(path, told);
    match path {
        "weight" => settings.weight = number(Some(told.weight))?.unwrap_or(1),
        "max_running" => settings.max_running = number(told.max_running)?,
        "max_queued" => settings.max_queued = number(told.max_queued)?,
        "max_per_minute" => settings.max_per_minute = number(told.max_per_minute)?,
        "max_log_bytes" => settings.logs.max_size = told.max_log_bytes,
        "max_log_rate" => settings.logs.max_rate = told.max_log_rate,
        "max_log_rate_each" => settings.logs.max_rate_each = told.max_log_rate_each,
        "recovery" => {
            settings.policy = recovery::read(&told.recovery.unwrap_or_default())?;
        }
        "hold" => settings.hold = told.hold.clone().map(retention::read_hold).transpose()?,
        path if path.starts_with("retention") => {
            let told = told.retention.unwrap_or_default();
            retention::set(&mut settings.retention, &told, path)?;
        }
        other => {
            let text = format!(
                "'{other}' can not be changed; allowed: {}",
                FIELDS.join(", ")
            );
            return Err(Error::invalid("update_mask", text));
        }
    }
    Ok(())
}

#[tonic::async_trait]
impl ProjectService for Api {
    async fn create_project(
        &self,
        request: Request<CreateProjectRequest>,
    ) -> Result<Response<CreateProjectResponse>, Status> {
        let (caller, message) = self.authenticate(request).await?;
        let request = Content::new("CreateProject")
            .on(format!("projects/{}", message.project_id))
            .field(&message.project_id)
            .input("display_name", &message.display_name)
            .request(&caller, &message.request_id)?;
        let new = NewProject {
            name: message.project_id,
            display_name: message.display_name,
        };
        let made = self
            .app
            .create_project(&caller, &new, request.as_ref())
            .await?;
        Ok(Response::new(CreateProjectResponse {
            project: Some(convert::project(made)),
        }))
    }

    async fn get_project(
        &self,
        request: Request<GetProjectRequest>,
    ) -> Result<Response<GetProjectResponse>, Status> {
        let (caller, message) = self.authenticate(request).await?;
        let project = name::project("name", &message.name)?;
        let found = self.app.get_project(&caller, project).await?;
        Ok(Response::new(GetProjectResponse {
            project: Some(convert::project(found)),
        }))
    }

    async fn list_projects(
        &self,
        request: Request<ListProjectsRequest>,
    ) -> Result<Response<ListProjectsResponse>, Status> {
        let (caller, message) = self.authenticate(request).await?;
        let list = page::List::new(&["ListProjects"]);
        let after: Option<String> = list.after(&message.page_token)?;
        let limit = page::size(message.page_size)?;
        let page = self
            .app
            .list_projects(&caller, after.as_deref(), limit)
            .await?;
        Ok(Response::new(ListProjectsResponse {
            next_page_token: list.token(page.next),
            projects: page.items.into_iter().map(convert::project).collect(),
        }))
    }

    async fn update_project(
        &self,
        request: Request<UpdateProjectRequest>,
    ) -> Result<Response<UpdateProjectResponse>, Status> {
        let (caller, message) = self.authenticate(request).await?;
        let told = message
            .project
            .ok_or_else(|| Error::invalid("project", "is missing"))?;
        let project = name::project("project.name", &told.name)?;
        let mask = message.update_mask.unwrap_or_default().paths;
        if mask.is_empty() {
            let text = format!("names no field; allowed: {}", FIELDS.join(", "));
            return Err(Error::invalid("update_mask", text).into());
        }
        let request = Content::new("UpdateProject")
            .on(&told.name)
            .field(prost::Message::encode_to_vec(&told))
            .input("update_mask", mask.join(","))
            .request(&caller, &message.request_id)?;
        let updated = self
            .app
            .update_project(
                &caller,
                project,
                |settings| mask.iter().try_for_each(|path| set(settings, &told, path)),
                request.as_ref(),
            )
            .await?;
        Ok(Response::new(UpdateProjectResponse {
            project: Some(convert::project(updated)),
        }))
    }

    async fn pause_project(
        &self,
        request: Request<PauseProjectRequest>,
    ) -> Result<Response<PauseProjectResponse>, Status> {
        let (caller, message) = self.authenticate(request).await?;
        let project = name::project("name", &message.name)?;
        let request = Content::new("PauseProject")
            .on(&message.name)
            .field(&message.name)
            .input("message", &message.message)
            .request(&caller, &message.request_id)?;
        let paused = self
            .app
            .hold_project(&caller, project, Some(&message.message), request.as_ref())
            .await?;
        Ok(Response::new(PauseProjectResponse {
            project: Some(convert::project(paused)),
        }))
    }

    async fn resume_project(
        &self,
        request: Request<ResumeProjectRequest>,
    ) -> Result<Response<ResumeProjectResponse>, Status> {
        let (caller, message) = self.authenticate(request).await?;
        let project = name::project("name", &message.name)?;
        let request = Content::new("ResumeProject")
            .on(&message.name)
            .field(&message.name)
            .request(&caller, &message.request_id)?;
        let resumed = self
            .app
            .hold_project(&caller, project, None, request.as_ref())
            .await?;
        Ok(Response::new(ResumeProjectResponse {
            project: Some(convert::project(resumed)),
        }))
    }

    async fn create_token(
        &self,
        request: Request<CreateTokenRequest>,
    ) -> Result<Response<CreateTokenResponse>, Status> {
        let (caller, message) = self.authenticate(request).await?;
        let role = convert::read_role(message.role())?;
        let project = match message.project.as_str() {
            "" => None,
            given => Some(name::project("project", given)?),
        };
        let expire_time = message
            .expire_time
            .map(|time| {
                jiff::Timestamp::new(time.seconds, time.nanos)
                    .map_err(|error| Error::invalid("expire_time", error.to_string()))
            })
            .transpose()?;
        let request = Content::new("CreateToken")
            .on("tokens")
            .input("display_name", &message.display_name)
            .field(message.role.to_be_bytes())
            .input("project", &message.project)
            .field(format!("{expire_time:?}"))
            .request(&caller, &message.request_id)?;
        let (made, secret) = self
            .app
            .create_token(
                &caller,
                &crate::app::WantedToken {
                    display_name: &message.display_name,
                    role,
                    project,
                    expire_time,
                },
                request.as_ref(),
            )
            .await?;
        Ok(Response::new(CreateTokenResponse {
            token: Some(convert::token(made, project.map(str::to_owned))),
            secret: secret.unwrap_or_default(),
        }))
    }

    async fn list_tokens(
        &self,
        request: Request<ListTokensRequest>,
    ) -> Result<Response<ListTokensResponse>, Status> {
        let (caller, message) = self.authenticate(request).await?;
        let list = page::List::new(&["ListTokens"]);
        let after: Option<TokenId> = list.after(&message.page_token)?;
        let limit = page::size(message.page_size)?;
        let page = self.app.list_tokens(&caller, after, limit).await?;
        let mut names: HashMap<ProjectId, String> = HashMap::new();
        let mut tokens = Vec::with_capacity(page.items.len());
        for token in page.items {
            let project = match token.project {
                Some(id) => match names.get(&id) {
                    Some(name) => Some(name.clone()),
                    None => {
                        let name = self.app.project_name(id).await?;
                        names.insert(id, name.clone());
                        Some(name)
                    }
                },
                None => None,
            };
            tokens.push(convert::token(token, project));
        }
        Ok(Response::new(ListTokensResponse {
            next_page_token: list.token(page.next),
            tokens,
        }))
    }

    async fn delete_token(
        &self,
        request: Request<DeleteTokenRequest>,
    ) -> Result<Response<DeleteTokenResponse>, Status> {
        let (caller, message) = self.authenticate(request).await?;
        let [id] = name::parts("name", &message.name, "tokens/{token}")?;
        let token = id
            .parse()
            .map_err(|error| Error::invalid("name", format!("{error}")))?;
        let request = Content::new("DeleteToken")
            .on(&message.name)
            .field(&message.name)
            .request(&caller, &message.request_id)?;
        self.app
            .delete_token(&caller, token, request.as_ref())
            .await?;
        Ok(Response::new(DeleteTokenResponse {}))
    }
}

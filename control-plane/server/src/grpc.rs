//! The gRPC face: handlers that authenticate, parse, call and convert, and nothing else.

mod agents;
mod artifacts;
mod audit;
mod auth;
mod children;
mod convert;
mod credentials;
mod executions;
mod filter;
mod link;
mod logs;
mod name;
mod observe;
mod page;
mod projects;
mod quarantine;
mod queue;
mod recovery;
mod request;
mod retention;
mod status;
mod templates;
mod test_cases;
mod workflows;

use std::{pin::Pin, sync::Arc};

use muster_proto::v1::{
    self, agent_link_service_server::AgentLinkServiceServer,
    agent_service_server::AgentServiceServer, artifact_service_server::ArtifactServiceServer,
    audit_service_server::AuditServiceServer, credential_service_server::CredentialServiceServer,
    execution_service_server::ExecutionServiceServer, log_service_server::LogServiceServer,
    project_service_server::ProjectServiceServer, queue_service_server::QueueServiceServer,
    retention_service_server::RetentionServiceServer,
    template_service_server::TemplateServiceServer, test_service_server::TestServiceServer,
    workflow_service_server::WorkflowServiceServer,
};
use tonic::{
    Status,
    server::NamedService as _,
    service::{LayerExt as _, Routes},
};
use tonic_health::ServingStatus;
use tonic_web::GrpcWebLayer;
use tower::ServiceBuilder;

use crate::{app::App, config::MAX_MESSAGE};

pub(crate) use auth::bearer;

/// A stream of answers.
type Answers<T> = Pin<Box<dyn futures::Stream<Item = Result<T, Status>> + Send>>;

/// All services.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    app: Arc<App>,
}

/// Builds the routes of all services, with health and reflection.
///
/// # Errors
///
/// When the descriptor of the services can not be read, a defect of the build.
pub(crate) async fn routes(
    app: &Arc<App>,
) -> Result<axum::Router, tonic_reflection::server::Error> {
    let api = Api {
        app: Arc::clone(app),
    };
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<ExecutionServiceServer<Api>>().await;
    health.set_serving::<AgentLinkServiceServer<Api>>().await;
    app.tasks.spawn({
        let drain = app.link.drain.clone();
        async move {
            drain.cancelled().await;
            for service in [
                "",
                ExecutionServiceServer::<Api>::NAME,
                AgentLinkServiceServer::<Api>::NAME,
            ] {
                health
                    .set_service_status(service, ServingStatus::NotServing)
                    .await;
            }
        }
    });
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(v1::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let reflection = ServiceBuilder::new()
        .layer(auth::RequireToken::new(Arc::clone(app)))
        .named_layer(reflection);

    let observe = observe::Observe::new(Arc::clone(app));
    macro_rules! web {
        ($server:ident) => {
            ServiceBuilder::new()
                .layer(GrpcWebLayer::new())
                .layer(observe.clone())
                .named_layer(
                    $server::new(api.clone())
                        .max_decoding_message_size(MAX_MESSAGE)
                        .max_encoding_message_size(MAX_MESSAGE * 4),
                )
        };
    }
    let link = ServiceBuilder::new().layer(observe.clone()).named_layer(
        AgentLinkServiceServer::new(api.clone())
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(usize::MAX),
    );
    let mut routes = Routes::builder();
    routes
        .add_service(health_service)
        .add_service(reflection)
        .add_service(link)
        .add_service(web!(ExecutionServiceServer))
        .add_service(web!(WorkflowServiceServer))
        .add_service(web!(TemplateServiceServer))
        .add_service(web!(CredentialServiceServer))
        .add_service(web!(LogServiceServer))
        .add_service(web!(TestServiceServer))
        .add_service(web!(ArtifactServiceServer))
        .add_service(web!(AgentServiceServer))
        .add_service(web!(ProjectServiceServer))
        .add_service(web!(QueueServiceServer))
        .add_service(web!(RetentionServiceServer))
        .add_service(web!(AuditServiceServer));
    Ok(routes.routes().into_axum_router())
}

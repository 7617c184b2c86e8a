//! Tenants: nothing of another project can be seen, by no method.

use muster_proto::v1::{
    ArchiveArtifactsRequest, CancelExecutionRequest, CompareExecutionsRequest,
    CreateProjectRequest, DeleteTemplateRequest, DeleteWorkflowRequest, DownloadArtifactRequest,
    FindTestsRequest, GetArtifactRequest, GetExecutionRequest, GetProjectRequest,
    GetTemplateRequest, GetTestHistoryRequest, GetWorkflowRequest, ListArtifactFoldersRequest,
    ListArtifactsRequest, ListAuditEventsRequest, ListExecutionEventsRequest,
    ListExecutionsRequest, ListFlakyTestsRequest, ListReportsRequest, ListTemplatesRequest,
    ListTestCasesRequest, ListTokensRequest, ListWorkflowsRequest, ReadLogRequest,
    UpdateTemplateRequest, UpdateWorkflowRequest, WatchExecutionRequest,
};
use muster_proto::v1::{
    CreateAgentRequest, CreateCredentialRequest, CreateTemplateRequest, CreateTokenRequest,
    CreateWorkflowRequest, DeleteAgentRequest, DeleteCredentialRequest, DeleteTokenRequest,
    GetAgentRequest, GetCredentialRequest, ListAgentsRequest, ListCredentialsRequest,
    RotateAgentTokenRequest, UpdateCredentialRequest,
};
use muster_proto::v1::{
    DeleteExecutionRequest, ListLargestExecutionsRequest, ListQuarantinedTestsRequest,
    ListUsageRequest, PinExecutionRequest, PlanRetentionRequest, QuarantineTestRequest,
    ReleaseTestRequest, SweepOrphansRequest, UnpinExecutionRequest,
};
use tonic::Code;

use super::fixture::{Fixture, run};

#[tokio::test]
#[expect(clippy::needless_update, reason = "some requests have one field")]
async fn everything_of_a_foreign_project_is_not_found() {
    let fixture = Fixture::start().await;
    let made = fixture.admin().await.create(run()).await;
    let mut other = fixture.member_of_new_project("other").await;
    let id = uuid::Uuid::now_v7();
    let mut refused = 0;
    macro_rules! not_found {
        ($client:ident.$method:ident($request:ident { $($field:ident: $value:expr),+ $(,)? })) => {
            let request = $request {
                $($field: $value,)+
                ..$request::default()
            };
            let status = other
                .$client
                .$method(request)
                .await
                .map(drop)
                .expect_err(stringify!($method));
            assert_eq!(
                status.code(),
                Code::NotFound,
                "{}: {status}",
                stringify!($method)
            );
            refused += 1;
        };
    }
    let parent = || "projects/default".to_owned();
    let execution = || made.name.clone();
    let artifact = || format!("{}/artifacts/{id}", made.name);
    let workflow = || "projects/default/workflows/smoke".to_owned();
    let template = || "projects/default/templates/base".to_owned();
    let status = other
        .executions
        .create_execution(run())
        .await
        .expect_err("foreign");
    assert_eq!(status.code(), Code::NotFound);
    not_found!(executions.get_execution(GetExecutionRequest { name: execution() }));
    not_found!(executions.list_executions(ListExecutionsRequest { parent: parent() }));
    not_found!(executions.cancel_execution(CancelExecutionRequest { name: execution() }));
    not_found!(executions.watch_execution(WatchExecutionRequest { name: execution() }));
    not_found!(
        executions.list_execution_events(ListExecutionEventsRequest {
            parent: execution()
        })
    );
    not_found!(workflows.create_workflow(CreateWorkflowRequest { parent: parent() }));
    not_found!(workflows.get_workflow(GetWorkflowRequest { name: workflow() }));
    not_found!(workflows.list_workflows(ListWorkflowsRequest { parent: parent() }));
    not_found!(workflows.update_workflow(UpdateWorkflowRequest { name: workflow() }));
    not_found!(workflows.delete_workflow(DeleteWorkflowRequest { name: workflow() }));
    not_found!(templates.create_template(CreateTemplateRequest { parent: parent() }));
    not_found!(templates.get_template(GetTemplateRequest { name: template() }));
    not_found!(templates.list_templates(ListTemplatesRequest { parent: parent() }));
    not_found!(templates.update_template(UpdateTemplateRequest { name: template() }));
    not_found!(templates.delete_template(DeleteTemplateRequest { name: template() }));
    let credential = || "projects/default/credentials/token".to_owned();
    not_found!(credentials.create_credential(CreateCredentialRequest { parent: parent() }));
    not_found!(credentials.get_credential(GetCredentialRequest { name: credential() }));
    not_found!(credentials.list_credentials(ListCredentialsRequest { parent: parent() }));
    not_found!(credentials.update_credential(UpdateCredentialRequest { name: credential() }));
    not_found!(credentials.delete_credential(DeleteCredentialRequest { name: credential() }));
    not_found!(logs.read_log(ReadLogRequest { name: execution() }));
    not_found!(artifacts.list_artifacts(ListArtifactsRequest {
        parent: execution()
    }));
    not_found!(artifacts.list_artifact_folders(ListArtifactFoldersRequest {
        parent: execution()
    }));
    not_found!(artifacts.archive_artifacts(ArchiveArtifactsRequest {
        parent: execution()
    }));
    not_found!(artifacts.get_artifact(GetArtifactRequest { name: artifact() }));
    not_found!(artifacts.download_artifact(DownloadArtifactRequest { name: artifact() }));
    let test = || format!("projects/default/tests/{}", "0".repeat(32));
    not_found!(tests.list_reports(ListReportsRequest {
        parent: execution()
    }));
    not_found!(tests.list_test_cases(ListTestCasesRequest {
        parent: execution()
    }));
    not_found!(tests.find_tests(FindTestsRequest {
        parent: parent(),
        text: "ab".to_owned(),
    }));
    not_found!(tests.get_test_history(GetTestHistoryRequest { name: test() }));
    not_found!(tests.list_flaky_tests(ListFlakyTestsRequest { parent: parent() }));
    not_found!(tests.compare_executions(CompareExecutionsRequest {
        base: execution(),
        name: execution(),
    }));
    not_found!(tests.quarantine_test(QuarantineTestRequest {
        name: test(),
        reason: "flaky".to_owned(),
    }));
    not_found!(tests.release_test(ReleaseTestRequest { name: test() }));
    not_found!(tests.list_quarantined_tests(ListQuarantinedTestsRequest { parent: parent() }));
    not_found!(executions.pin_execution(PinExecutionRequest { name: execution() }));
    not_found!(executions.unpin_execution(UnpinExecutionRequest { name: execution() }));
    not_found!(executions.delete_execution(DeleteExecutionRequest { name: execution() }));
    not_found!(retention.list_usage(ListUsageRequest { parent: parent() }));
    not_found!(
        retention.list_largest_executions(ListLargestExecutionsRequest { parent: parent() })
    );
    not_found!(retention.plan_retention(PlanRetentionRequest { parent: parent() }));
    not_found!(projects.get_project(GetProjectRequest { name: parent() }));
    not_found!(audit.list_audit_events(ListAuditEventsRequest { parent: parent() }));
    assert_eq!(refused, 43, "a method without a line here is not checked");

    // The same id in a project that the caller can see leads nowhere either.
    let name = made.name.replace("projects/default", "projects/other");
    let request = GetExecutionRequest { name };
    let status = other
        .executions
        .get_execution(request)
        .await
        .expect_err("elsewhere");
    assert_eq!(status.code(), Code::NotFound);
}

#[tokio::test]
async fn only_an_administrator_manages_the_instance() {
    let fixture = Fixture::start().await;
    let mut member = fixture.member_of_new_project("other").await;
    macro_rules! denied {
        ($client:ident.$method:ident($request:expr)) => {
            let status = member
                .$client
                .$method($request)
                .await
                .map(drop)
                .expect_err(stringify!($method));
            assert_eq!(
                status.code(),
                Code::PermissionDenied,
                "{}: {status}",
                stringify!($method)
            );
        };
    }
    let agent = || "agents/a".to_owned();
    denied!(projects.create_project(CreateProjectRequest::default()));
    denied!(projects.create_token(CreateTokenRequest {
        role: 1,
        ..CreateTokenRequest::default()
    }));
    denied!(projects.list_tokens(ListTokensRequest::default()));
    denied!(retention.sweep_orphans(SweepOrphansRequest::default()));
    let name = format!("tokens/{}", uuid::Uuid::now_v7());
    denied!(projects.delete_token(DeleteTokenRequest {
        name,
        ..DeleteTokenRequest::default()
    }));
    denied!(agents.create_agent(CreateAgentRequest::default()));
    denied!(agents.get_agent(GetAgentRequest { name: agent() }));
    denied!(agents.list_agents(ListAgentsRequest::default()));
    denied!(agents.rotate_agent_token(RotateAgentTokenRequest {
        name: agent(),
        ..RotateAgentTokenRequest::default()
    }));
    denied!(agents.delete_agent(DeleteAgentRequest {
        name: agent(),
        ..DeleteAgentRequest::default()
    }));
}

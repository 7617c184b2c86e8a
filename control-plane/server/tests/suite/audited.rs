//! That nothing is missing in the audit log: every method of every service is noted, or stands here with
//! the reason why not; who reads what runs left behind; what retention deletes.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use muster_core::clock::Clock;
use muster_proto::v1::{
    ArchiveArtifactsRequest, AuditEvent, BatchCreateExecutionsRequest, CancelExecutionRequest,
    CordonAgentRequest, CreateAgentRequest, CreateCredentialRequest, CreateExecutionRequest,
    CreateProjectRequest, CreateTemplateRequest, CreateTokenRequest, CreateWorkflowRequest,
    DeleteAgentRequest, DeleteCredentialRequest, DeleteExecutionRequest, DeleteTemplateRequest,
    DeleteTokenRequest, DeleteWorkflowRequest, DownloadArtifactRequest, DrainAgentRequest,
    FILE_DESCRIPTOR_SET, FindTestsRequest, InlineWorkflow, ListAuditEventsRequest,
    PauseExecutionRequest, PauseProjectRequest, PauseQueueRequest, PinExecutionRequest, Project,
    QuarantineTestRequest, ReadCredentialRequest, ReadLogRequest, ReleaseTestRequest,
    ResumeExecutionRequest, ResumeProjectRequest, ResumeQueueRequest, RotateAgentTokenRequest,
    SweepOrphansRequest, UncordonAgentRequest, UnpinExecutionRequest, UpdateCredentialRequest,
    UpdateProjectRequest, UpdateTemplateRequest, UpdateWorkflowRequest,
    attempt_report::Phase,
    audit_event::{Kind, Outcome},
    create_execution_request::Source,
    token::Role,
};
use prost::Message as _;
use prost_types::FileDescriptorSet;
use sqlx::{Connection as _, Executor as _};

use super::{
    agent::{Agent, sha256},
    fixture::{Clients, Fixture, WORKFLOW, run},
};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const PARENT: &str = "projects/default";

/// Methods that are not noted, with the reason. What begins with `Get` or `List` only looks at what
/// there is, and need not stand here.
const NOT_NOTED: [(&str, &str); 20] = [
    ("ExecutionService/WatchExecution", LOOKS),
    ("ExecutionService/ExplainExecution", LOOKS),
    ("TestService/FindTests", LOOKS),
    ("TestService/CompareExecutions", LOOKS),
    ("RetentionService/PlanRetention", LOOKS),
    ("AgentLinkService/Link", FOR_RUN),
    ("AgentLinkService/StreamLog", FOR_RUN),
    ("AgentLinkService/UploadArtifact", FOR_RUN),
    ("AgentLinkService/ResumeUpload", FOR_RUN),
    ("AgentLinkService/MissArtifacts", FOR_RUN),
    ("AgentLinkService/BeginDirectUpload", FOR_RUN),
    ("AgentLinkService/EndDirectUpload", FOR_RUN),
    ("AgentLinkService/StartChildren", FOR_RUN),
    ("AgentLinkService/WatchChildren", FOR_RUN),
    ("AgentLinkService/StopChildren", FOR_RUN),
    ("AgentLinkService/ResumeChildren", FOR_RUN),
    ("AgentLinkService/SelectWorkflows", FOR_RUN),
    ("AgentLinkService/ReadArchive", FOR_RUN),
    ("AgentLinkService/ReadDurations", FOR_RUN),
    ("AgentLinkService/JudgeStep", FOR_RUN),
];
const LOOKS: &str = "it only looks at what there is";
const FOR_RUN: &str = "it is for an execution that somebody has made, and stands in its records";

const ASKING: &str = "\
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflow
metadata: {name: asking}
spec:
  steps:
  - shell: login {{ credential('token') }}
";
const TEMPLATE: &str = "\
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflowTemplate
metadata: {name: base}
spec: {}
";

fn methods() -> BTreeSet<String> {
    let files = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).expect("a descriptor");
    let mut methods = BTreeSet::new();
    for service in files.file.iter().flat_map(|file| &file.service) {
        for method in &service.method {
            methods.insert(format!("{}/{}", service.name(), method.name()));
        }
    }
    methods
}

async fn events(clients: &mut Clients, action: &str) -> Vec<AuditEvent> {
    let request = ListAuditEventsRequest {
        page_size: 1000,
        action: action.to_owned(),
        ..ListAuditEventsRequest::default()
    };
    let listed = clients.audit.list_audit_events(request).await;
    listed.expect("a list").into_inner().events
}

/// Waits for so many events of an action: those of readers are written while they read.
async fn noted(clients: &mut Clients, action: &str, count: usize) -> Vec<AuditEvent> {
    let all = async {
        loop {
            let all = events(clients, action).await;
            if all.len() >= count {
                return all;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let all = tokio::time::timeout(PATIENCE, all).await;
    let all = all.unwrap_or_else(|_late| panic!("{action} is not noted"));
    assert_eq!(all.len(), count, "{all:?}");
    all
}

/// A call with these fields, which has to be done.
macro_rules! done {
    ($clients:ident.$client:ident.$method:ident($request:ident { $($field:ident: $value:expr),* $(,)? })) => {{
        let request = $request { $($field: $value.into(),)* ..$request::default() };
        let answer = $clients.$client.$method(request).await;
        answer.expect(stringify!($method)).into_inner()
    }};
}

async fn change_projects(admin: &mut Clients) {
    let name = || "projects/other".to_owned();
    done!(admin.projects.create_project(CreateProjectRequest {
        project_id: "other"
    }));
    let changed = Project {
        name: name(),
        weight: 2,
        ..Project::default()
    };
    let mask = prost_types::FieldMask {
        paths: vec!["weight".to_owned()],
    };
    done!(admin.projects.update_project(UpdateProjectRequest {
        project: Some(changed),
        update_mask: Some(mask),
    }));
    done!(
        admin
            .projects
            .pause_project(PauseProjectRequest { name: name() })
    );
    done!(
        admin
            .projects
            .resume_project(ResumeProjectRequest { name: name() })
    );
    let made = done!(admin.projects.create_token(CreateTokenRequest {
        display_name: "ci",
        role: Role::Member,
        project: name(),
    }));
    let token = made.token.expect("told").name;
    done!(
        admin
            .projects
            .delete_token(DeleteTokenRequest { name: token })
    );
}

async fn change_manifests(admin: &mut Clients) {
    done!(admin.workflows.create_workflow(CreateWorkflowRequest {
        parent: PARENT,
        manifest: WORKFLOW,
    }));
    let name = || format!("{PARENT}/workflows/smoke");
    done!(admin.workflows.update_workflow(UpdateWorkflowRequest {
        name: name(),
        manifest: WORKFLOW.replace("hello", "hi"),
    }));
    done!(
        admin
            .workflows
            .delete_workflow(DeleteWorkflowRequest { name: name() })
    );
    done!(admin.templates.create_template(CreateTemplateRequest {
        parent: PARENT,
        manifest: TEMPLATE,
    }));
    let name = || format!("{PARENT}/templates/base");
    done!(admin.templates.update_template(UpdateTemplateRequest {
        name: name(),
        manifest: TEMPLATE.replace("spec: {}", "spec: {steps: [{shell: 'true'}]}"),
    }));
    done!(
        admin
            .templates
            .delete_template(DeleteTemplateRequest { name: name() })
    );
}

async fn change_agents(admin: &mut Clients) {
    let name = || "agents/west".to_owned();
    done!(
        admin
            .agents
            .create_agent(CreateAgentRequest { agent_id: "west" })
    );
    done!(
        admin
            .agents
            .rotate_agent_token(RotateAgentTokenRequest { name: name() })
    );
    done!(
        admin
            .agents
            .cordon_agent(CordonAgentRequest { name: name() })
    );
    done!(
        admin
            .agents
            .uncordon_agent(UncordonAgentRequest { name: name() })
    );
    done!(admin.agents.drain_agent(DrainAgentRequest { name: name() }));
    done!(
        admin
            .agents
            .delete_agent(DeleteAgentRequest { name: name() })
    );
}

/// What only waits is made, ended and deleted.
#[expect(clippy::needless_update, reason = "some requests have two fields")]
async fn change_waiting(admin: &mut Clients) {
    done!(admin.queue.pause_queue(PauseQueueRequest {}));
    let made = done!(
        admin
            .executions
            .batch_create_executions(BatchCreateExecutionsRequest {
                parent: PARENT,
                requests: [run(), run(), run()],
            })
    );
    assert_eq!(made.results.len(), 3);
    let name = admin.create(run()).await.name;
    done!(
        admin
            .executions
            .cancel_execution(CancelExecutionRequest { name: name.clone() })
    );
    done!(
        admin
            .executions
            .delete_execution(DeleteExecutionRequest { name: name })
    );
    done!(admin.queue.resume_queue(ResumeQueueRequest {}));
}

/// One that runs is changed, and what it leaves behind is read; its test is put into quarantine.
async fn change_running(fixture: &Fixture, admin: &mut Clients) {
    done!(
        admin
            .credentials
            .create_credential(CreateCredentialRequest {
                parent: PARENT,
                credential_id: "token",
                value: "secret",
            })
    );
    let token = fixture.agent("east").await;
    let (mut agent, _) = Agent::connect(fixture, &token, Vec::new()).await;
    let inline = InlineWorkflow {
        manifest: ASKING.to_owned(),
        workflow: String::new(),
    };
    let request = CreateExecutionRequest {
        source: Some(Source::Inline(inline)),
        ..run()
    };
    let name = admin.create(request).await.name;
    let work = agent.work().await;
    let wish = ReadCredentialRequest {
        attempt: work.attempt.clone(),
        epoch: work.epoch,
        credential: "token".to_owned(),
    };
    let read = agent.clients.link.read_credential(wish).await;
    read.expect("it is given");
    agent.report(&work, Phase::Running).await;
    let report = b"<testsuite><testcase classname='shop' name='cart'/></testsuite>";
    let sent = agent.artifact(&work, "junit.xml", report, sha256(report));
    let artifact = sent.await.expect("it is taken").name;
    agent.log(&work, 0, b"line\n").await.expect("it is taken");

    done!(
        admin
            .executions
            .pause_execution(PauseExecutionRequest { name: name.clone() })
    );
    done!(
        admin
            .executions
            .resume_execution(ResumeExecutionRequest { name: name.clone() })
    );
    done!(admin.executions.pin_execution(PinExecutionRequest {
        name: name.clone(),
        message: "evidence",
    }));
    done!(
        admin
            .executions
            .unpin_execution(UnpinExecutionRequest { name: name.clone() })
    );
    done!(admin.logs.read_log(ReadLogRequest { name: name.clone() }));
    done!(
        admin
            .artifacts
            .download_artifact(DownloadArtifactRequest { name: artifact })
    );
    done!(
        admin
            .artifacts
            .archive_artifacts(ArchiveArtifactsRequest { parent: name })
    );
    let find = FindTestsRequest {
        parent: PARENT.to_owned(),
        text: "cart".to_owned(),
    };
    let test = async {
        loop {
            let found = admin.tests.find_tests(find.clone()).await;
            if let Some(test) = found.expect("a list").into_inner().tests.pop() {
                return test.name;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let test = tokio::time::timeout(PATIENCE, test).await;
    let test = test.expect("its report is read");
    done!(admin.tests.quarantine_test(QuarantineTestRequest {
        name: test.clone(),
        reason: "SHOP-1",
    }));
    done!(admin.tests.release_test(ReleaseTestRequest { name: test }));
    let name = || format!("{PARENT}/credentials/token");
    done!(
        admin
            .credentials
            .update_credential(UpdateCredentialRequest {
                name: name(),
                value: "another",
            })
    );
    done!(
        admin
            .credentials
            .delete_credential(DeleteCredentialRequest { name: name() })
    );
}

async fn sweep_orphans(fixture: &Fixture, admin: &mut Clients) {
    let orphan = fixture.dir.path().join("blobs/check/a");
    std::fs::create_dir_all(orphan.parent().expect("a folder")).expect("a folder");
    std::fs::write(&orphan, "12345").expect("a file");
    let old = std::time::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let file = std::fs::File::options().write(true).open(&orphan);
    file.expect("it is there").set_modified(old).expect("set");
    done!(admin.retention.sweep_orphans(SweepOrphansRequest {}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_method_is_noted_or_it_is_said_why_not() {
    let methods = methods();
    assert!(methods.len() > 80, "{}", methods.len());
    for (method, _) in NOT_NOTED {
        assert!(methods.contains(method), "{method} is not there any more");
    }
    let fixture = Fixture::start_on_files().await;
    let mut admin = fixture.admin().await;
    change_projects(&mut admin).await;
    change_manifests(&mut admin).await;
    change_agents(&mut admin).await;
    change_running(&fixture, &mut admin).await;
    change_waiting(&mut admin).await;
    sweep_orphans(&fixture, &mut admin).await;
    for reading in [
        "LogService/ReadLog",
        "ArtifactService/DownloadArtifact",
        "ArtifactService/ArchiveArtifacts",
    ] {
        noted(&mut admin, reading, 1).await;
    }

    let mut told: BTreeMap<String, Vec<AuditEvent>> = BTreeMap::new();
    for event in events(&mut admin, "").await {
        told.entry(event.action.clone()).or_default().push(event);
    }
    for method in &methods {
        let of_method = told.remove(method).unwrap_or_default();
        let excused = NOT_NOTED.iter().find(|(name, _)| name == method);
        let name = method.split('/').next_back().unwrap_or_default();
        let looks = name.starts_with("Get") || name.starts_with("List");
        if looks || excused.is_some() {
            assert!(of_method.is_empty(), "{method}: {of_method:?}");
            continue;
        }
        assert!(
            !of_method.is_empty(),
            "{method} is not in the audit log: note it, let this test call it, or say here why not"
        );
        for event in of_method {
            let actor = event.actor.as_ref().expect("an actor");
            let whose = (actor.kind(), &*actor.display_name);
            let expected = match method.starts_with("AgentLinkService/") {
                true => (Kind::Agent, "east"),
                false => (Kind::Token, "admin"),
            };
            assert_eq!(whose, expected, "{event:?}");
            assert!(!actor.uid.is_empty(), "{event:?}");
            assert_eq!(event.peer, "127.0.0.1", "{event:?}");
            assert_eq!(event.outcome(), Outcome::Done, "{event:?}");
            assert!(!event.resource.is_empty(), "{event:?}");
            // What a new token is says its action, and what it was and is nobody may know.
            let is_told = method == "AgentService/RotateAgentToken"
                || !event.inputs.is_empty()
                || !event.before_json.is_empty()
                || !event.after_json.is_empty();
            assert!(is_told, "what was given or done: {event:?}");
        }
    }
    assert!(told.is_empty(), "no method has done this: {told:?}");
    fixture.server.stop().await;
}

#[tokio::test]
async fn executions_are_noted_by_the_call_that_made_them() {
    let fixture = Fixture::start().await;
    let mut admin = fixture.admin().await;
    done!(admin.workflows.create_workflow(CreateWorkflowRequest {
        parent: PARENT,
        manifest: WORKFLOW,
    }));
    let planted = "planted-value";
    let id = uuid::Uuid::now_v7().to_string();
    let one = CreateExecutionRequest {
        parent: PARENT.to_owned(),
        source: Some(Source::Workflow(format!("{PARENT}/workflows/smoke"))),
        config: [("greeting".to_owned(), planted.to_owned())].into(),
        tags: [("branch".to_owned(), "main".to_owned())].into(),
        request_id: id.clone(),
        ..CreateExecutionRequest::default()
    };
    let made = admin.create(one.clone()).await;
    admin.create(one.clone()).await;
    let all = events(&mut admin, "ExecutionService/CreateExecution").await;
    let [event] = &all[..] else {
        panic!("a repeat is no second event: {all:?}");
    };
    assert_eq!(event.resource, made.name);
    assert_eq!(event.project, PARENT);
    assert_eq!(event.request_id, id);
    let told = |name: &str| event.inputs.get(name).map(String::as_str);
    assert_eq!(told("count"), Some("1"));
    assert_eq!(told("executions"), Some("smoke-1"));
    assert_eq!(told("workflows"), Some("smoke@1"));
    assert_eq!(told("config"), Some("greeting"));
    assert_eq!(told("tags"), Some("branch=main"));
    assert!(!format!("{event:?}").contains(planted), "{event:?}");

    let again = CreateExecutionRequest {
        source: Some(Source::Execution(made.name.clone())),
        request_id: String::new(),
        ..one.clone()
    };
    let cancel = CancelExecutionRequest {
        name: made.name.clone(),
        ..CancelExecutionRequest::default()
    };
    admin
        .executions
        .cancel_execution(cancel)
        .await
        .expect("canceled");
    admin.create(again).await;
    let all = events(&mut admin, "ExecutionService/CreateExecution").await;
    assert_eq!(all[0].inputs["rerun_of"], "smoke-1");
}

#[tokio::test]
#[expect(clippy::needless_update, reason = "some requests have two fields")]
async fn a_batch_is_told_with_all_that_it_made_and_what_of_it_was_refused() {
    let fixture = Fixture::start().await;
    let mut admin = fixture.admin().await;
    let broken = CreateExecutionRequest {
        config: [("unknown".to_owned(), "x".to_owned())].into(),
        ..run()
    };
    let mut requests = vec![run(); 64];
    requests.push(broken);
    let made = done!(
        admin
            .executions
            .batch_create_executions(BatchCreateExecutionsRequest {
                parent: PARENT,
                requests: requests,
            })
    );
    let mut expected: Vec<String> = Vec::new();
    for result in made.results {
        use muster_proto::v1::create_execution_result::Result::Created;
        if let Some(Created(created)) = result.result {
            let name = created.execution.expect("told").name;
            expected.push(name.split('/').next_back().expect("an id").to_owned());
        }
    }
    assert_eq!(expected.len(), 64);
    let all = events(&mut admin, "ExecutionService/BatchCreateExecutions").await;
    let (refused, done): (Vec<_>, Vec<_>) = all
        .iter()
        .partition(|event| event.outcome() == Outcome::Refused);
    let [refused] = refused[..] else {
        panic!("{refused:?}");
    };
    assert_eq!(refused.inputs["refused_runs"], "1");
    assert_eq!(refused.inputs["runs"], "65");
    assert_eq!(refused.resource, format!("{PARENT}/executions"));
    // They are accepted together with what comes at the same time, so mostly in one transaction.
    assert!(done.len() < 64, "{}", done.len());
    let mut told: Vec<String> = Vec::new();
    for event in done {
        let after: serde_json::Value = serde_json::from_str(&event.after_json).expect("JSON");
        let ids = after["executions"].as_array().expect("a list");
        assert_eq!(event.inputs["count"], ids.len().to_string());
        assert_eq!(event.inputs["workflows"], "smoke");
        assert!(event.resource.starts_with("projects/default/executions"));
        let ids = ids.iter().map(|id| id.as_str().expect("text").to_owned());
        told.extend(ids);
    }
    told.sort();
    expected.sort();
    assert_eq!(told, expected, "each of them once");
}

#[tokio::test]
async fn who_reads_is_noted_once_in_an_hour_and_not_where_it_is_not_wanted() {
    for wanted in [true, false] {
        let clock = Clock::manual("2026-11-28T12:00:00Z".parse().expect("a time"));
        let fixture = Fixture::start_at(clock.clone(), |config| config.audit_reads = wanted).await;
        let mut admin = fixture.admin().await;
        let name = admin.create(run()).await.name;
        let other = admin.create(run()).await.name;
        let read = async |clients: &mut Clients, name: &str| {
            for _ in 0..5 {
                done!(clients.logs.read_log(ReadLogRequest { name: name }));
            }
        };
        read(&mut admin, &name).await;
        if !wanted {
            done!(
                admin
                    .executions
                    .cancel_execution(CancelExecutionRequest { name: name })
            );
            noted(&mut admin, "ExecutionService/CancelExecution", 1).await;
            assert!(events(&mut admin, "LogService/").await.is_empty());
            continue;
        }
        let all = noted(&mut admin, "LogService/ReadLog", 1).await;
        assert_eq!(all[0].resource, name);
        assert_eq!(all[0].inputs["execution"], "smoke-1");
        let token = done!(admin.projects.create_token(CreateTokenRequest {
            display_name: "auditor",
            role: Role::Viewer,
            project: PARENT,
        }));
        let mut viewer = fixture.clients(&token.secret).await;
        read(&mut viewer, &name).await;
        let all = noted(&mut admin, "LogService/ReadLog", 2).await;
        let actor = all[0].actor.as_ref().expect("an actor");
        assert_eq!((&*actor.display_name, &*actor.role), ("auditor", "viewer"));
        read(&mut admin, &other).await;
        noted(&mut admin, "LogService/ReadLog", 3).await;
        clock.advance(Duration::from_secs(3600));
        read(&mut admin, &name).await;
        noted(&mut admin, "LogService/ReadLog", 4).await;
    }
}

/// Lets the database of a server do something behind its back.
async fn execute(fixture: &Fixture, statement: &'static str) {
    let url = format!(
        "sqlite://{}",
        fixture.dir.path().join("muster.db").display()
    );
    let mut db = sqlx::SqliteConnection::connect(&url).await.expect("SQLite");
    db.execute(statement).await.expect("it works");
    db.close().await.expect("it closes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_event_nothing_is_made_or_swept_and_what_is_there_is_read() {
    let fixture = Fixture::start_on_files_with(|config| {
        config.retention_interval = Duration::from_millis(100);
    })
    .await;
    let mut admin = fixture.admin().await;
    let mut names = Vec::new();
    for _ in 0..3 {
        let name = admin.create(run()).await.name;
        done!(
            admin
                .executions
                .cancel_execution(CancelExecutionRequest { name: name.clone() })
        );
        names.push(name);
    }
    execute(
        &fixture,
        "CREATE TRIGGER no_events BEFORE INSERT ON audit_events \
         BEGIN SELECT RAISE(ABORT, 'no event for now'); END",
    )
    .await;
    let refused = admin.executions.create_execution(run()).await;
    refused.expect_err("it can not be noted");
    let name = || names[0].clone();
    let mut log = done!(admin.logs.read_log(ReadLogRequest { name: name() }));
    log.message().await.expect("it is read");
    execute(&fixture, "DROP TRIGGER no_events").await;

    // What failed is tried again by the next reading, once it is known that it did.
    let read = async {
        loop {
            done!(admin.logs.read_log(ReadLogRequest { name: name() }));
            let all = events(&mut admin, "LogService/ReadLog").await;
            if !all.is_empty() {
                return all.len();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let read = tokio::time::timeout(PATIENCE, read).await;
    assert_eq!(read.expect("it is noted"), 1);
    let all = events(&mut admin, "ExecutionService/CreateExecution").await;
    assert_eq!(all.len(), 3, "{all:?}");
    let made = admin.create(run()).await;
    assert_eq!(
        made.number, 4,
        "what could not be noted has taken no number"
    );

    // The same for what is beyond its retention from now on.
    execute(
        &fixture,
        "CREATE TRIGGER no_events BEFORE INSERT ON audit_events WHEN NEW.actor = 'retention' \
         BEGIN SELECT RAISE(ABORT, 'no event for now'); END",
    )
    .await;
    let kept = Project {
        name: PARENT.to_owned(),
        retention: Some(muster_proto::v1::Retention {
            max_count: Some(1),
            ..muster_proto::v1::Retention::default()
        }),
        ..Project::default()
    };
    let mask = prost_types::FieldMask {
        paths: vec!["retention".to_owned()],
    };
    done!(admin.projects.update_project(UpdateProjectRequest {
        project: Some(kept),
        update_mask: Some(mask),
    }));
    // Many sweeps.
    tokio::time::sleep(Duration::from_secs(1)).await;
    for name in &names {
        admin.get(name).await;
    }
    execute(&fixture, "DROP TRIGGER no_events").await;
    noted(&mut admin, "Retention/DeleteExecutions", 1).await;
    fixture.server.stop().await;
}

//! The audit log through the API: what comes into it, who sees it, and what never stands in it.

use muster_proto::v1::{
    AuditEvent, CancelExecutionRequest, CreateAgentRequest, CreateCredentialRequest,
    CreateExecutionRequest, CreateTokenRequest, CreateWorkflowRequest, DeleteCredentialRequest,
    InlineWorkflow, ListAuditEventsRequest, Project, ReadCredentialRequest, UpdateProjectRequest,
    audit_event::{Kind, Outcome},
    create_execution_request::Source,
    token::Role,
};
use tonic::Code;

use super::{
    agent::Agent,
    fixture::{Clients, Fixture, WORKFLOW, run},
};

/// What must stand nowhere.
const SECRET: &str = "planted-secret-value";

async fn events(
    clients: &mut Clients,
    change: impl FnOnce(&mut ListAuditEventsRequest),
) -> Vec<AuditEvent> {
    let mut request = ListAuditEventsRequest {
        page_size: 1000,
        ..ListAuditEventsRequest::default()
    };
    change(&mut request);
    let listed = clients.audit.list_audit_events(request).await;
    listed.expect("a list").into_inner().events
}

async fn of_action(clients: &mut Clients, action: &str) -> Vec<AuditEvent> {
    events(clients, |request| action.clone_into(&mut request.action)).await
}

#[tokio::test]
async fn every_change_says_who_what_from_where_and_what_came_of_it() {
    let fixture = Fixture::start().await;
    let mut admin = fixture.admin().await;
    let id = uuid::Uuid::new_v4().to_string();
    let update = UpdateProjectRequest {
        project: Some(Project {
            name: "projects/default".to_owned(),
            weight: 5,
            ..Project::default()
        }),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["weight".to_owned()],
        }),
        request_id: id.clone(),
    };
    for _ in 0..2 {
        let updated = admin.projects.update_project(update.clone()).await;
        updated.expect("it is changed");
    }
    let all = of_action(&mut admin, "ProjectService/UpdateProject").await;
    let [event] = &all[..] else {
        panic!("a repeat is no second change: {all:?}");
    };
    let actor = event.actor.as_ref().expect("an actor");
    assert_eq!(
        (actor.kind(), &*actor.display_name, &*actor.role),
        (Kind::Token, "admin", "admin")
    );
    assert!(!actor.uid.is_empty());
    assert_eq!(event.resource, "projects/default");
    assert_eq!(event.project, "projects/default");
    assert_eq!(event.peer, "127.0.0.1");
    assert_eq!(event.inputs["update_mask"], "weight");
    assert!(event.before_json.contains("\"weight\":1"), "{event:?}");
    assert!(event.after_json.contains("\"weight\":5"), "{event:?}");
    assert_eq!(event.outcome(), Outcome::Done);
    assert_eq!(event.request_id, id);
    assert!(event.time.is_some());
}

#[tokio::test]
async fn refusals_are_noted_with_their_reason() {
    let fixture = Fixture::start().await;
    let mut admin = fixture.admin().await;
    let viewer = fixture.token_of_new_project("other", Role::Viewer).await;
    let mut viewer = fixture.clients(&viewer).await;
    let made = admin.create(run()).await;
    let cancel = CancelExecutionRequest {
        name: made.name,
        ..CancelExecutionRequest::default()
    };
    let refused = viewer.executions.cancel_execution(cancel).await;
    assert_eq!(refused.expect_err("foreign").code(), Code::NotFound);
    let agent = CreateAgentRequest {
        agent_id: "mine".to_owned(),
        ..CreateAgentRequest::default()
    };
    let refused = viewer.agents.create_agent(agent).await;
    assert_eq!(
        refused.expect_err("not allowed").code(),
        Code::PermissionDenied
    );
    let mut stranger = fixture.clients("mst_planted-token-that-is-not-known").await;
    let refused = stranger
        .audit
        .list_audit_events(ListAuditEventsRequest::default())
        .await;
    assert_eq!(refused.expect_err("unknown").code(), Code::Unauthenticated);

    let all = events(&mut admin, |_| {}).await;
    let refused: Vec<_> = all
        .iter()
        .filter(|event| event.outcome() == Outcome::Refused)
        .map(|event| {
            let actor = event.actor.as_ref().expect("an actor");
            (&*event.action, actor.kind(), &*event.project)
        })
        .collect();
    assert_eq!(
        refused,
        [
            ("AuditService/ListAuditEvents", Kind::Nobody, ""),
            ("AgentService/CreateAgent", Kind::Token, "projects/other"),
            (
                "ExecutionService/CancelExecution",
                Kind::Token,
                "projects/other"
            ),
        ]
    );
    assert!(all[1].reason.contains("administrator"), "{:?}", all[1]);
    assert!(!format!("{all:?}").contains("planted"), "no token is shown");
}

#[tokio::test]
async fn a_project_sees_its_own_events_and_a_viewer_none() {
    let fixture = Fixture::start().await;
    let mut admin = fixture.admin().await;
    let mut member = fixture.member_of_new_project("other").await;
    for (clients, parent) in [
        (&mut admin, "projects/default"),
        (&mut member, "projects/other"),
    ] {
        let workflow = CreateWorkflowRequest {
            parent: parent.to_owned(),
            manifest: WORKFLOW.to_owned(),
            ..CreateWorkflowRequest::default()
        };
        let stored = clients.workflows.create_workflow(workflow).await;
        stored.expect("stored");
    }
    let own = events(&mut member, |_| {}).await;
    assert!(
        own.iter().all(|event| event.project == "projects/other"),
        "{own:?}"
    );
    assert!(
        own.iter()
            .any(|event| event.resource == "projects/other/workflows/smoke")
    );
    let foreign = ListAuditEventsRequest {
        parent: "projects/default".to_owned(),
        ..ListAuditEventsRequest::default()
    };
    let refused = member.audit.list_audit_events(foreign).await;
    assert_eq!(refused.expect_err("foreign").code(), Code::NotFound);
    let by_resource = events(&mut member, |request| {
        "projects/default".clone_into(&mut request.resource);
    });
    assert!(
        by_resource.await.is_empty(),
        "no filter opens another project"
    );
    let of_other = events(&mut admin, |request| {
        "projects/other".clone_into(&mut request.parent);
    })
    .await;
    assert_eq!(of_other.len(), own.len() + 1, "with the refusal");

    let new = CreateTokenRequest {
        display_name: "looks".to_owned(),
        role: Role::Viewer.into(),
        project: "projects/other".to_owned(),
        ..CreateTokenRequest::default()
    };
    let made = admin.projects.create_token(new).await.expect("a token");
    let mut viewer = fixture.clients(&made.into_inner().secret).await;
    for parent in ["", "projects/other"] {
        let request = ListAuditEventsRequest {
            parent: parent.to_owned(),
            ..ListAuditEventsRequest::default()
        };
        let refused = viewer.audit.list_audit_events(request).await;
        assert_eq!(
            refused.expect_err("a viewer").code(),
            Code::PermissionDenied
        );
    }
}

const ASKING: &str = "\
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflow
metadata: {name: asking}
spec:
  steps:
  - shell: login {{ credential('token') }}
";

#[tokio::test]
async fn reading_a_credential_is_noted_and_its_value_stands_nowhere() {
    let fixture = Fixture::start().await;
    let mut admin = fixture.admin().await;
    let new = CreateCredentialRequest {
        parent: "projects/default".to_owned(),
        credential_id: "token".to_owned(),
        value: SECRET.to_owned(),
        ..CreateCredentialRequest::default()
    };
    for _ in 0..2 {
        // The second one is refused, which is noted too.
        let _made_once = admin.credentials.create_credential(new.clone()).await;
    }
    let empty = CreateCredentialRequest {
        value: format!("{SECRET}\0"),
        ..new
    };
    let refused = admin.credentials.create_credential(empty).await;
    assert_eq!(refused.expect_err("NUL").code(), Code::InvalidArgument);
    let token = fixture.agent("east").await;
    let (mut agent, _) = Agent::connect(&fixture, &token, Vec::new()).await;
    let request = CreateExecutionRequest {
        source: Some(Source::Inline(InlineWorkflow {
            manifest: ASKING.to_owned(),
            workflow: String::new(),
        })),
        ..run()
    };
    admin.create(request).await;
    let work = agent.work().await;
    let wish = ReadCredentialRequest {
        attempt: work.attempt.clone(),
        epoch: work.epoch,
        credential: "token".to_owned(),
    };
    let read = agent.clients.link.read_credential(wish).await;
    assert_eq!(read.expect("given").into_inner().value, SECRET);
    let delete = DeleteCredentialRequest {
        name: "projects/default/credentials/token".to_owned(),
        ..DeleteCredentialRequest::default()
    };
    admin
        .credentials
        .delete_credential(delete)
        .await
        .expect("gone");

    let all = of_action(&mut admin, "AgentLinkService/ReadCredential").await;
    let [event] = &all[..] else {
        panic!("{all:?}");
    };
    let actor = event.actor.as_ref().expect("an actor");
    assert_eq!((actor.kind(), &*actor.display_name), (Kind::Agent, "east"));
    assert_eq!(event.resource, "projects/default/credentials/token");
    assert_eq!(event.project, "projects/default");
    assert_eq!(event.inputs["attempt"], work.attempt);
    let all = events(&mut admin, |request| {
        "projects/default/credentials".clone_into(&mut request.resource);
    });
    assert_eq!(all.await.len(), 5);
    let shown = format!("{:?}", events(&mut admin, |_| {}).await);
    assert!(!shown.contains(SECRET), "{shown}");
    // Nor in any page of the database.
    fixture.server.stop().await;
    for file in ["muster.db", "muster.db-wal"] {
        let bytes = std::fs::read(fixture.dir.path().join(file)).unwrap_or_default();
        let found = bytes
            .windows(SECRET.len())
            .any(|part| part == SECRET.as_bytes());
        assert!(!found, "{file}");
    }
}

#[tokio::test]
async fn filters_page_and_refuse_what_they_can_not_use() {
    let fixture = Fixture::start().await;
    let mut admin = fixture.admin().await;
    for name in ["a", "b", "c"] {
        fixture.agent(name).await;
    }
    let mut seen = Vec::new();
    let mut request = ListAuditEventsRequest {
        page_size: 2,
        action: "AgentService/".to_owned(),
        actor: "admin".to_owned(),
        ..ListAuditEventsRequest::default()
    };
    loop {
        let page = admin.audit.list_audit_events(request.clone()).await;
        let page = page.expect("a page").into_inner();
        seen.extend(page.events.into_iter().map(|event| event.resource));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(seen, ["agents/c", "agents/b", "agents/a"]);
    let time = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
    for (field, bad) in [
        (
            "page_token",
            ListAuditEventsRequest {
                action: String::new(),
                ..request.clone()
            },
        ),
        (
            "actor",
            ListAuditEventsRequest {
                actor: "x".repeat(2000),
                ..Default::default()
            },
        ),
        (
            "since",
            ListAuditEventsRequest {
                since: time(i64::MAX),
                ..Default::default()
            },
        ),
    ] {
        let bad = ListAuditEventsRequest {
            page_token: if field == "page_token" {
                request.page_token.clone()
            } else {
                String::new()
            },
            ..bad
        };
        let refused = admin.audit.list_audit_events(bad).await.expect_err(field);
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains(field), "{refused}");
    }
    let later = events(&mut admin, |request| request.since = time(4_000_000_000)).await;
    assert!(later.is_empty());
}

#[tokio::test]
async fn the_address_of_a_proxy_s_client_counts_only_where_it_is_trusted() {
    for (trusted, expected) in [(false, "127.0.0.1"), (true, "192.0.2.9")] {
        let fixture = Fixture::start_with(|config| config.trust_forwarded_for = trusted).await;
        let mut admin = fixture.admin().await;
        let new = CreateAgentRequest {
            agent_id: "east".to_owned(),
            ..CreateAgentRequest::default()
        };
        let mut request = tonic::Request::new(new);
        let told = "203.0.113.1, 192.0.2.9".parse().expect("plain text");
        request.metadata_mut().insert("x-forwarded-for", told);
        admin.agents.create_agent(request).await.expect("made");
        let all = of_action(&mut admin, "AgentService/CreateAgent").await;
        assert_eq!(all[0].peer, expected);
    }
}

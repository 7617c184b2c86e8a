//! Executions that another execution starts: made once, tied to their parent, and to nobody else.

use muster_proto::v1::{Assignment, CreateExecutionRequest};
use muster_proto::v1::{
    CancelExecutionRequest, ChildInstance, Credit, InlineWorkflow, ListExecutionsRequest,
    PauseExecutionRequest, ReadArchiveRequest, ResumeExecutionRequest, StartChildrenRequest,
    StopChildrenRequest, WatchChildrenRequest, attempt_report::Phase, child_origin::Role,
    create_execution_request::Source, execution::State, link_request::Message, link_response,
};
use tonic::Code;

use super::{
    agent::Agent,
    fixture::{Clients, Fixture, run},
};

const TREE: &str = "\
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflow
metadata: {name: tree}
spec:
  services:
    db: {image: postgres, readinessProbe: {tcpSocket: {port: 1}}}
  steps:
  - parallel:
      matrix: {os: [linux, mac]}
      shell: echo {{ matrix.os }}
  - execute:
      workflows: [{name: tree}, {name: other, config: {greeting: hi}}]
---
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflow
metadata: {name: other}
spec:
  config: {greeting: {type: string}}
  steps: [{shell: 'echo {{ config.greeting }}'}]
";

fn tree() -> CreateExecutionRequest {
    CreateExecutionRequest {
        source: Some(Source::Inline(InlineWorkflow {
            manifest: TREE.to_owned(),
            workflow: "tree".to_owned(),
        })),
        ..run()
    }
}

fn instance(index: u32, variables: &str) -> ChildInstance {
    ChildInstance {
        index,
        variables: variables.to_owned().into(),
        description: format!("number {index}"),
        ..ChildInstance::default()
    }
}

fn workers(work: &Assignment) -> StartChildrenRequest {
    StartChildrenRequest {
        attempt: work.attempt.clone(),
        epoch: work.epoch,
        group: "s1".to_owned(),
        step: "s1".to_owned(),
        instances: vec![
            instance(0, r#"{"index":0,"count":2,"matrix":{"os":"linux"}}"#),
            instance(1, r#"{"index":1,"count":2,"matrix":{"os":"mac"}}"#),
        ],
        ..StartChildrenRequest::default()
    }
}

fn member(work: &Assignment, item: u32, workflow: &str) -> StartChildrenRequest {
    StartChildrenRequest {
        group: format!("s2.{item}"),
        step: "s2".to_owned(),
        item,
        instances: vec![ChildInstance {
            workflow: workflow.to_owned(),
            config: [("greeting".to_owned(), "hi".to_owned())].into(),
            ..ChildInstance::default()
        }],
        ..workers(work)
    }
}

/// A server with an agent that runs the parent.
async fn parent() -> (Fixture, Clients, Agent, Assignment) {
    let fixture = Fixture::start().await;
    let mut admin = fixture.admin().await;
    let token = fixture.agent("east").await;
    let (mut agent, _) = Agent::connect(&fixture, &token, Vec::new()).await;
    admin.create(tree()).await;
    let work = agent.work().await;
    agent.report(&work, Phase::Running).await;
    (fixture, admin, agent, work)
}

async fn start(agent: &mut Agent, request: StartChildrenRequest) -> Vec<String> {
    let started = agent.clients.link.start_children(request).await;
    let children = started.expect("they are started").into_inner().children;
    children
        .into_iter()
        .map(|child| child.display_name)
        .collect()
}

#[tokio::test]
async fn the_same_start_again_starts_nothing() {
    let (_fixture, mut admin, mut agent, work) = parent().await;
    let first = start(&mut agent, workers(&work)).await;
    assert_eq!(first, ["tree-1.s1.0", "tree-1.s1.1"]);
    assert_eq!(start(&mut agent, workers(&work)).await, first);
    let tree = admin.get("projects/default/executions/tree-1").await;
    assert_eq!(tree.children.len(), 2);
    let origin = tree.children[1].origin.clone().expect("it has one");
    assert_eq!((origin.role(), origin.index), (Role::Worker, 1));
    assert_eq!(origin.description, "number 1");
    let all = ListExecutionsRequest {
        parent: "projects/default".to_owned(),
        ..ListExecutionsRequest::default()
    };
    let shown = admin.executions.list_executions(all.clone()).await;
    assert_eq!(shown.expect("a list").into_inner().executions.len(), 1);
    let below = ListExecutionsRequest {
        parent_execution: tree.name,
        ..all
    };
    let shown = admin.executions.list_executions(below).await;
    assert_eq!(shown.expect("a list").into_inner().executions.len(), 2);
}

#[tokio::test]
async fn workers_run_where_their_parent_runs_and_are_told_to_it() {
    let (fixture, _admin, mut agent, work) = parent().await;
    let other = fixture.agent("west").await;
    let (west, _) = Agent::connect(&fixture, &other, Vec::new()).await;
    start(&mut agent, workers(&work)).await;
    let watch = WatchChildrenRequest {
        attempt: work.attempt.clone(),
        epoch: work.epoch,
    };
    let told = agent.clients.link.watch_children(watch).await;
    let mut told = told.expect("it may").into_inner();
    let first = told.message().await.expect("no error").expect("a message");
    assert_eq!(first.children.len(), 2);
    west.say(Message::Credit(Credit {
        slots: 4,
        exempt: 0,
    }))
    .await;
    let worker = agent.work().await;
    assert_eq!(worker.display_name, "tree-1.s1.0");
    agent.complete(&worker, b"").await;
    loop {
        let news = told.message().await.expect("no error").expect("a message");
        if news
            .children
            .iter()
            .any(|child| child.state() == State::Passed)
        {
            break;
        }
    }
    let again = agent.work().await;
    assert_eq!(
        again.display_name, "tree-1.s1.1",
        "and not on the other agent"
    );
}

#[tokio::test]
async fn children_end_with_the_attempt_that_has_started_them() {
    let (_fixture, mut admin, mut agent, work) = parent().await;
    start(&mut agent, workers(&work)).await;
    agent.complete(&work, b"").await;
    for name in ["tree-1.s1.0", "tree-1.s1.1"] {
        let name = format!("projects/default/executions/{name}");
        let child = admin.finished(&name).await;
        assert_eq!(child.state(), State::Canceled, "{}", child.message);
        assert!(child.message.contains("is over"), "{}", child.message);
    }
}

#[tokio::test]
async fn a_service_that_is_stopped_has_passed() {
    let (_fixture, mut admin, mut agent, work) = parent().await;
    let service = StartChildrenRequest {
        group: "db".to_owned(),
        step: "s0-services".to_owned(),
        instances: vec![instance(0, r#"{"index":0,"count":1}"#)],
        ..workers(&work)
    };
    assert_eq!(start(&mut agent, service).await, ["tree-1.db.0"]);
    let db = agent.work().await;
    agent.report(&db, Phase::Running).await;
    let stop = StopChildrenRequest {
        attempt: work.attempt.clone(),
        epoch: work.epoch,
        group: "db".to_owned(),
        ..StopChildrenRequest::default()
    };
    agent
        .clients
        .link
        .stop_children(stop)
        .await
        .expect("it may");
    let cancel = loop {
        if let link_response::Message::Cancel(cancel) = agent.hear().await {
            break cancel;
        }
    };
    assert_eq!(cancel.attempt, db.attempt);
    assert_eq!(cancel.outcome(), State::Passed);
    agent.complete(&db, b"").await;
    let db = admin
        .finished("projects/default/executions/tree-1.db.0")
        .await;
    assert_eq!(db.state(), State::Passed);
}

#[tokio::test]
async fn a_workflow_that_would_run_itself_is_refused_with_the_chain() {
    let (_fixture, _admin, mut agent, work) = parent().await;
    let request = member(&work, 0, "tree");
    let refused = agent.clients.link.start_children(request).await;
    let refused = refused.expect_err("a loop");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("tree → tree"), "{refused}");
}

#[tokio::test]
async fn members_are_found_beside_the_workflow_and_outlive_nothing() {
    let (_fixture, mut admin, mut agent, work) = parent().await;
    assert_eq!(
        start(&mut agent, member(&work, 1, "other")).await,
        ["other-1"]
    );
    assert_eq!(
        start(&mut agent, member(&work, 1, "other")).await,
        ["other-1"]
    );
    let other = admin.get("projects/default/executions/other-1").await;
    assert_eq!(other.origin.expect("a parent").role(), Role::Member);
    assert_eq!(other.config["greeting"], "hi");
    let mut request = member(&work, 1, "nobody");
    request.group = "another".to_owned();
    let missing = agent.clients.link.start_children(request).await;
    assert_eq!(missing.expect_err("not there").code(), Code::NotFound);
    let cancel = CancelExecutionRequest {
        name: "projects/default/executions/tree-1".to_owned(),
        force: true,
        ..CancelExecutionRequest::default()
    };
    admin
        .executions
        .cancel_execution(cancel)
        .await
        .expect("it may");
    agent.complete(&work, b"").await;
    let other = admin.finished("projects/default/executions/other-1").await;
    assert_eq!(other.state(), State::Canceled);
}

#[tokio::test]
async fn strangers_start_stop_watch_and_read_nothing() {
    let (fixture, _admin, mut agent, work) = parent().await;
    start(&mut agent, workers(&work)).await;
    let token = fixture.agent("west").await;
    let (mut west, _) = Agent::connect(&fixture, &token, Vec::new()).await;
    let foreign = west.clients.link.start_children(workers(&work)).await;
    assert_eq!(foreign.expect_err("not its own").code(), Code::NotFound);
    let watch = WatchChildrenRequest {
        attempt: work.attempt.clone(),
        epoch: work.epoch + 1,
    };
    let told = agent.clients.link.watch_children(watch).await;
    let refused = match told {
        Ok(told) => told.into_inner().message().await.expect_err("an old lease"),
        Err(refused) => refused,
    };
    assert_eq!(refused.code(), Code::Aborted);
    let read = ReadArchiveRequest {
        attempt: work.attempt.clone(),
        epoch: work.epoch,
        execution: work.execution.clone(),
        path: "report.xml".to_owned(),
    };
    let refused = agent.clients.link.read_archive(read).await;
    assert_eq!(refused.expect_err("no archive").code(), Code::NotFound);
}

#[tokio::test]
async fn what_can_not_be_compiled_is_refused_with_its_place() {
    let (_fixture, _admin, mut agent, work) = parent().await;
    let request = StartChildrenRequest {
        instances: vec![instance(0, r#"{"index":0,"count":1}"#)],
        ..workers(&work)
    };
    let refused = agent.clients.link.start_children(request).await;
    let refused = refused.expect_err("no matrix");
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(
        refused.message().contains("spec.steps[0].parallel"),
        "{refused}"
    );
    for (field, value) in [("group", "a/b"), ("step", "s9")] {
        let mut request = workers(&work);
        match field {
            "group" => request.group = value.to_owned(),
            _ => request.step = value.to_owned(),
        }
        let refused = agent.clients.link.start_children(request).await;
        assert_eq!(refused.expect_err("wrong").code(), Code::InvalidArgument);
    }
}

#[tokio::test]
async fn children_made_while_their_parent_is_being_paused_are_paused_too() {
    let (_fixture, mut admin, mut agent, work) = parent().await;
    let name = "projects/default/executions/tree-1".to_owned();
    let mut executions = admin.executions.clone();
    for round in 0..10 {
        let request = StartChildrenRequest {
            group: format!("round{round}"),
            ..workers(&work)
        };
        let pause = PauseExecutionRequest {
            name: name.clone(),
            ..PauseExecutionRequest::default()
        };
        let (children, paused) = tokio::join!(
            start(&mut agent, request),
            executions.pause_execution(pause)
        );
        paused.expect("it may");
        for child in children {
            let child = admin
                .get(&format!("projects/default/executions/{child}"))
                .await;
            assert!(
                child.pause_requested,
                "round {round}: {}",
                child.display_name
            );
        }
        let resume = ResumeExecutionRequest {
            name: name.clone(),
            ..ResumeExecutionRequest::default()
        };
        executions.resume_execution(resume).await.expect("it may");
    }
}

//! Running again what failed: what is refused, what is taken over, and what is told of it.

use muster_proto::v1::{
    Assignment, ChildInstance, CreateExecutionRequest, InlineWorkflow, ListExecutionsRequest,
    StartChildrenRequest, WatchChildrenRequest, attempt_report::Phase,
    create_execution_request::Source, execution::State, step_result,
};
use tonic::Code;

use super::{
    agent::{Agent, sha256},
    fixture::{Clients, Fixture, run},
};

const TREE: &str = "\
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflow
metadata: {name: tree}
spec:
  steps:
  - parallel:
      count: 3
      shell: 'pytest {{ rerun.pytest }}'
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

fn again(name: &str) -> CreateExecutionRequest {
    CreateExecutionRequest {
        source: Some(Source::Execution(format!(
            "projects/default/executions/{name}"
        ))),
        failed_only: true,
        ..run()
    }
}

fn workers(work: &Assignment, variables: &str) -> StartChildrenRequest {
    StartChildrenRequest {
        attempt: work.attempt.clone(),
        epoch: work.epoch,
        group: "s1".to_owned(),
        step: "s1".to_owned(),
        instances: (0..3)
            .map(|index| ChildInstance {
                index,
                variables: format!(r#"{{"index":{index},{variables}}}"#).into(),
                ..ChildInstance::default()
            })
            .collect(),
        ..StartChildrenRequest::default()
    }
}

async fn start(agent: &mut Agent, request: StartChildrenRequest) -> Vec<(String, bool)> {
    let started = agent.clients.link.start_children(request).await;
    let children = started.expect("they are started").into_inner().children;
    let told = children.into_iter();
    told.map(|child| (child.display_name, child.taken_over))
        .collect()
}

async fn end(agent: &mut Agent, work: &Assignment, state: State) {
    agent.report(work, Phase::Running).await;
    let mut report = agent.completed(work, b"");
    if let Some(completion) = &mut report.completion {
        completion.outcome = state.into();
    }
    if state == State::Failed {
        for step in &mut report.steps {
            step.state = step_result::State::Failed.into();
            step.reason = "EXIT_CODE".to_owned();
            step.exit_code = Some(1);
        }
    }
    agent.send_report(report).await;
}

/// `tree-1` has failed: its first worker has passed, the second failed by a test, the third never began.
async fn failed() -> (Fixture, Clients, Agent) {
    let fixture = Fixture::start().await;
    let mut admin = fixture.admin().await;
    let token = fixture.agent("east").await;
    let (mut agent, _) = Agent::connect(&fixture, &token, Vec::new()).await;
    let made = admin.create(tree()).await;
    let parent = agent.work().await;
    agent.report(&parent, Phase::Running).await;
    start(&mut agent, workers(&parent, r#""count":3"#)).await;
    let first = agent.work().await;
    assert_eq!(first.display_name, "tree-1.s1.0");
    end(&mut agent, &first, State::Passed).await;
    let second = agent.work().await;
    agent.report(&second, Phase::Running).await;
    let report =
        "<testsuite><testcase classname='test_a' name='test_one'><failure/></testcase></testsuite>";
    let sent = agent.artifact(
        &second,
        "r.xml",
        report.as_bytes(),
        sha256(report.as_bytes()),
    );
    sent.await.expect("it is taken");
    end(&mut agent, &second, State::Failed).await;
    end(&mut agent, &parent, State::Failed).await;
    admin.finished(&made.name).await;
    admin
        .finished("projects/default/executions/tree-1.s1.2")
        .await;
    (fixture, admin, agent)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_passed_is_taken_over_and_the_rest_is_told_what_failed() {
    let (_fixture, mut admin, mut agent) = failed().await;
    let made = admin.create(again("tree-1")).await;
    let rerun = made.rerun.clone().expect("it is one");
    assert_eq!(
        (rerun.display_name.as_str(), rerun.failed_only),
        ("tree-1", true)
    );
    let parent = agent.work().await;
    agent.report(&parent, Phase::Running).await;
    let wanted = workers(&parent, r#""count":3"#);
    let expected = [
        ("tree-1.s1.0".to_owned(), true),
        ("tree-2.s1.1".to_owned(), false),
        ("tree-2.s1.2".to_owned(), false),
    ];
    assert_eq!(start(&mut agent, wanted.clone()).await, expected);
    assert_eq!(start(&mut agent, wanted).await, expected, "once more");
    let watch = WatchChildrenRequest {
        attempt: parent.attempt.clone(),
        epoch: parent.epoch,
    };
    let told = agent.clients.link.watch_children(watch).await;
    let mut told = told.expect("it may").into_inner();
    let first = told.message().await.expect("no error").expect("a message");
    let taken = &first.children[0];
    assert_eq!(
        (taken.index, taken.state(), taken.taken_over),
        (0, State::Passed, true)
    );

    let worker = agent.work().await;
    assert_eq!(worker.display_name, "tree-2.s1.1");
    let plan = String::from_utf8(worker.plan.to_vec()).expect("JSON");
    assert!(plan.contains("pytest test_a.py::test_one"), "{plan}");
    assert!(plan.contains("MUSTER_RERUN_OF"), "{plan}");
    let never = admin.get("projects/default/executions/tree-2.s1.2").await;
    assert_eq!(
        never
            .rerun
            .clone()
            .expect("of the one that was canceled")
            .display_name,
        "tree-1.s1.2"
    );
    assert!(
        never.warnings[0].contains("did not end by its tests"),
        "{never:?}"
    );

    let tree = admin.get(&made.name).await;
    let taken: Vec<_> = tree
        .children
        .iter()
        .map(|child| child.origin.clone().unwrap_or_default().taken_over)
        .collect();
    assert_eq!(taken, [false, false, true]);
}

#[tokio::test]
async fn what_is_given_something_else_runs_again() {
    let (_fixture, mut admin, mut agent) = failed().await;
    admin.create(again("tree-1")).await;
    let parent = agent.work().await;
    agent.report(&parent, Phase::Running).await;
    let other = workers(&parent, r#""count":3,"shard":{"files":["new"]}"#);
    let started = start(&mut agent, other).await;
    assert!(
        started.iter().all(|(_, taken_over)| !taken_over),
        "{started:?}"
    );
    let worker = admin.get("projects/default/executions/tree-2.s1.1").await;
    assert_eq!(worker.rerun, None);
}

#[tokio::test]
async fn what_can_not_have_failed_is_refused() {
    let fixture = Fixture::start().await;
    let mut admin = fixture.admin().await;
    let token = fixture.agent("east").await;
    let (mut agent, _) = Agent::connect(&fixture, &token, Vec::new()).await;
    let mut refused = async |request: CreateExecutionRequest| {
        let refused = admin.executions.create_execution(request).await;
        refused.expect_err("it is refused")
    };
    let nothing = refused(CreateExecutionRequest {
        failed_only: true,
        ..tree()
    })
    .await;
    assert_eq!(nothing.code(), Code::InvalidArgument);
    assert!(nothing.message().contains("failed_only"), "{nothing}");
    let missing = refused(again("tree-1")).await;
    assert_eq!(missing.code(), Code::NotFound);

    admin.create(tree()).await;
    let running = admin.executions.create_execution(again("tree-1")).await;
    let running = running.expect_err("it runs");
    assert_eq!(running.code(), Code::FailedPrecondition);
    assert!(running.message().contains("tree-1 still runs"), "{running}");
    let work = agent.work().await;
    end(&mut agent, &work, State::Passed).await;
    admin.finished("projects/default/executions/tree-1").await;
    let passed = admin.executions.create_execution(again("tree-1")).await;
    let passed = passed.expect_err("it passed");
    assert_eq!(passed.code(), Code::FailedPrecondition);
    let text = "nothing to run again: all of tree-1 passed";
    assert!(passed.message().contains(text), "{passed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn executions_are_found_by_the_tests_below_them() {
    let (_fixture, mut admin, _agent) = failed().await;
    let list = |test: &str, states: &[i32]| ListExecutionsRequest {
        parent: "projects/default".to_owned(),
        test: test.to_owned(),
        test_states: states.to_vec(),
        ..ListExecutionsRequest::default()
    };
    let failed = muster_proto::v1::test_case::State::Failed.into();
    let passed = muster_proto::v1::test_case::State::Passed.into();
    let mut found = async |request: ListExecutionsRequest| {
        let found = admin.executions.list_executions(request).await?;
        let found = found.into_inner().executions.into_iter();
        Ok::<_, tonic::Status>(found.map(|one| one.display_name).collect::<Vec<_>>())
    };
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(30);
    // The report is read in the background.
    while found(list("TEST_one", &[])).await.expect("a list") != ["tree-1"] {
        assert!(tokio::time::Instant::now() < deadline, "it is never found");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let none: [&str; 0] = [];
    assert_eq!(
        found(list("test_one", &[failed])).await.expect("a list"),
        ["tree-1"]
    );
    assert_eq!(
        found(list("test_one", &[passed])).await.expect("a list"),
        none
    );
    assert_eq!(found(list("test_two", &[])).await.expect("a list"), none);
    let nobody = "0".repeat(32);
    assert_eq!(found(list(&nobody, &[])).await.expect("a list"), none);
    let refused = found(list("", &[failed]))
        .await
        .expect_err("of which test?");
    assert_eq!(refused.code(), Code::InvalidArgument);
}

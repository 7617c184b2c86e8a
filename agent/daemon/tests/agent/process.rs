//! The process backend with the real runner: a plan is walked by a real conductor, and its log,
//! artifacts and result reach a scripted server.

use std::{collections::BTreeMap, path::Path};

use muster_agent::{
    Agent, Config,
    config::{Backend, Process, Token, Trust},
};
use muster_core::id::{AttemptId, ExecutionId};
use muster_proto::v1::{
    Assignment, CancelAttempt, attempt_report::Phase, execution::State,
    link_response::Message as Say, step_result,
};
use serde_json::{Value, json};

use crate::{TOKEN, server::Server};

/// The example `runner`, which cargo builds before the tests of this crate.
fn runner() -> String {
    let test = std::env::current_exe().expect("a program");
    let profile = test.parent().and_then(Path::parent).expect("target/debug");
    let runner = profile.join("examples/runner");
    assert!(runner.exists(), "no {}", runner.display());
    runner.to_string_lossy().into_owned()
}

fn shell(reference: &str, script: &str) -> Value {
    json!({
        "reference": reference, "id": null, "name": reference, "condition": "passed",
        "optional": false, "negative": false, "retry": null, "timeout": null,
        "after": false,
        "operations": [
            {"type": "run", "container": 0, "command": {"type": "shell", "script": script}, "env": [], "workingDir": null},
            {"type": "artifacts", "container": 0, "workingDir": null, "paths": ["/data/*.txt"], "compress": null},
        ],
    })
}

fn assignment(steps: &[Value]) -> Assignment {
    let plan = json!({
        "version": 1, "context": {}, "env": [],
        "containers": [{
            "name": "c1", "image": null, "imagePullPolicy": null, "needsImageConfig": false,
            "envFromCluster": [], "envFrom": [], "resources": {}, "securityContext": null,
            "volumeMounts": [],
        }],
        "pod": {"activeDeadlineSeconds": null, "jobLabels": {}, "jobAnnotations": {}, "namespace": null, "spec": {}},
        "steps": steps,
    });
    Assignment {
        attempt: AttemptId::generate().to_string(),
        epoch: 1,
        execution: ExecutionId::generate().to_string(),
        project: "default".to_owned(),
        display_name: "real-1".to_owned(),
        plan: plan.to_string().into(),
    }
}

async fn start(server: &Server, directory: &Path) -> Agent {
    let config = Config {
        servers: vec![server.url()],
        token: Token::new(TOKEN),
        trust: Trust::System,
        insecure: false,
        labels: BTreeMap::new(),
        capacity: 4,
        backend: Backend::Process(Process {
            directory: directory.to_owned(),
            runner: vec![runner()],
            embedded: true,
        }),
    };
    Agent::start(config).await.expect("the agent starts")
}

#[tokio::test]
async fn a_plan_is_run_and_all_of_it_comes_back() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut server = Server::start();
    let agent = start(&server, directory.path()).await;
    let mut link = server.welcome(Vec::new()).await;
    let work = assignment(&[
        shell("s1", "echo hello; echo data > /data/a.txt"),
        shell("s2", "exit 3"),
    ]);
    link.assign(work.clone()).await;
    let completed = link
        .report(|report| report.phase() == Phase::Completed)
        .await;
    let record = completed.completion.clone().expect("a record");
    assert_eq!(record.outcome(), State::Failed);
    let states: Vec<_> = completed
        .steps
        .iter()
        .map(|step| (step.state(), step.exit_code))
        .collect();
    assert_eq!(
        states,
        [
            (step_result::State::Passed, Some(0)),
            (step_result::State::Failed, Some(3)),
        ]
    );
    let log = server.store.log(&work.attempt);
    assert!(log.contains("hello\n"), "{log}");
    assert_eq!(i64::try_from(log.len()), Ok(record.log_size_bytes));
    let artifacts = server.store.artifacts.lock().expect("no panic").clone();
    assert!(
        artifacts.values().any(|content| content == b"data\n"),
        "{artifacts:?}"
    );
    link.acknowledge(&completed).await;
    link.credit(4).await;
    agent.stop().await.expect("no error");
}

#[tokio::test]
async fn an_embedded_agent_leaves_nothing_behind() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut server = Server::start();
    let agent = start(&server, directory.path()).await;
    let mut link = server.welcome(Vec::new()).await;
    let work = assignment(&[shell("s1", "sleep 600")]);
    link.assign(work.clone()).await;
    link.report(|report| report.phase() == Phase::Running).await;
    assert!(directory.path().join(&work.attempt).exists());
    agent.stop().await.expect("no error");
    let left: Vec<_> = std::fs::read_dir(directory.path())
        .expect("it is there")
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn a_cancel_is_carried_out_by_the_conductor() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut server = Server::start();
    let _agent = start(&server, directory.path()).await;
    let mut link = server.welcome(Vec::new()).await;
    let work = assignment(&[shell("s1", "sleep 600")]);
    link.assign(work.clone()).await;
    let running = link.report(|report| report.phase() == Phase::Running).await;
    link.acknowledge(&running).await;
    link.say(Say::Cancel(CancelAttempt {
        attempt: work.attempt,
        epoch: 1,
        outcome: State::Canceled.into(),
        ..CancelAttempt::default()
    }))
    .await;
    let completed = link
        .report(|report| report.phase() == Phase::Completed)
        .await;
    assert_eq!(
        completed.completion.map(|record| record.outcome()),
        Some(State::Canceled)
    );
}

//! The process backend with the real runner: a plan is walked by a real conductor, and its log,
//! artifacts and result reach a scripted server.

use std::{collections::BTreeMap, path::Path};

use muster_agent::{
    Agent, Config,
    config::{Backend, Process, Token, Trust},
};
use muster_core::id::{AttemptId, ExecutionId};
use muster_proto::v1::{
    Assignment, AttemptRef, CancelAttempt, LeasesRenewed, attempt_report::Phase, execution::State,
    link_response::Message as Say, step_result,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::{TOKEN, eventually, server::Server};

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
        stop_after: None,
        max_log_bytes: 0,
        direct_upload_from_bytes: 0,
    }
}

async fn start(server: &Server, directory: &Path) -> Agent {
    start_with(server, directory, vec![runner()]).await
}

async fn start_with(server: &Server, directory: &Path, runner: Vec<String>) -> Agent {
    let config = Config {
        servers: vec![server.url()],
        token: Token::new(TOKEN),
        trust: Trust::System,
        insecure: false,
        labels: BTreeMap::new(),
        capacity: 4,
        backend: Backend::Process(Process {
            directory: directory.to_owned(),
            runner,
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

#[tokio::test]
async fn a_killed_attempt_leaves_no_process_also_without_namespaces() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut server = Server::start();
    let plain = "runner=$1; shift; exec \"$runner\" \"$@\" --no-namespaces";
    let words = ["sh", "-c", plain, "sh"].map(str::to_owned);
    let words = words.into_iter().chain([runner()]).collect();
    let _agent = start_with(&server, directory.path(), words).await;
    let link = server.welcome(Vec::new()).await;
    // It heeds no signal but KILL, and is in a process group that is not its conductor's.
    let work = assignment(&[shell(
        "s1",
        "trap '' TERM; echo $$; while :; do sleep 0.1; done",
    )]);
    link.assign(work.clone()).await;
    let pid: i32 = eventually("the step runs", || {
        let log = server.store.log(&work.attempt);
        log.lines().find_map(|line| line.parse().ok())
    })
    .await;
    let stat = |pid: i32| std::fs::metadata(format!("/proc/{pid}")).ok();
    assert!(stat(pid).is_some());
    // A conductor that can not end its shims by itself any more.
    let conductor = directory.path().join(&work.attempt).join("conductor.json");
    let conductor = std::fs::read(conductor).expect("it is written down");
    let conductor: Value = serde_json::from_slice(&conductor).expect("it is JSON");
    let conductor = conductor["pid"]
        .as_i64()
        .and_then(|id| i32::try_from(id).ok());
    let conductor = conductor.and_then(Pid::from_raw).expect("an id");
    kill_process(conductor, Signal::STOP).expect("it runs");
    link.say(Say::Renewed(LeasesRenewed {
        sequence: 1,
        lost: vec![AttemptRef {
            attempt: work.attempt.clone(),
            epoch: 1,
        }],
    }))
    .await;
    eventually("the directory is gone", || {
        (!directory.path().join(&work.attempt).exists()).then_some(())
    })
    .await;
    assert!(stat(pid).is_none(), "the step outlived its attempt");
}

//! What is beyond its retention goes, rows before blobs, and nothing else does.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use muster_core::retention::Retention;
use muster_proto::v1::{
    AuditEvent, DeleteExecutionRequest, DownloadArtifactRequest, Execution, Hold,
    ListArtifactsRequest, ListAuditEventsRequest, ListExecutionEventsRequest,
    ListLargestExecutionsRequest, ListUsageRequest, PinExecutionRequest, PlanRetentionRequest,
    Project, ReadLogRequest, SweepOrphansRequest, UnpinExecutionRequest, UpdateProjectRequest,
    attempt_report::Phase,
    audit_event::{Kind, Outcome},
    read_log_response::Item,
};
use muster_server::Config;
use muster_storage::{Options, Store, retention::Part};
use tonic::{Code, Status};

use super::{
    agent::{Agent, sha256},
    fixture::{Clients, Fixture, run},
};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
const DAY: u64 = 24 * 3600;

/// Sweeps all the time, and keeps one execution of each workflow.
fn one(config: &mut Config) {
    config.retention = Retention {
        max_count: Some(1),
        ..Retention::default()
    };
    config.retention_interval = Duration::from_millis(200);
}

/// The time of this machine.
fn now() -> SystemTime {
    muster_core::clock::Clock::system().now().into()
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let late = tokio::time::timeout(PATIENCE, wait).await;
    late.unwrap_or_else(|_| panic!("not in time: {what}"));
}

/// An agent that leaves a log and an artifact of each run.
struct Runner(Agent);

impl Runner {
    async fn new(fixture: &Fixture) -> Self {
        let token = fixture.agent("east").await;
        Self(Agent::connect(fixture, &token, Vec::new()).await.0)
    }

    async fn run(&mut self, clients: &mut Clients) -> Execution {
        self.run_with(clients, b"a log\n").await
    }

    async fn run_with(&mut self, clients: &mut Clients, log: &[u8]) -> Execution {
        let made = clients.create(run()).await;
        let work = self.0.work().await;
        self.0.after(0);
        self.0.report(&work, Phase::Running).await;
        self.0.log(&work, 0, log).await.expect("it is taken");
        let data = b"an artifact";
        let file = self.0.artifact(&work, "out/a", data, sha256(data)).await;
        file.expect("it is taken");
        self.0.complete(&work, log).await;
        clients.finished(&made.name).await
    }
}

async fn is_gone(clients: &mut Clients, name: &str) -> bool {
    let request = muster_proto::v1::GetExecutionRequest {
        name: name.to_owned(),
    };
    let got = clients.executions.get_execution(request).await;
    got.is_err_and(|status| status.code() == Code::NotFound)
}

async fn delete(clients: &mut Clients, name: &str, force: bool) -> Result<i64, Status> {
    let request = DeleteExecutionRequest {
        name: name.to_owned(),
        force,
        ..DeleteExecutionRequest::default()
    };
    let deleted = clients.executions.delete_execution(request).await?;
    Ok(deleted.into_inner().executions)
}

async fn read(clients: &mut Clients, name: &str) -> Result<Vec<Item>, Status> {
    let request = ReadLogRequest {
        name: name.to_owned(),
        ..ReadLogRequest::default()
    };
    let mut stream = clients.logs.read_log(request).await?.into_inner();
    let mut items = Vec::new();
    while let Some(answer) = stream.message().await? {
        items.extend(answer.item);
    }
    Ok(items)
}

async fn set(clients: &mut Clients, path: &str, change: impl FnOnce(&mut Project)) {
    let mut project = Project {
        name: "projects/default".to_owned(),
        ..Project::default()
    };
    change(&mut project);
    let request = UpdateProjectRequest {
        project: Some(project),
        update_mask: Some(prost_types::FieldMask {
            paths: vec![path.to_owned()],
        }),
        ..UpdateProjectRequest::default()
    };
    let set = clients.projects.update_project(request).await;
    set.expect("it is set");
}

/// The database of a server that does not run.
async fn store(dir: &Path) -> Store {
    let url = format!("sqlite://{}", dir.join("muster.db").display());
    let store = Store::connect(&url, &Options::default()).await;
    store.expect("the database")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_beyond_its_retention_goes_with_its_files_and_nothing_else() {
    let fixture = Fixture::start_with(one).await;
    let mut clients = fixture.admin().await;
    let mut runner = Runner::new(&fixture).await;
    let pinned = runner.run(&mut clients).await;
    let pin = PinExecutionRequest {
        name: pinned.name.clone(),
        message: "to be looked at".to_owned(),
        ..PinExecutionRequest::default()
    };
    let pin = clients.executions.pin_execution(pin).await;
    let pin = pin.expect("it is pinned").into_inner().execution;
    let pin = pin.and_then(|it| it.pin).expect("it is told");
    assert_eq!((&*pin.creator, &*pin.message), ("admin", "to be looked at"));
    let mut old = Vec::new();
    for _ in 0..3 {
        old.push(runner.run(&mut clients).await);
    }
    let newest = runner.run(&mut clients).await;
    // One that runs while others are deleted.
    let running = clients.create(run()).await;
    let work = runner.0.work().await;
    runner.0.after(0);
    runner.0.report(&work, Phase::Running).await;
    for run in &old {
        until("an old one goes", async || {
            is_gone(&mut clients, &run.name).await
        })
        .await;
    }
    until("their files go", async || {
        fixture.dir.blobs().await.len() == 4
    })
    .await;
    for kept in [&pinned, &newest] {
        let items = read(&mut clients, &kept.name).await.expect("a log");
        let text = items.iter().filter_map(|item| match item {
            Item::Chunk(chunk) => Some(chunk.data.to_vec()),
            _ => None,
        });
        assert_eq!(text.flatten().collect::<Vec<u8>>(), b"a log\n");
    }
    runner.0.log(&work, 0, b"more").await.expect("it is taken");
    runner.0.complete(&work, b"more").await;
    let ended = clients.finished(&running.name).await;
    assert!(ended.log.expect("one").complete);
    let unpin = UnpinExecutionRequest {
        name: pinned.name.clone(),
        ..UnpinExecutionRequest::default()
    };
    let free = clients.executions.unpin_execution(unpin).await;
    free.expect("it is free");
    until("it goes too", async || {
        is_gone(&mut clients, &pinned.name).await
    })
    .await;

    let events = noted(&mut clients, "Retention/DeleteExecutions").await;
    let mut told = BTreeSet::new();
    for event in &events {
        let (ids, inputs) = (executions_of(event), &event.inputs);
        let ends = [ids.first().cloned(), ids.last().cloned()];
        let said = ["first", "last"].map(|name| inputs.get(name).cloned());
        assert_eq!(
            (ends, &*inputs["limits"]),
            (said, &*format!("count: {}", ids.len()))
        );
        assert_eq!(inputs["units"], ids.len().to_string());
        assert_eq!(inputs["log_bytes"], (6 * ids.len()).to_string());
        assert_eq!(inputs["artifact_bytes"], (11 * ids.len()).to_string());
        told.extend(ids);
    }
    let id = |run: &Execution| run.name.split('/').next_back().expect("an id").to_owned();
    for gone in old.iter().chain([&pinned]) {
        assert!(told.contains(&id(gone)), "{} is not explained", gone.name);
    }
    assert!(!told.contains(&id(&running)), "{events:?}");
}

/// What retention has noted, each time as itself.
async fn noted(clients: &mut Clients, action: &str) -> Vec<AuditEvent> {
    let request = ListAuditEventsRequest {
        parent: "projects/default".to_owned(),
        actor: "retention".to_owned(),
        action: action.to_owned(),
        page_size: 1000,
        ..ListAuditEventsRequest::default()
    };
    let listed = clients.audit.list_audit_events(request).await;
    let events = listed.expect("a list").into_inner().events;
    assert!(!events.is_empty(), "{action} is not noted");
    for event in &events {
        let actor = event.actor.as_ref().expect("an actor");
        assert_eq!((actor.kind(), &*actor.uid), (Kind::Server, ""));
        assert_eq!((&*event.action, event.outcome()), (action, Outcome::Done));
        assert_eq!(event.resource, "projects/default/workflows/smoke");
        assert_eq!(event.peer, "");
    }
    events
}

/// The executions that an event names, the oldest first.
fn executions_of(event: &AuditEvent) -> Vec<String> {
    let before: serde_json::Value = serde_json::from_str(&event.before_json).expect("JSON");
    let ids = before["executions"].as_array().expect("a list").iter();
    ids.map(|id| id.as_str().expect("text").to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_between_rows_and_blobs_leaves_nothing() {
    let fixture = Fixture::start_on_files().await;
    let mut clients = fixture.admin().await;
    let mut runner = Runner::new(&fixture).await;
    let mut runs = Vec::new();
    for _ in 0..3 {
        runs.push(runner.run(&mut clients).await);
    }
    assert_eq!(fixture.dir.blobs().await.len(), 6);
    drop(runner);
    let before = files_of(fixture.dir.path());
    let dir = fixture.dir.path().to_owned();
    let ids: Vec<_> = runs.iter().map(|run| run.uid.parse()).collect();
    // Rows gone, and its process too: of one with its blobs, of the other without.
    fixture.server.stop().await;
    let database = store(&dir).await;
    let project = database.projects().find("default").await.expect("it").id;
    for id in &ids[..2] {
        let id = id.clone().expect("an id");
        let retained = database.retained(project);
        let deleted = retained.delete(id, Part::All, false, None).await;
        deleted.expect("deleted");
    }
    let doomed = database.keeper().doomed_blobs(100).await.expect("keys");
    assert_eq!(doomed.len(), 4);
    database.close().await;
    assert_eq!(files_of(&dir), before, "rows go first");
    std::fs::remove_file(dir.join("blobs").join(&doomed[0])).expect("it was there");
    // One of them can not be deleted.
    let stuck = dir.join("blobs").join(&doomed[1]);
    std::fs::remove_file(&stuck).expect("it was there");
    std::fs::create_dir_all(stuck.join("x")).expect("a folder");
    let mut config = Config::new(dir.clone());
    config.listen.set_port(0);
    config.retention_interval = Duration::from_millis(200);
    let server = muster_server::Server::start(config, muster_core::clock::Clock::system(), None);
    let server = server.await.expect("it starts");
    until("the others go", async || files_of(&dir).len() == 2).await;
    server.stop().await;
    let database = store(&dir).await;
    until("they are forgotten", async || {
        database
            .keeper()
            .count_doomed_blobs()
            .await
            .expect("a number")
            == 1
    })
    .await;
    let later = jiff::Timestamp::UNIX_EPOCH;
    let keeper = database.keeper();
    keeper
        .put_off_blobs(&doomed[1..2], later)
        .await
        .expect("due again");
    database.close().await;
    std::fs::remove_dir_all(&stuck).expect("it was there");
    std::fs::write(&stuck, "bytes").expect("a file");
    let mut config = Config::new(dir.clone());
    config.listen.set_port(0);
    config.retention_interval = Duration::from_millis(200);
    let server = muster_server::Server::start(config, muster_core::clock::Clock::system(), None);
    let server = server.await.expect("it starts");
    until("the last one goes", async || files_of(&dir).len() == 2).await;
    let mut clients =
        Clients::connect(&format!("http://{}", server.address()), &fixture.admin).await;
    let deleted = delete(&mut clients, &runs[2].name, false).await;
    assert_eq!(deleted.expect("deleted"), 1);
    until("nothing is left", async || files_of(&dir).is_empty()).await;
    server.stop().await;
    let database = store(&dir).await;
    let left = database.keeper().count_doomed_blobs().await;
    assert_eq!(left.expect("a number"), 0);
}

/// All files below the blobs, but those that a server tries its store out with.
fn files_of(dir: &Path) -> Vec<PathBuf> {
    fn below(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.path() {
                path if path.is_dir() => below(&path, found),
                path => found.push(path),
            }
        }
    }
    let mut found = Vec::new();
    for folder in ["logs", "artifacts"] {
        below(&dir.join("blobs").join(folder), &mut found);
    }
    found.sort();
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleting_by_hand_refuses_what_runs_is_pinned_or_held_with_the_cure() {
    let fixture = Fixture::start().await;
    let mut clients = fixture.admin().await;
    let mut runner = Runner::new(&fixture).await;
    let run = runner.run(&mut clients).await;
    let queued = clients.create(super::fixture::run()).await;
    let refused = delete(&mut clients, &queued.name, true).await;
    let refused = refused.expect_err("it waits");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("cancel it"), "{refused}");
    let pin = PinExecutionRequest {
        name: run.name.clone(),
        ..PinExecutionRequest::default()
    };
    clients.executions.pin_execution(pin).await.expect("pinned");
    let refused = delete(&mut clients, &run.name, false).await;
    let refused = refused.expect_err("it is pinned");
    assert!(refused.message().contains("unpin"), "{refused}");
    let until_time = now() + Duration::from_secs(3600);
    set(&mut clients, "hold", |project| {
        project.hold = Some(Hold {
            until_time: Some(until_time.into()),
            message: "a lawsuit".to_owned(),
        });
    })
    .await;
    let refused = delete(&mut clients, &run.name, true).await;
    let refused = refused.expect_err("it is held");
    assert!(
        refused.message().contains("a lawsuit (by admin)"),
        "{refused}"
    );
    set(&mut clients, "hold", |_| {}).await;
    let request = DeleteExecutionRequest {
        name: run.name.clone(),
        request_id: uuid::Uuid::new_v4().to_string(),
        force: true,
    };
    let deleted = clients.executions.delete_execution(request.clone()).await;
    let deleted = deleted.expect("deleted").into_inner();
    assert_eq!(
        (
            deleted.executions,
            deleted.log_bytes,
            deleted.artifact_bytes
        ),
        (1, 6, 11)
    );
    let again = clients.executions.delete_execution(request).await;
    assert_eq!(again.expect("a repeat").into_inner().executions, 0);
    let unknown = delete(&mut clients, &run.name, true).await;
    assert_eq!(unknown.expect_err("it is gone").code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_and_artifacts_that_retention_took_are_told_so() {
    let fixture = Fixture::start_with(|config| {
        config.retention_interval = Duration::from_millis(200);
    })
    .await;
    let mut clients = fixture.admin().await;
    let mut runner = Runner::new(&fixture).await;
    let old = runner.run(&mut clients).await;
    let list = ListArtifactsRequest {
        parent: old.name.clone(),
        ..ListArtifactsRequest::default()
    };
    let listed = clients.artifacts.list_artifacts(list.clone()).await;
    let artifact = listed.expect("a list").into_inner().artifacts.remove(0);
    runner.run(&mut clients).await;
    set(&mut clients, "retention", |project| {
        project.retention = Some(muster_proto::v1::Retention {
            log_age_seconds: Some(1),
            artifact_age_seconds: Some(1),
            ..muster_proto::v1::Retention::default()
        });
    })
    .await;
    until("its files are deleted", async || {
        let found = clients.get(&old.name).await;
        found.logs_delete_time.is_some() && found.artifacts_delete_time.is_some()
    })
    .await;
    let error = read(&mut clients, &old.name)
        .await
        .expect_err("it is deleted");
    assert_eq!(error.code(), Code::NotFound);
    assert!(error.message().contains("deleted by retention"), "{error}");
    let listed = clients.artifacts.list_artifacts(list).await;
    assert_eq!(listed.expect("a list").into_inner().artifacts, []);
    let download = DownloadArtifactRequest {
        name: artifact.name,
        ..DownloadArtifactRequest::default()
    };
    let error = clients.artifacts.download_artifact(download).await;
    let error = error.map(drop).expect_err("it is deleted");
    assert!(error.message().contains("deleted by retention"), "{error}");
    let events = ListExecutionEventsRequest {
        parent: old.name.clone(),
        ..ListExecutionEventsRequest::default()
    };
    let events = clients.executions.list_execution_events(events).await;
    let events = events.expect("events").into_inner().events;
    let kinds: Vec<_> = events.iter().map(|event| &*event.r#type).collect();
    assert!(
        kinds.ends_with(&["LOGS_DELETED", "ARTIFACTS_DELETED"]),
        "{kinds:?}"
    );
    until("the files go", async || {
        fixture.dir.blobs().await.len() == 2
    })
    .await;
    let events = noted(&mut clients, "Retention/DeleteFiles").await;
    let first = events.last().expect("one at least");
    assert_eq!(executions_of(first).len(), 1);
    let said = ["files", "log_bytes", "artifact_bytes"].map(|name| &*first.inputs[name]);
    // They may have become old one after the other.
    let both = ["logs,artifacts: 1", "6", "11"];
    let logs = ["logs: 1", "6", "0"];
    assert!(said == both || said == logs, "{first:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_a_log_while_it_is_deleted_is_told_so_and_sees_no_gap() {
    let fixture = Fixture::start().await;
    let mut clients = fixture.admin().await;
    let mut runner = Runner::new(&fixture).await;
    // More than is on the way to a reader that does not read.
    let log: Vec<u8> = (0..251).cycle().take(48 << 20).collect();
    let run = runner.run_with(&mut clients, &log).await;
    // On a connection of its own, which does not hold up the others.
    let mut other = fixture.admin().await;
    let request = ReadLogRequest {
        name: run.name.clone(),
        ..ReadLogRequest::default()
    };
    let stream = other.logs.read_log(request).await;
    let mut stream = stream.expect("it is there").into_inner();
    let first = stream.message().await.expect("it is read");
    assert!(first.is_some());
    delete(&mut clients, &run.name, false)
        .await
        .expect("deleted");
    until("its files go", async || {
        fixture.dir.blobs().await.is_empty()
    })
    .await;
    let error = loop {
        match stream.message().await {
            Ok(Some(answer)) => {
                let item = answer.item.expect("something");
                assert!(matches!(item, Item::Chunk(_)), "neither a gap nor an end");
            }
            Ok(None) => panic!("the log ends as if it was whole"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.code(), Code::NotFound);
    assert!(error.message().contains("was deleted"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_says_what_would_go_and_changes_nothing() {
    let fixture = Fixture::start().await;
    let mut clients = fixture.admin().await;
    let mut runner = Runner::new(&fixture).await;
    for _ in 0..3 {
        runner.run(&mut clients).await;
    }
    let plan = |retention| PlanRetentionRequest {
        parent: "projects/default".to_owned(),
        retention,
        ..PlanRetentionRequest::default()
    };
    let nothing = clients.retention.plan_retention(plan(None)).await;
    let nothing = nothing.expect("a plan").into_inner();
    assert_eq!((nothing.deletions.len(), nothing.kept), (0, 1));
    let tried = muster_proto::v1::Retention {
        max_count: Some(1),
        ..muster_proto::v1::Retention::default()
    };
    let planned = clients.retention.plan_retention(plan(Some(tried))).await;
    let planned = planned.expect("a plan").into_inner();
    let told: Vec<_> = planned
        .deletions
        .iter()
        .map(|one| (&*one.execution, &*one.part, &*one.reason, one.log_bytes))
        .collect();
    assert_eq!(
        told,
        [
            ("smoke-2", "all", "count", 6),
            ("smoke-1", "all", "count", 6)
        ]
    );
    assert_eq!(
        (
            planned.executions,
            planned.log_bytes,
            planned.artifact_bytes
        ),
        (2, 12, 22)
    );
    assert_eq!(fixture.dir.blobs().await.len(), 6);
    let usage = ListUsageRequest {
        parent: "projects/default".to_owned(),
        ..ListUsageRequest::default()
    };
    let usage = clients.retention.list_usage(usage).await;
    let usage = usage.expect("sums").into_inner().workflows;
    assert_eq!((&*usage[0].name, usage[0].executions), ("smoke", 3));
    assert_eq!((usage[0].log_bytes, usage[0].artifact_bytes), (18, 33));
    let largest = ListLargestExecutionsRequest {
        parent: "projects/default".to_owned(),
        page_size: 1,
    };
    let largest = clients.retention.list_largest_executions(largest).await;
    let largest = largest.expect("a list").into_inner().executions;
    assert_eq!((&*largest[0].name, largest.len()), ("smoke-3", 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blobs_that_no_row_names_go_when_they_are_a_day_old() {
    let fixture = Fixture::start_on_files().await;
    let mut clients = fixture.admin().await;
    let mut runner = Runner::new(&fixture).await;
    runner.run(&mut clients).await;
    let blobs = fixture.dir.path().join("blobs");
    let orphan = |name: &str, age: u64| {
        let path = blobs.join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(&path, "12345").expect("a file");
        let file = std::fs::File::options().write(true).open(&path);
        let time = now() - Duration::from_secs(age);
        file.expect("it is there").set_modified(time).expect("set");
        path
    };
    // All files are two days old, also those that rows name.
    for path in files_of(fixture.dir.path()) {
        let file = std::fs::File::options().write(true).open(path);
        let time = now() - Duration::from_secs(2 * DAY);
        file.expect("it is there").set_modified(time).expect("set");
    }
    let id = uuid::Uuid::now_v7();
    let old = [
        orphan(&format!("logs/{id}/a"), 2 * DAY),
        orphan(&format!("artifacts/{id}/a"), 2 * DAY),
        orphan("check/a", 2 * DAY),
    ];
    let kept = [
        orphan(&format!("logs/{id}/young"), DAY - 60),
        orphan("logs/not-ours/a", 2 * DAY),
        orphan("elsewhere/a", 2 * DAY),
    ];
    let mut sweep = async |dry_run| {
        let request = SweepOrphansRequest {
            dry_run,
            ..SweepOrphansRequest::default()
        };
        let swept = clients.retention.sweep_orphans(request).await;
        swept.expect("it is swept").into_inner()
    };
    let planned = sweep(true).await;
    assert_eq!(
        (planned.orphans, planned.bytes, planned.keys.len()),
        (3, 15, 3)
    );
    assert!(old.iter().chain(&kept).all(|path| path.exists()));
    let swept = sweep(false).await;
    assert_eq!((swept.orphans, swept.truncated), (3, false));
    assert!(!old.iter().any(|path| path.exists()));
    assert!(kept.iter().all(|path| path.exists()));
    assert_eq!(sweep(false).await.orphans, 0);
    assert_eq!(fixture.dir.blobs().await.len(), 4, "what rows name stays");
    let request = ListAuditEventsRequest {
        action: "RetentionService/SweepOrphans".to_owned(),
        ..ListAuditEventsRequest::default()
    };
    let noted = clients.audit.list_audit_events(request).await;
    let noted = noted.expect("a list").into_inner().events;
    let mut about: Vec<_> = noted
        .iter()
        .map(|event| (&*event.resource, &*event.inputs["objects"]))
        .collect();
    about.sort_unstable();
    let expected = [
        ("blobs/artifacts", "1"),
        ("blobs/check", "1"),
        ("blobs/logs", "1"),
    ];
    assert_eq!(about, expected);
}

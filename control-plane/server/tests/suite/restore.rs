//! A server on a backup of its database that is older than what its agents know.

use std::collections::HashSet;

use muster_core::clock::Clock;
use muster_proto::v1::{
    Assignment, Execution, GetExecutionRequest, ListExecutionEventsRequest, ReadLogRequest,
    attempt_order::Action, attempt_report::Phase, execution::State, read_log_response::Item,
};
use sqlx::{Connection as _, Executor as _};
use tonic::Code;

use super::{
    agent::Agent,
    fixture::{Fixture, WORKFLOW, run, run_text},
    link::read_log,
};

/// Copies a database that is in use, as an operator does.
async fn back_up(database: &std::path::Path, to: &std::path::Path) {
    let url = format!("sqlite://{}", database.display());
    let mut db = sqlx::SqliteConnection::connect(&url).await.expect("SQLite");
    let copy = sqlx::AssertSqlSafe(format!("VACUUM INTO '{}'", to.display()));
    db.execute(copy).await.expect("a copy");
    db.close().await.expect("it closes");
}

/// An execution that runs on the agent.
async fn begin(fixture: &Fixture, agent: &mut Agent) -> (Execution, Assignment) {
    let policy = "  execution: {recovery: {interrupted: rerun, lostAgent: rerun}}\n";
    let made = fixture
        .admin()
        .await
        .create(run_text(&format!("{WORKFLOW}{policy}")))
        .await;
    let work = agent.work().await;
    agent.report(&work, Phase::Running).await;
    (made, work)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_backup_takes_up_what_it_knows_and_ends_what_it_does_not() {
    let fixture = Fixture::start_on_files().await;
    let token = fixture.agent("east").await;
    let session = uuid::Uuid::now_v7().to_string();
    let (mut agent, _) = Agent::connect_as(&fixture, &token, &session, Vec::new()).await;
    let (kept, keeping) = begin(&fixture, &mut agent).await;
    let (cut, cutting) = begin(&fixture, &mut agent).await;
    let (over, passing) = begin(&fixture, &mut agent).await;
    for work in [&keeping, &cutting] {
        let durable = agent.log(work, 0, b"one ").await;
        assert_eq!(durable.expect("it is stored"), 4);
    }
    let database = fixture.dir.path().join("muster.db");
    let backup = fixture.dir.path().join("backup.db");
    back_up(&database, &backup).await;

    // What the backup does not know of.
    let mut admin = fixture.admin().await;
    for work in [&keeping, &cutting] {
        let durable = agent.log(work, 4, b"two ").await;
        assert_eq!(durable.expect("it is stored"), 8);
        agent.report(work, Phase::Running).await;
    }
    agent.complete(&passing, b"").await;
    assert_eq!(admin.finished(&over.name).await.state(), State::Passed);
    let (later, unknown) = begin(&fixture, &mut agent).await;
    let told = 100;

    drop(admin);
    let fixture = fixture
        .restart_with(
            Clock::system(),
            |_| {},
            || {
                for beside in ["muster.db-wal", "muster.db-shm"] {
                    std::fs::remove_file(database.with_file_name(beside)).ok();
                }
                std::fs::rename(&backup, &database).expect("it is restored");
            },
        )
        .await;
    let mut admin = fixture.admin().await;
    let known = Agent::held(&[&keeping, &cutting, &unknown]);
    let (mut agent, welcome) = Agent::connect_as(&fixture, &token, &session, known).await;
    let order = |work: &Assignment| {
        let orders = welcome.orders.iter();
        let mut orders = orders.filter(|order| order.attempt == work.attempt);
        let order = orders.next().expect("an order");
        assert!(orders.next().is_none(), "one order");
        (order.action(), order.log_offset)
    };
    assert_eq!(order(&keeping), (Action::Adopt, 4));
    assert_eq!(order(&cutting), (Action::Adopt, 4));
    assert_eq!(order(&unknown), (Action::Kill, 0));
    // That has ended; its agent knows nothing of it any more, and says so.
    assert_eq!(order(&passing), (Action::Adopt, 0));
    agent.after(told);
    let mut report = agent.report_of(&passing, Phase::Lost);
    report.reason = "ATTEMPT_LOST".to_owned();
    agent.send_report(report).await;

    // By the policy of its workflow it runs again, as an attempt that never was.
    let again = agent.work().await;
    assert_eq!(again.execution, passing.execution);
    let ids = [&keeping, &cutting, &passing, &unknown, &again].map(|work| work.attempt.clone());
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
    agent.report(&again, Phase::Running).await;
    agent.complete(&again, b"").await;
    assert_eq!(admin.finished(&over.name).await.state(), State::Passed);

    // One still has all that it has printed, and sends again what the server has lost.
    let durable = agent.log(&keeping, 4, b"two three").await;
    assert_eq!(durable.expect("it is stored"), 13);
    agent.complete(&keeping, b"one two three").await;
    let done = admin.finished(&kept.name).await;
    assert_eq!((done.state(), done.attempts.len()), (State::Passed, 1));
    let (log, complete) = read_log(&mut admin, &kept.name, false).await;
    assert_eq!(
        (log.as_slice(), complete),
        (&b"one two three"[..], Some(true))
    );

    // The other one had dropped what was acknowledged: a gap that is shown, and no endless wait.
    let durable = agent.log_after(&cutting, 8, b"three").await;
    assert_eq!(durable.expect("it is stored"), 13);
    agent.complete(&cutting, b"one two three").await;
    let done = admin.finished(&cut.name).await;
    assert_eq!((done.state(), done.attempts.len()), (State::Passed, 1));
    assert!(!done.log.expect("a log").complete);
    let request = ReadLogRequest {
        name: cut.name.clone(),
        ..ReadLogRequest::default()
    };
    let read = admin.logs.read_log(request).await.expect("it is there");
    let (mut read, mut seen) = (read.into_inner(), Vec::new());
    while let Some(item) = read.message().await.expect("no error") {
        seen.push(match item.item.expect("something") {
            Item::Chunk(chunk) => String::from_utf8_lossy(&chunk.data).into_owned(),
            Item::Gap(gap) => format!("{} missing at {}", gap.size_bytes, gap.offset),
            Item::End(_) => "end".to_owned(),
            other => panic!("nobody has asked for it: {other:?}"),
        });
    }
    assert_eq!(seen, ["one ", "4 missing at 4", "three", "end"]);
    let request = ListExecutionEventsRequest {
        parent: cut.name.clone(),
        ..ListExecutionEventsRequest::default()
    };
    let events = admin.executions.list_execution_events(request).await;
    let events = events.expect("a history").into_inner().events;
    let gaps = events.iter().filter(|event| event.r#type == "LOG_GAP");
    assert_eq!(gaps.count(), 1, "{events:?}");

    // What the backup does not know is not there, and its id is not given again.
    let request = GetExecutionRequest {
        name: later.name.clone(),
    };
    let gone = admin.executions.get_execution(request).await;
    assert_eq!(gone.expect_err("it is lost").code(), Code::NotFound);
    let next = admin.create(run()).await;
    assert_ne!(next.uid, later.uid);
    let work = agent.work().await;
    assert_eq!(work.execution, next.uid);
    assert!(!ids.contains(&work.attempt));
    fixture.server.stop().await;
}

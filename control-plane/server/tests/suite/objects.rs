//! An object store that is slow, away or answers errors: each run waits for its own log, and for nobody else's. Runs
//! where `MUSTER_TEST_S3` is a URL for `Blobs`, with `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`;
//! with `MUSTER_TEST_REQUIRE_SERVERS=1` it fails where that is not set.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use muster_proto::v1::{
    Assignment, DownloadArtifactRequest, ExplainExecutionRequest, LogChunk, RenewLeases,
    StreamLogRequest, StreamLogResponse, UploadArtifactResponse, attempt_report::Phase,
    execution::State, link_request::Message, link_response,
};
use muster_tests::{
    given::object_store_behind_a_wire,
    proxy::{Proxy, Wire},
};
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};

use super::{
    agent::{Agent, running, sha256},
    fixture::{Clients, Fixture, run},
    home::options,
    link::read_log,
};

/// More attempts than one stream has reports on their way into the database.
const MANY: u32 = 80;
const LEASE: Duration = Duration::from_secs(8);
/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server whose blobs are in an object store behind a wire.
async fn behind_a_wire() -> Option<(Proxy, Fixture)> {
    let given = object_store_behind_a_wire().await;
    let (proxy, url) = given.expect("it is given where it is required")?;
    let fixture = Fixture::start_with(|config| {
        config.blobs = Some(url);
        config.blob_options = options();
        config.lease_duration = LEASE;
        config.renew_interval = LEASE / 2;
        // Whose lease ends loses it at once.
        config.recovery.lost_agent_after_ms = Some(0);
    })
    .await;
    Some((proxy, fixture))
}

/// A log that stays open for more.
struct OpenLog {
    first: StreamLogRequest,
    sender: mpsc::Sender<StreamLogRequest>,
    answers: Streaming<StreamLogResponse>,
    sent: usize,
}

impl OpenLog {
    async fn open(agent: &mut Agent, work: &Assignment, from: usize) -> Self {
        let first = StreamLogRequest {
            attempt: work.attempt.clone(),
            epoch: work.epoch,
            ..StreamLogRequest::default()
        };
        let (sender, receiver) = mpsc::channel(64);
        sender.send(first.clone()).await.expect("there is space");
        let opened = agent.clients.link.stream_log(ReceiverStream::new(receiver));
        let mut log = Self {
            first,
            sender,
            answers: opened.await.expect("it is taken").into_inner(),
            sent: from,
        };
        assert_eq!(log.durable().await, i64::try_from(from).ok());
        log
    }

    async fn send(&mut self, data: &[u8]) {
        let chunk = LogChunk {
            offset: i64::try_from(self.sent).expect("short"),
            data: data.to_vec().into(),
            step: "s1".to_owned(),
            ..LogChunk::default()
        };
        self.sent += data.len();
        let message = StreamLogRequest {
            chunks: vec![chunk],
            ..self.first.clone()
        };
        self.sender.send(message).await.expect("there is space");
    }

    /// The next word on what is durable; none when the server gave up.
    async fn durable(&mut self) -> Option<i64> {
        let answer = tokio::time::timeout(PATIENCE, self.answers.message()).await;
        match answer.expect("it answers in time") {
            Ok(answer) => answer.map(|answer| answer.durable_offset),
            Err(status) => {
                assert_eq!(status.code(), Code::Unavailable, "{status:?}");
                None
            }
        }
    }
}

/// Renews leases and waits until they are renewed, whatever else is said meanwhile.
async fn renew(agent: &mut Agent, works: &[&Assignment]) {
    static SEQUENCE: AtomicI64 = AtomicI64::new(1);
    let sequence = SEQUENCE.fetch_add(1, Ordering::Relaxed);
    let renewal = RenewLeases {
        sequence,
        attempts: Agent::held(works),
    };
    agent.say(Message::Renew(renewal)).await;
    loop {
        match agent.hear().await {
            link_response::Message::Renewed(renewed) if renewed.sequence == sequence => {
                assert_eq!(renewed.lost, Vec::new());
                return;
            }
            link_response::Message::Refusal(refusal) => panic!("{refusal:?}"),
            _ => {}
        }
    }
}

fn name(work: &Assignment) -> String {
    format!("projects/default/executions/{}", work.execution)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_does_not_answer_holds_up_nobody_but_those_whose_log_waits_for_it() {
    let Some((proxy, fixture)) = behind_a_wire().await else {
        return;
    };
    let mut admin = fixture.admin().await;
    let token = fixture.agent("east").await;
    let (mut agent, _) = Agent::connect_with(&fixture, &token, MANY + 1).await;
    // Many whose ends will wait for the store, and one that has nothing to wait for.
    let (mut works, mut logs) = (Vec::new(), Vec::new());
    for _ in 0..=MANY {
        admin.create(run()).await;
        works.push(agent.work().await);
        renew(&mut agent, &works.iter().collect::<Vec<_>>()).await;
    }
    for work in &works[1..] {
        agent.report(work, Phase::Running).await;
        logs.push(OpenLog::open(&mut agent, work, 0).await);
        renew(&mut agent, &works.iter().collect::<Vec<_>>()).await;
    }
    let all: Vec<&Assignment> = works.iter().collect();
    proxy.set(Wire::Silent);
    for log in &mut logs {
        log.send(b"the end").await;
        renew(&mut agent, &all).await;
    }
    // The server has them all, and each is on its way to the store: what ends an attempt is told on
    // another stream, which may be ahead of that of its log.
    while proxy.held() < u64::from(MANY) {
        renew(&mut agent, &all).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for work in &works[1..] {
        let report = agent.completed(work, b"the end");
        agent.say(Message::Report(report)).await;
        renew(&mut agent, &all).await;
    }
    // Longer than a lease: only renewals that are heard keep it.
    let lease = Instant::now() + LEASE + LEASE / 4;
    while Instant::now() < lease {
        renew(&mut agent, &all).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    // Another run goes its whole way meanwhile.
    agent.report(&works[0], Phase::Running).await;
    agent.complete(&works[0], b"").await;
    assert_eq!(
        admin.finished(&name(&works[0])).await.state(),
        State::Passed
    );
    let held = admin.get(&name(&works[1])).await;
    assert_eq!(held.state(), State::Running, "its log is not stored");
    renew(&mut agent, &all[1..]).await;

    proxy.set(Wire::Whole);
    for work in &works[1..] {
        let done = admin.finished(&name(work)).await;
        assert_eq!((done.state(), done.attempts.len()), (State::Passed, 1));
        let (log, complete) = read_log(&mut admin, &name(work), false).await;
        assert_eq!((log.as_slice(), complete), (&b"the end"[..], Some(true)));
    }
    fixture.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_store_is_away_logs_wait_where_they_are_and_come_whole_after() {
    let Some((proxy, fixture)) = behind_a_wire().await else {
        return;
    };
    let (mut admin, mut agent, made, work) = running(&fixture).await;
    let text: Vec<u8> = (0..2_000_000_u32).map(|n| (n % 241) as u8).collect();
    let before = agent.log(&work, 0, &text[..700_000]).await;
    assert_eq!(before.expect("it is stored"), 700_000);

    proxy.set(Wire::Cut);
    let mut log = OpenLog::open(&mut agent, &work, 700_000).await;
    for data in text[700_000..1_200_000].chunks(50_000) {
        log.send(data).await;
    }
    let refused = loop {
        // Leases and reports do not wait.
        tokio::select! {
            durable = log.durable() => break durable,
            () = async {
                renew(&mut agent, &[&work]).await;
                tokio::time::sleep(Duration::from_millis(500)).await;
            } => {}
        }
    };
    assert_eq!(refused, None, "what is not stored is not acknowledged");
    agent.report(&work, Phase::Finishing).await;
    assert_eq!(admin.get(&made.name).await.state(), State::Finishing);
    let second = admin.create(run()).await;
    let short = agent.work().await;
    agent.report(&short, Phase::Running).await;
    agent.complete(&short, b"").await;
    assert_eq!(admin.finished(&second.name).await.state(), State::Passed);

    proxy.set(Wire::Whole);
    let after = agent.log(&work, 700_000, &text[700_000..]).await;
    assert_eq!(after.expect("it is stored"), 2_000_000);
    agent.complete(&work, &text).await;
    let done = admin.finished(&made.name).await;
    assert_eq!((done.state(), done.attempts.len()), (State::Passed, 1));
    let (log, complete) = read_log(&mut admin, &made.name, false).await;
    assert_eq!((sha256(&log), complete), (sha256(&text), Some(true)));
    fixture.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_store_makes_logs_late_and_neither_short_nor_leases_lost() {
    let Some((proxy, fixture)) = behind_a_wire().await else {
        return;
    };
    let mut admin = fixture.admin().await;
    let token = fixture.agent("east").await;
    let (mut agent, _) = Agent::connect(&fixture, &token, Vec::new()).await;
    let mut runs = Vec::new();
    for _ in 0..4 {
        let made = admin.create(run()).await;
        let work = agent.work().await;
        agent.report(&work, Phase::Running).await;
        runs.push((made, work));
    }
    proxy.set(Wire::Slow(Duration::from_secs(1)));
    let text: Vec<u8> = (0..600_000_u32).map(|n| (n % 239) as u8).collect();
    let logs = runs.iter().map(|(_, work)| {
        let (mut clients, work, text) = (agent.clients.clone(), work.clone(), text.clone());
        tokio::spawn(async move { clients.send_log(&work, 0, &text, 0).await })
    });
    let logs: Vec<_> = logs.collect();
    let begun = Instant::now();
    let works: Vec<&Assignment> = runs.iter().map(|(_, work)| work).collect();
    while logs.iter().any(|log| !log.is_finished()) || begun.elapsed() < LEASE {
        renew(&mut agent, &works).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    for log in logs {
        let durable = log.await.expect("no panic").expect("it is stored");
        assert_eq!(durable, 600_000);
    }
    proxy.set(Wire::Whole);
    for (made, work) in &runs {
        agent.complete(work, &text).await;
        let done = admin.finished(&made.name).await;
        assert_eq!((done.state(), done.attempts.len()), (State::Passed, 1));
        assert!(done.log.expect("a log").complete);
    }
    fixture.server.stop().await;
}

/// Stores an artifact, however often that takes.
async fn store(
    agent: &mut Agent,
    work: &Assignment,
    path: &str,
    data: &[u8],
) -> UploadArtifactResponse {
    let begun = Instant::now();
    loop {
        match agent.artifact(work, path, data, sha256(data)).await {
            Ok(stored) => return stored,
            Err(refused) => assert!(begun.elapsed() < PATIENCE, "{refused:?}"),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn download(clients: &mut Clients, name: &str) -> Vec<u8> {
    let request = DownloadArtifactRequest {
        name: name.to_owned(),
        ..DownloadArtifactRequest::default()
    };
    let stream = clients.artifacts.download_artifact(request).await;
    let mut stream = stream.expect("it is there").into_inner();
    let mut all = Vec::new();
    while let Some(piece) = stream.message().await.expect("it is whole") {
        all.extend_from_slice(&piece.data);
    }
    all
}

/// The codes of what holds an execution up.
async fn hindrances(clients: &mut Clients, name: &str) -> Vec<String> {
    let request = ExplainExecutionRequest {
        name: name.to_owned(),
    };
    let explained = clients.executions.explain_execution(request).await;
    let told = explained.expect("it is explained").into_inner().hindrances;
    told.into_iter().map(|told| told.reason).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_answers_errors_is_told_and_all_comes_whole_after() {
    let Some((proxy, fixture)) = behind_a_wire().await else {
        return;
    };
    let mut admin = fixture.admin().await;
    let token = fixture.agent("east").await;
    let (mut agent, _) = Agent::connect(&fixture, &token, Vec::new()).await;
    // More than one part of a multipart upload.
    let file: Vec<u8> = (0..6_000_000_u32).map(|n| (n % 251) as u8).collect();
    for (status, reason, words) in [
        (503, "OBJECT_STORE_AWAY", "can not reach its object store"),
        (500, "OBJECT_STORE_AWAY", "can not reach its object store"),
        (403, "OBJECT_STORE_REFUSES", "the object store refuses"),
    ] {
        let made = admin.create(run()).await;
        let work = agent.work().await;
        agent.report(&work, Phase::Running).await;
        assert_eq!(hindrances(&mut admin, &made.name).await, [""; 0]);
        let text: Vec<u8> = (0..900_000_u32).map(|n| (n % 241) as u8).collect();
        let before = agent.log(&work, 0, &text[..300_000]).await;
        assert_eq!(before.expect("it is stored"), 300_000);

        let answers = proxy.answers();
        proxy.set(Wire::Answer(status));
        let mut log = OpenLog::open(&mut agent, &work, 300_000).await;
        for data in text[300_000..600_000].chunks(50_000) {
            log.send(data).await;
        }
        assert_eq!(log.durable().await, None, "{status}: it is not stored");
        for (path, data) in [("small", &file[..1000]), ("large", &file)] {
            let refused = agent.artifact(&work, path, data, sha256(data)).await;
            let refused = refused.expect_err("it is not stored");
            assert_eq!(refused.code(), Code::Unavailable, "{status}: {refused:?}");
            assert!(refused.message().contains(words), "{status}: {refused:?}");
            let details = String::from_utf8_lossy(refused.details()).into_owned();
            assert!(details.contains(reason), "{status}: {details}");
            renew(&mut agent, &[&work]).await;
        }
        agent.report(&work, Phase::Finishing).await;
        let found = admin.get(&made.name).await;
        assert_eq!(found.state(), State::Finishing, "{status}");
        let told = hindrances(&mut admin, &made.name).await;
        assert_eq!(told, [reason], "{status}");
        assert!(proxy.answers() > answers, "{status}: nobody asked");

        proxy.set(Wire::Whole);
        for (path, data) in [("small", &file[..1000]), ("large", &file)] {
            let stored = store(&mut agent, &work, path, data).await;
            assert!(download(&mut admin, &stored.name).await == data, "{status}");
        }
        let after = agent.log(&work, 300_000, &text[300_000..]).await;
        assert_eq!(after.expect("it is stored"), 900_000);
        assert_eq!(hindrances(&mut admin, &made.name).await, [""; 0]);
        agent.complete(&work, &text).await;
        let done = admin.finished(&made.name).await;
        assert_eq!((done.state(), done.attempts.len()), (State::Passed, 1));
        let (log, complete) = read_log(&mut admin, &made.name, false).await;
        assert_eq!((sha256(&log), complete), (sha256(&text), Some(true)));
    }
    fixture.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_while_a_large_file_is_written_loses_nothing_of_it() {
    let Some((proxy, fixture)) = behind_a_wire().await else {
        return;
    };
    let (mut admin, mut agent, _, work) = running(&fixture).await;
    let file: Vec<u8> = (0..30_000_000_u32).map(|n| (n % 251) as u8).collect();
    let failing = async {
        // Parts are on their way; what answers errors for less than the tries last is not seen at all.
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            proxy.set(Wire::Answer(503));
            tokio::time::sleep(Duration::from_millis(300)).await;
            proxy.set(Wire::Whole);
        }
    };
    let sending = store(&mut agent, &work, "large", &file);
    let (stored, ()) = tokio::join!(sending, failing);
    assert!(download(&mut admin, &stored.name).await == file);
    fixture.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_store_makes_artifacts_late_and_they_are_whole() {
    let Some((proxy, fixture)) = behind_a_wire().await else {
        return;
    };
    let (mut admin, mut agent, _, work) = running(&fixture).await;
    let file: Vec<u8> = (0..6_000_000_u32).map(|n| (n % 251) as u8).collect();
    // A piece of the wire at a time: some hundred of them for the file, each way.
    proxy.set(Wire::Slow(Duration::from_millis(40)));
    let begun = Instant::now();
    let stored = agent.artifact(&work, "large", &file, sha256(&file)).await;
    let stored = stored.expect("it is late, and stored");
    let uploaded = begun.elapsed();
    assert!(uploaded > Duration::from_secs(1), "{uploaded:?}");
    let begun = Instant::now();
    assert!(download(&mut admin, &stored.name).await == file);
    let downloaded = begun.elapsed();
    assert!(downloaded > Duration::from_secs(1), "{downloaded:?}");
    fixture.server.stop().await;
}

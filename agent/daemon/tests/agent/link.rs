//! The agent between a scripted server and a played conductor: real gRPC, a real socket, a real
//! process in the conductor's place.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use muster_agent::{
    Agent, Config, Error,
    config::{Backend, Process, Token, Trust},
};
use muster_core::id::{AttemptId, ExecutionId};
use muster_proto::{
    runner::v1::{ConductorHello, agent_message::Message as Heard, conductor_hello::Purpose},
    v1::{
        Assignment, AttemptOrder, AttemptRef, AttemptReport, CancelAttempt, LeasesRenewed, Refusal,
        attempt_order::Action, attempt_report::Phase, execution::State,
        link_request::Message as Told, link_response::Message as Say, refusal::Reason,
    },
};
use tokio::time::timeout;
use tonic::Status;

use crate::{
    TOKEN,
    conductor::{Connection, Given, hello},
    eventually,
    server::{PATIENCE, Server, Store},
};

/// Stands in the conductor's place: tells the test what it got, and stays. It keeps its command line,
/// by which an agent finds a conductor that another process has started and not yet written down.
pub(crate) const STANDIN: &str = r#"
printf '%s\n' "$MUSTER_AGENT_SOCKET" "$MUSTER_ATTEMPT_TOKEN" "$$" > given.draft
mv given.draft given
sleep 600 &
wait
"#;

pub(crate) fn config(server: &Server, runs: &Path, script: &str) -> Config {
    let words = ["sh", "-c", script, "runner"];
    Config {
        servers: vec![server.url()],
        token: Token::new(TOKEN),
        trust: Trust::System,
        insecure: false,
        labels: BTreeMap::from([("zone".to_owned(), "z".to_owned())]),
        capacity: 2,
        backend: Backend::Process(Process {
            directory: runs.to_owned(),
            runner: words.map(str::to_owned).to_vec(),
            embedded: false,
        }),
    }
}

pub(crate) const PLAN: &str = r#"{"version":1,"context":{},"env":[],"containers":[],"pod":{"activeDeadlineSeconds":null,"jobLabels":{},"jobAnnotations":{},"namespace":null,"spec":{}},"steps":[]}"#;

pub(crate) fn assignment() -> Assignment {
    Assignment {
        attempt: AttemptId::generate().to_string(),
        epoch: 1,
        execution: ExecutionId::generate().to_string(),
        project: "default".to_owned(),
        display_name: "smoke-1".to_owned(),
        plan: PLAN.into(),
        stop_after: None,
        max_log_bytes: 0,
        direct_upload_from_bytes: 0,
    }
}

pub(crate) fn order(assignment: &Assignment, action: Action) -> AttemptOrder {
    AttemptOrder {
        attempt: assignment.attempt.clone(),
        epoch: assignment.epoch,
        action: action.into(),
        assignment: Some(assignment.clone()),
        ..AttemptOrder::default()
    }
}

pub(crate) fn runs(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')')
        .is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

pub(crate) struct Run {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) server: Server,
    pub(crate) agent: Agent,
}

/// A run whose agent is stopped.
pub(crate) struct Stopped {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) server: Server,
}

impl Stopped {
    /// Starts the agent again.
    pub(crate) async fn start(self, script: &str) -> Run {
        let runs = self.directory.path().join("runs");
        let agent = Agent::start(config(&self.server, &runs, script))
            .await
            .expect("the agent starts again");
        Run {
            directory: self.directory,
            server: self.server,
            agent,
        }
    }
}

impl Run {
    pub(crate) async fn start(script: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let server = Server::start();
        let agent = Agent::start(config(&server, &directory.path().join("runs"), script))
            .await
            .expect("the agent starts");
        Self {
            directory,
            server,
            agent,
        }
    }

    /// Another process of the same agent; the first one is not stopped by that.
    pub(crate) async fn another(&self, script: &str) -> Agent {
        let config = config(&self.server, &self.runs(), script);
        Agent::start(config).await.expect("the agent starts")
    }

    /// Stops the agent, which saves nothing by that.
    pub(crate) async fn stop(self) -> Stopped {
        self.agent.stop().await.expect("no error");
        Stopped {
            directory: self.directory,
            server: self.server,
        }
    }

    /// The error that the agent ends with by itself.
    pub(crate) async fn ended(&mut self) -> Error {
        timeout(PATIENCE, self.agent.ended())
            .await
            .expect("the agent ends in time")
            .expect_err("it ends for a reason")
    }

    pub(crate) fn runs(&self) -> PathBuf {
        self.directory.path().join("runs")
    }

    pub(crate) async fn given(&self, assignment: &Assignment) -> Given {
        Given::read(&self.runs(), &assignment.attempt).await
    }

    /// Waits until the journal says that nothing is left of an attempt.
    pub(crate) async fn forgotten(&self, assignment: &Assignment) {
        let journal = self.runs().join("agent.journal");
        eventually("the attempt is forgotten", || {
            let text = std::fs::read_to_string(&journal).ok()?;
            let last = text
                .lines()
                .rfind(|line| line.contains(&assignment.attempt));
            last.is_none_or(|line| line.contains("forgotten"))
                .then_some(())
        })
        .await;
    }

    /// Whether a conductor was started for an attempt.
    pub(crate) fn has_given(&self, assignment: &Assignment) -> bool {
        self.runs().join(&assignment.attempt).join("given").exists()
    }

    pub(crate) fn has_directory(&self, assignment: &Assignment) -> bool {
        self.runs().join(&assignment.attempt).exists()
    }
}

#[tokio::test]
async fn an_assignment_runs_to_its_committed_record() {
    let mut run = Run::start(STANDIN).await;
    let mut link = run.server.welcome(Vec::new()).await;
    assert_eq!(link.authorization, format!("Bearer {TOKEN}"));
    assert_eq!(
        (link.hello.capacity, link.hello.backend.as_str()),
        (2, "process")
    );
    link.credit(2).await;
    let work = assignment();
    link.assign(work.clone()).await;
    let preparing = link
        .report(|report| report.phase() == Phase::Preparing)
        .await;
    assert_eq!(preparing.sequence, 1);
    link.credit(1).await;

    let given = run.given(&work).await;
    let (mut control, welcome) = Connection::control(&given, &work.attempt, false).await;
    assert_eq!(welcome.plan, work.plan);
    control.progress(1).await;
    let running = link.report(|report| report.phase() == Phase::Running).await;
    link.acknowledge(&running).await;

    let text = "one\ntwo\nthree\n";
    control.log(0, "one\n").await;
    control.log(4, "two\n").await;
    control.log(8, "three\n").await;
    control.durable(text.len() as u64).await;
    control.completed(text).await;
    let completed = link
        .report(|report| report.phase() == Phase::Completed)
        .await;
    let record = completed.completion.clone().expect("a record");
    assert_eq!(record.outcome(), State::Passed);
    assert_eq!(record.log_size_bytes, 14);
    assert_eq!(record.log_sha256.len(), 64);
    assert_eq!(run.server.store.log(&work.attempt), text);

    link.acknowledge(&completed).await;
    control
        .hears(|heard| matches!(heard, Heard::CompletedAck(_)).then_some(()))
        .await;
    drop(control);
    link.credit(2).await;
    eventually("its directory is removed", || {
        (!run.has_directory(&work)).then_some(())
    })
    .await;
    assert!(!runs(given.pid));
    run.agent.stop().await.expect("no error");
}

#[tokio::test]
async fn a_killed_server_costs_no_byte_and_no_report() {
    let mut run = Run::start(STANDIN).await;
    let mut link = run.server.welcome(Vec::new()).await;
    let work = assignment();
    link.assign(work.clone()).await;
    let given = run.given(&work).await;
    let (mut control, _) = Connection::control(&given, &work.attempt, false).await;
    // The server will have taken more than it has stored.
    *run.server.store.durable_limit.lock().expect("no panic") = Some(4);
    control.progress(1).await;
    control.log(0, "one\n").await;
    control.log(4, "two\n").await;
    control.durable(4).await;
    let unacknowledged = link.report(|report| report.phase() == Phase::Running).await;
    let (address, store) = run.server.kill().await;
    drop(link);
    *store.durable_limit.lock().expect("no panic") = None;

    // What was taken and not stored is asked for again.
    while control.heard().await.is_some() {}
    let (mut control, welcome) = Connection::control(&given, &work.attempt, true).await;
    assert!(welcome.plan.is_empty());
    assert_eq!(welcome.log_offset, 4);
    control.log(4, "two\n").await;
    control.completed("one\ntwo\n").await;

    run.server = Server::start_at(address, store);
    let adopt = AttemptOrder {
        sequence: unacknowledged.sequence - 1,
        log_offset: 4,
        ..order(&work, Action::Adopt)
    };
    let mut link = run.server.welcome(vec![adopt]).await;
    let named = AttemptRef {
        attempt: work.attempt.clone(),
        epoch: 1,
    };
    assert_eq!(link.hello.attempts, [named]);
    let completed = link
        .report(|report| report.phase() == Phase::Completed)
        .await;
    assert!(completed.sequence > unacknowledged.sequence);
    assert_eq!(run.server.store.log(&work.attempt), "one\ntwo\n");
}

/// Brings a log the way that a conductor does which has dropped what is below `start`: it begins where
/// it is told to, as far as it can, and connects anew when the connection ends.
async fn bring(given: &Given, attempt: &str, text: &str, start: usize) -> Connection {
    let hello = ConductorHello {
        log_start: start as u64,
        log_end: text.len() as u64,
        ..hello(given, attempt, Purpose::Control, true)
    };
    loop {
        let (mut control, welcome) = Connection::greet(given, hello.clone()).await;
        let from = usize::try_from(welcome.log_offset).expect("short");
        let from = from.max(start);
        control.log(from as u64, &text[from..]).await;
        while let Some(heard) = control.heard().await {
            if matches!(heard, Heard::Acknowledge(ack) if ack.log_offset == text.len() as u64) {
                return control;
            }
        }
    }
}

#[tokio::test]
async fn a_server_that_has_lost_what_it_acknowledged_gets_it_again() {
    let mut run = Run::start(STANDIN).await;
    let mut link = run.server.welcome(Vec::new()).await;
    let work = assignment();
    link.assign(work.clone()).await;
    let given = run.given(&work).await;
    let (mut control, _) = Connection::control(&given, &work.attempt, false).await;
    control.progress(1).await;
    control.log(0, "one\n").await;
    control.log(4, "two\n").await;
    control.durable(8).await;
    let running = link.report(|report| report.phase() == Phase::Running).await;
    link.acknowledge(&running).await;
    let (address, store) = run.server.kill().await;
    drop(link);

    // Of its database an older copy was restored.
    let logs = |store: &Store, change: fn(&mut Vec<u8>)| {
        change(
            store
                .logs
                .lock()
                .expect("no panic")
                .entry(work.attempt.clone())
                .or_default(),
        );
    };
    logs(&store, |log| log.truncate(4));
    run.server = Server::start_at(address, store);
    let adopt = AttemptOrder {
        sequence: running.sequence - 1,
        log_offset: 4,
        ..order(&work, Action::Adopt)
    };
    let mut link = run.server.welcome(vec![adopt]).await;
    let again = link.report(|report| report.phase() == Phase::Running).await;
    assert_eq!(again.sequence, running.sequence);
    link.acknowledge(&again).await;
    drop(control);
    let text = "one\ntwo\nthree\n";
    let control = bring(&given, &work.attempt, text, 0).await;
    assert_eq!(run.server.store.log(&work.attempt), text);

    // Again, and now it has dropped what was acknowledged: the server hears from where it can go on.
    drop(control);
    let (address, store) = run.server.kill().await;
    drop(link);
    logs(&store, |log| log.truncate(4));
    run.server = Server::start_at(address, store);
    let adopt = AttemptOrder {
        sequence: running.sequence,
        log_offset: 4,
        ..order(&work, Action::Adopt)
    };
    let link = run.server.welcome(vec![adopt]).await;
    let text = "one\ntwo\nthree\nfour\n";
    let _control = bring(&given, &work.attempt, text, 8).await;
    assert_eq!(
        run.server.store.log(&work.attempt),
        "one\n????three\nfour\n"
    );
    drop(link);
}

#[tokio::test]
async fn a_report_that_nobody_acknowledges_is_told_again_on_the_same_stream() {
    let mut run = Run::start(STANDIN).await;
    let mut link = run.server.welcome(Vec::new()).await;
    let work = assignment();
    link.assign(work.clone()).await;
    let preparing = |report: &AttemptReport| report.phase() == Phase::Preparing;
    let told = link.report(preparing).await;
    // The server had no room to store it, but for the leases.
    let again = link.report(preparing).await;
    assert_eq!(again.sequence, told.sequence);
    link.acknowledge(&again).await;
    run.given(&work).await;
}

#[tokio::test]
async fn an_agent_that_starts_again_finds_its_attempts() {
    let mut run = Run::start(STANDIN).await;
    let link = run.server.welcome(Vec::new()).await;
    let work = assignment();
    link.assign(work.clone()).await;
    let given = run.given(&work).await;
    let (mut control, _) = Connection::control(&given, &work.attempt, false).await;
    control.log(0, "one\n").await;
    control.durable(4).await;
    run.agent.stop().await.expect("no error");
    drop(link);
    assert!(runs(given.pid), "the conductor outlives the agent");

    // With a new token, as an administrator may have given it one meanwhile.
    let settings = Config {
        token: Token::new(&format!("{TOKEN}-new")),
        ..config(&run.server, &run.directory.path().join("runs"), STANDIN)
    };
    let _agent = Agent::start(settings).await.expect("it starts again");
    // Before the server has spoken the plan is not known, which is no reason to give up.
    let mut early = Connection::open(
        &given,
        hello(&given, &work.attempt, Purpose::Control, false),
    )
    .await;
    assert!(matches!(early.heard().await, Some(Heard::Refused(refused)) if !refused.permanent));
    let adopt = AttemptOrder {
        sequence: 7,
        log_offset: 4,
        ..order(&work, Action::Adopt)
    };
    let mut link = run.server.welcome(vec![adopt]).await;
    assert_eq!(link.hello.attempts.len(), 1);
    let mut again = hello(&given, &work.attempt, Purpose::Control, true);
    again.log_start = 4;
    let (mut control, welcome) = Connection::greet(&given, again).await;
    assert_eq!(welcome.log_offset, 4);
    control.log(4, "two\n").await;
    control.completed("one\ntwo\n").await;
    let completed = link
        .report(|report| report.phase() == Phase::Completed)
        .await;
    assert!(completed.sequence > 7);
    assert_eq!(run.server.store.log(&work.attempt), "one\ntwo\n");
    link.acknowledge(&completed).await;
    eventually("the conductor is ended", || {
        (!runs(given.pid)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_lost_lease_ends_the_attempt_without_a_report() {
    let mut run = Run::start(STANDIN).await;
    let mut link = run.server.welcome(Vec::new()).await;
    let work = assignment();
    link.assign(work.clone()).await;
    let given = run.given(&work).await;
    let (mut control, _) = Connection::control(&given, &work.attempt, false).await;
    let lost = AttemptRef {
        attempt: work.attempt.clone(),
        epoch: 1,
    };
    link.say(Say::Renewed(LeasesRenewed {
        sequence: 0,
        lost: vec![lost],
    }))
    .await;
    let refused = control
        .hears(|heard| match heard {
            Heard::Refused(refused) => Some(refused.clone()),
            _ => None,
        })
        .await;
    assert!(refused.permanent);
    eventually("its directory is removed", || {
        (!run.has_directory(&work)).then_some(())
    })
    .await;
    assert!(!runs(given.pid));
    // The slot is free again, and nothing was said of a loss.
    loop {
        match link.told().await {
            Told::Credit(credit) if credit.slots == 2 => break,
            Told::Report(report) => assert_eq!(report.phase(), Phase::Preparing),
            _ => {}
        }
    }
}

#[tokio::test]
async fn orders_of_the_welcome_start_and_end_attempts() {
    let mut run = Run::start(STANDIN).await;
    let (lost, fresh) = (assignment(), assignment());
    let link = run.server.welcome(vec![order(&lost, Action::Adopt)]).await;
    let given = run.given(&lost).await;
    link.fail(Status::unavailable("again")).await;
    let orders = vec![order(&lost, Action::Kill), order(&fresh, Action::Adopt)];
    let _link = run.server.welcome(orders).await;
    run.given(&fresh).await;
    eventually("the killed one is ended", || {
        (!runs(given.pid)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_attempt_that_has_run_is_not_run_again() {
    let mut run = Run::start(STANDIN).await;
    let work = assignment();
    let adopt = AttemptOrder {
        sequence: 3,
        log_offset: 10,
        ..order(&work, Action::Adopt)
    };
    let mut link = run.server.welcome(vec![adopt]).await;
    let lost = link.report(|report| report.phase() == Phase::Lost).await;
    assert_eq!((lost.reason.as_str(), lost.sequence), ("POD_GONE", 4));
    assert!(!run.has_directory(&work));
}

#[tokio::test]
async fn a_cancel_reaches_the_conductor_also_when_it_comes_back() {
    let mut run = Run::start(STANDIN).await;
    let mut link = run.server.welcome(Vec::new()).await;
    let work = assignment();
    link.assign(work.clone()).await;
    let given = run.given(&work).await;
    let (mut control, _) = Connection::control(&given, &work.attempt, false).await;
    let cancel = CancelAttempt {
        attempt: work.attempt.clone(),
        epoch: 1,
        force: false,
        outcome: State::Canceled.into(),
        message: "enough".to_owned(),
    };
    link.say(Say::Cancel(cancel)).await;
    let heard = control
        .hears(|heard| match heard {
            Heard::Cancel(cancel) => Some(cancel.message.clone()),
            _ => None,
        })
        .await;
    assert_eq!(heard, "enough");
    drop(control);
    let (_control, welcome) = Connection::control(&given, &work.attempt, true).await;
    assert_eq!(
        welcome.cancel.map(|cancel| cancel.message),
        Some("enough".to_owned())
    );
    assert!(
        runs(given.pid),
        "an orderly cancel is the conductor's to carry out"
    );
    link.say(Say::Refusal(Refusal {
        attempt: work.attempt.clone(),
        epoch: 1,
        reason: Reason::LeaseLost.into(),
        message: String::new(),
    }))
    .await;
    eventually("it is ended", || (!runs(given.pid)).then_some(())).await;
    link.credit(2).await;
}

#[tokio::test]
async fn a_cancel_before_the_conductor_has_come_ends_it_at_once() {
    let mut run = Run::start(STANDIN).await;
    let mut link = run.server.welcome(Vec::new()).await;
    let work = assignment();
    link.assign(work.clone()).await;
    let given = run.given(&work).await;
    let cancel = CancelAttempt {
        attempt: work.attempt.clone(),
        epoch: 1,
        ..CancelAttempt::default()
    };
    link.say(Say::Cancel(cancel)).await;
    let lost = link.report(|report| report.phase() == Phase::Lost).await;
    assert_eq!(lost.reason, "CANCELED");
    eventually("it is ended", || (!runs(given.pid)).then_some(())).await;
}

#[tokio::test]
async fn a_conductor_that_dies_is_lost_with_its_last_words() {
    let mut run = Run::start("echo out of luck >&2; exit 3").await;
    let mut link = run.server.welcome(Vec::new()).await;
    link.assign(assignment()).await;
    let lost = link.report(|report| report.phase() == Phase::Lost).await;
    assert_eq!(lost.reason, "CONDUCTOR_EXITED");
    assert!(lost.message.contains("out of luck"), "{}", lost.message);
    assert!(lost.message.contains('3'), "{}", lost.message);
}

#[tokio::test]
async fn more_work_than_there_is_room_for_is_given_back() {
    let mut run = Run::start(STANDIN).await;
    let mut link = run.server.welcome(Vec::new()).await;
    for _ in 0..2 {
        link.assign(assignment()).await;
    }
    let third = assignment();
    link.assign(third.clone()).await;
    let declined = loop {
        if let Told::Decline(declined) = link.told().await {
            break declined;
        }
    };
    assert_eq!(declined.attempt, third.attempt);
    assert_eq!(declined.reason, "NO_CAPACITY");
}

#[tokio::test]
async fn strangers_are_refused() {
    let mut run = Run::start(STANDIN).await;
    let link = run.server.welcome(Vec::new()).await;
    let work = assignment();
    link.assign(work.clone()).await;
    let given = run.given(&work).await;
    let thief = Given {
        token: "x".repeat(43),
        ..given.clone()
    };
    let other = AttemptId::generate().to_string();
    for (given, attempt) in [(&thief, &work.attempt), (&given, &other)] {
        let mut connection =
            Connection::open(given, hello(given, attempt, Purpose::Control, false)).await;
        let heard = connection.heard().await;
        assert!(
            matches!(&heard, Some(Heard::Refused(refused)) if refused.permanent),
            "{heard:?}"
        );
        assert!(connection.heard().await.is_none());
    }
}

#[tokio::test]
async fn artifacts_are_relayed_whole_or_not_at_all() {
    let mut run = Run::start(STANDIN).await;
    let link = run.server.welcome(Vec::new()).await;
    let work = assignment();
    link.assign(work.clone()).await;
    let given = run.given(&work).await;
    let sent = Connection::artifact(&given, &work.attempt, "a/b.txt", &["one", "two"]).await;
    assert_eq!(sent.as_deref(), Some(""));
    let refused = Connection::artifact(&given, &work.attempt, "../b", &["x"]).await;
    assert_eq!(refused.as_deref(), Some("bad path"));
    let artifacts = run.server.store.artifacts.lock().expect("no panic").clone();
    assert_eq!(
        artifacts.get("a/b.txt").map(Vec::as_slice),
        Some(b"onetwo".as_slice())
    );
    assert_eq!(artifacts.len(), 1);
}

#[tokio::test]
async fn an_artifact_goes_on_where_the_server_has_kept_it_and_begins_again_where_it_has_not() {
    let mut run = Run::start(STANDIN).await;
    let link = run.server.welcome(Vec::new()).await;
    let work = assignment();
    link.assign(work.clone()).await;
    let given = run.given(&work).await;
    let kept = ("known".to_owned(), b"one".to_vec());
    run.server
        .store
        .kept
        .lock()
        .expect("no panic")
        .extend([kept]);
    let (size, answer) = Connection::again(&given, &work.attempt, "known", "onetwo").await;
    assert_eq!((size, answer.as_deref()), (3, Some("")));
    // As an older server answers.
    let (size, answer) = Connection::again(&given, &work.attempt, "other", "onetwo").await;
    assert_eq!((size, answer.as_deref()), (0, Some("")));
    let artifacts = run.server.store.artifacts.lock().expect("no panic").clone();
    for path in ["known", "other"] {
        let data = artifacts.get(path).map(Vec::as_slice);
        assert_eq!(data, Some(b"onetwo".as_slice()), "{path}");
    }
}

#[tokio::test]
async fn artifacts_go_around_the_agent_where_the_server_gives_a_way() {
    let mut run = Run::start(STANDIN).await;
    let link = run.server.welcome(Vec::new()).await;
    let work = assignment();
    link.assign(work.clone()).await;
    let given = run.given(&work).await;
    let (url, answer) = Connection::direct(&given, &work.attempt, "even", "data").await;
    assert_eq!(
        (url.as_str(), answer.as_deref()),
        ("http://store/key", Some(""))
    );
    let (url, answer) = Connection::direct(&given, &work.attempt, "odd", "odd").await;
    assert_eq!((url.as_str(), answer.as_deref()), ("", Some("")));
    let direct = run.server.store.direct.lock().expect("no panic").clone();
    assert_eq!(direct, ["even"]);
    let artifacts = run.server.store.artifacts.lock().expect("no panic").clone();
    let came: Vec<(&str, &[u8])> = artifacts
        .iter()
        .map(|(path, data)| (path.as_str(), data.as_slice()))
        .collect();
    assert_eq!(came, [("odd", b"odd".as_slice())]);
}

#[tokio::test]
async fn missing_files_are_relayed_and_noted_also_where_the_server_refuses() {
    let mut run = Run::start(STANDIN).await;
    let link = run.server.welcome(Vec::new()).await;
    let work = assignment();
    link.assign(work.clone()).await;
    let given = run.given(&work).await;
    assert!(Connection::missing(&given, &work.attempt, "a", "UNREADABLE").await);
    // A test does not wait for what never will be.
    assert!(Connection::missing(&given, &work.attempt, "../b", "BAD_NAME").await);
    let missed = run.server.store.missed.lock().expect("no panic").clone();
    assert_eq!(missed, [("a".to_owned(), "UNREADABLE".to_owned())]);
}

#[tokio::test]
async fn a_revoked_token_and_a_newer_process_stop_the_agent() {
    let mut run = Run::start(STANDIN).await;
    run.server
        .welcome(Vec::new())
        .await
        .fail(Status::unauthenticated("revoked"))
        .await;
    assert!(matches!(run.ended().await, Error::Unauthenticated { .. }));

    let mut run = Run::start(STANDIN).await;
    let link = run.server.welcome(Vec::new()).await;
    link.say(Say::Refusal(Refusal {
        reason: Reason::Superseded.into(),
        ..Refusal::default()
    }))
    .await;
    // The server hangs up right after: the agent must have heard why.
    drop(link);
    assert!(matches!(run.ended().await, Error::Superseded));
}

#[tokio::test]
async fn renewals_without_answers_make_the_agent_connect_again() {
    let mut run = Run::start(STANDIN).await;
    let silent = run.server.welcome(Vec::new()).await;
    // Nobody answers on this link; the agent hangs up and comes back.
    let again = run.server.link().await;
    assert_eq!(again.hello.session, silent.hello.session);
}

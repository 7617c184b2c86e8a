//! The agents' link: assignments, reports, logs, artifacts, fencing, reconciliation.

use muster_proto::v1::{
    Assignment, AttemptRef, CancelExecutionRequest, DownloadArtifactRequest, Execution,
    ListArtifactsRequest, ReadLogRequest, RotateAgentTokenRequest, attempt_order::Action,
    attempt_report::Phase, execution::State, link_request::Message, link_response,
    read_log_response::Item, refusal::Reason,
};
use tokio_stream::StreamExt as _;
use tonic::Code;

use super::{
    agent::{Agent, sha256},
    fixture::{Clients, Fixture, WORKFLOW, run, run_text},
};

/// Reads a log, which must have no gap: its bytes, and whether it is complete once it has ended.
pub(crate) async fn read_log(
    clients: &mut Clients,
    name: &str,
    follow: bool,
) -> (Vec<u8>, Option<bool>) {
    let request = ReadLogRequest {
        name: name.to_owned(),
        follow,
        ..ReadLogRequest::default()
    };
    let mut items = clients
        .logs
        .read_log(request)
        .await
        .expect("it is there")
        .into_inner();
    let (mut log, mut complete) = (Vec::new(), None);
    while let Some(item) = items.message().await.expect("no error") {
        match item.item.expect("something") {
            Item::Chunk(chunk) => {
                assert_eq!(chunk.offset, i64::try_from(log.len()).expect("short"));
                log.extend_from_slice(&chunk.data);
            }
            Item::Gap(gap) => panic!("a gap: {gap:?}"),
            Item::End(end) => complete = Some(end.complete),
            other => panic!("nobody has asked for it: {other:?}"),
        }
    }
    (log, complete)
}

#[tokio::test]
async fn a_run_passes_with_its_whole_log_and_its_artifacts() {
    let fixture = Fixture::start().await;
    let mut admin = fixture.admin().await;
    let token = fixture.agent("east").await;
    let (mut agent, welcome) = Agent::connect(&fixture, &token, Vec::new()).await;
    assert!(welcome.orders.is_empty());
    let made = admin.create(run()).await;
    let work = agent.work().await;
    assert_eq!(work.execution, made.uid);
    agent.report(&work, Phase::Running).await;
    assert_eq!(admin.get(&made.name).await.state(), State::Running);
    let follower = tokio::spawn({
        let (mut clients, name) = (admin.clone(), made.name.clone());
        async move { read_log(&mut clients, &name, true).await }
    });

    let log: Vec<u8> = (0..700_000_u32).map(|n| (n % 251) as u8).collect();
    let durable = agent.log(&work, 0, &log).await.expect("it takes the log");
    assert_eq!(usize::try_from(durable).expect("positive"), log.len());
    let file = vec![7; 300_000];
    agent
        .artifact(&work, "out/a.xml", &file, sha256(&file))
        .await
        .expect("it takes the file");
    let status = agent
        .artifact(&work, "../a", b"x", sha256(b"x"))
        .await
        .expect_err("it climbs");
    assert_eq!(status.code(), Code::InvalidArgument);
    let status = agent
        .artifact(&work, "b", b"x", sha256(b"y"))
        .await
        .expect_err("another hash");
    assert_eq!(status.code(), Code::InvalidArgument);
    agent.complete(&work, &log).await;

    let passed = admin.finished(&made.name).await;
    assert_eq!(passed.state(), State::Passed, "{}", passed.message);
    let summary = passed.log.expect("it has a log");
    assert!(summary.complete, "length and hash are compared");
    assert_eq!(summary.sha256, sha256(&log));
    assert_eq!(follower.await.expect("it ends"), (log.clone(), Some(true)));
    assert_eq!(
        read_log(&mut admin, &made.name, false).await,
        (log, Some(true))
    );

    let request = ListArtifactsRequest {
        parent: made.name.clone(),
        ..ListArtifactsRequest::default()
    };
    let listed = admin
        .artifacts
        .list_artifacts(request)
        .await
        .expect("a list")
        .into_inner();
    assert_eq!(
        listed.artifacts.len(),
        1,
        "an incomplete upload is not listed"
    );
    let artifact = &listed.artifacts[0];
    assert_eq!(
        (artifact.path.as_str(), &artifact.sha256),
        ("out/a.xml", &sha256(&file))
    );
    let request = DownloadArtifactRequest {
        name: artifact.name.clone(),
        offset: 1,
    };
    let other = admin.create(run()).await;
    let elsewhere = DownloadArtifactRequest {
        name: artifact.name.replace(&made.uid, &other.uid),
        ..request.clone()
    };
    let status = admin.artifacts.download_artifact(elsewhere).await;
    assert_eq!(
        status.map(drop).expect_err("elsewhere").code(),
        Code::NotFound
    );
    let mut pieces = admin
        .artifacts
        .download_artifact(request)
        .await
        .expect("bytes")
        .into_inner();
    let mut bytes = Vec::new();
    while let Some(piece) = pieces.message().await.expect("no error") {
        bytes.extend_from_slice(&piece.data);
    }
    assert_eq!(bytes, file[1..]);
}

#[tokio::test]
async fn a_log_that_is_short_of_what_the_conductor_told_is_not_complete() {
    let fixture = Fixture::start().await;
    let mut admin = fixture.admin().await;
    let token = fixture.agent("east").await;
    let (mut agent, _) = Agent::connect(&fixture, &token, Vec::new()).await;
    let made = admin.create(run()).await;
    let work = agent.work().await;
    agent
        .log(&work, 0, b"half")
        .await
        .expect("it takes the log");
    agent.complete(&work, b"half of it").await;
    let passed = admin.finished(&made.name).await;
    assert_eq!(passed.state(), State::Passed);
    assert!(!passed.log.expect("it has a log").complete);
    let request = ReadLogRequest {
        name: made.name,
        ..ReadLogRequest::default()
    };
    let items = admin.logs.read_log(request).await.expect("it is there");
    let items: Vec<_> = items.into_inner().collect().await;
    let items: Vec<_> = items
        .into_iter()
        .map(|item| item.expect("no error").item.expect("something"))
        .collect();
    let [Item::Chunk(chunk), Item::Gap(gap), Item::End(end)] = items.as_slice() else {
        panic!("a gap must be shown: {items:?}");
    };
    assert_eq!(&*chunk.data, b"half");
    assert_eq!((gap.offset, gap.size_bytes), (4, 6));
    assert_eq!((end.size_bytes, end.complete), (10, false));
}

#[tokio::test]
async fn the_log_of_an_earlier_attempt_can_still_be_read() {
    let fixture = Fixture::start().await;
    let mut admin = fixture.admin().await;
    let token = fixture.agent("east").await;
    let (mut agent, _) = Agent::connect(&fixture, &token, Vec::new()).await;
    let policy = "  execution: {recovery: {interrupted: rerun}}\n";
    let made = admin.create(run_text(&format!("{WORKFLOW}{policy}"))).await;
    let first = agent.work().await;
    agent.report(&first, Phase::Running).await;
    agent.log(&first, 0, b"first").await.expect("it takes it");
    let mut lost = agent.report_of(&first, Phase::Lost);
    lost.reason = "EVICTED".to_owned();
    agent.send_report(lost).await;
    let second = agent.work().await;
    assert_eq!(second.epoch, 2);
    agent.log(&second, 0, b"second").await.expect("it takes it");
    agent.complete(&second, b"second").await;
    admin.finished(&made.name).await;

    for (attempt, log, complete) in [
        (0, &b"second"[..], true),
        (1, b"first", false),
        (2, b"second", true),
    ] {
        let request = ReadLogRequest {
            name: made.name.clone(),
            follow: true,
            attempt,
            ..ReadLogRequest::default()
        };
        let items = admin.logs.read_log(request).await.expect("it is there");
        let items: Vec<_> = items.into_inner().collect().await;
        let items = items.into_iter().map(|item| item.expect("no error").item);
        let items: Vec<_> = items.collect();
        let [Some(Item::Chunk(chunk)), Some(Item::End(end))] = &items[..] else {
            panic!("attempt {attempt}: {items:?}");
        };
        assert_eq!((&*chunk.data, end.complete), (log, complete));
    }
    let request = ReadLogRequest {
        name: made.name,
        attempt: 3,
        ..ReadLogRequest::default()
    };
    let items = admin.logs.read_log(request).await.expect("a stream");
    let item = items.into_inner().next().await.expect("a word");
    assert_eq!(item.expect_err("no attempt").code(), Code::NotFound);
}

#[tokio::test]
async fn a_log_goes_on_at_the_durable_offset_and_neither_gap_nor_repeat_gets_in() {
    let fixture = Fixture::start().await;
    let mut admin = fixture.admin().await;
    let token = fixture.agent("east").await;
    let (mut agent, _) = Agent::connect(&fixture, &token, Vec::new()).await;
    let made = admin.create(run()).await;
    let work = agent.work().await;
    agent.report(&work, Phase::Running).await;
    let log: Vec<u8> = (0..10_000_u32).map(|n| (n % 251) as u8).collect();
    assert_eq!(
        agent
            .log(&work, 0, &log[..4000])
            .await
            .expect("it takes it"),
        4000
    );
    let status = agent
        .log(&work, 5000, &log[5000..])
        .await
        .expect_err("a gap");
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("4000"), "{}", status.message());

    let fixture = fixture.restart().await;
    let mut admin = {
        drop(admin);
        fixture.admin().await
    };
    let known = AttemptRef {
        attempt: work.attempt.clone(),
        epoch: work.epoch,
    };
    let (mut agent, welcome) = Agent::connect(&fixture, &token, vec![known]).await;
    assert_eq!(welcome.orders[0].action(), Action::Adopt);
    assert_eq!(welcome.orders[0].log_offset, 4000);
    assert_eq!(
        agent
            .log(&work, 2500, &log[2500..])
            .await
            .expect("it takes it"),
        10_000
    );
    let mut last = agent.report_of(&work, Phase::Running);
    last.sequence = welcome.orders[0].sequence;
    agent.send_report(last).await;
    agent.complete(&work, &log).await;
    let passed = admin.finished(&made.name).await;
    assert!(
        passed.log.expect("it has a log").complete,
        "the digest outlives the server"
    );
}

/// An agent with work, and another one that wants it.
struct Robbery {
    fixture: Fixture,
    admin: Clients,
    agent: Agent,
    thief: Agent,
    /// The token of the thief.
    token: String,
    made: Execution,
    work: Assignment,
}

impl Robbery {
    async fn begin() -> Self {
        let fixture = Fixture::start().await;
        let mut admin = fixture.admin().await;
        let (east, token) = (fixture.agent("east").await, fixture.agent("west").await);
        let (mut agent, _) = Agent::connect(&fixture, &east, Vec::new()).await;
        let (thief, _) = Agent::connect(&fixture, &token, Vec::new()).await;
        let made = admin.create(run()).await;
        let work = agent.work().await;
        Self {
            fixture,
            admin,
            agent,
            thief,
            token,
            made,
            work,
        }
    }
}

#[tokio::test]
async fn an_old_epoch_or_a_foreign_attempt_is_refused_and_changes_nothing() {
    let Robbery {
        mut admin,
        mut agent,
        mut thief,
        made,
        work,
        // It ends with its owner.
        fixture: _fixture,
        ..
    } = Box::pin(Robbery::begin()).await;
    let mut old = agent.report_of(&work, Phase::Running);
    old.epoch = 0;
    agent.say(Message::Report(old)).await;
    let link_response::Message::Refusal(refusal) = agent.hear().await else {
        panic!("it was not refused");
    };
    assert_eq!(refusal.reason(), Reason::LeaseLost);
    let foreign = thief.report_of(&work, Phase::Running);
    thief.say(Message::Report(foreign)).await;
    let link_response::Message::Refusal(refusal) = thief.hear().await else {
        panic!("it was not refused");
    };
    assert_eq!(refusal.reason(), Reason::LeaseLost);
    assert_eq!(
        thief.log(&work, 0, b"x").await.expect_err("foreign").code(),
        Code::NotFound
    );
    let status = thief
        .artifact(&work, "a", b"x", sha256(b"x"))
        .await
        .expect_err("foreign");
    assert_eq!(status.code(), Code::NotFound);
    assert_eq!(admin.get(&made.name).await.state(), State::Assigned);
}

#[tokio::test]
async fn an_agent_that_goes_on_with_attempts_of_others_loses_its_stream_and_disturbs_nobody() {
    let Robbery {
        fixture,
        mut admin,
        mut agent,
        mut thief,
        token,
        made,
        work,
    } = Box::pin(Robbery::begin()).await;
    let mut refused = 0;
    for _ in 0..100 {
        let mut foreign = thief.report_of(&work, Phase::Lost);
        // Sequences that jump help nobody.
        foreign.sequence = i64::MAX;
        thief.say(Message::Report(foreign)).await;
        match thief.try_hear().await {
            Some(link_response::Message::Refusal(_)) => refused += 1,
            other => panic!("it was not refused: {other:?}"),
        }
    }
    assert_eq!(refused, 100);
    assert!(thief.try_hear().await.is_none(), "its stream is closed");
    agent.report(&work, Phase::Running).await;
    agent.complete(&work, b"").await;
    assert_eq!(admin.finished(&made.name).await.state(), State::Passed);
    // It may come back, and is counted anew.
    let (_thief, _) = Agent::connect(&fixture, &token, Vec::new()).await;
}

#[tokio::test]
async fn a_repeated_result_is_acknowledged_again_and_another_attempt_is_told_to_stop() {
    let fixture = Fixture::start().await;
    let mut admin = fixture.admin().await;
    let token = fixture.agent("east").await;
    let (mut agent, _) = Agent::connect(&fixture, &token, Vec::new()).await;
    admin.create(run()).await;
    let work = agent.work().await;
    agent.complete(&work, b"").await;
    agent.complete(&work, b"").await;
    let known = |attempt: String| AttemptRef {
        attempt,
        epoch: work.epoch,
    };
    let stranger = uuid::Uuid::now_v7().to_string();
    let told = vec![known(work.attempt.clone()), known(stranger.clone())];
    let (_agent, welcome) = Agent::connect(&fixture, &token, told).await;
    let action = |attempt: &str| {
        let mut orders = welcome.orders.iter();
        orders
            .find(|order| order.attempt == attempt)
            .expect("an order for each")
            .action()
    };
    assert_eq!(action(&work.attempt), Action::Forget);
    assert_eq!(action(&stranger), Action::Kill);
}

#[tokio::test]
async fn a_newer_process_of_an_agent_takes_the_place_of_the_older_one() {
    let fixture = Fixture::start().await;
    let token = fixture.agent("east").await;
    let (mut older, _) = Agent::connect(&fixture, &token, Vec::new()).await;
    let (_newer, _) = Agent::connect(&fixture, &token, Vec::new()).await;
    let Some(link_response::Message::Refusal(refusal)) = older.try_hear().await else {
        panic!("it was not told");
    };
    assert_eq!(refusal.reason(), Reason::Superseded);
    assert!(older.try_hear().await.is_none(), "its stream ends");
}

#[tokio::test]
async fn a_process_whose_place_was_taken_pushes_nobody_out_when_it_comes_back() {
    let fixture = Fixture::start().await;
    let mut admin = fixture.admin().await;
    let token = fixture.agent("east").await;
    // Its id sorts behind that of the later one: a clock that is wrong decides nothing.
    let older = uuid::Uuid::max().to_string();
    let (first, _) = Agent::connect_as(&fixture, &token, &older, Vec::new()).await;
    let (mut newer, _) = Agent::connect(&fixture, &token, Vec::new()).await;
    drop(first);
    let refused = Agent::try_connect_as(&fixture, &token, &older).await;
    let Some(link_response::Message::Refusal(refusal)) = refused else {
        panic!("it was let in: {refused:?}");
    };
    assert_eq!(refusal.reason(), Reason::Superseded);
    let made = admin.create(run()).await;
    assert_eq!(newer.work().await.execution, made.uid, "it is still there");
}

#[tokio::test]
async fn an_agent_that_forgot_its_work_gets_it_again_with_the_cancel_under_way() {
    let fixture = Fixture::start().await;
    let mut admin = fixture.admin().await;
    let token = fixture.agent("east").await;
    let (mut agent, _) = Agent::connect(&fixture, &token, Vec::new()).await;
    let made = admin.create(run()).await;
    let work = agent.work().await;
    let mut running = agent.report_of(&work, Phase::Running);
    running.ready = true;
    agent.send_report(running).await;
    let cancel = CancelExecutionRequest {
        name: made.name.clone(),
        ..CancelExecutionRequest::default()
    };
    admin
        .executions
        .cancel_execution(cancel)
        .await
        .expect("it can be canceled");
    let link_response::Message::Cancel(heard) = agent.hear().await else {
        panic!("the cancel did not reach the agent");
    };
    assert_eq!(heard.attempt, work.attempt);
    drop(agent);
    let (_agent, welcome) = Agent::connect(&fixture, &token, Vec::new()).await;
    let order = &welcome.orders[0];
    assert_eq!(order.action(), Action::Adopt);
    assert_eq!(
        order.assignment.as_ref().expect("the whole of it").plan,
        work.plan
    );
    assert!(order.cancel.is_some());
    assert!(
        order.ready,
        "whether a service was ready decides how it ends"
    );
}

#[tokio::test]
async fn a_replaced_token_closes_the_stream_and_is_not_good_any_more() {
    let fixture = Fixture::start().await;
    let mut admin = fixture.admin().await;
    let token = fixture.agent("east").await;
    let (mut agent, _) = Agent::connect(&fixture, &token, Vec::new()).await;
    let request = RotateAgentTokenRequest {
        name: "agents/east".to_owned(),
        ..RotateAgentTokenRequest::default()
    };
    admin
        .agents
        .rotate_agent_token(request)
        .await
        .expect("it can be replaced");
    assert!(agent.try_hear().await.is_none(), "its stream ends");
    let mut old = fixture.clients(&token).await;
    let status = old
        .link
        .link(tokio_stream::empty())
        .await
        .map(drop)
        .expect_err("it is old");
    assert_eq!(status.code(), Code::Unauthenticated);
}

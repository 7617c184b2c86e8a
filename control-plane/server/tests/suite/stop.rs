//! How a server stops and starts again, and servers for one process.

use std::time::{Duration, Instant};

use muster_core::clock::Clock;
use muster_proto::v1::{
    LogChunk, ReadLogRequest, StreamLogRequest, attempt_report::Phase, link_response,
};
use muster_server::Server;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use super::{
    agent::Agent,
    fixture::{Clients, Fixture, run},
};

#[tokio::test]
async fn a_stop_tells_agents_to_go_keeps_what_came_and_is_held_up_by_no_stream() {
    let fixture = Fixture::start().await;
    let mut admin = fixture.admin().await;
    let token = fixture.agent("east").await;
    let (mut agent, _) = Agent::connect(&fixture, &token, Vec::new()).await;
    let made = admin.create(run()).await;
    let work = agent.work().await;
    agent.report(&work, Phase::Running).await;

    // A reader that follows, and a log that stays open with bytes that are not durable yet.
    let request = ReadLogRequest {
        name: made.name.clone(),
        follow: true,
        ..ReadLogRequest::default()
    };
    let follower = admin.logs.read_log(request).await.expect("it is there");
    let mut follower = follower.into_inner();
    let first = StreamLogRequest {
        attempt: work.attempt.clone(),
        epoch: work.epoch,
        ..StreamLogRequest::default()
    };
    let (sender, receiver) = mpsc::channel(4);
    sender.send(first.clone()).await.expect("there is space");
    let log = agent.clients.link.stream_log(ReceiverStream::new(receiver));
    let mut log = log.await.expect("it takes the log").into_inner();
    let begin = log.message().await.expect("no error").expect("an answer");
    assert_eq!(begin.durable_offset, 0);
    let data = LogChunk {
        data: b"12345".to_vec().into(),
        ..LogChunk::default()
    };
    let message = StreamLogRequest {
        chunks: vec![data],
        ..first
    };
    sender.send(message).await.expect("there is space");
    follower.message().await.expect("no error").expect("live");

    let begun = Instant::now();
    let stopping = tokio::spawn(fixture.restart());
    let Some(link_response::Message::Drain(drain)) = agent.try_hear().await else {
        panic!("the agent was not told");
    };
    assert!(drain.spread.is_some());
    let mut durable = 0;
    let status = loop {
        match log.message().await {
            Ok(Some(answer)) => durable = answer.durable_offset,
            Ok(None) => panic!("the stream must say why it ends"),
            Err(status) => break status,
        }
    };
    assert_eq!((status.code(), durable), (Code::Unavailable, 5));
    let status = follower.message().await.expect_err("it must say why");
    assert_eq!(status.code(), Code::Unavailable);
    drop((admin, agent, log, follower, sender));
    let fixture = stopping.await.expect("it starts again");
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(8), "it took {took:?}");

    let (_agent, welcome) = Agent::connect(&fixture, &token, Vec::new()).await;
    assert_eq!(welcome.orders[0].log_offset, 5);
}

#[tokio::test]
async fn a_server_for_one_process_has_a_token_that_is_nowhere_else_and_ends_with_it() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let start = || Server::start_embedded(dir.path(), None, Clock::system());
    let (server, token) = start().await.expect("it starts");
    assert!(server.address().ip().is_loopback() && !server.is_secure());
    let url = format!("http://{}", server.address());
    let mut clients = Clients::connect(&url, &token).await;
    let made = clients.create(run()).await;
    assert!(!dir.path().join("admin-token").exists());
    server.stop().await;

    let (server, other) = start().await.expect("it starts again");
    assert_ne!(token, other);
    let url = format!("http://{}", server.address());
    let mut clients = Clients::connect(&url, &other).await;
    assert_eq!(clients.get(&made.name).await.uid, made.uid);
    let mut late = Clients::connect(&url, &token).await;
    let status = late.executions.list_executions(super::port::list()).await;
    let status = status.expect_err("the token ended with its process");
    assert_eq!(status.code(), Code::Unauthenticated);
    server.stop().await;
}

#[tokio::test]
async fn a_crash_while_the_first_token_is_made_locks_nobody_out() {
    let fixture = Fixture::start_on_files().await;
    let Fixture { dir, server, admin } = fixture;
    server.stop().await;
    // As it is when the process ends between the database and the file's last name.
    let path = dir.path().join("admin-token");
    std::fs::rename(&path, dir.path().join("admin-token.new")).expect("it is there");
    let mut config = muster_server::Config::new(dir.path().to_owned());
    config.listen.set_port(0);
    let server = Server::start(config, Clock::system(), None)
        .await
        .expect("it starts");
    assert_eq!(server.admin_token(), Some(path.as_path()));
    let kept = std::fs::read_to_string(&path).expect("it is there");
    assert_eq!(kept.trim(), admin);
    server.stop().await;
}

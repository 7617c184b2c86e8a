//! Readers of logs that do not read.

use muster_proto::v1::{
    ReadLogRequest, ReadLogResponse, attempt_report::Phase, execution::State,
    read_log_response::Item,
};
use tonic::Streaming;

use super::{
    agent::{Agent, sha256},
    fixture::{Fixture, run},
};

/// Many times what is on the way to a reader that does not read.
const SIZE: usize = 48 << 20;
const SLOW: usize = 10;

/// All that a reader gets; a gap is shown by where the next bytes are.
async fn rest(mut reader: Streaming<ReadLogResponse>) -> (Vec<u8>, bool) {
    let mut log = Vec::new();
    while let Some(item) = reader.message().await.expect("no error") {
        match item.item.expect("something") {
            Item::Chunk(chunk) => {
                assert_eq!(chunk.offset, i64::try_from(log.len()).expect("short"));
                log.extend_from_slice(&chunk.data);
            }
            other @ (Item::Gap(_) | Item::Match(_) | Item::Skip(_)) => {
                panic!("what is stored is not skipped: {other:?}")
            }
            Item::End(end) => return (log, end.complete),
        }
    }
    panic!("the log has no end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_that_do_not_read_hold_up_neither_the_log_nor_other_readers() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    let token = fixture.agent("east").await;
    let (mut agent, _) = Agent::connect(&fixture, &token, Vec::new()).await;
    let mut creator = admin.clone();
    let made = creator.create(run()).await;
    let work = agent.work().await;
    agent.report(&work, Phase::Running).await;
    let mut readers = Vec::new();
    for _ in 0..=SLOW {
        // Each on a connection of its own: one that shares another's has its limits too.
        let mut clients = fixture.admin().await;
        let request = ReadLogRequest {
            name: made.name.clone(),
            follow: true,
            ..ReadLogRequest::default()
        };
        let reader = clients.logs.read_log(request).await.expect("it is there");
        readers.push(reader.into_inner());
    }
    let reads = tokio::spawn(rest(readers.pop().expect("some")));
    let text: Vec<u8> = (0..251).cycle().take(SIZE).collect();
    let durable = agent.log(&work, 0, &text).await;
    assert_eq!(
        durable.expect("it is stored"),
        i64::try_from(SIZE).expect("short")
    );
    agent.complete(&work, &text).await;
    let done = creator.finished(&made.name).await;
    assert_eq!(done.state(), State::Passed);
    let (log, complete) = reads.await.expect("no panic");
    assert_eq!((sha256(&log), complete), (sha256(&text), true));
    // Who reads at last gets all of it.
    let (log, complete) = rest(readers.swap_remove(0)).await;
    assert_eq!((sha256(&log), complete), (sha256(&text), true));
    drop(readers);
    fixture.server.stop().await;
}

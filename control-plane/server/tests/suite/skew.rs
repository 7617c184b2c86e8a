//! Agents whose clocks are an hour off. All that an agent tells of time is for people to see.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use muster_core::clock::Clock;
use muster_proto::v1::{
    ListExecutionEventsRequest, LogChunk, RenewLeases, StreamLogRequest, attempt_report::Phase,
    execution::State, link_request::Message, link_response,
};

use super::{
    agent::Agent,
    fixture::{Fixture, WORKFLOW, run_text},
    link::read_log,
};

const HOUR: SignedDuration = SignedDuration::from_hours(1);
const MINUTE: Duration = Duration::from_secs(60);
/// The sweeps come once in this time.
const LOOK: Duration = Duration::from_millis(1100);

fn wire(at: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: at.as_second(),
        nanos: at.subsec_nanosecond(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_deadline_and_no_order_depends_on_the_clock_of_an_agent() {
    let clock = Clock::manual(Timestamp::now());
    let fixture = Fixture::start_at(clock.clone(), |_| {}).await;
    let mut admin = fixture.admin().await;
    let limit = "  timeouts: {run: 30m, grace: 2m}\n";
    for (name, skew) in [("late", -HOUR), ("early", HOUR)] {
        let token = fixture.agent(name).await;
        let (mut agent, _) = Agent::connect(&fixture, &token, Vec::new()).await;
        let begun = clock.now();
        let made = admin.create(run_text(&format!("{WORKFLOW}{limit}"))).await;
        let work = agent.work().await;
        let mut report = agent.report_of(&work, Phase::Running);
        report.start_time = Some(wire(clock.now() + skew));
        agent.send_report(report).await;
        // Chunks in order whose times go back.
        let chunk = |offset, data: &'static [u8], at| LogChunk {
            offset,
            data: data.into(),
            time: Some(wire(at)),
            ..LogChunk::default()
        };
        let first = StreamLogRequest {
            attempt: work.attempt.clone(),
            epoch: work.epoch,
            ..StreamLogRequest::default()
        };
        let second = StreamLogRequest {
            chunks: vec![
                chunk(0, b"one ", clock.now() + skew),
                chunk(4, b"two", clock.now() + skew - HOUR),
            ],
            ..first.clone()
        };
        let stream = tokio_stream::iter([first, second]);
        let answers = agent.clients.link.stream_log(stream).await.expect("taken");
        let mut answers = answers.into_inner();
        while answers.message().await.expect("no error").is_some() {}

        // By the server's clock it has a minute left.
        for sequence in 1..=29 {
            clock.advance(MINUTE);
            let renewal = RenewLeases {
                sequence,
                attempts: Agent::held(&[&work]),
            };
            agent.say(Message::Renew(renewal)).await;
            match agent.hear().await {
                link_response::Message::Renewed(renewed) => assert_eq!(renewed.lost, Vec::new()),
                other => panic!("{name}: {other:?}"),
            }
        }
        tokio::time::sleep(2 * LOOK).await;
        assert_eq!(
            admin.get(&made.name).await.state(),
            State::Running,
            "{name}"
        );
        clock.advance(2 * MINUTE);
        match agent.hear().await {
            link_response::Message::Cancel(cancel) => assert_eq!(cancel.attempt, work.attempt),
            other => panic!("{name}: {other:?}"),
        }
        let mut report = agent.completed(&work, b"one two");
        report.start_time = Some(wire(clock.now() + skew));
        if let Some(completion) = &mut report.completion {
            completion.outcome = State::TimedOut.into();
            completion.finish_time = Some(wire(clock.now() + skew));
        }
        agent.send_report(report).await;
        let done = admin.finished(&made.name).await;
        assert_eq!(done.state(), State::TimedOut, "{name}");
        let (log, complete) = read_log(&mut admin, &made.name, false).await;
        assert_eq!((log.as_slice(), complete), (&b"one two"[..], Some(true)));
        let request = ListExecutionEventsRequest {
            parent: made.name.clone(),
            ..ListExecutionEventsRequest::default()
        };
        let events = admin.executions.list_execution_events(request).await;
        let events = events.expect("a history").into_inner().events;
        let times: Vec<i64> = events
            .iter()
            .map(|event| event.time.expect("a time").seconds)
            .collect();
        assert!(times.is_sorted(), "{name}: {events:?}");
        let range = begun.as_second()..=clock.now().as_second();
        assert!(
            times.iter().all(|time| range.contains(time)),
            "{name}: {events:?}"
        );
    }
    fixture.server.stop().await;
}

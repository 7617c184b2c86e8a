//! Logs: appended at the durable offset only, read from any offset.

use muster_core::{
    execution::{Lease, Outcome},
    id::AgentId,
};
use muster_storage::{
    Error,
    execution::LogSummary,
    log::{NewSealed, Sealed, Segment},
    work::{Appended, Completion, NewSegment, Progress},
};

use crate::fixture::{Database, once, report};

on_every_database!(
    segments_follow_each_other_without_gap_or_repeat,
    one_of_two_that_append_at_once_wins,
    a_log_is_read_from_any_offset,
    a_log_takes_bytes_until_it_is_finished,
    a_lost_attempt_can_not_append,
    another_agent_can_not_append,
    an_empty_segment_is_refused,
    a_log_that_has_ended_in_many_segments_becomes_one_object_once,
    the_log_of_each_attempt_says_whether_it_is_complete,
);

fn segment(lease: Lease, start: i64, end: i64) -> NewSegment {
    NewSegment {
        lease,
        start,
        end,
        blob: format!("logs/{start}-{end}"),
        blob_size: end - start,
        lines: 1,
        first_time: start,
        last_time: end,
    }
}

async fn append(db: &Database, agent: AgentId, new: NewSegment) -> Appended {
    let appended = db.store.agent(agent).append_log(&new).await;
    appended.expect("an answer")
}

async fn segments_follow_each_other_without_gap_or_repeat(db: Database) {
    let (agent, assignment) = db.running().await;
    let lease = assignment.attempt.lease();
    let first = append(&db, agent, segment(lease, 0, 10)).await;
    assert_eq!(first, Appended::Stored { durable: 10 });
    let repeat = append(&db, agent, segment(lease, 0, 10)).await;
    assert_eq!(repeat, Appended::Elsewhere { durable: 10 });
    let gap = append(&db, agent, segment(lease, 11, 20)).await;
    assert_eq!(gap, Appended::Elsewhere { durable: 10 });
    let next = append(&db, agent, segment(lease, 10, 25)).await;
    assert_eq!(next, Appended::Stored { durable: 25 });
    let head = db
        .store
        .logs(db.project)
        .head(assignment.execution.id)
        .await;
    let head = head.expect("the head");
    assert_eq!(head.attempt, Some(assignment.attempt.id));
    assert_eq!(head.summary.size, 25);
    assert!(!head.ended);
    let execution = db
        .store
        .executions(db.project)
        .get(assignment.execution.id)
        .await;
    assert_eq!(execution.expect("it").log.size, 25);
}

async fn one_of_two_that_append_at_once_wins(db: Database) {
    let (agent, assignment) = db.running().await;
    let lease = assignment.attempt.lease();
    let mut calls = tokio::task::JoinSet::new();
    for end in 1..=8 {
        let store = db.another_store().await;
        calls.spawn(async move { store.agent(agent).append_log(&segment(lease, 0, end)).await });
    }
    let results: Vec<_> = calls.join_all().await;
    let stored = results
        .iter()
        .filter(|result| matches!(result, Ok(Appended::Stored { .. })))
        .count();
    assert_eq!(stored, 1, "{results:?}");
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    let segments = db
        .store
        .logs(db.project)
        .segments(lease.attempt, 0, 10)
        .await;
    assert_eq!(segments.expect("segments").len(), 1);
}

async fn a_log_is_read_from_any_offset(db: Database) {
    let (agent, assignment) = db.running().await;
    let lease = assignment.attempt.lease();
    for start in [0, 10, 20, 30] {
        append(&db, agent, segment(lease, start, start + 10)).await;
    }
    let logs = db.store.logs(db.project);
    let starts = async |from, limit| {
        let segments = logs
            .segments(lease.attempt, from, limit)
            .await
            .expect("segments");
        segments
            .iter()
            .map(|segment| segment.start)
            .collect::<Vec<_>>()
    };
    assert_eq!(starts(0, 2).await, [0, 10]);
    assert_eq!(starts(9, 2).await, [0, 10]);
    assert_eq!(starts(10, 10).await, [10, 20, 30]);
    assert_eq!(starts(40, 10).await, [0_i64; 0]);
}

async fn a_log_takes_bytes_until_it_is_finished(db: Database) {
    let (agent, assignment) = db.running().await;
    let lease = assignment.attempt.lease();
    append(&db, agent, segment(lease, 0, 10)).await;
    let completion = Completion {
        outcome: Outcome::Passed,
        reason: String::new(),
        message: String::new(),
        log_size: 15,
        log_sha256: "cd".repeat(32),
        finish_time: None,
    };
    let done = report(lease, 1, Progress::Completed(completion));
    db.store
        .agent(agent)
        .report(done.clone())
        .await
        .expect("stored");
    let rest = append(&db, agent, segment(lease, 10, 15)).await;
    assert_eq!(rest, Appended::Stored { durable: 15 });
    let queue = db.store.queue();
    let open = queue.unfinished_logs(10).await.expect("a sweep");
    assert_eq!(open.len(), 1);
    let told = open[0].told_log.clone().expect("the conductor told");
    assert_eq!((told.size, open[0].log_offset), (15, 15));
    let summary = LogSummary {
        size: 15,
        sha256: Some(told.sha256),
        complete: true,
    };
    let execution = queue
        .finish_log(lease.attempt, &summary)
        .await
        .expect("finished");
    assert_eq!(execution.log, summary);
    assert_eq!(queue.unfinished_logs(10).await.expect("a sweep"), []);
    assert_eq!(
        append(&db, agent, segment(lease, 15, 20)).await,
        Appended::Refused
    );
    let head = db
        .store
        .logs(db.project)
        .head(execution.id)
        .await
        .expect("the head");
    assert!(head.ended);
    assert_eq!(head.summary, summary);

    // What is found damaged takes that back, and is told once.
    let finding = "bytes 0–9 of the log are not what was stored";
    let spoilt = queue.spoil_log(lease.attempt, finding).await;
    let spoilt = spoilt.expect("stored").expect("it is news");
    assert_eq!(spoilt.warnings, [finding]);
    let broken = LogSummary {
        complete: false,
        ..summary.clone()
    };
    assert_eq!(spoilt.log, broken);
    let again = queue.spoil_log(lease.attempt, finding).await;
    assert_eq!(again.expect("stored"), None);
    let executions = db.store.executions(db.project);
    let events = executions.events(execution.id, 0, 100).await;
    let events = events.expect("events").items;
    let told = events.iter().filter(|event| event.kind == "LOG_DAMAGED");
    assert_eq!(told.count(), 1, "{events:?}");
    let attempt = queue.attempt(lease.attempt).await.expect("it is there");
    assert!(!attempt.log_complete && attempt.log_ended);
    // It is whole again.
    let mended = queue.finish_log(lease.attempt, &summary).await;
    assert_eq!(mended.expect("finished").log, summary);
}

async fn a_lost_attempt_can_not_append(db: Database) {
    let (agent, assignment) = db.running_under(once()).await;
    let lease = assignment.attempt.lease();
    append(&db, agent, segment(lease, 0, 10)).await;
    db.advance(60);
    let ended = db.store.queue().expire(lease.attempt, db.clock.now()).await;
    let ended = ended.expect("a sweep").expect("it is expired");
    assert_eq!(ended.execution.log.size, 10);
    assert_eq!(
        append(&db, agent, segment(lease, 10, 20)).await,
        Appended::Refused
    );
    let head = db
        .store
        .logs(db.project)
        .head(assignment.execution.id)
        .await;
    assert!(head.expect("the head").ended);
    let stale = Lease { epoch: 7, ..lease };
    assert_eq!(
        append(&db, agent, segment(stale, 10, 20)).await,
        Appended::Refused
    );
}

async fn another_agent_can_not_append(db: Database) {
    let (_, assignment) = db.running().await;
    let other = db.new_agent("other").await;
    let new = segment(assignment.attempt.lease(), 0, 10);
    let refused = db.store.agent(other).append_log(&new).await;
    assert!(refused.expect_err("not its own").is_not_found());
}

async fn an_empty_segment_is_refused(db: Database) {
    let (agent, assignment) = db.running().await;
    let new = segment(assignment.attempt.lease(), 0, 0);
    let refused = db.store.agent(agent).append_log(&new).await;
    assert!(matches!(refused, Err(Error::Invalid { .. })), "{refused:?}");
}

async fn a_log_that_has_ended_in_many_segments_becomes_one_object_once(db: Database) {
    let (agent, assignment) = db.running().await;
    let lease = assignment.attempt.lease();
    for start in [0, 10, 20] {
        append(&db, agent, segment(lease, start, start + 10)).await;
    }
    let (queue, logs) = (db.store.queue(), db.store.logs(db.project));
    let part = |start: i64, end: i64, blob_start: i64| Segment {
        start,
        end,
        blob: "logs/whole".to_owned(),
        blob_start,
        blob_size: 5,
        lines: 1,
        first_time: start,
        last_time: end,
    };
    let sealed = |segments| NewSealed {
        segments,
        sha256: "ab".repeat(32),
        blob: "logs/whole".to_owned(),
        blob_size: 10,
    };
    let whole = sealed(vec![part(0, 20, 0), part(20, 30, 5)]);
    let seal = async |new: &NewSealed| queue.seal_log(lease.attempt, new).await.expect("an answer");
    // While it is open nobody may.
    assert_eq!(queue.unsealed_logs(10).await.expect("a look"), []);
    assert_eq!(seal(&whole).await, Sealed::Elsewhere);
    let summary = LogSummary {
        size: 30,
        sha256: None,
        complete: false,
    };
    queue
        .finish_log(lease.attempt, &summary)
        .await
        .expect("finished");
    assert_eq!(
        queue.unsealed_logs(10).await.expect("a look"),
        [lease.attempt]
    );
    // An object that has not all of it takes the place of nothing.
    for short in [vec![part(0, 20, 0)], vec![part(0, 9, 0), part(10, 30, 5)]] {
        assert_eq!(seal(&sealed(short)).await, Sealed::Elsewhere);
    }
    assert_eq!(logs.layout(lease.attempt).await.expect("segments").len(), 3);
    let discard = ["logs/0-10", "logs/10-20", "logs/20-30"].map(str::to_owned);
    let stored = Sealed::Stored {
        discard: discard.to_vec(),
    };
    assert_eq!(seal(&whole).await, stored);
    assert_eq!(seal(&whole).await, Sealed::Elsewhere);
    assert_eq!(queue.unsealed_logs(10).await.expect("a look"), []);
    let layout = logs.layout(lease.attempt).await.expect("segments");
    assert_eq!(layout, whole.segments);
    let rest = logs
        .segments(lease.attempt, 20, 10)
        .await
        .expect("segments");
    assert_eq!(rest, whole.segments[1..]);
    let foreign = db.new_project("other").await;
    let foreign = db.store.logs(foreign).layout(lease.attempt).await;
    assert_eq!(foreign.expect("an answer"), []);
}

async fn the_log_of_each_attempt_says_whether_it_is_complete(db: Database) {
    let (agent, assignment) = db.running().await;
    let lease = assignment.attempt.lease();
    append(&db, agent, segment(lease, 0, 10)).await;
    let (queue, logs) = (db.store.queue(), db.store.logs(db.project));
    let summary = LogSummary {
        size: 10,
        sha256: Some("cd".repeat(32)),
        complete: true,
    };
    queue
        .finish_log(lease.attempt, &summary)
        .await
        .expect("finished");
    let head = logs.head_of(assignment.execution.id, lease.epoch).await;
    assert!(head.expect("the head").summary.complete);
}

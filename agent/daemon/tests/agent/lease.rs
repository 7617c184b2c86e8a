//! What an agent does while it can not know whether its leases hold.

use std::time::Duration;

use muster_proto::{
    runner::v1::{agent_message::Message as Heard, conductor_hello::Purpose},
    v1::{
        Assignment, AttemptOrder, attempt_order::Action, attempt_report::Phase, execution::State,
    },
};

use crate::{
    conductor::{Connection, hello},
    eventually,
    link::{Run, STANDIN, Stopped, assignment, order, runs},
    server::Server,
};

const SECOND: Duration = Duration::from_secs(1);

/// An assignment that is killed when its lease could not be renewed for a second, or as long as a
/// lease lives, which is more.
fn fenced() -> Assignment {
    Assignment {
        stop_after: SECOND.try_into().ok(),
        ..assignment()
    }
}

#[tokio::test]
async fn nothing_begins_while_the_server_answers_no_renewal() {
    let mut run = Run::start(STANDIN).await;
    // A lease outlives one renewal that is missed, and not two.
    let times = (SECOND, SECOND.mul_f64(1.5));
    let mut link = run.server.welcome_with(Vec::new(), times).await;
    // The agent sends and hears, but no renewal is answered: no lease is sure any more.
    link.renewal().await;
    let unnamed = link.renewal().await;
    let work = assignment();
    link.assign(work.clone()).await;
    let named = link.renewal().await;
    assert_eq!(named.attempts.len(), 1, "it holds the attempt");
    assert!(!run.has_given(&work), "nothing was answered");
    link.renewed(unnamed.sequence).await;
    link.renewal().await;
    assert!(!run.has_given(&work), "what was answered did not name it");
    link.renewal().await;
    link.renewed(named.sequence).await;
    let last = link.renewal().await;
    assert!(!run.has_given(&work), "what was answered is too old");
    link.renewed(last.sequence).await;
    link.meanwhile(run.given(&work)).await;
}

#[tokio::test]
async fn no_plan_is_given_while_the_lease_may_be_over_and_who_has_it_walks_on() {
    let mut run = Run::start(STANDIN).await;
    let mut link = run.server.welcome_with(Vec::new(), (SECOND, SECOND)).await;
    let work = assignment();
    link.assign(work.clone()).await;
    let given = link.meanwhile(run.given(&work)).await;
    // The next renewal comes a second after the last answer; one more, to be sure.
    link.renewal().await;
    link.renewal().await;
    let first = hello(&given, &work.attempt, Purpose::Control, false);
    let mut early = Connection::open(&given, first).await;
    let heard = early.heard().await;
    assert!(
        matches!(&heard, Some(Heard::Refused(refused)) if !refused.permanent),
        "{heard:?}"
    );
    Connection::control(&given, &work.attempt, true).await;
    let late = link.renewal().await;
    link.renewed(late.sequence).await;
    let welcome = link
        .meanwhile(async {
            loop {
                let hello = hello(&given, &work.attempt, Purpose::Control, false);
                let mut connection = Connection::open(&given, hello).await;
                if let Some(Heard::Welcome(welcome)) = connection.heard().await {
                    return welcome;
                }
            }
        })
        .await;
    assert_eq!(welcome.plan, work.plan);
}

#[tokio::test]
async fn who_could_not_renew_for_too_long_is_killed_and_whose_result_is_here_waits() {
    let mut run = Run::start(STANDIN).await;
    let mut link = run
        .server
        .welcome_with(Vec::new(), (SECOND / 4, SECOND))
        .await;
    let (running, done) = (fenced(), fenced());
    link.assign(running.clone()).await;
    link.assign(done.clone()).await;
    let runner = link.meanwhile(run.given(&running)).await;
    let doer = link.meanwhile(run.given(&done)).await;
    let connected = Connection::control(&doer, &done.attempt, false);
    let (mut control, _) = link.meanwhile(connected).await;
    control.completed("").await;
    link.report(|report| report.phase() == Phase::Completed)
        .await;
    assert!(runs(runner.pid), "its lease is renewed");
    let (address, store) = run.server.kill().await;
    drop(link);
    eventually("the one that runs is killed", || {
        (!runs(runner.pid)).then_some(())
    })
    .await;
    assert!(runs(doer.pid), "the one with a result waits");

    run.server = Server::start_at(address, store);
    let adopt = |work: &Assignment| AttemptOrder {
        sequence: 1,
        ..order(work, Action::Adopt)
    };
    let orders = vec![adopt(&running), adopt(&done)];
    let mut link = run.server.welcome(orders).await;
    assert_eq!(link.hello.attempts.len(), 2);
    let (mut lost, mut completed) = (None, None);
    while lost.is_none() || completed.is_none() {
        let report = link.report(|_any| true).await;
        link.acknowledge(&report).await;
        match report.phase() {
            Phase::Lost => lost = Some(report),
            Phase::Completed => completed = Some(report),
            _ => {}
        }
    }
    let lost = lost.expect("it was told");
    assert_eq!(lost.attempt, running.attempt);
    assert_eq!(lost.reason, "DISCONNECTED");
    let completed = completed.expect("it was told");
    assert_eq!(completed.attempt, done.attempt);
    let record = completed.completion.expect("a record");
    assert_eq!(record.outcome(), State::Passed);
}

#[tokio::test]
async fn a_limit_without_renewals_outlives_the_agent() {
    let mut run = Run::start(STANDIN).await;
    let mut link = run.server.welcome(Vec::new()).await;
    let (with, without) = (fenced(), assignment());
    link.assign(with.clone()).await;
    link.assign(without.clone()).await;
    let with_limit = link.meanwhile(run.given(&with)).await;
    let without_limit = link.meanwhile(run.given(&without)).await;
    let stopped = run.stop().await;
    let (address, store) = stopped.server.kill().await;
    drop(link);
    // Nobody welcomes the agent: only the journal knows.
    let run = Stopped {
        directory: stopped.directory,
        server: Server::start_at(address, store),
    };
    let mut run = run.start(STANDIN).await;
    let link = run.server.link().await;
    assert_eq!(link.hello.attempts.len(), 2);
    eventually("it is killed", || (!runs(with_limit.pid)).then_some(())).await;
    assert!(runs(without_limit.pid));
    // The server ends both.
    drop(link);
    let orders = vec![order(&with, Action::Kill), order(&without, Action::Kill)];
    let mut link = run.server.welcome(orders).await;
    assert_eq!(link.hello.attempts.len(), 2, "it is still named");
    link.credit(2).await;
    for work in [&with, &without] {
        link.meanwhile(run.forgotten(work)).await;
    }
    assert!(!runs(without_limit.pid));
    let mut run = run.stop().await.start(STANDIN).await;
    assert_eq!(run.server.link().await.hello.attempts, []);
}

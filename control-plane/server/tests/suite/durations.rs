//! How long values of shards took in earlier runs, as an agent asks for an attempt of its own.

use std::time::Duration;

use muster_proto::v1::{
    Assignment, ListTestCasesRequest, ReadDurationsRequest, ReadDurationsResponse,
    attempt_report::Phase,
};
use tonic::{Code, Status};

use super::{
    agent::{Agent, sha256},
    fixture::{Clients, Fixture, run},
};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

const JUNIT: &str = "<testsuite name='suite'>
    <testcase classname='math' name='test_sum' time='0.5'/>
    <testcase classname='math' name='test_product' time='1.5'/>
    <testcase file='tests/slow.py' classname='slow' name='test_all' time='65.25'/>
    <testcase classname='math' name='test_left' time='9'><skipped/></testcase>
  </testsuite>";

/// Runs an execution that leaves a report, until that is read.
async fn leaves_a_report(agent: &mut Agent, admin: &mut Clients) {
    let made = admin.create(run()).await;
    let work = agent.work().await;
    agent.report(&work, Phase::Running).await;
    let sent = agent.artifact(
        &work,
        "junit.xml",
        JUNIT.as_bytes(),
        sha256(JUNIT.as_bytes()),
    );
    sent.await.expect("it is taken");
    agent.complete(&work, b"").await;
    admin.finished(&made.name).await;
    let request = ListTestCasesRequest {
        parent: made.name,
        ..ListTestCasesRequest::default()
    };
    let read = async {
        loop {
            let listed = admin.tests.list_test_cases(request.clone()).await;
            if listed.expect("a list").into_inner().pending_reports == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, read)
        .await
        .expect("it is read");
}

/// The question, one value in each part.
fn question(work: &Assignment, values: &[&str]) -> Vec<ReadDurationsRequest> {
    let mut parts: Vec<_> = values
        .iter()
        .map(|value| ReadDurationsRequest {
            values: vec![(*value).to_owned()],
            ..ReadDurationsRequest::default()
        })
        .collect();
    if let Some(first) = parts.first_mut() {
        first.attempt.clone_from(&work.attempt);
        first.epoch = work.epoch;
    }
    parts
}

async fn ask(
    clients: &mut Clients,
    question: Vec<ReadDurationsRequest>,
) -> Result<ReadDurationsResponse, Status> {
    let asked = clients.link.read_durations(tokio_stream::iter(question));
    asked.await.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn only_its_own_attempt_is_told_how_long_tests_took_in_earlier_runs() {
    let fixture = Fixture::start().await;
    let mut admin = fixture.admin().await;
    let token = fixture.agent("east").await;
    let (mut agent, _) = Agent::connect(&fixture, &token, Vec::new()).await;
    admin.create(run()).await;
    let work = agent.work().await;
    let values = [
        "math",
        "math.test_sum",
        "/data/repo/tests/slow.py",
        "new.py",
    ];
    let told = ask(&mut agent.clients, question(&work, &values)).await;
    let told = told.expect("an answer");
    assert_eq!((told.durations_ms, told.runs), (vec![-1; 4], 0));
    agent.complete(&work, b"").await;

    leaves_a_report(&mut agent, &mut admin).await;
    admin.create(run()).await;
    let work = agent.work().await;
    let told = ask(&mut agent.clients, question(&work, &values)).await;
    let told = told.expect("an answer");
    assert_eq!(
        (told.durations_ms, told.runs),
        (vec![1500, 500, 65_250, -1], 1)
    );

    let token = fixture.agent("west").await;
    let (mut west, _) = Agent::connect(&fixture, &token, Vec::new()).await;
    let refused = ask(&mut west.clients, question(&work, &values)).await;
    assert_eq!(refused.expect_err("not its own").code(), Code::NotFound);
    let refused = ask(&mut admin, question(&work, &values)).await;
    assert_eq!(refused.expect_err("no agent").code(), Code::Unauthenticated);
    let mut old = question(&work, &values);
    old[0].epoch -= 1;
    let refused = ask(&mut agent.clients, old).await;
    assert_eq!(refused.expect_err("an old epoch").code(), Code::Aborted);
    for wrong in [
        question(&work, &[]),
        question(&work, &["a", &"x".repeat(1025)]),
    ] {
        let refused = ask(&mut agent.clients, wrong).await;
        assert_eq!(
            refused.expect_err("it is refused").code(),
            Code::InvalidArgument
        );
    }
    fixture.server.stop().await;
}

//! Quarantine through the API: who may change it, what is refused, and the verdicts that agents get.

use std::time::Duration;

use muster_proto::v1::{
    Assignment, CreateTokenRequest, FindTestsRequest, JudgeStepRequest, JudgeStepResponse,
    ListAuditEventsRequest, ListQuarantinedTestsRequest, ListTestCasesRequest,
    QuarantineTestRequest, QuarantinedTest, ReleaseTestRequest, attempt_report::Phase,
    quarantine_test_request::Expiration, token::Role,
};
use tonic::{Code, Status};

use super::{
    agent::{Agent, sha256},
    fixture::{Clients, Fixture, run},
};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const PARENT: &str = "projects/default";

/// A report of these tests, of which all fail.
fn junit(tests: &[&str]) -> String {
    let cases = tests.iter().map(|name| {
        format!("<testcase classname='shop' name='{name}'><failure message='no'/></testcase>")
    });
    format!("<testsuite>{}</testsuite>", cases.collect::<String>())
}

async fn begins(agent: &mut Agent, admin: &mut Clients) -> Assignment {
    admin.create(run()).await;
    let work = agent.work().await;
    agent.report(&work, Phase::Running).await;
    work
}

async fn leaves(agent: &mut Agent, work: &Assignment, path: &str, text: &str) {
    let sha256 = sha256(text.as_bytes());
    let sent = agent.artifact(work, path, text.as_bytes(), sha256).await;
    sent.expect("it is taken");
}

fn wish(work: &Assignment) -> JudgeStepRequest {
    JudgeStepRequest {
        attempt: work.attempt.clone(),
        epoch: work.epoch,
        step: "s1".to_owned(),
        ..JudgeStepRequest::default()
    }
}

async fn judge(agent: &mut Agent, wish: JudgeStepRequest) -> Result<JudgeStepResponse, Status> {
    let judged = tokio::time::timeout(PATIENCE, agent.clients.link.judge_step(wish)).await;
    judged
        .expect("a verdict in time")
        .map(tonic::Response::into_inner)
}

/// An entry for a test that a report has told of.
async fn entry(clients: &mut Clients, test: &str) -> QuarantineTestRequest {
    let find = FindTestsRequest {
        parent: PARENT.to_owned(),
        text: test.to_owned(),
    };
    let name = async {
        loop {
            let found = clients.tests.find_tests(find.clone()).await;
            if let Some(test) = found.expect("a list").into_inner().tests.pop() {
                return test.name;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let name = tokio::time::timeout(PATIENCE, name).await;
    QuarantineTestRequest {
        name: name.expect("its report is read"),
        request_id: uuid::Uuid::now_v7().to_string(),
        reason: "SHOP-1".to_owned(),
        ..QuarantineTestRequest::default()
    }
}

async fn put(
    clients: &mut Clients,
    entry: QuarantineTestRequest,
) -> Result<QuarantinedTest, Status> {
    let put = clients.tests.quarantine_test(entry).await;
    put.map(|put| put.into_inner().quarantined_test.expect("it is told"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_is_forgiven_when_nothing_but_tests_in_quarantine_failed() {
    let fixture = Fixture::start().await;
    let mut admin = fixture.admin().await;
    let token = fixture.agent("east").await;
    let (mut agent, _) = Agent::connect(&fixture, &token, Vec::new()).await;
    let work = begins(&mut agent, &mut admin).await;
    leaves(
        &mut agent,
        &work,
        "junit.xml",
        &junit(&["test_cart", "test_pay"]),
    )
    .await;
    let ahead = |work: &Assignment| JudgeStepRequest {
        ahead: true,
        ..wish(work)
    };
    assert!(
        !judge(&mut agent, ahead(&work))
            .await
            .expect("a verdict")
            .open
    );
    let judged = judge(&mut agent, wish(&work)).await.expect("a verdict");
    assert_eq!(
        judged,
        JudgeStepResponse::default(),
        "nothing is in quarantine"
    );
    let cart = entry(&mut admin, "test_cart").await;
    let made = put(&mut admin, cart.clone())
        .await
        .expect("it is put there");
    assert_eq!(
        (made.creator.as_str(), made.workflow.as_str()),
        ("admin", "")
    );
    assert!(
        judge(&mut agent, ahead(&work))
            .await
            .expect("a verdict")
            .open
    );
    // What was read before keeps what was true then.
    let judged = judge(&mut agent, wish(&work)).await.expect("a verdict");
    assert!(!judged.forgiven);
    agent.complete(&work, b"").await;

    let work = begins(&mut agent, &mut admin).await;
    let nothing = judge(&mut agent, wish(&work)).await.expect("a verdict");
    assert!(nothing.message.contains("no report"), "{nothing:?}");
    leaves(&mut agent, &work, "junit.xml", &junit(&["test_cart"])).await;
    let judged = judge(&mut agent, wish(&work)).await.expect("a verdict");
    assert_eq!(
        (judged.forgiven, judged.message.as_str()),
        (true, "1 quarantined test failed")
    );
    let old = JudgeStepRequest {
        stale: vec!["junit.xml".to_owned()],
        ..wish(&work)
    };
    let judged = judge(&mut agent, old).await.expect("a verdict");
    assert!(
        !judged.forgiven && judged.message.contains("older"),
        "{judged:?}"
    );
    let other = JudgeStepRequest {
        step: "s2".to_owned(),
        ..wish(&work)
    };
    assert!(!judge(&mut agent, other).await.expect("a verdict").forgiven);
    leaves(&mut agent, &work, "more.xml", &junit(&["test_pay"])).await;
    let judged = judge(&mut agent, wish(&work)).await.expect("a verdict");
    assert_eq!(judged.message, "1 test failed beside 1 in quarantine");
    leaves(
        &mut agent,
        &work,
        "more.xml",
        "<testsuite><testcase name='x'/><testc",
    )
    .await;
    let judged = judge(&mut agent, wish(&work)).await.expect("a verdict");
    assert!(
        !judged.forgiven && judged.message.contains("more.xml is broken"),
        "{judged:?}"
    );

    let list = ListTestCasesRequest {
        parent: format!("{PARENT}/executions/{}", work.execution),
        ..ListTestCasesRequest::default()
    };
    let told = admin
        .tests
        .list_test_cases(list)
        .await
        .expect("a list")
        .into_inner();
    let marked = told
        .test_cases
        .iter()
        .find_map(|case| case.quarantine.clone());
    assert_eq!(marked.expect("one is marked").reason, "SHOP-1");
    assert_eq!(told.counts.expect("counts").quarantined, 1);

    let release = ReleaseTestRequest {
        name: cart.name,
        ..ReleaseTestRequest::default()
    };
    admin
        .tests
        .release_test(release.clone())
        .await
        .expect("released");
    let gone = admin
        .tests
        .release_test(release)
        .await
        .expect_err("it is gone");
    assert_eq!(gone.code(), Code::NotFound);
    fixture.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verdict_is_given_to_nobody_but_the_agent_of_the_attempt() {
    let fixture = Fixture::start().await;
    let mut admin = fixture.admin().await;
    let token = fixture.agent("east").await;
    let (mut agent, _) = Agent::connect(&fixture, &token, Vec::new()).await;
    let work = begins(&mut agent, &mut admin).await;
    let late = JudgeStepRequest {
        epoch: work.epoch + 1,
        ..wish(&work)
    };
    judge(&mut agent, late).await.expect_err("another epoch");
    let token = fixture.agent("west").await;
    let (mut other, _) = Agent::connect(&fixture, &token, Vec::new()).await;
    let refused = judge(&mut other, wish(&work)).await.expect_err("another's");
    assert_eq!(refused.code(), Code::NotFound, "{refused}");
    let refused = admin.link.judge_step(wish(&work)).await;
    assert_eq!(refused.expect_err("no agent").code(), Code::Unauthenticated);
    fixture.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_need_a_reason_an_end_and_the_role_and_are_noted() {
    let fixture = Fixture::start().await;
    let mut admin = fixture.admin().await;
    let token = fixture.agent("east").await;
    let (mut agent, _) = Agent::connect(&fixture, &token, Vec::new()).await;
    let work = begins(&mut agent, &mut admin).await;
    leaves(&mut agent, &work, "junit.xml", &junit(&["test_cart"])).await;
    let good = entry(&mut admin, "test_cart").await;
    let days = |days: i64| {
        Some(Expiration::Ttl(prost_types::Duration {
            seconds: days * 24 * 3600,
            nanos: 0,
        }))
    };
    for (bad, field) in [
        (
            QuarantineTestRequest {
                reason: " ".to_owned(),
                ..good.clone()
            },
            "reason",
        ),
        (
            QuarantineTestRequest {
                expiration: days(91),
                ..good.clone()
            },
            "ttl",
        ),
        (
            QuarantineTestRequest {
                expiration: days(0),
                ..good.clone()
            },
            "ttl",
        ),
        (
            QuarantineTestRequest {
                workflow: "no/name".to_owned(),
                ..good.clone()
            },
            "workflow",
        ),
    ] {
        let refused = put(&mut admin, bad).await.expect_err(field);
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains(field), "{refused}");
    }
    let unknown = QuarantineTestRequest {
        name: format!("{PARENT}/tests/{}", "0".repeat(32)),
        ..good.clone()
    };
    let refused = put(&mut admin, unknown).await.expect_err("no such test");
    assert_eq!(refused.code(), Code::NotFound);
    put(&mut admin, good.clone())
        .await
        .expect("it is put there");
    put(&mut admin, good.clone()).await.expect("the same again");

    let token = CreateTokenRequest {
        display_name: "guest".to_owned(),
        role: Role::Viewer.into(),
        project: PARENT.to_owned(),
        ..CreateTokenRequest::default()
    };
    let token = admin.projects.create_token(token).await.expect("a token");
    let mut viewer = fixture.clients(&token.into_inner().secret).await;
    let list = ListQuarantinedTestsRequest {
        parent: PARENT.to_owned(),
        ..ListQuarantinedTestsRequest::default()
    };
    let listed = viewer.tests.list_quarantined_tests(list.clone()).await;
    let listed = listed.expect("a viewer may look").into_inner();
    assert_eq!(listed.quarantined_tests.len(), 1);
    let expired = ListQuarantinedTestsRequest {
        expired: true,
        ..list
    };
    let listed = viewer.tests.list_quarantined_tests(expired).await;
    assert_eq!(listed.expect("a list").into_inner().quarantined_tests, []);
    let refused = put(&mut viewer, good.clone())
        .await
        .expect_err("may only look");
    assert_eq!(refused.code(), Code::PermissionDenied);
    let release = ReleaseTestRequest {
        name: good.name.clone(),
        ..ReleaseTestRequest::default()
    };
    let refused = viewer.tests.release_test(release.clone()).await;
    assert_eq!(
        refused.expect_err("may only look").code(),
        Code::PermissionDenied
    );
    admin.tests.release_test(release).await.expect("released");

    let events = admin.audit.list_audit_events(ListAuditEventsRequest {
        resource: good.name.clone(),
        page_size: 100,
        ..ListAuditEventsRequest::default()
    });
    let events = events.await.expect("a list").into_inner().events;
    let done: Vec<_> = events
        .iter()
        .rev()
        .filter(|event| event.reason.is_empty())
        .map(|event| {
            let [before, after] = [&event.before_json, &event.after_json];
            (
                event.action.as_str(),
                before.contains("SHOP-1"),
                after.contains("SHOP-1"),
            )
        })
        .collect();
    assert_eq!(
        done,
        [
            ("TestService/QuarantineTest", false, true),
            ("TestService/ReleaseTest", true, false),
        ]
    );
    fixture.server.stop().await;
}

//! Reports that come in as artifacts, and what is told of their tests.

use std::time::Duration;

use muster_proto::v1::{
    CompareExecutionsRequest, FindTestsRequest, GetTestHistoryRequest, ListFlakyTestsRequest,
    ListReportsRequest, ListTestCasesRequest, ListTestCasesResponse, TestCase,
    attempt_report::Phase, report, test_case::State,
};
use tonic::Code;

use super::{
    agent::{Agent, sha256},
    fixture::{Clients, Fixture, run},
};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn junit(sum: &str) -> String {
    format!(
        "<testsuite name='suite'>
           <testcase classname='math' name='test_sum' time='0.5'>{sum}</testcase>
           <testcase classname='math' name='test_product' time='1.5'/>
         </testsuite>"
    )
}

const FAILURE: &str = "<failure message='1 is not 2' type='AssertionError'>line 3</failure>";

/// An execution that leaves these files; returns its name.
async fn leaves(agent: &mut Agent, admin: &mut Clients, files: &[(&str, &str)]) -> String {
    let made = admin.create(run()).await;
    let work = agent.work().await;
    agent.report(&work, Phase::Running).await;
    for (path, text) in files {
        let sha256 = sha256(text.as_bytes());
        let sent = agent.artifact(&work, path, text.as_bytes(), sha256).await;
        sent.expect("it is taken");
    }
    agent.complete(&work, b"").await;
    admin.finished(&made.name).await;
    made.name
}

async fn cases(clients: &mut Clients, execution: &str) -> ListTestCasesResponse {
    let request = ListTestCasesRequest {
        parent: execution.to_owned(),
        ..ListTestCasesRequest::default()
    };
    let read = async {
        loop {
            let listed = clients.tests.list_test_cases(request.clone()).await;
            let listed = listed.expect("a list").into_inner();
            if listed.pending_reports == 0 {
                return listed;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, read)
        .await
        .expect("all are read")
}

fn title(case: &TestCase) -> &str {
    case.test
        .as_ref()
        .map_or("", |test| test.display_name.as_str())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reports_are_found_by_content_and_their_tests_are_told_over_runs() {
    let fixture = Fixture::start().await;
    let mut admin = fixture.admin().await;
    let token = fixture.agent("east").await;
    let (mut agent, _) = Agent::connect(&fixture, &token, Vec::new()).await;
    let good = junit("");
    let bad = junit(FAILURE);
    let files = [
        ("out/results", good.as_str()),
        ("log.txt", "ok, this is no report\n"),
        ("cut.xml", "<testsuite><testcase name='only'/><testca"),
    ];
    let first = leaves(&mut agent, &mut admin, &files).await;
    let second = leaves(&mut agent, &mut admin, &[("junit.xml", &bad)]).await;

    let told = cases(&mut admin, &first).await;
    let counts = told.counts.expect("counts");
    assert_eq!((counts.passed, counts.failed), (3, 0));
    let request = ListReportsRequest {
        parent: first.clone(),
    };
    let reports = admin
        .tests
        .list_reports(request)
        .await
        .expect("a list")
        .into_inner();
    let states: Vec<_> = reports
        .reports
        .iter()
        .map(|report| (report.path.as_str(), report.format.as_str(), report.state()))
        .collect();
    assert_eq!(
        states,
        [
            ("cut.xml", "junit", report::State::Broken),
            ("out/results", "junit", report::State::Read),
        ]
    );
    assert!(!reports.reports[0].message.is_empty());

    let told = cases(&mut admin, &second).await;
    let [failed, passed] = told.test_cases.as_slice() else {
        panic!("{told:?}");
    };
    assert_eq!((title(failed), failed.state()), ("test_sum", State::Failed));
    assert_eq!(
        (title(passed), passed.state()),
        ("test_product", State::Passed)
    );
    assert_eq!(
        (failed.message.as_str(), failed.kind.as_str()),
        ("1 is not 2", "AssertionError")
    );
    assert_eq!(failed.stack, "line 3");
    assert!(
        failed
            .report
            .starts_with(&format!("{}/artifacts/", failed.execution))
    );

    let compare = CompareExecutionsRequest {
        base: first.clone(),
        name: second.clone(),
    };
    let compared = admin
        .tests
        .compare_executions(compare)
        .await
        .expect("an answer");
    let compared = compared.into_inner();
    assert_eq!((compared.new_failures.len(), compared.fixed.len()), (1, 0));
    assert_eq!((compared.added, compared.removed), (0, 1));

    let find = FindTestsRequest {
        parent: "projects/default".to_owned(),
        text: "MATH test_sum".to_owned(),
    };
    let found = admin
        .tests
        .find_tests(find.clone())
        .await
        .expect("an answer")
        .into_inner();
    let [test] = found.tests.as_slice() else {
        panic!("{found:?}");
    };
    let history = GetTestHistoryRequest {
        name: test.name.clone(),
        ..GetTestHistoryRequest::default()
    };
    let told = admin
        .tests
        .get_test_history(history.clone())
        .await
        .expect("a history");
    let told = told.into_inner();
    let states: Vec<_> = told
        .runs
        .iter()
        .map(|run| (run.execution.clone(), run.state()))
        .collect();
    assert_eq!(
        states,
        [
            (second.clone(), State::Failed),
            (first.clone(), State::Passed)
        ]
    );
    assert_eq!(told.runs[0].agent, "east");
    assert_eq!(told.statistics.expect("statistics").failing_since, second);

    // To another project there is nothing of it.
    let mut other = fixture.member_of_new_project("other").await;
    let refused = other
        .tests
        .get_test_history(history)
        .await
        .expect_err("not its own");
    assert_eq!(refused.code(), Code::NotFound);
    let own = FindTestsRequest {
        parent: "projects/other".to_owned(),
        ..find
    };
    let found = other
        .tests
        .find_tests(own)
        .await
        .expect("an answer")
        .into_inner();
    assert_eq!(found.tests, []);
    fixture.server.stop().await;
}

#[tokio::test]
async fn what_can_not_be_meant_is_refused_with_its_field() {
    let fixture = Fixture::start().await;
    let mut admin = fixture.admin().await;
    let parent = || "projects/default".to_owned();
    let short = FindTestsRequest {
        parent: parent(),
        text: "a".to_owned(),
    };
    let refused = admin
        .tests
        .find_tests(short)
        .await
        .expect_err("it is refused");
    assert!(refused.message().contains("text"), "{refused:?}");
    let odd = GetTestHistoryRequest {
        name: "projects/default/tests/zz".to_owned(),
        ..GetTestHistoryRequest::default()
    };
    let refused = admin
        .tests
        .get_test_history(odd)
        .await
        .expect_err("it is refused");
    assert_eq!(refused.code(), Code::InvalidArgument);
    let mixed = CompareExecutionsRequest {
        base: "projects/default/executions/a".to_owned(),
        name: "projects/other/executions/b".to_owned(),
    };
    let refused = admin
        .tests
        .compare_executions(mixed)
        .await
        .expect_err("it is refused");
    assert_eq!(refused.code(), Code::InvalidArgument);
    let flaky = ListFlakyTestsRequest {
        parent: parent(),
        ..ListFlakyTestsRequest::default()
    };
    let none = admin
        .tests
        .list_flaky_tests(flaky)
        .await
        .expect("an answer");
    assert_eq!(none.into_inner().tests, []);
    fixture.server.stop().await;
}

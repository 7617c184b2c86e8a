//! Lists of executions with filters, through the API.

use muster_proto::v1::{ListExecutionsRequest, execution::State};
use tonic::Code;

use super::fixture::{Clients, Fixture, WORKFLOW, run, run_text};

fn all() -> ListExecutionsRequest {
    ListExecutionsRequest {
        parent: "projects/default".to_owned(),
        ..ListExecutionsRequest::default()
    }
}

async fn find(clients: &mut Clients, request: ListExecutionsRequest) -> Vec<String> {
    let listed = clients.executions.list_executions(request).await;
    let listed = listed.expect("a list").into_inner().executions;
    listed.into_iter().map(|it| it.display_name).collect()
}

#[tokio::test]
async fn executions_are_found_by_what_is_known_of_them() {
    let fixture = Fixture::start().await;
    let mut admin = fixture.admin().await;
    let first = admin.create(run()).await;
    let other = WORKFLOW
        .replace("name: smoke", "name: smokeless")
        .replace("team: core", "team: web");
    admin.create(run_text(&other)).await;
    let found = |change: &dyn Fn(&mut ListExecutionsRequest)| {
        let mut request = all();
        change(&mut request);
        let mut admin = admin.clone();
        async move { find(&mut admin, request).await }
    };
    let both = ["smokeless-1", "smoke-1"];
    assert_eq!(
        found(&|it| "smoke".clone_into(&mut it.workflow_prefix)).await,
        both
    );
    assert_eq!(
        found(&|it| "smoke".clone_into(&mut it.workflow)).await,
        ["smoke-1"]
    );
    assert_eq!(found(&|it| it.labels = vec!["team".to_owned()]).await, both);
    assert_eq!(
        found(&|it| it.labels = vec!["team=web".to_owned()]).await,
        ["smokeless-1"]
    );
    assert_eq!(
        found(&|it| it.created_since = first.create_time).await,
        both
    );
    assert_eq!(
        found(&|it| it.created_until = first.create_time).await,
        [""; 0]
    );
    assert_eq!(
        found(&|it| it.states = vec![State::Queued.into()]).await,
        both
    );
    assert_eq!(
        found(&|it| it.finished_since = first.create_time).await,
        [""; 0]
    );
    assert_eq!(found(&|it| "east".clone_into(&mut it.agent)).await, [""; 0]);
    assert_eq!(
        found(&|it| "nothing".clone_into(&mut it.text)).await,
        [""; 0]
    );
    assert_eq!(
        found(&|it| "deploy".clone_into(&mut it.concurrency_group)).await,
        [""; 0]
    );
}

#[tokio::test]
async fn no_filter_finds_anything_of_another_project() {
    let fixture = Fixture::start().await;
    fixture.admin().await.create(run()).await;
    let mut other = fixture.member_of_new_project("other").await;
    let foreign = ListExecutionsRequest {
        labels: vec!["team=core".to_owned()],
        ..all()
    };
    let refused = other.executions.list_executions(foreign.clone()).await;
    assert_eq!(refused.expect_err("foreign").code(), Code::NotFound);
    for own in [
        foreign,
        ListExecutionsRequest {
            workflow_prefix: "sm".to_owned(),
            ..all()
        },
        all(),
    ] {
        let own = ListExecutionsRequest {
            parent: "projects/other".to_owned(),
            ..own
        };
        assert_eq!(find(&mut other, own).await, [""; 0]);
    }
}

#[tokio::test]
async fn a_page_token_belongs_to_its_filters() {
    let fixture = Fixture::start().await;
    let mut admin = fixture.admin().await;
    for _ in 0..3 {
        admin.create(run()).await;
    }
    let mut request = ListExecutionsRequest {
        page_size: 2,
        labels: vec!["team=core".to_owned()],
        ..all()
    };
    let page = admin.executions.list_executions(request.clone()).await;
    let page = page.expect("a page").into_inner();
    assert_eq!(page.executions.len(), 2);
    request.page_token = page.next_page_token;
    assert_eq!(find(&mut admin, request.clone()).await, ["smoke-1"]);
    request.labels = vec!["team".to_owned()];
    let refused = admin.executions.list_executions(request).await;
    let refused = refused.expect_err("other filters");
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("page_token"), "{refused}");
}

//! Calls of people and programs.

use muster_proto::v1::{
    BatchCreateExecutionsRequest, CancelExecutionRequest, CreateExecutionRequest,
    CreateExecutionResult, CreateWorkflowRequest, Execution, ListExecutionsRequest, QueuePolicy,
    UpdateWorkflowRequest, create_execution_request::Source, create_execution_result,
    execution::State,
};
use tonic::Code;

use super::fixture::{Fixture, WORKFLOW, run};

#[tokio::test]
async fn executions_are_numbered_listed_newest_first_and_paged() {
    let fixture = Fixture::start().await;
    let mut admin = fixture.admin().await;
    for number in 1..=5 {
        let made = admin.create(run()).await;
        assert_eq!(made.display_name, format!("smoke-{number}"));
        assert_eq!(made.state(), State::Queued);
        assert_eq!(made.steps.len(), 1);
    }
    let mut names = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListExecutionsRequest {
            parent: "projects/default".to_owned(),
            page_size: 2,
            page_token,
            ..ListExecutionsRequest::default()
        };
        let page = admin
            .executions
            .list_executions(request)
            .await
            .expect("a page")
            .into_inner();
        assert!(page.executions.len() <= 2);
        names.extend(page.executions.into_iter().map(|e| e.display_name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(
        names,
        ["smoke-5", "smoke-4", "smoke-3", "smoke-2", "smoke-1"]
    );
}

#[tokio::test]
async fn the_same_request_id_gives_the_same_execution_and_another_content_is_refused() {
    let fixture = Fixture::start().await;
    let mut admin = fixture.admin().await;
    let mut request = run();
    request.request_id = uuid::Uuid::now_v7().to_string();
    request
        .config
        .insert("greeting".to_owned(), "hi".to_owned());
    let first = admin.create(request.clone()).await;
    let second = admin.create(request.clone()).await;
    assert_eq!(first.uid, second.uid);
    let mut greets_otherwise = request.clone();
    greets_otherwise
        .config
        .insert("greeting".to_owned(), "bye".to_owned());
    let mut waits_otherwise = request;
    waits_otherwise.queue_policy = Some(QueuePolicy {
        max_wait: Some(prost_types::Duration {
            seconds: 7,
            nanos: 0,
        }),
    });
    for other in [greets_otherwise, waits_otherwise] {
        let status = admin
            .executions
            .create_execution(other)
            .await
            .expect_err("other content");
        assert_eq!(status.code(), Code::InvalidArgument);
    }
}

#[tokio::test]
async fn a_manifest_with_very_many_problems_is_refused_as_any_other() {
    let fixture = Fixture::start().await;
    let mut admin = fixture.admin().await;
    let mut request = run();
    if let Some(Source::Inline(inline)) = &mut request.source {
        for number in 0..500 {
            inline.manifest += &format!("  - nöthing{number}: true\n");
        }
    }
    let status = admin
        .executions
        .create_execution(request)
        .await
        .expect_err("bad fields");
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    assert!(status.message().contains("nöthing0"), "{status}");
}

#[tokio::test]
async fn a_bad_manifest_names_line_and_field_and_takes_no_number() {
    let fixture = Fixture::start().await;
    let mut admin = fixture.admin().await;
    let mut request = run();
    if let Some(Source::Inline(inline)) = &mut request.source {
        inline.manifest = WORKFLOW.replace("shell:", "shel:");
    }
    let status = admin
        .executions
        .create_execution(request)
        .await
        .expect_err("a bad field");
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(
        status.message().contains("spec.steps[0].shel"),
        "{}",
        status.message()
    );
    assert!(status.message().contains("line 11"), "{}", status.message());
    assert!(String::from_utf8_lossy(status.details()).contains("google.rpc.BadRequest"));
    assert_eq!(admin.create(run()).await.number, 1);
}

#[tokio::test]
async fn a_stored_workflow_runs_by_name_and_an_old_etag_is_refused() {
    let fixture = Fixture::start().await;
    let mut admin = fixture.admin().await;
    let parent = "projects/default".to_owned();
    let new = CreateWorkflowRequest {
        parent: parent.clone(),
        manifest: WORKFLOW.to_owned(),
        ..CreateWorkflowRequest::default()
    };
    let stored = admin
        .workflows
        .create_workflow(new)
        .await
        .expect("it is good")
        .into_inner();
    let stored = stored.workflow.expect("it is told");
    assert_eq!(
        (stored.revision, stored.labels["team"].as_str()),
        (1, "core")
    );
    let change = UpdateWorkflowRequest {
        name: stored.name.clone(),
        manifest: WORKFLOW.replace("hello", "hallo"),
        etag: stored.etag,
        ..UpdateWorkflowRequest::default()
    };
    admin
        .workflows
        .update_workflow(change.clone())
        .await
        .expect("the etag is new");
    let status = admin
        .workflows
        .update_workflow(change)
        .await
        .expect_err("the etag is old");
    assert_eq!(status.code(), Code::Aborted);
    let mut request = run();
    request.source = Some(Source::Workflow(stored.name));
    assert_eq!(admin.create(request).await.workflow_revision, 2);
}

#[tokio::test]
async fn a_queued_execution_is_canceled_at_once() {
    let fixture = Fixture::start().await;
    let mut admin = fixture.admin().await;
    let made = admin.create(run()).await;
    let request = CancelExecutionRequest {
        name: made.name.clone(),
        message: "not today".to_owned(),
        ..CancelExecutionRequest::default()
    };
    admin
        .executions
        .cancel_execution(request)
        .await
        .expect("it can be canceled");
    let canceled = admin.get(&made.name).await;
    assert_eq!(canceled.state(), State::Canceled);
    assert_eq!(canceled.message, "not today");
}

#[tokio::test]
async fn an_oversized_message_is_refused_with_its_limit() {
    let fixture = Fixture::start().await;
    let mut admin = fixture.admin().await;
    let mut request = run();
    if let Some(Source::Inline(inline)) = &mut request.source {
        inline.manifest = format!("{WORKFLOW}# {}", "x".repeat(2 << 20));
    }
    let status = admin
        .executions
        .create_execution(request.clone())
        .await
        .expect_err("too long");
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.message().contains("1048576"), "{}", status.message());
    if let Some(Source::Inline(inline)) = &mut request.source {
        inline.manifest = "x".repeat(5 << 20);
    }
    let status = admin
        .executions
        .create_execution(request)
        .await
        .expect_err("too large");
    assert!(status.message().contains("4194304"), "{}", status.message());
}

#[tokio::test]
async fn runs_of_one_call_are_accepted_or_refused_each_by_itself() {
    let fixture = Fixture::start().await;
    let mut admin = fixture.admin().await;
    let identified = CreateExecutionRequest {
        parent: String::new(),
        request_id: uuid::Uuid::now_v7().to_string(),
        ..run()
    };
    let unknown = CreateExecutionRequest {
        source: Some(Source::Workflow(
            "projects/default/workflows/nothing".to_owned(),
        )),
        ..run()
    };
    let elsewhere = CreateExecutionRequest {
        parent: "projects/elsewhere".to_owned(),
        ..run()
    };
    let batch = |requests| BatchCreateExecutionsRequest {
        parent: "projects/default".to_owned(),
        requests,
    };
    let mut service = admin.executions.clone();
    let mut created = async |requests| -> Vec<Result<Execution, (Code, String)>> {
        let made = service.batch_create_executions(batch(requests)).await;
        let results = made.expect("each has an answer").into_inner().results;
        let result = |one: CreateExecutionResult| match one.result.expect("one of them") {
            create_execution_result::Result::Created(made) => Ok(made.execution.expect("made")),
            create_execution_result::Result::Error(error) => {
                let details = String::from_utf8_lossy(&error.details).into_owned();
                assert!(!error.message.is_empty());
                Err((Code::from(error.code), details))
            }
        };
        results.into_iter().map(result).collect()
    };
    let first = created(vec![run(), unknown, identified.clone(), elsewhere]).await;
    assert!(first[0].is_ok());
    let refused = first[1].as_ref().expect_err("no workflow of that name");
    assert_eq!(refused.0, Code::NotFound);
    assert!(refused.1.contains("NOT_FOUND"), "{}", refused.1);
    let refused = first[3].as_ref().expect_err("another project");
    assert_eq!(refused.0, Code::InvalidArgument);
    assert!(refused.1.contains("parent"), "{}", refused.1);
    assert_eq!(admin.queued().await, 2);
    // The same request is the same execution, in a call of its own too.
    let again = created(vec![identified.clone()]).await;
    let name = |made: &Result<Execution, _>| made.as_ref().map(|made| made.name.clone()).ok();
    assert_eq!(name(&again[0]), name(&first[2]));
    let alone = CreateExecutionRequest {
        parent: "projects/default".to_owned(),
        ..identified
    };
    assert_eq!(Some(admin.create(alone).await.name), name(&first[2]));
    for count in [0, 101] {
        let refused = batch(vec![run(); count]);
        let refused = admin.executions.batch_create_executions(refused).await;
        let refused = refused.expect_err("too few or too many");
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains("1 to 100"), "{refused}");
    }
    let all = created(vec![run(); 100]).await;
    let numbers: std::collections::BTreeSet<i64> =
        all.iter().flatten().map(|made| made.number).collect();
    assert_eq!(numbers.len(), 100);
    let mut stranger = fixture.member_of_new_project("other").await;
    let refused = stranger
        .executions
        .batch_create_executions(batch(vec![run()]))
        .await;
    let refused = refused.expect("each has an answer").into_inner().results;
    let Some(create_execution_result::Result::Error(error)) = &refused[0].result else {
        panic!("another project's");
    };
    assert_eq!(Code::from(error.code), Code::NotFound);
}

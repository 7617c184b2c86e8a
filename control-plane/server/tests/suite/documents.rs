//! What comes with a workflow into an execution: requests as documents, the global template.

use muster_proto::v1::{
    CreateTemplateRequest, Execution, QueuePolicy, create_execution_request::Source,
    execution::State,
};

use crate::fixture::{Clients, Fixture, WORKFLOW, run};

const GLOBAL: &str = "\
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflowTemplate
metadata:
  name: base
spec:
  setup:
  - name: From the global template
    shell: echo base
";

const REQUEST: &str = "\
---
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflowExecution
metadata:
  name: now
spec:
  testWorkflow: {name: smoke}
  executionRequest:
    config: {greeting: from-document}
    tags: {a: document, b: document}
    target: {match: {region: east}}
";

async fn create(admin: &mut Clients, change: impl FnOnce(&mut String)) -> Execution {
    let mut request = run();
    if let Some(Source::Inline(inline)) = &mut request.source {
        change(&mut inline.manifest);
    }
    request.tags.insert("a".to_owned(), "request".to_owned());
    let made = admin.executions.create_execution(request).await;
    let made = made.expect("a good manifest").into_inner();
    made.execution.expect("an execution")
}

#[tokio::test]
async fn a_document_asks_for_a_run_below_what_the_call_says() {
    let fixture = Fixture::start().await;
    let mut admin = fixture.admin().await;
    let made = create(&mut admin, |text| text.push_str(REQUEST)).await;
    assert_eq!(made.config["greeting"], "from-document");
    assert_eq!(
        (&*made.tags["a"], &*made.tags["b"]),
        ("request", "document")
    );
    let target = made.target.expect("a target");
    assert_eq!(target.r#match["region"].values, ["east"]);
}

#[tokio::test]
async fn the_global_template_is_below_every_execution_of_projects_that_have_it() {
    let fixture = Fixture::start_with(|config| config.global_template = Some("base".into())).await;
    let mut admin = fixture.admin().await;
    let without = create(&mut admin, |_| {}).await;
    let warning = "there is no template `base`, the global one of this server";
    assert!(
        without.warnings[0].contains(warning),
        "{:?}",
        without.warnings
    );
    assert_eq!(without.steps.len(), 1);
    admin
        .templates
        .create_template(CreateTemplateRequest {
            parent: "projects/default".to_owned(),
            manifest: GLOBAL.to_owned(),
            request_id: String::new(),
        })
        .await
        .expect("a good template");
    let with = create(&mut admin, |text| assert_eq!(text, WORKFLOW)).await;
    assert_eq!(with.warnings, Vec::<String>::new());
    let names: Vec<&str> = with.steps.iter().map(|step| &*step.display_name).collect();
    assert_eq!(names, ["From the global template", "Greet"]);
}

#[tokio::test]
async fn a_workflow_says_how_long_its_executions_wait() {
    let fixture = Fixture::start().await;
    let mut admin = fixture.admin().await;
    let mut request = run();
    let patient = |wait: &str| {
        WORKFLOW.replace(
            "spec:\n",
            &format!("spec:\n  timeouts: {{queue: {wait}}}\n"),
        )
    };
    if let Some(Source::Inline(inline)) = &mut request.source {
        inline.manifest = patient("50ms");
    }
    let impatient = admin.executions.create_execution(request.clone()).await;
    request.request_id = String::new();
    request.queue_policy = Some(QueuePolicy {
        max_wait: Some(prost_types::Duration {
            seconds: 3600,
            nanos: 0,
        }),
    });
    let told = admin.executions.create_execution(request.clone()).await;
    let name = |made: tonic::Response<muster_proto::v1::CreateExecutionResponse>| {
        made.into_inner().execution.expect("an execution").name
    };
    let (impatient, told) = (name(impatient.expect("good")), name(told.expect("good")));
    let ended = admin.finished(&impatient).await;
    assert_eq!(
        (ended.state(), &*ended.reason),
        (State::Aborted, "QUEUE_DEADLINE")
    );
    assert_eq!(admin.get(&told).await.state(), State::Queued);
    if let Some(Source::Inline(inline)) = &mut request.source {
        inline.manifest = patient("0s");
    }
    let refused = admin
        .executions
        .create_execution(request)
        .await
        .expect_err("no time");
    assert!(
        refused
            .message()
            .contains("spec.timeouts.queue: expected more than 0s"),
        "{refused}"
    );
}

//! Which document of a file is run.

use std::collections::BTreeMap;

use super::*;

const HEAD: &str = "apiVersion: testworkflows.testkube.io/v1";

fn file(documents: &[&str]) -> Vec<Document> {
    let documents: Vec<String> = documents.iter().map(|it| format!("{HEAD}\n{it}")).collect();
    parse(&documents.join("\n---\n"), Limits::default()).unwrap()
}

fn workflow(name: &str) -> String {
    format!("kind: TestWorkflow\nmetadata: {{name: {name}}}\nspec: {{steps: [{{shell: x}}]}}")
}

fn request(name: &str, of: &str) -> String {
    format!(
        "kind: TestWorkflowExecution\nmetadata: {{name: {name}}}\nspec:\n  testWorkflow: {{name: {of}}}\n  \
         executionRequest: {{name: n, config: {{a: 1, b: x}}, tags: {{t: v}}, target: {{match: {{region: east}}}}}}"
    )
}

fn here(choice: &Choice) -> &str {
    match &choice.workflow {
        Chosen::Here(workflow) => &workflow.metadata.name,
        Chosen::Stored(_) => "",
    }
}

#[test]
fn the_request_of_a_file_says_what_is_run() {
    let two = [&*workflow("one"), &workflow("two"), &request("r", "two")];
    let choice = choose(file(&two), None).unwrap();
    assert_eq!(here(&choice), "two");
    let request = choice.request.unwrap();
    let given = BTreeMap::from([("b".to_owned(), "given".to_owned())]);
    let config = request.config_below(&given);
    assert_eq!(config["a"], "1");
    assert_eq!(config["b"], "given");
    assert_eq!(request.tags["t"], "v");
    assert_eq!(request.target().unwrap().matches["region"], ["east"]);
    assert_eq!(request.warnings.len(), 1, "{:?}", request.warnings);
}

#[test]
fn a_workflow_that_is_not_in_the_file_is_a_stored_one() {
    let choice = choose(file(&[&request("r", "elsewhere")]), None).unwrap();
    assert_eq!(choice.workflow, Chosen::Stored("elsewhere".to_owned()));
}

#[test]
fn a_name_chooses_requests_before_workflows() {
    let all = [
        &*workflow("a"),
        &workflow("b"),
        &request("b", "a"),
        &request("c", "b"),
    ];
    assert_eq!(here(&choose(file(&all), Some("b")).unwrap()), "a");
    assert_eq!(here(&choose(file(&all), Some("a")).unwrap()), "a");
    assert_eq!(here(&choose_member(file(&all), "b").unwrap()), "b");
    assert!(choose_member(file(&all), "c").is_err());
}

#[test]
fn several_without_a_name_are_refused_by_their_names() {
    let requests = [&*request("r1", "a"), &request("r2", "a"), &workflow("a")];
    let error = choose(file(&requests), None).unwrap_err().to_string();
    assert_eq!(
        error,
        "2 of kind TestWorkflowExecution are in it: name one of r1, r2"
    );
    let error = choose(file(&[&workflow("a"), &workflow("b")]), None).unwrap_err();
    assert!(error.to_string().ends_with("name one of a, b"), "{error}");
    let error = choose(file(&[&workflow("a")]), Some("x")).unwrap_err();
    assert!(error.to_string().contains("only a"), "{error}");
}

#[test]
fn foreign_kinds_do_not_make_the_others_unusable() {
    let trigger = "kind: TestTrigger\nmetadata: {name: t}\nspec: {resource: pod, what: [ever]}";
    let documents = file(&[trigger, &workflow("a")]);
    assert_eq!(documents[0].kind(), "TestTrigger");
    assert_eq!(documents[0].name(), "t");
    assert_eq!(here(&choose(documents, None).unwrap()), "a");
    let error = choose(file(&[trigger]), None).unwrap_err().to_string();
    assert_eq!(
        error,
        "there is no TestWorkflow in it; not supported yet: TestTrigger"
    );
}

#[test]
fn a_request_is_read_strictly() {
    let text = format!(
        "{HEAD}\nkind: TestWorkflowExecution\nmetadata: {{name: r}}\nspec:\n  testWorkflow: {{nam: x}}\n  \
         executionRequest: {{confg: {{}}, tags: [a]}}\n  steps: []\nstatus: {{}}\n"
    );
    let problems = parse(&text, Limits::default()).unwrap_err().to_string();
    for expected in [
        "line 5, column 17, spec.testWorkflow.name: the name of the workflow to run is missing",
        "unknown field `nam`; did you mean `name`?",
        "unknown field `confg`; did you mean `config`?",
        "spec.executionRequest.tags: expected a map, found a list",
        "spec.steps: unknown field `steps`",
    ] {
        assert!(problems.contains(expected), "{expected}\n{problems}");
    }
}

//! `muster lint` of suites, services and what instances know.

use crate::home::Home;

const MANIFEST: &str = r#"
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflow
metadata: {name: suite}
spec:
  steps:
  - execute:
      workflows:
      - {name: member, config: {greeting: hi, more: 1}}
      - {name: elsewhere}
---
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflow
metadata: {name: member}
spec:
  config: {greeting: {type: string}}
  services: {none: {timeout: 5s}}
  steps:
  - {template: {name: part}}
---
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflowTemplate
metadata: {name: part}
spec:
  steps:
  - shell: echo "{{ shardIndex }}"
"#;

#[test]
fn what_can_not_run_is_a_problem_and_what_may_be_stored_is_a_warning() {
    let home = Home::new();
    let file = home.write("suite.yaml", MANIFEST);
    let report = home.muster(["lint", &file, "--output", "json"]).expect(1);
    let report = report.json();
    let told = |list: &str| -> Vec<String> {
        let all = report[list].as_array().unwrap().iter();
        all.map(|it| it["message"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(
        told("problems"),
        [
            "`shardIndex` is known only in workers, services and members of a suite",
            "the service `none` has nothing to run",
        ]
    );
    assert_eq!(
        told("warnings"),
        [
            "there is no parameter `more` of the workflow `member`; it is passed on as text",
            "there is no workflow `elsewhere` among these files",
        ]
    );
}

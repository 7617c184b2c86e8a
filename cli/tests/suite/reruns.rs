//! Runs again of what failed, and executions found by their tests, on this machine.

use serde_json::Value;

use crate::home::{Home, manifest};

/// The children of an execution: index, and whether it was taken over.
fn children(home: &Home, name: &str) -> Vec<(i64, bool)> {
    let got = home.muster(["get", name, "--output", "json"]).expect(0);
    let got = got.json();
    let mut children: Vec<(i64, bool)> = got["children"]
        .as_array()
        .map_or_else(Vec::new, |all| all.iter().map(about).collect());
    children.sort_unstable();
    children
}

fn about(child: &Value) -> (i64, bool) {
    let origin = &child["origin"];
    let index = origin["index"].as_i64().unwrap_or(-1);
    (index, origin["takenOver"].as_bool().unwrap_or_default())
}

/// A worker or step that leaves a report of one test, which fails unless `fix` is set.
const REPORTS: &str = r#"
      n={{ index }}
      echo "index $n again of ${MUSTER_RERUN_OF:-nothing} with {{ rerun.pytest }}."
      code=0; failure=
      if [ $n = 1 ] && [ {{ config.fix }} != true ]; then code=1; failure='<failure message="no"/>'; fi
      echo "<testsuite><testcase classname='test_w' name='test_$n'>$failure</testcase></testsuite>" > /data/r$n.xml
      exit $code
"#;

fn workers() -> String {
    format!(
        "config: {{fix: {{type: string, default: 'no'}}}}\nsteps:\n- name: Work\n  parallel:\n    count: 3\n    \
         artifacts: {{paths: [/data/r*.xml]}}\n    shell: |{REPORTS}"
    )
}

#[test]
fn workers_that_passed_are_taken_over_and_their_tests_count() {
    let home = Home::new();
    let path = home.workflow("tree", &workers());
    home.muster(["run", &path]).expect(1);

    // It fails once more.
    let again = home.muster(["rerun", "tree-1", "--failed"]).expect(1);
    for line in [
        "worker 0 (1 of 3) passed before, taken over: tree-1.s1.0",
        "worker 2 (3 of 3) passed before, taken over: tree-1.s1.2",
    ] {
        assert!(again.stdout.contains(line), "{line}: {}", again.stdout);
    }
    assert_eq!(
        children(&home, "tree-2"),
        [(0, true), (1, false), (2, true)]
    );
    let worker = home.muster(["logs", "tree-2.s1.1"]).expect(0);
    let told = "index 1 again of tree-1.s1.1 with test_w.py::test_1.";
    assert!(worker.stdout.contains(told), "{}", worker.stdout);
    let tests = home.muster(["tests", "tree-2", "--all", "-o", "json"]);
    let counts = tests.expect(1).json()["counts"].clone();
    assert_eq!(
        (&counts["passed"], &counts["failed"]),
        (&2.into(), &1.into())
    );

    // What the second has taken over, the third takes over too.
    let fixed = ["rerun", "tree-2", "--failed", "--config", "fix=true"];
    home.muster(fixed).expect(0);
    assert_eq!(
        children(&home, "tree-3"),
        [(0, true), (1, false), (2, true)]
    );
    let got = home.muster(["get", "tree-3"]).expect(0);
    assert!(
        got.stdout.contains("what failed of tree-2"),
        "{}",
        got.stdout
    );
    assert!(
        got.stdout
            .contains("tree-1.s1.2  worker, 3 of 3, taken over"),
        "{}",
        got.stdout
    );
    let tests = home.muster(["tests", "tree-3", "--all", "-o", "json"]);
    assert_eq!(tests.expect(0).json()["counts"]["passed"], 3);

    let refused = home.muster(["rerun", "tree-3", "--failed"]);
    refused.expect_error(&["nothing to run again: all of tree-3 passed"]);
    let found = home.muster([
        "ls",
        "--test",
        "test_1",
        "--test-state",
        "failed",
        "-o",
        "json",
    ]);
    let found = found.expect(0).json();
    let names: Vec<_> = found["executions"].as_array().map_or_else(Vec::new, |all| {
        all.iter().map(|one| one["name"].clone()).collect()
    });
    assert_eq!(names, ["tree-2", "tree-1"]);
    let none = home.muster(["ls", "--test", "test_none"]).expect(0);
    assert!(
        none.stderr.contains("no executions match"),
        "{}",
        none.stderr
    );
}

#[test]
fn a_member_that_failed_runs_again_what_it_has_failed_itself() {
    let home = Home::new();
    let suite = "config: {fix: {type: string, default: 'no'}}\nsteps:\n- execute: {workflows: [{name: good}, {name: tree, config: {fix: '{{ config.fix }}'}}, {name: told, config: {fix: '{{ config.fix }}'}}]}";
    let all = [
        manifest("suite", suite),
        manifest("good", "steps: [{shell: echo good-runs}]"),
        manifest("tree", &workers()),
        manifest(
            "told",
            "config: {fix: {type: string}}\nsteps: [{shell: 'echo told {{ config.fix }}'}]",
        ),
    ];
    let file = home.write("suite.yaml", &all.join("---\n"));
    home.muster(["run", &file, "--name", "suite"]).expect(1);
    let again = ["rerun", "suite-1", "--failed", "--config", "fix=true"];
    let again = home.muster(again).expect(0);
    let told = "good passed before, taken over: good-1";
    assert!(again.stdout.contains(told), "{}", again.stdout);
    // The last one has passed with another value.
    assert_eq!(
        children(&home, "suite-2"),
        [(0, true), (1, false), (2, false)]
    );
    assert_eq!(
        children(&home, "tree-2"),
        [(0, true), (1, false), (2, true)]
    );
    let tests = home.muster(["tests", "suite-2", "--all", "-o", "json"]);
    assert_eq!(
        tests.expect(0).json()["counts"]["passed"],
        3,
        "through both"
    );
}

#[test]
fn a_tool_is_handed_the_tests_that_failed() {
    let home = Home::new();
    let spec = r#"
config: {fix: {type: string, default: "no"}}
steps:
- name: test
  artifacts: {paths: [report.xml]}
  shell: |
    set -- {{ rerun.pytest }}
    [ $# -gt 0 ] || set -- test_shop.py::test_a 'test_shop.py::test_b[it is]'
    echo "$# tests: $* {{ rerun.of }}"
    code=0
    echo '<testsuite>' > report.xml
    for test in "$@"; do
      failure=
      case $test in *test_b*) [ {{ config.fix }} = true ] || { failure='<failure message="no"/>'; code=1; };; esac
      echo "<testcase classname='test_shop' name='${test##*::}'>$failure</testcase>" >> report.xml
    done
    echo '</testsuite>' >> report.xml
    exit $code
"#;
    let path = home.workflow("shop", spec);
    let first = home.muster(["run", &path]).expect(1);
    assert!(first.stdout.contains("2 tests: "), "{}", first.stdout);
    let again = ["rerun", "shop-1", "--failed", "--config", "fix=true"];
    let again = home.muster(again).expect(0);
    let told = "1 tests: test_shop.py::test_b[it is] shop-1";
    assert!(again.stdout.contains(told), "{}", again.stdout);
    // Without --failed all of them run.
    let whole = home.muster(["rerun", "shop-1"]).expect(1);
    assert!(whole.stdout.contains("2 tests: "), "{}", whole.stdout);
    let got = home
        .muster(["get", "shop-3", "-o", "json"])
        .expect(0)
        .json();
    assert_eq!(got["rerun"]["name"], "shop-1");
    assert_eq!(got["rerun"]["failedOnly"], false);
}

#[test]
fn files_of_a_worker_that_is_taken_over_come_back_too() {
    let home = Home::new();
    let spec = r#"
config: {fix: {type: string, default: "no"}}
steps:
- name: Work
  parallel:
    matrix: {os: [linux, mac]}
    fetch: [{from: /data/out}]
    shell: |
      mkdir -p /data/out; echo "{{ matrix.os }} of {{ rerun.of }}." > /data/out/{{ index }}.txt
      test {{ index }} = 0 || test {{ config.fix }} = true
- name: Check
  shell: cat /data/out/*.txt
"#;
    let path = home.workflow("fetching", spec);
    home.muster(["run", &path]).expect(1);
    let again = ["rerun", "fetching-1", "--failed", "--config", "fix=true"];
    let again = home.muster(again).expect(0);
    let files = "linux of .\nmac of fetching-1.s1.1.\n";
    assert!(again.stdout.contains(files), "{}", again.stdout);
}

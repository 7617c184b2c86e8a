//! Tests in quarantine, from the workflow to the exit code: steps of shell scripts that write reports.

use serde_json::Value;

use crate::home::{Done, Home, until};

/// A tool that fails the tests that are named, and a step behind it.
const SPEC: &str = "\
config:
  failing: {type: string, default: ''}
  end: {type: string, default: exit 1}
  rest: {type: string, default: </testsuite>}
steps:
- name: test
  shell: |
    mkdir -p out
    {
      echo \"<testsuite><testcase classname='shop' name='test_passes'/>\"
      for name in {{ config.failing }}; do
        echo \"<testcase classname='shop' name='$name'><failure message='no'/></testcase>\"
      done
      echo '{{ config.rest }}'
    } > out/junit.xml
    {{ config.end }}
  artifacts: {paths: [out/*.xml]}
- name: behind
  condition: passed
  shell: echo the step behind it
";

fn run(home: &Home, config: &[&str], code: i32) -> Done {
    let mut line = vec!["run", "shop"];
    for one in config {
        line.extend(["--config", one]);
    }
    home.muster(line).expect(code)
}

/// A place with the workflow, in which two tests have failed once.
fn shop() -> Home {
    let home = Home::new();
    let file = home.workflow("shop", SPEC);
    home.muster(["apply", "-f", &file]).expect(0);
    let done = run(&home, &["failing=test_cart test_pay"], 1);
    assert!(
        !done.stdout.contains("the step behind it"),
        "{}",
        done.stdout
    );
    home
}

fn step(home: &Home, execution: &str) -> Value {
    let told = home
        .muster(["get", execution, "--output", "json"])
        .expect(0)
        .json();
    told["steps"][0].clone()
}

#[test]
fn a_run_passes_with_failures_in_quarantine_and_fails_with_any_other() {
    let home = shop();
    let add = ["quarantine", "add", "test_cart", "--reason", "SHOP-1"];
    home.muster(add).expect(0);
    let done = run(&home, &["failing=test_cart"], 0);
    assert!(
        done.stdout.contains("the step behind it"),
        "{}",
        done.stdout
    );
    let shown = format!("{}{}", done.stdout, done.stderr);
    for words in [
        "1 quarantined test failed",
        "1 failed (1 in quarantine)",
        "quarantined  shop",
    ] {
        assert!(shown.contains(words), "'{words}' not in: {shown}");
    }
    let told = step(&home, "shop-2");
    assert_eq!(
        (&told["state"], &told["exitCode"]),
        (&"passed".into(), &1.into()),
        "{told}"
    );
    assert_eq!(told["reason"], "QUARANTINED");

    // It is shown, and makes nothing look bad.
    let tests = home.muster(["tests", "shop-2"]).expect(0);
    assert!(
        tests.stdout.contains("quarantined") && tests.stdout.contains("SHOP-1"),
        "{}",
        tests.stdout
    );
    let tests = home
        .muster(["tests", "shop-2", "--output", "json"])
        .expect(0)
        .json();
    assert_eq!(tests["tests"][0]["quarantine"]["reason"], "SHOP-1");
    assert_eq!(tests["counts"]["quarantined"], 1);
    let history = home.muster(["history", "test_cart"]).expect(0);
    assert!(history.stdout.contains("quarantined"), "{}", history.stdout);

    // One more failure.
    let done = run(&home, &["failing=test_cart test_pay"], 1);
    assert!(
        !done.stdout.contains("the step behind it"),
        "{}",
        done.stdout
    );
    let shown = format!("{}{}", done.stdout, done.stderr);
    assert!(
        shown.contains("1 test failed beside 1 in quarantine"),
        "{shown}"
    );
    home.muster(["tests", "shop-3"]).expect(1);
    home.muster(["compare", "shop-2", "shop-3"]).expect(1);

    // A new failure of one in quarantine is none.
    run(&home, &["end=true"], 0);
    let compared = home
        .muster(["compare", "shop-4", "shop-2", "--output", "json"])
        .expect(0)
        .json();
    assert_eq!(compared["newFailures"], Value::Array(Vec::new()));
    assert_eq!(compared["quarantined"][0]["name"], "test_cart");

    // Out of it, it fails the run again; what was before stays as it was.
    home.muster(["quarantine", "rm", "test_cart"]).expect(0);
    run(&home, &["failing=test_cart"], 1);
    home.muster(["tests", "shop-2"]).expect(0);
}

#[test]
fn whatever_is_not_sure_fails_the_run() {
    let home = shop();
    home.muster(["quarantine", "add", "test_cart", "--reason", "SHOP-1"])
        .expect(0);
    let failing = "failing=test_cart";
    // The report is broken: the tool was cut off while it wrote.
    run(&home, &[failing, "rest=<testcase name="], 1);
    assert_eq!(step(&home, "shop-2")["reason"], "EXIT_CODE");
    // The tool was killed.
    run(&home, &[failing, "end=kill -9 $$"], 1);
    assert_eq!(step(&home, "shop-3")["reason"], "SIGNAL");
    run(&home, &[failing, "end=exit 137"], 1);
    // It failed for another reason than its tests.
    run(&home, &["end=exit 1"], 1);
    // There is no report.
    run(&home, &[failing, "end=rm out/junit.xml; exit 1"], 1);
    // And where all is well, nothing is made of it.
    run(&home, &[failing, "end=exit 2"], 0);
}

#[test]
fn a_quarantine_expires_and_can_be_for_one_workflow() {
    let home = shop();
    let add = ["quarantine", "add", "test_cart", "--reason", "SHOP-1"];
    home.muster([&add[..], &["--workflow", "other"]].concat())
        .expect(0);
    run(&home, &["failing=test_cart"], 1);
    home.muster(["quarantine", "rm", "test_cart"])
        .expect(1)
        .expect_error(&["was not found"]);
    home.muster(["quarantine", "rm", "test_cart", "--workflow", "other"])
        .expect(0);

    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(15);
    let soon = soon.to_string();
    home.muster([&add[..], &["--until", &soon]].concat())
        .expect(0);
    let listed = |more: &[&str]| {
        let line = [&["quarantine", "ls", "--output", "json"][..], more].concat();
        let listed = home.muster(line).expect(0).json();
        listed["quarantinedTests"].as_array().map_or(0, Vec::len)
    };
    until("it has expired", || match listed(&["--expired"]) {
        1 => Ok(()),
        count => Err(format!("{count} have")),
    });
    run(&home, &["failing=test_cart"], 1);
    assert_eq!((listed(&[]), listed(&["--expired"])), (0, 1));
    home.muster([&add[..], &["--for", "14d"]].concat())
        .expect(0);
    assert_eq!((listed(&[]), listed(&["--expired"])), (1, 0));
    let shown = home.muster(["quarantine", "ls"]).expect(0);
    assert!(shown.stdout.contains("SHOP-1"), "{}", shown.stdout);

    // What is not clear is an error that names what may be meant.
    home.muster(["quarantine", "add", "test_", "--reason", "x"])
        .expect(2)
        .expect_error(&["test_cart", "test_pay"]);
    home.muster(["quarantine", "add", "test_pay"]).expect(2);
    home.muster([&add[..], &["--for", "91d"]].concat())
        .expect(2)
        .expect_error(&["90 days"]);
}

#[test]
fn workers_are_judged_by_themselves() {
    let home = Home::new();
    let spec = "\
config:
  also: {type: string, default: ''}
steps:
- parallel:
    count: 2
    shell: |
      mkdir -p out
      name=test_worker{{ index }}; test {{ index }} = 0 || name=\"$name {{ config.also }}\"
      for one in $name; do
        echo \"<testcase classname='shop' name='$one'><failure message='no'/></testcase>\"
      done > out/cases
      { echo '<testsuite>'; cat out/cases; echo '</testsuite>'; } > out/junit.xml
      exit 1
    artifacts: {paths: [out/*.xml]}
";
    let file = home.workflow("crowd", spec);
    home.muster(["run", &file]).expect(1);
    for test in ["test_worker0", "test_worker1"] {
        home.muster(["quarantine", "add", test, "--reason", "SHOP-2"])
            .expect(0);
    }
    home.muster(["run", &file]).expect(0);
    let tests = home
        .muster(["tests", "crowd-2", "--output", "json"])
        .expect(0)
        .json();
    assert_eq!(tests["counts"]["quarantined"], 2);
    home.muster(["run", &file, "--config", "also=test_other"])
        .expect(1);
}

//! Services, workers and suites, on this machine.

use rustix::process::Signal;

use crate::home::Home;

#[test]
fn workers_get_files_use_services_and_give_files_back() {
    let home = Home::new();
    let path = home.workflow(
        "tree",
        r#"
services:
  keeper:
    count: 2
    readinessProbe: {exec: {command: [cat, /tmp/ready]}}
    shell: |
      echo "address $MUSTER_ADDRESS"; sleep 0.2; echo yes > /tmp/ready; exec sleep 600
steps:
- name: Prepare
  shell: |
    mkdir -p /data/in /data/out /testkube/outputs
    echo input > /data/in/a.txt; printf v1 > /testkube/outputs/version
- name: Work
  parallel:
    matrix: {browser: [chrome, firefox]}
    shards: {files: [a, b, c]}
    count: 2
    transfer: [{from: /data/in}]
    fetch: [{from: /data/out}]
    description: "{{ matrix.browser }} {{ shardIndex }}"
    shell: |
      cat /data/in/a.txt; mkdir -p /data/out
      echo "{{ matrix.browser }} {{ shard.files }} {{ step.prepare.outputs.version }} {{ index }}/{{ count }} {{ services.keeper.0.ip }} {{ services.keeper.1.ip }}" > /data/out/{{ index }}.txt
- name: Check
  shell: cat /data/out/*.txt
"#,
    );
    let done = home.muster(["run", &path]).expect(0);
    for line in [
        "chrome a,b v1 0/4 127.",
        "chrome c v1 1/4 127.",
        "firefox a,b v1 2/4 127.",
        "firefox c v1 3/4 127.",
    ] {
        assert!(done.stdout.contains(line), "{line}: {}", done.stdout);
    }
    home.expect_no_processes();
    let worker = home.muster(["logs", "tree-1.s2.3"]).expect(0);
    assert!(worker.stdout.contains("input\n"), "{}", worker.stdout);
    let whole = home.muster(["get", "tree-1.s2.3", "--workflow"]).expect(0);
    let told = "this worker is a part of its parent's workflow, of the step 's2'";
    assert!(whole.stderr.contains(told), "{}", whole.stderr);
    assert!(whole.stdout.contains("name: tree"), "{}", whole.stdout);
    let keeper = home.muster(["logs", "tree-1.keeper.0"]).expect(0);
    assert!(keeper.stdout.contains("address 127."), "{}", keeper.stdout);
    let keeper = home
        .muster(["get", "tree-1.keeper.1", "-o", "json"])
        .expect(0);
    assert_eq!(keeper.json()["state"], "passed");
}

#[test]
fn one_failing_worker_fails_the_step_and_is_named() {
    let home = Home::new();
    let path = home.workflow(
        "crew",
        r#"
steps:
- name: All
  parallel:
    count: 5
    shell: test {{ index }} != 3
- name: Anyway
  condition: always
  shell: echo went-on
"#,
    );
    let done = home.muster(["run", &path]).expect(1);
    assert!(
        done.stdout.contains("1 of 5 workers did not pass"),
        "{}",
        done.stdout
    );
    assert!(
        done.stdout.contains("muster logs crew-1.s1.3"),
        "{}",
        done.stdout
    );
    assert!(done.stdout.contains("went-on"), "{}", done.stdout);
}

#[test]
fn fail_fast_ends_the_other_workers() {
    let home = Home::new();
    let path = home.workflow(
        "fast",
        r#"
steps:
- parallel:
    count: 3
    failFast: true
    shell: |
      if [ {{ index }} = 0 ]; then exit 1; fi
      exec sleep 600
"#,
    );
    let done = home.muster(["run", &path]).expect(1);
    assert!(
        done.stdout.contains("were not waited for"),
        "{}",
        done.stdout
    );
    home.expect_no_processes();
    let other = home.muster(["get", "fast-1.s1.2", "-o", "json"]).expect(0);
    assert_eq!(other.json()["state"], "canceled");
}

#[test]
fn an_interrupt_ends_the_whole_tree() {
    let home = Home::new();
    let path = home.workflow(
        "tree",
        r#"
services: {s: {shell: exec sleep 600}}
steps:
- parallel:
    count: 2
    shell: |
      touch /tmp/began; exec sleep 600
"#,
    );
    let mut run = home.start(["run", &path]);
    run.prints("workers");
    run.signal(Signal::INT);
    run.wait().expect(4);
    home.expect_no_processes();
    let worker = home.muster(["get", "tree-1.s1.1", "-o", "json"]).expect(0);
    assert_eq!(worker.json()["state"], "canceled");
}

#[test]
fn a_service_that_is_not_ready_in_time_fails_its_step() {
    let home = Home::new();
    let path = home.workflow(
        "late",
        r#"
steps:
- name: With service
  services:
    web: {timeout: 1s, readinessProbe: {tcpSocket: {port: 1}}, shell: exec sleep 600}
  shell: echo never
"#,
    );
    let done = home.muster(["run", &path]).expect(1);
    assert!(
        done.stdout.contains("was not ready within 1s"),
        "{}",
        done.stdout
    );
    assert!(!done.stdout.contains("never\n"), "{}", done.stdout);
    home.expect_no_processes();
}

#[test]
fn suites_run_workflows_of_the_same_file_by_name_and_by_labels() {
    let home = Home::new();
    let document = |name: &str, labels: &str, spec: &str| {
        let spec: String = spec.lines().map(|line| format!("  {line}\n")).collect();
        format!(
            "apiVersion: testworkflows.testkube.io/v1\nkind: TestWorkflow\nmetadata: {{name: {name}, labels: {{{labels}}}}}\nspec:\n{spec}---\n"
        )
    };
    let service = "services: {s: {shell: exec sleep 600}}\n";
    let text = [
        document("all", "tier: fast", "steps:\n- execute:\n    workflows:\n    - name: one\n      config: {greeting: hello, more: 1}\n      matrix: {n: [1, 2]}\n    - selector: {matchExpressions: [{key: tier, operator: In, values: [fast]}]}\n"),
        document("one", "", &format!("config: {{greeting: {{type: string}}}}\n{service}steps: [{{shell: 'echo {{{{ config.greeting }}}}'}}]")),
        document("two", "tier: fast", &format!("{service}steps: [{{shell: echo two}}]")),
        document("loop", "", "steps: [{execute: {workflows: [{name: loop}]}}]"),
        document("none", "", "steps: [{execute: {workflows: [{selector: {matchLabels: {no: such}}}]}}]"),
    ]
    .concat();
    let path = home.write("suite.yaml", &text);
    let done = home.muster(["run", &path, "--name", "all"]).expect(0);
    assert!(
        done.stdout
            .contains("this workflow has the labels tier In fast too: it is left out"),
        "{}",
        done.stdout
    );
    let all = home.muster(["ls", "-o", "json"]).expect(0).json();
    assert_eq!(all["executions"].as_array().unwrap().len(), 4);
    let two = home.muster(["logs", "two-1"]).expect(0);
    assert!(two.stdout.contains("two\n"), "{}", two.stdout);
    let one = home.muster(["get", "one-2", "-o", "json"]).expect(0).json();
    let warning = one["warnings"][0].as_str().unwrap_or_default();
    assert!(
        warning.contains("there is no parameter `more`"),
        "{warning}"
    );
    let refused = home.muster(["run", &path, "--name", "one", "--config", "more=1"]);
    refused
        .expect(2)
        .expect_error(&["there is no parameter `more`"]);
    let one = home.muster(["logs", "one-2"]).expect(0);
    assert!(one.stdout.contains("hello\n"), "{}", one.stdout);
    let done = home.muster(["run", &path, "--name", "loop"]).expect(1);
    assert!(done.stdout.contains("loop → loop"), "{}", done.stdout);
    let done = home.muster(["run", &path, "--name", "none"]).expect(1);
    assert!(
        done.stdout
            .contains("no other workflow has the labels no=such"),
        "{}",
        done.stdout
    );
}

/// A suite that does not wait for `later`, and ends before it.
fn detached(home: &Home, later: &str) -> String {
    let head = "apiVersion: testworkflows.testkube.io/v1\nkind: TestWorkflow\nmetadata: {name: ";
    home.write(
        "detached.yaml",
        &format!(
            "{head}first}}\nspec:\n  steps:\n  - execute: {{async: true, workflows: [{{name: later}}]}}\n  - shell: echo first-is-over\n\
             ---\n{head}later}}\nspec:\n  steps:\n  - shell: {later}\n"
        ),
    )
}

#[test]
fn a_run_here_waits_for_members_that_its_suite_does_not_wait_for() {
    let home = Home::new();
    let path = detached(&home, "sleep 1; echo later-is-over; exit 3");
    let done = home.muster(["run", &path, "--name", "first"]).expect(0);
    assert!(done.stdout.contains("first-is-over"), "{}", done.stdout);
    for text in ["waiting for what it has started", "later-1: failed"] {
        assert!(done.stderr.contains(text), "{}", done.stderr);
    }
    let later = home.muster(["logs", "later-1"]).expect(0);
    assert!(later.stdout.contains("later-is-over"), "{}", later.stdout);
    home.expect_no_processes();
}

#[test]
fn an_interruption_ends_members_that_nobody_else_waits_for() {
    let home = Home::new();
    let path = detached(&home, "exec sleep 600");
    let running = home.start(["run", &path, "--name", "first"]);
    crate::home::until("it waits", || {
        let said = running.stderr();
        match said.contains("waiting for what it has started") {
            true => Ok(()),
            false => Err(said),
        }
    });
    running.signal(Signal::INT);
    running.wait().expect(0);
    let later = home.muster(["get", "later-1", "-o", "json"]).expect(0);
    assert_eq!(later.json()["state"], "canceled");
    home.expect_no_processes();
}

#[test]
fn a_service_that_can_not_start_says_why_at_once() {
    let home = Home::new();
    let path = home.workflow(
        "missing",
        "services: {db: {command: [no-such-program], readinessProbe: {tcpSocket: {port: 1}}}}\n\
         steps: [{shell: 'true'}]",
    );
    let done = home.muster(["run", &path]).expect(1);
    for words in [
        "the service db ended before it was ready",
        "'no-such-program' is not in the container's PATH",
        "see `muster logs missing-1.db.0`",
    ] {
        assert!(done.stdout.contains(words), "{words}: {}", done.stdout);
    }
    let service = home.muster(["get", "missing-1.db.0", "-o", "json"]);
    let service = service.expect(0).json();
    assert_eq!(service["state"], "failed", "{service:#}");
    assert_eq!(service["steps"][0]["tries"], 1, "{service:#}");
    assert_eq!(service["steps"][0]["reason"], "NOT_FOUND");
}

#[test]
fn a_service_that_fails_again_and_again_is_named_with_its_failure() {
    let home = Home::new();
    let path = home.workflow(
        "crash",
        "services:\n  good: {shell: exec sleep 600}\n  \
         slow: {shell: exec sleep 600, readinessProbe: {tcpSocket: {port: 1}}}\n  \
         bad: {shell: exit 3, readinessProbe: {tcpSocket: {port: 1}}, timeout: 3s}\n\
         steps: [{shell: 'true'}]",
    );
    let done = home.muster(["run", &path]).expect(1);
    for words in [
        "service bad is started again: exit code 3; see `muster logs crash-1.bad.0`",
        "the service bad was not ready within 3s: 1 of 1 are not: exit code 3",
    ] {
        assert!(done.stdout.contains(words), "{words}: {}", done.stdout);
    }
    for (service, state, message) in [
        ("good", "passed", "its owner is over"),
        ("slow", "canceled", "stopped before it was ready"),
        ("bad", "failed", "it was never ready: exit code 3"),
    ] {
        let name = format!("crash-1.{service}.0");
        let found = home.muster(["get", &name, "-o", "json"]).expect(0).json();
        assert_eq!(
            (&found["state"], &found["message"]),
            (&state.into(), &message.into()),
            "{found:#}"
        );
    }
    home.expect_no_processes();
}

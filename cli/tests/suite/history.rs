//! What a place remembers: revisions of stored workflows, and what each execution ran.

use crate::home::{Home, manifest};

#[test]
fn every_change_is_a_revision_and_an_execution_shows_what_it_ran() {
    let home = Home::new();
    let spec = "config:\n  who: {type: string, default: all}\nuse: [{name: base}]\nsteps:\n- shell: echo hello {{ config.who }}";
    let template = manifest("base", "setup:\n- shell: echo from the template")
        .replace("kind: TestWorkflow", "kind: TestWorkflowTemplate");
    let text = format!("{}---\n{template}", manifest("greeter", spec));
    let file = home.write("w.yaml", &text);
    home.muster(["apply", "-f", &file]).expect(0);
    home.muster(["run", "greeter", "--config", "who=you"])
        .expect(0);
    home.write("w.yaml", &text.replace("hello", "bye"));
    home.muster(["apply", "-f", &file]).expect(0);

    let history = home.muster(["workflows", "history", "greeter", "--output", "json"]);
    let history = history.expect(0).json();
    let revisions: Vec<_> = history["manifests"]
        .as_array()
        .map_or_else(Vec::new, |all| {
            all.iter().map(|one| one["revision"].clone()).collect()
        });
    assert_eq!(revisions, [2, 1]);

    let ran = home.muster(["get", "greeter-1", "--workflow"]).expect(0);
    assert!(ran.stdout.contains("echo hello you"), "{}", ran.stdout);
    assert!(ran.stdout.contains("from the template"), "{}", ran.stdout);
    // It is a workflow of its own.
    let again = home.write("again.yaml", &ran.stdout);
    home.muster(["run", &again]).expect(0);

    // In the revision that it ran, and not in the newest one.
    let rerun = home.muster(["rerun", "greeter-1"]).expect(0);
    assert!(rerun.stdout.contains("hello you"), "{}", rerun.stdout);
    let other = home.muster(["rerun", "greeter-1", "--config", "who=me"]);
    let other = other.expect(0);
    assert!(other.stdout.contains("hello me"), "{}", other.stdout);
    // An inline one is kept too.
    let rerun = home.muster(["rerun", "greeter-2"]).expect(0);
    assert!(rerun.stdout.contains("hello you"), "{}", rerun.stdout);

    let stored = home.muster(["get", "workflow/greeter"]).expect(0);
    assert!(stored.stdout.contains("echo bye"), "{}", stored.stdout);
}

#[test]
fn a_sensitive_value_is_asked_for_again_and_members_run_again_alone() {
    let home = Home::new();
    let spec = "config:\n  token: {type: string, sensitive: true, default: dev}\nsteps:\n- shell: test {{ config.token }} = prod";
    let file = home.write("secret.yaml", &manifest("secret", spec));
    let given = ["--config", "token=prod"];
    home.muster([&["run", &file][..], &given].concat())
        .expect(0);
    let refused = home.muster(["rerun", "secret-1"]).expect(2);
    assert!(
        refused.stderr.contains("config.token"),
        "{}",
        refused.stderr
    );
    home.muster([&["rerun", "secret-1"][..], &given].concat())
        .expect(0);

    let suite = "steps:\n- execute: {workflows: [{name: member, config: {who: you, other: x}}]}";
    let member = "config:\n  who: {type: string, default: all}\nsteps:\n- shell: echo hello {{ config.who }}";
    let (suite, member) = (manifest("suite", suite), manifest("member", member));
    let file = home.write("suite.yaml", &format!("{suite}---\n{member}"));
    home.muster(["run", &file, "--name", "suite"]).expect(0);
    let rerun = home.muster(["rerun", "member-1"]).expect(0);
    assert!(rerun.stdout.contains("hello you"), "{}", rerun.stdout);
}

#[test]
fn a_list_as_a_cluster_exports_it_is_stored_one_by_one() {
    let home = Home::new();
    let items: String = ["one", "two"]
        .map(|name| {
            let text = manifest(name, "steps:\n- shell: |\n    echo a\n    echo b");
            format!("- {}\n", text.trim_end().replace('\n', "\n  "))
        })
        .concat();
    let file = home.write(
        "all.yaml",
        &format!("apiVersion: v1\nkind: List\nitems:\n{items}"),
    );
    home.muster(["lint", &file]).expect(0);
    home.muster(["apply", "-f", &file]).expect(0);
    let done = home.muster(["run", "two"]).expect(0);
    assert!(done.stdout.contains("a\nb\n"), "{}", done.stdout);
}

#[test]
fn differences_are_told_as_json_and_names_may_have_their_kind() {
    let home = Home::new();
    let file = home.workflow("a", "steps: [{shell: 'true'}]");
    let compared = |code| {
        let done = home.muster(["diff", "-f", &file, "--output", "json"]);
        done.expect(code).json()["manifests"][0].clone()
    };
    assert_eq!(compared(1)["action"], "created");
    home.muster(["apply", "-f", &file]).expect(0);
    let same = compared(0);
    assert_eq!(
        (&same["action"], &same["diff"]),
        (&"unchanged".into(), &"".into())
    );
    home.workflow("a", "steps: [{shell: 'false'}]");
    let other = compared(1);
    assert_eq!(other["action"], "configured");
    let diff = other["diff"].as_str().unwrap();
    assert!(
        diff.contains("'true'") && diff.contains("'false'"),
        "{diff}"
    );
    home.muster(["delete", "workflow/a", "b"]).expect(2);
    home.muster(["delete", "workflow"])
        .expect(2)
        .expect_error(&["workflow/NAME"]);
    home.muster(["delete", "workflow/a"]).expect(0);
    home.muster(["get", "workflow/a"]).expect(1);
}

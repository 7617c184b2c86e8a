//! Pinning, deleting, and what uses the space, on this machine's own data.

use crate::home::Home;

const PASS: &str = "\
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflow
metadata: {name: keep}
spec:
  steps:
  - shell: echo a log; echo data > file.txt
    artifacts: {paths: [file.txt]}
";

#[test]
fn a_pinned_execution_is_deleted_by_force_alone_and_space_is_summed_up() {
    let home = Home::new();
    let file = home.write("keep.yaml", PASS);
    home.muster(["run", &file]).expect(0);
    home.muster(["run", &file]).expect(0);
    let pinned = home.muster(["pin", "keep-1", "-m", "evidence"]).expect(0);
    assert!(
        pinned.stdout.contains("keep-1 is pinned"),
        "{}",
        pinned.stdout
    );
    let shown = home.muster(["get", "keep-1"]).expect(0).stdout;
    assert!(shown.contains("evidence"), "{shown}");
    let listed = home.muster(["ls"]).expect(0).stdout;
    assert_eq!(listed.matches("passed, pinned").count(), 1, "{listed}");
    let refused = home.muster(["delete", "keep-1"]).expect(1);
    assert!(refused.stderr.contains("unpin"), "{}", refused.stderr);

    let used = home
        .muster(["du", "--top", "1", "-o", "json"])
        .expect(0)
        .json();
    assert_eq!(used["workflows"][0]["name"], "keep");
    assert_eq!(used["total"]["executions"], 2);
    assert_eq!(used["total"]["artifactBytes"], 10);
    assert_eq!(used["executions"].as_array().map(Vec::len), Some(1));
    home.muster(["du"]).expect(0);
    home.muster(["du", "--all-projects"]).expect(0);

    let plan = ["retention", "plan", "--keep-count", "1", "-o", "json"];
    let planned = home.muster(plan).expect(0).json();
    assert_eq!(planned["deletions"].as_array().map(Vec::len), Some(0));
    home.muster(["unpin", "keep-1"]).expect(0);
    let planned = home.muster(plan).expect(0).json();
    assert_eq!(planned["deletions"][0]["execution"], "keep-1");
    assert_eq!(planned["deletions"][0]["reason"], "count");
    let orphans = home.muster(["retention", "orphans"]).expect(0);
    assert!(orphans.stderr.contains("0 orphans"), "{}", orphans.stderr);

    home.muster(["pin", "keep-1"]).expect(0);
    let deleted = home.muster(["delete", "keep-1", "--force"]).expect(0);
    assert!(
        deleted.stdout.contains("keep-1 deleted"),
        "{}",
        deleted.stdout
    );
    home.muster(["get", "keep-1"]).expect(1);
    home.muster(["logs", "keep-2"]).expect(0);
    home.muster(["delete", "workflow", "keep-2"]).expect(1);
}

#[test]
fn projects_say_how_long_they_keep_and_are_put_under_hold() {
    let home = Home::new();
    let file = home.write("keep.yaml", PASS);
    home.muster(["run", &file]).expect(0);
    let set = [
        "projects",
        "set",
        "default",
        "--keep-age",
        "90d",
        "--keep-count",
        "none",
        "--hold",
        "30d",
        "--hold-message",
        "an audit",
        "-o",
        "json",
    ];
    let set = home.muster(set).expect(0).json();
    let project = &set["projects"][0];
    assert_eq!(project["keep"]["maxAgeSeconds"], 90 * 24 * 3600);
    assert_eq!(project["keep"]["maxCount"], 0);
    let refused = home.muster(["delete", "keep-1", "--force"]).expect(1);
    assert!(refused.stderr.contains("an audit"), "{}", refused.stderr);
    let set = [
        "projects",
        "set",
        "default",
        "--keep-age",
        "default",
        "--hold",
        "none",
        "-o",
        "json",
    ];
    let set = home.muster(set).expect(0).json();
    assert!(set["projects"][0]["keep"]["maxAgeSeconds"].is_null());
    assert!(set["projects"][0]["holdUntil"].is_null());
    home.muster(["delete", "keep-1"]).expect(0);
    let wrong = home
        .muster(["projects", "set", "default", "--keep-age", "soon"])
        .expect(2);
    assert!(wrong.stderr.contains("14d"), "{}", wrong.stderr);
}

#[test]
fn a_workflow_says_by_annotations_how_long_it_is_kept() {
    let home = Home::new();
    let with = |annotations: &str| {
        let name = format!("metadata: {{name: keep, annotations: {{{annotations}}}}}");
        home.write("keep.yaml", &PASS.replace("metadata: {name: keep}", &name))
    };
    let file = with("muster.dev/keep-count: '1', muster.dev/keep-age: 1d");
    home.muster(["apply", "-f", &file]).expect(0);
    for _ in 0..2 {
        home.muster(["run", "keep"]).expect(0);
    }
    let planned = home
        .muster(["retention", "plan", "-o", "json"])
        .expect(0)
        .json();
    assert_eq!(planned["deletions"][0]["execution"], "keep-1");
    let file = with("muster.dev/keep-age: soon");
    let refused = home.muster(["apply", "-f", &file]).expect(2);
    assert!(
        refused.stderr.contains("muster.dev/keep-age"),
        "{}",
        refused.stderr
    );
}

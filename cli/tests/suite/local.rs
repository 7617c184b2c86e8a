//! Runs on this machine, without any server.

use serde_json::{Value, json};

use crate::home::{Home, manifest};

const SMOKE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/smoke.yaml");
const SUITE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/suite.yaml");
const RESTRICTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/restricted.yaml");

/// State of each step by its name.
fn states(document: &Value) -> Vec<(String, String)> {
    let steps = document["steps"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    steps
        .iter()
        .map(|step| (text(&step["name"]), text(&step["state"])))
        .collect()
}

fn step<'a>(document: &'a Value, name: &str) -> &'a Value {
    let steps = document["steps"].as_array().unwrap();
    steps.iter().find(|step| step["name"] == name).unwrap()
}

#[test]
fn the_smoke_example_passes_and_is_found_again() {
    let home = Home::new();
    let done = home
        .muster(["run", SMOKE, "--config", "greeting=salve"])
        .expect(0);
    for text in [
        "salve, world\n",
        "try 1 for world\n",
        "try 2 for world\n",
        "something is wrong\n",
        "cleaning up after 2 tries\n",
        "✗ known to fail",
        "exit code 3",
        "optional, does not count",
        "  artifacts/junit.xml\n",
        "verified",
        "muster logs smoke-1",
    ] {
        assert!(
            done.stdout.contains(text),
            "'{text}' not in:\n{}",
            done.stdout
        );
    }
    assert!(!done.stdout.contains('\x1b'), "no colours into a file");
    assert!(!done.stdout.contains("only when a step before has failed\n"));
    let order = [
        "salve, world",
        "✓ greet",
        "something is wrong",
        "cleaning up",
        "passed  smoke-1",
    ];
    let places = order.map(|text| {
        done.stdout
            .find(text)
            .unwrap_or_else(|| panic!("no {text}"))
    });
    assert!(places.is_sorted(), "{places:?}\n{}", done.stdout);

    let list = home.muster(["ls"]).expect(0).stdout;
    assert!(
        list.contains("smoke-1") && list.contains("passed"),
        "{list}"
    );
    let get = home.muster(["get", "smoke-1"]).expect(0).stdout;
    assert!(
        get.contains("known to fail") && get.contains("greeting=salve"),
        "{get}"
    );
    let log = home.muster(["logs", "smoke-1"]).expect(0).stdout;
    assert!(log.contains("salve, world\n"), "{log}");
    let part = home
        .muster(["logs", "smoke-1", "--step", "greet"])
        .expect(0)
        .stdout;
    assert!(part.contains("salve") && !part.contains("try 1"), "{part}");
    let events = home.muster(["events", "smoke-1"]).expect(0).stdout;
    assert!(events.lines().count() > 3, "{events}");
    home.muster(["wait", "smoke-1"]).expect(0);
    assert_eq!(home.processes(), Vec::<String>::new());
}

#[test]
fn artifacts_are_listed_and_downloaded() {
    let home = Home::new();
    home.muster(["run", SMOKE, "--artifacts", "out"]).expect(0);
    let listed = home
        .muster(["artifacts", "smoke-1", "-o", "json"])
        .expect(0)
        .json();
    let listed = listed["artifacts"].as_array().unwrap();
    assert_eq!(listed.len(), 2, "{listed:?}");
    for artifact in listed {
        let path = home
            .path()
            .join("out")
            .join(artifact["path"].as_str().unwrap());
        let length = std::fs::metadata(&path).unwrap().len();
        assert_eq!(json!(length), artifact["size"]);
    }
    let only = [
        "artifacts",
        "smoke-1",
        "--download",
        "xml",
        "--path",
        "**/*.xml",
    ];
    home.muster(only).expect(0);
    let path = listed.iter().map(|one| one["path"].as_str().unwrap());
    let path = path
        .clone()
        .find(|path| path.ends_with("junit.xml"))
        .unwrap();
    let text = std::fs::read_to_string(home.path().join("xml").join(path)).unwrap();
    assert!(text.starts_with("<testsuite"), "{text}");
}

#[test]
fn one_artifact_and_archives_come_whole_or_not_at_all() {
    let home = Home::new();
    home.muster(["run", SMOKE]).expect(0);
    let listed = home.muster(["artifacts", "smoke-1", "-o", "json"]);
    let listed = listed.expect(0).json();
    let first = &listed["artifacts"][0];
    let folder = home.muster(["artifacts", "smoke-1", "-o", "json", "--folder", "/"]);
    let folder = folder.expect(0).json();
    assert_eq!(folder["folders"][0]["path"], "artifacts", "{folder}");
    assert_eq!(folder["folders"][0]["files"], 2, "{folder}");
    let below = home.muster([
        "artifacts",
        "smoke-1",
        "-o",
        "json",
        "--folder",
        "artifacts",
    ]);
    let below = below.expect(0).json();
    assert_eq!(below["artifacts"].as_array().unwrap().len(), 2, "{below}");
    let report = below["artifacts"].as_array().unwrap().iter();
    let mut report = report.filter(|file| file["preview"] == "report");
    assert!(report.next().is_some(), "{below}");
    let path = first["path"].as_str().unwrap();
    let printed = home.muster(["artifacts", "smoke-1", path]).expect(0).stdout;
    assert_eq!(json!(printed.len()), first["size"]);
    home.muster(["artifacts", "smoke-1", path, "--to", "one"])
        .expect(0);
    let read = |name: &str| std::fs::read(home.path().join(name)).unwrap();
    assert_eq!(read("one"), printed.as_bytes());
    let none = home.muster(["artifacts", "smoke-1", "none", "--to", "one"]);
    assert!(none.expect(1).stderr.contains("there is no artifact"));
    assert_eq!(read("one"), printed.as_bytes(), "it stays as it was");

    for name in ["all.tar", "all.tar.gz", "all.zip"] {
        home.muster(["artifacts", "smoke-1", "--archive", name])
            .expect(0);
        assert!(read(name).len() > 100, "{name}");
    }
    assert_eq!(read("all.zip")[..2], *b"PK");
    let form = home.muster(["artifacts", "smoke-1", "--archive", "all.rar"]);
    assert!(form.expect(2).stderr.contains("--format"));
    let piped = home.muster([
        "artifacts",
        "smoke-1",
        "--archive",
        "-",
        "--path",
        "!**/*.none",
    ]);
    assert!(piped.expect(0).stdout.contains(path));
    let left = std::fs::read_dir(home.path()).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert!(
        left.iter()
            .all(|name| !name.to_string_lossy().ends_with(".part")),
        "{left:?}"
    );
}

#[test]
fn json_is_one_document_with_everything() {
    let home = Home::new();
    let done = home
        .muster(["run", SMOKE, "--output", "json", "--tag", "branch=main"])
        .expect(0);
    let document = done.json();
    assert_eq!(document["name"], "smoke-1");
    assert_eq!(document["state"], "passed");
    assert_eq!(document["tags"]["branch"], "main");
    assert_eq!(document["log"]["complete"], true);
    assert_eq!(document["log"]["sha256"].as_str().unwrap().len(), 64);
    assert_eq!(document["artifacts"].as_array().unwrap().len(), 2);
    for time in ["createTime", "startTime", "finishTime"] {
        assert!(document[time].is_string(), "{time}: {}", document[time]);
    }
    let failed = step(&document, "known to fail");
    assert_eq!(failed["state"], "failed");
    assert_eq!(failed["exitCode"], 3);
    assert_eq!(failed["optional"], true);
    assert_eq!(failed["reason"], "EXIT_CODE");
    assert_eq!(step(&document, "try until it works")["tries"], 2);
    assert_eq!(step(&document, "never reached")["state"], "skipped");
    assert_eq!(step(&document, "clean up")["state"], "passed");
    assert!(
        done.stderr.contains("hello, world"),
        "progress goes to stderr"
    );
    let again = home
        .muster(["get", "smoke-1", "-o", "json"])
        .expect(0)
        .json();
    for field in ["id", "state", "steps", "artifacts", "log"] {
        assert_eq!(again[field], document[field], "{field}");
    }
}

#[test]
fn a_failed_step_fails_the_run() {
    let home = Home::new();
    let spec = "steps:\n- name: bad\n  shell: exit 7\n- name: later\n  shell: echo later\n\
                after:\n- name: always\n  condition: always\n  shell: echo tidied";
    let path = home.workflow("a", spec);
    let done = home.muster(["run", &path]).expect(1);
    assert!(done.stdout.contains("failed  a-1"), "{}", done.stdout);
    assert!(done.stdout.contains("tidied\n"), "{}", done.stdout);
    let document = home.muster(["get", "a-1", "-o", "json"]).expect(0).json();
    let expected = [
        ("bad", "failed"),
        ("later", "skipped"),
        ("always", "passed"),
    ];
    let expected = expected.map(|(name, state)| (name.to_owned(), state.to_owned()));
    assert_eq!(states(&document), expected);
    assert_eq!(document["reason"], "STEP_FAILED");
    home.muster(["wait", "a-1"]).expect(1);
}

#[test]
fn quiet_shows_the_summary_alone() {
    let home = Home::new();
    let path = home.workflow("a", "steps:\n- name: one\n  shell: echo from-the-log");
    let done = home.muster(["run", &path, "--quiet"]).expect(0);
    assert!(done.stdout.starts_with("passed  a-1"), "{}", done.stdout);
    assert!(!done.stdout.contains("from-the-log"), "{}", done.stdout);
}

#[test]
fn one_workflow_of_many_is_chosen_by_name() {
    let home = Home::new();
    home.muster(["run", SUITE, "--name", "login"]).expect(0);
    let url = "url=http://localhost:3000";
    let done = home
        .muster(["run", SUITE, "--name", "checkout", "-c", url])
        .expect(0);
    assert!(
        done.stdout.contains("prepared /data/cart\n"),
        "{}",
        done.stdout
    );
    let list = home.muster(["ls", "-o", "json"]).expect(0).json();
    let names: Vec<_> = list["executions"].as_array().unwrap().iter().collect();
    assert_eq!(names[0]["name"], "checkout-1");
    assert_eq!(names[1]["name"], "login-1");
    let filtered = home
        .muster(["ls", "--workflow", "login", "-o", "json"])
        .expect(0);
    assert_eq!(filtered.json()["executions"].as_array().unwrap().len(), 1);
    let none = home
        .muster(["ls", "--state", "failed", "-o", "json"])
        .expect(0);
    assert_eq!(none.json()["executions"].as_array().unwrap().len(), 0);
}

#[test]
fn a_manifest_may_come_by_standard_input() {
    let home = Home::new();
    let text = manifest("piped", "steps:\n- shell: echo piped-in");
    let done = home.muster_with_input(["run", "-"], &text).expect(0);
    assert!(done.stdout.contains("piped-in\n"), "{}", done.stdout);
}

#[test]
fn settings_of_clusters_are_warned_of_on_a_laptop() {
    let home = Home::new();
    let done = home.muster(["run", RESTRICTED, "-o", "json"]).expect(0);
    let warnings = done.json()["warnings"].to_string();
    assert!(
        warnings.contains("image") && warnings.contains("securityContext"),
        "{warnings}"
    );
}

#[test]
fn steps_do_not_see_the_environment_of_the_user() {
    let home = Home::new();
    let path = home.workflow("a", "steps:\n- shell: env; echo \"CI is $CI\"");
    let done = home.muster(["run", &path]).expect(0);
    assert!(done.stdout.contains("CI is 1\n"), "{}", done.stdout);
    assert!(!done.stdout.contains("must-not-leak"), "{}", done.stdout);
}

#[test]
fn bytes_of_the_log_reach_a_file_untouched() {
    let home = Home::new();
    let path = home.workflow(
        "a",
        "steps:\n- name: x\n  shell: printf 'a\\033[31mb\\377\\000\\303\\r\\n'",
    );
    home.muster(["run", &path]).expect(0);
    for raw in [None, Some("--raw")] {
        let arguments = ["logs", "a-1", "--step", "x"].into_iter().chain(raw);
        let logs = home.muster(arguments).expect(0);
        assert_eq!(logs.bytes, b"a\x1b[31mb\xff\0\xc3\r\n", "{raw:?}");
    }
}

#[test]
fn two_runs_at_once_share_the_data() {
    let home = Home::new();
    let spec = "steps:\n- shell: |\n    for i in 1 2 3 4 5; do echo \"line $i\"; sleep 0.2; done";
    let path = home.workflow("a", spec);
    let one = home.start(["run", &path, "-o", "json"]);
    let two = home.start(["run", &path, "-o", "json"]);
    let (one, two) = (one.wait().expect(0).json(), two.wait().expect(0).json());
    let mut names = [one["name"].as_str().unwrap(), two["name"].as_str().unwrap()];
    names.sort_unstable();
    assert_eq!(names, ["a-1", "a-2"]);
    for name in names {
        let log = home.muster(["logs", name]).expect(0).stdout;
        assert_eq!(log.matches("line ").count(), 5, "{log}");
    }
}

#[test]
fn nothing_but_results_is_left_in_the_data() {
    let home = Home::new();
    home.muster(["run", SMOKE]).expect(0);
    let left = std::fs::read_dir(home.data().join("runs"));
    let left: Vec<_> = left
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    assert_eq!(left, Vec::<std::path::PathBuf>::new());
    assert_eq!(home.processes(), Vec::<String>::new());
}

#[test]
fn a_reader_that_leaves_early_does_not_stop_the_run() {
    let home = Home::new();
    let marker = home.path().join("marker");
    let spec = format!(
        "steps:\n- shell: |\n    for i in 1 2 3 4 5 6; do echo $i; sleep 0.2; done\n    echo > {}",
        "/data/artifacts-done"
    );
    let path = home.workflow("a", &spec);
    let program = env!("CARGO_BIN_EXE_muster");
    let script = format!(
        "{program} run {path} | head -1; echo ${{PIPESTATUS[0]}} > {}",
        marker.display()
    );
    let status = std::process::Command::new("bash")
        .args(["-c", &script])
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", home.path())
        .stdout(std::process::Stdio::null())
        .status();
    if status.is_err() {
        println!("skipped: there is no bash here");
        return;
    }
    let document = home.muster(["get", "a-1", "-o", "json"]).expect(0).json();
    assert_eq!(document["state"], "passed");
}

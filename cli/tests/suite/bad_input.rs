//! What is wrong is said once, with its place and its cure, before anything is started.

use crate::home::{Home, manifest};

/// Runs a file that must be refused, and checks that nothing came of it.
#[track_caller]
fn refused(file: &str, text: &str, arguments: &[&str], words: &[&str]) {
    let home = Home::new();
    let path = home.write(file, text);
    let mut all = vec!["run", path.as_str()];
    all.extend(arguments);
    let done = home.muster(all).expect(2);
    done.expect_error(words);
    let list = home.muster(["ls", "--output", "json"]).expect(0).json();
    assert_eq!(list["executions"], serde_json::json!([]));
    assert_eq!(home.processes(), Vec::<String>::new());
}

#[test]
fn a_file_that_is_not_yaml_is_refused_with_its_line() {
    refused(
        "bad.yaml",
        "kind: [\n  a: {",
        &[],
        &["bad.yaml:", "bad.yaml is refused"],
    );
}

#[test]
fn an_unknown_field_is_refused_with_its_path() {
    let text = manifest("a", "steps:\n- name: x\n  shel: echo");
    refused(
        "a.yaml",
        &text,
        &[],
        &["a.yaml:8:", "spec.steps[0]", "shel"],
    );
}

#[test]
fn a_wrong_type_is_refused_with_its_path() {
    let text = manifest("a", "steps:\n- name: x\n  shell: echo\n  optional: perhaps");
    refused(
        "a.yaml",
        &text,
        &[],
        &["a.yaml:9:", "spec.steps[0].optional"],
    );
}

#[test]
fn a_missing_config_value_is_refused_with_its_name() {
    let text = manifest(
        "a",
        "config:\n  url:\n    type: string\nsteps:\n- shell: echo {{ config.url }}",
    );
    refused("a.yaml", &text, &[], &["a.yaml", "url"]);
}

#[test]
fn an_unknown_config_value_is_refused_with_its_name() {
    let text = manifest("a", "steps:\n- shell: echo");
    refused("a.yaml", &text, &["--config", "colour=red"], &["colour"]);
}

#[test]
fn a_bad_expression_is_refused_with_its_path() {
    let text = manifest("a", "steps:\n- shell: echo\n  condition: passed &&");
    refused(
        "a.yaml",
        &text,
        &[],
        &["a.yaml:8", "spec.steps[0].condition"],
    );
}

#[test]
fn a_file_that_is_not_text_is_refused() {
    let home = Home::new();
    let path = home.path().join("a.yaml");
    std::fs::write(&path, b"kind: x\n\xff\xfe").unwrap();
    let done = home.muster(["run", "a.yaml"]).expect(2);
    done.expect_error(&["a.yaml:2", "UTF-8"]);
}

#[test]
fn a_missing_file_is_named() {
    let home = Home::new();
    let done = home.muster(["run", "nowhere.yaml"]).expect(2);
    done.expect_error(&["nowhere.yaml", "No such file"]);
}

#[test]
fn a_file_that_is_too_large_is_refused_with_the_limit() {
    let text = format!("# {}\n", "x".repeat(1 << 20));
    refused("a.yaml", &text, &[], &["1048576"]);
}

#[test]
fn one_of_several_workflows_must_be_chosen() {
    let text = format!(
        "{}---\n{}",
        manifest("one", "steps:\n- shell: echo"),
        manifest("two", "steps:\n- shell: echo")
    );
    refused("a.yaml", &text, &[], &["one, two", "--name"]);
    refused(
        "a.yaml",
        &text,
        &["--name", "three"],
        &["three", "one, two"],
    );
}

#[test]
fn flags_that_need_a_server_say_so() {
    let text = manifest("a", "steps:\n- shell: echo");
    refused("a.yaml", &text, &["--detach"], &["--detach", "--server"]);
    refused(
        "a.yaml",
        &text,
        &["--target", "a=b"],
        &["--target", "--server"],
    );
}

#[test]
fn a_pair_without_equals_sign_is_a_usage_error() {
    let home = Home::new();
    let done = home.muster(["run", "a.yaml", "--config", "url"]).expect(2);
    assert!(done.stderr.contains("NAME=VALUE"), "{}", done.stderr);
}

#[test]
fn programs_are_told_what_is_wrong_as_json() {
    let home = Home::new();
    let text = manifest(
        "a",
        "config:\n  n: {type: integer}\nsteps:\n- shell: '{{ config.m }}'",
    );
    let file = home.write("a.yaml", &text);
    let told = |arguments: &[&str]| {
        let mut all = arguments.to_vec();
        all.extend(["--output", "json"]);
        let error = home.muster(all).expect(2).json()["error"].clone();
        assert_eq!(error["exitCode"], 2, "{error}");
        error
    };
    let error = told(&["run", &file, "--config", "n=x"]);
    let problems = error["problems"].as_array().unwrap();
    let paths: Vec<_> = problems.iter().map(|it| it["path"].clone()).collect();
    assert_eq!(paths, ["config.n", "spec.steps[0].shell"], "{error}");
    assert!(problems[1]["line"].as_u64() > Some(0), "{error}");
    assert_eq!(
        problems[1]["message"],
        "there is no parameter `m`; did you mean `n`?"
    );
    // A stored one is named in the place of its file.
    home.muster(["apply", "-f", &file]).expect(0);
    let error = told(&["run", "a", "--config", "n=1"]);
    assert_eq!(error["problems"][0]["file"], "workflow/a", "{error}");
    assert_eq!(error["problems"][0]["path"], "spec.steps[0].shell");
    home.muster(["run", "a", "--config", "n=1"])
        .expect(2)
        .expect_error(&[
            "workflow/a:",
            "spec.steps[0].shell: there is no parameter `m`",
        ]);
    assert_eq!(
        told(&["run", "/nowhere.yaml"])["problems"][0]["file"],
        "/nowhere.yaml"
    );
}

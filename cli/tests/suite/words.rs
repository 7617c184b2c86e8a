//! Help, completions, version, contexts: commands that start nothing.

use std::os::unix::fs::PermissionsExt as _;

use crate::home::Home;

#[test]
fn exit_codes_are_a_topic_of_help() {
    let home = Home::new();
    let topic = home.muster(["help", "exit-codes"]).expect(0);
    let help = home.muster(["run", "--help"]).expect(0);
    for text in [&topic.stdout, &help.stdout] {
        assert!(text.contains("130  interrupted twice"), "{text}");
    }
}

#[test]
fn completions_know_the_commands_of_each_shell() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = home.muster(["completions", shell]).expect(0).stdout;
        assert!(
            script.contains("artifacts") && script.contains("detach"),
            "{shell}"
        );
    }
}

#[test]
fn the_bash_completion_is_a_valid_script() {
    let home = Home::new();
    let script = home.muster(["completions", "bash"]).expect(0).stdout;
    let path = home.write("completion.bash", &script);
    match std::process::Command::new("bash")
        .args(["-n", &path])
        .status()
    {
        Ok(status) => assert!(status.success()),
        Err(_) => println!("skipped: there is no bash here"),
    }
}

#[test]
fn the_version_is_that_of_the_package() {
    let home = Home::new();
    let document = home.muster(["version", "-o", "json"]).expect(0).json();
    assert_eq!(document["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn contexts_are_stored_privately_and_used() {
    let home = Home::new();
    let token = home.write("token", "mst_secret\n");
    let set = [
        "context",
        "set",
        "far",
        "--server",
        "http://127.0.0.1:1",
        "--token-file",
        &token,
    ];
    home.muster(set).expect(0);
    let file = home.path().join(".config/muster/config.json");
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // The first context is in use at once, so a list goes to its server, which is not there.
    home.muster(["ls"]).expect(6);
    home.muster(["--context", "local", "ls"]).expect(0);
    home.muster(["context", "use", "local"]).expect(0);
    home.muster(["ls"]).expect(0);
    let contexts = home.muster(["context", "ls", "-o", "json"]).expect(0);
    assert_eq!(contexts.json()["contexts"][0]["name"], "far");
    home.muster(["context", "rm", "far"]).expect(0);
    home.muster(["--context", "far", "ls"])
        .expect(2)
        .expect_error(&["far", "context set"]);
}

#[test]
fn a_context_for_another_server_forgets_the_token() {
    let home = Home::new();
    let set = |server: &str, more: &[&str]| {
        let mut all = vec!["context", "set", "x", "--server", server];
        all.extend(more);
        home.muster(all).expect(0);
    };
    set("http://127.0.0.1:1", &["--token", "mst_secret"]);
    set("http://127.0.0.1:2", &[]);
    let file = std::fs::read_to_string(home.path().join(".config/muster/config.json")).unwrap();
    assert!(!file.contains("mst_secret"), "{file}");
}

#[test]
fn an_empty_list_is_no_error() {
    let home = Home::new();
    let done = home.muster(["ls"]).expect(0);
    assert_eq!(done.stdout, "");
    assert!(done.stderr.contains("muster run FILE"), "{}", done.stderr);
}

#[test]
fn what_is_not_there_is_named() {
    let home = Home::new();
    for command in ["get", "logs", "artifacts", "cancel", "wait", "events"] {
        let done = home.muster([command, "nothing-1"]).expect(1);
        done.expect_error(&["nothing-1"]);
    }
}

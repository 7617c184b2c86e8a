//! A command that is killed without a word.

use rustix::process::Signal;

use crate::home::{Home, until};

#[test]
fn a_killed_run_leaves_no_process_and_is_aborted_later() {
    let home = Home::new();
    let path = home.workflow(
        "a",
        "steps:\n- shell: |\n    echo began\n    sleep 600 & wait",
    );
    let mut run = home.start(["run", &path]);
    run.prints("began\n");
    run.signal(Signal::KILL);
    assert_eq!(run.wait().code, None);
    home.expect_no_processes();
    // The lease has to end first; nobody has to keep a process alive for that.
    let document = until("the run is aborted", || {
        let document = home.muster(["get", "a-1", "-o", "json"]).expect(0).json();
        match document["state"].as_str() {
            Some("aborted") => Ok(document),
            _ => Err(document.to_string()),
        }
    });
    assert_eq!(document["reason"], "AGENT_LOST");
    home.muster(["wait", "a-1"]).expect(3);
    // What the dead run kept on disk goes with the next one.
    let other = home.workflow("b", "steps:\n- shell: echo fine");
    home.muster(["run", &other]).expect(0);
    let left = std::fs::read_dir(home.data().join("runs")).unwrap();
    let left: Vec<_> = left.flatten().map(|entry| entry.path()).collect();
    assert!(left.iter().all(|path| !path.is_dir()), "{left:?}");
}

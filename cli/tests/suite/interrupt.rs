//! Ctrl-C and SIGTERM.

use rustix::process::Signal;

use crate::home::Home;

const SPEC: &str = "steps:\n- name: long\n  shell: |\n    echo long-began\n    exec sleep 600\n\
                    after:\n- name: tidy\n  condition: always\n  shell: |\n    \
                    echo tidied-up\n    sleep ${TIDY:-0}";

#[test]
fn one_interrupt_cancels_and_after_steps_still_run() {
    for signal in [Signal::INT, Signal::TERM] {
        let home = Home::new();
        let path = home.workflow("a", SPEC);
        let mut run = home.start(["run", &path]);
        run.prints("long-began\n");
        run.signal(signal);
        let done = run.wait().expect(4);
        assert!(done.stdout.contains("interrupt again"), "{}", done.stdout);
        assert!(done.stdout.contains("tidied-up\n"), "{}", done.stdout);
        assert!(done.stdout.contains("canceled  a-1"), "{}", done.stdout);
        home.expect_no_processes();
        let document = home.muster(["get", "a-1", "-o", "json"]).expect(0).json();
        assert_eq!(document["state"], "canceled");
        home.muster(["wait", "a-1"]).expect(4);
    }
}

#[test]
fn a_second_interrupt_kills_everything() {
    let home = Home::new();
    let spec = SPEC.replace("${TIDY:-0}", "600");
    let path = home.workflow("a", &spec);
    let mut run = home.start(["run", &path]);
    run.prints("long-began\n");
    run.signal(Signal::INT);
    run.prints("tidied-up\n");
    run.signal(Signal::INT);
    let done = run.wait().expect(130);
    assert!(
        done.stdout.contains("killing everything"),
        "{}",
        done.stdout
    );
    home.expect_no_processes();
    let document = home.muster(["get", "a-1", "-o", "json"]).expect(0).json();
    assert_eq!(document["state"], "canceled");
}

#[test]
fn json_is_printed_after_an_interrupt_too() {
    let home = Home::new();
    let path = home.workflow(
        "a",
        "steps:\n- shell: |\n    echo began > /data/x\n    sleep 600",
    );
    let run = home.start(["run", &path, "-o", "json"]);
    crate::home::until("the run is under way", || {
        let list = home.muster(["ls", "-o", "json"]).expect(0).json();
        let state = list["executions"][0]["state"].to_string();
        if state.contains("running") {
            Ok(())
        } else {
            Err(state)
        }
    });
    run.signal(Signal::INT);
    let document = run.wait().expect(4).json();
    assert_eq!(document["state"], "canceled");
}

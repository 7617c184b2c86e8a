//! What a step of the process backend sees of the machine, and what it does not.

use muster_proto::runner::v1::Outcome;

use crate::{
    agent::Manner,
    plan::{Changed as _, files, keep, plan, script_in, shell, step},
    run::Run,
};

#[tokio::test]
async fn shared_folders_are_at_their_place_and_the_hosts_are_untouched() {
    let script = "pwd; touch /data/x /tmp/y; cat /data/input; test -d /testkube; test -x /bin/sh
        touch /z 2>/dev/null || echo closed";
    let steps = vec![
        step("s1", vec![files("/data/input", "input ")]),
        shell("s2", script),
        step(
            "s3",
            vec![script_in(
                1,
                "ls /data /tmp | grep -c '[xy]'; ls -a /.muster >/dev/null",
            )],
        ),
    ];
    let mut run = Run::start(&plan(steps));
    run.ends_as(Outcome::Passed).await;
    assert_eq!(run.output("s2"), "/data\ninput closed\n");
    assert_eq!(run.output("s3"), "2\n");
    assert!(run.path("data/x").exists() && run.path("tmp/y").exists());
    assert!(!std::path::Path::new("/data/x").exists());
    assert!(!std::path::Path::new("/tmp/y").exists());
}

#[tokio::test]
async fn processes_of_the_host_are_out_of_reach() {
    let script = "ps -e | wc -l; cat /proc/1/cmdline | tr '\\0' ' '";
    let mut run = Run::start(&plan(vec![shell("s1", script)]));
    run.ends_as(Outcome::Passed).await;
    let output = run.output("s1");
    let (count, first) = output.split_once('\n').unwrap();
    assert!(count.trim().parse::<u32>().unwrap() < 8, "{output}");
    assert!(first.contains("shim"), "{output}");
}

#[tokio::test]
async fn without_namespaces_steps_run_in_the_folder_of_the_run_and_the_log_says_so() {
    let steps = vec![
        step("s1", vec![files("/data/input", "input")]),
        shell("s2", "cat input; touch made").and(keep(Some(0), "/data", &["made"])),
    ];
    let mut run = Run::with(&plan(steps), Manner::default(), &["--no-namespaces"]);
    run.ends_as(Outcome::Passed).await;
    assert_eq!(run.output("s2"), "input");
    assert!(run.path("data/made").exists());
    assert!(run.agent.heard().artifacts.contains_key("made"));
    let remarks = run.agent.heard().remarks();
    assert!(remarks.contains("namespaces"), "{remarks}");
}

#[tokio::test]
async fn ordinary_user_keeps_its_id_in_the_sandbox() {
    let Some(mut run) = Run::as_nobody(&plan(vec![shell("s1", "id -u; touch /data/x; pwd")]))
    else {
        return;
    };
    run.ends_as(Outcome::Passed).await;
    assert_eq!(run.output("s1"), "65534\n/data\n");
}

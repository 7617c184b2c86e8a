//! What a step of the process backend sees of the machine, and what it does not.

use std::path::Path;

use muster_proto::runner::v1::Outcome;
use muster_spec::plan::{Operation, Plan};

use crate::{
    agent::Manner,
    plan::{Changed as _, files, keep, plan, script_in, shell, step},
    run::Run,
};

#[tokio::test]
async fn shared_folders_are_at_their_place_and_the_hosts_are_untouched() {
    let script = "pwd; touch /data/x /tmp/y; cat /data/input; test -d /testkube; test -x /bin/sh
        touch /z && echo open";
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
    assert_eq!(run.output("s2"), "/data\ninput open\n");
    assert_eq!(run.output("s3"), "2\n");
    assert!(run.path("data/x").exists() && run.path("tmp/y").exists());
    for path in ["/data/x", "/tmp/y", "/z"] {
        assert!(!Path::new(path).exists(), "{path}");
    }
}

/// Files and working directories outside of the shared folders.
fn outside() -> Plan {
    let script = "cat /some/path /etc/nginx-of-muster/nginx.conf /usr/lib/of-muster/x /etc/hostname
        pwd; echo more >>/some/path; cat /some/path; ls /root >/dev/null 2>&1 || echo no /root
        cat /etc/shadow >/dev/null 2>&1 || echo no shadow";
    let mut run = script_in(0, script);
    if let Operation::Run(run) = &mut run {
        run.working_dir = Some("/usr/src/of-muster/app".to_owned());
    }
    let all = vec![
        files("/some/path", "1\n"),
        files("/etc/nginx-of-muster/nginx.conf", "2\n"),
        files("/usr/lib/of-muster/x", "3\n"),
        files("/etc/hostname", "4\n"),
        run,
    ];
    let other = "cat /some/path 2>/dev/null || echo none; cat /etc/hostname";
    plan(vec![step("s1", all), step("s2", vec![script_in(1, other)])])
}

fn is_untouched(before: &str) {
    for path in [
        "/some",
        "/etc/nginx-of-muster",
        "/usr/lib/of-muster",
        "/usr/src/of-muster",
    ] {
        assert!(!Path::new(path).exists(), "{path}");
    }
    assert_eq!(std::fs::read_to_string("/etc/hostname").unwrap(), before);
}

#[tokio::test]
async fn what_a_step_writes_outside_of_shared_folders_is_its_containers_alone() {
    let hostname = std::fs::read_to_string("/etc/hostname").unwrap();
    let mut run = Run::start(&outside());
    run.ends_as(Outcome::Passed).await;
    let output = run.output("s1");
    let wanted = "1\n2\n3\n4\n/usr/src/of-muster/app\n1\nmore\n";
    assert!(output.starts_with(wanted), "{output}");
    assert_eq!(run.output("s2"), format!("none\n{hostname}"));
    is_untouched(&hostname);
}

#[tokio::test]
async fn an_ordinary_user_writes_outside_too_and_reads_no_more_than_before() {
    let hostname = std::fs::read_to_string("/etc/hostname").unwrap();
    let Some(mut run) = Run::as_nobody(&outside()) else {
        return;
    };
    run.ends_as(Outcome::Passed).await;
    let wanted = "1\n2\n3\n4\n/usr/src/of-muster/app\n1\nmore\nno /root\nno shadow\n";
    assert_eq!(run.output("s1"), wanted, "{}", run.agent.heard().remarks());
    assert_eq!(run.output("s2"), format!("none\n{hostname}"));
    is_untouched(&hostname);
}

#[tokio::test]
async fn without_overlays_new_folders_can_still_be_made_and_the_log_says_what_does_not_hold() {
    let steps = vec![step(
        "s1",
        vec![files("/some/path", "1"), script_in(0, "cat /some/path")],
    )];
    let mut run = Run::without_layers(&plan(steps));
    run.ends_as(Outcome::Passed).await;
    assert_eq!(run.output("s1"), "1");
    assert!(!Path::new("/some").exists());
    let remarks = run.agent.heard().remarks();
    assert!(remarks.contains("are the machine's own"), "{remarks}");
    assert!(remarks.contains("Linux 5.11"), "{remarks}");
}

#[tokio::test]
async fn a_folder_with_other_file_systems_stays_as_it_is_for_ordinary_users_and_is_told_of() {
    let steps = vec![step("s1", vec![files("/dev/shm/../no/x", "1")])];
    let Some(mut run) = Run::as_nobody(&plan(steps)) else {
        return;
    };
    run.ends_as(Outcome::Failed).await;
    let remarks = run.agent.heard().remarks();
    assert!(remarks.contains("/dev is the machine's own"), "{remarks}");
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

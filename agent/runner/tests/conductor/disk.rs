//! Disks of the pod that are full: that of the log, and that of the test.

use std::time::{Duration, Instant};

use muster_proto::runner::v1::{
    Outcome,
    StepState::{Aborted, Failed},
};
use muster_spec::plan::Operation;

use crate::{
    agent::Manner,
    plan::{Changed as _, keep, plan, shell, step},
    run::{Run, runs},
};

const MIB: u64 = 1 << 20;

/// Longer than a segment of the spool, shorter than two.
const OF_THE_LOG: u64 = 6 * MIB;

#[tokio::test]
async fn step_whose_log_the_disk_does_not_take_is_ended_and_what_came_before_is_whole() {
    let manner = Manner {
        deaf: true,
        ..Manner::default()
    };
    let go = "while [ ! -e /data/go ]; do sleep 0.05; done";
    let steps = vec![
        shell("s1", "trap '' TERM; seq 100000000; : full-disk-1"),
        // More than was left free: it finds the room of what is durable by then.
        shell("s2", &format!("{go}; seq 400000")).when("always"),
    ];
    let on_disk = Run::on_disk(("muster", OF_THE_LOG), &plan(steps), manner);
    let Some((mut run, _disk)) = on_disk else {
        return;
    };
    let patience = Instant::now() + Duration::from_secs(60);
    let mut began = false;
    while !began || runs("full-disk-1") {
        began |= runs("full-disk-1");
        assert!(Instant::now() < patience, "nothing ends the process");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    run.agent.listen_again();
    let most = usize::try_from(OF_THE_LOG).unwrap();
    run.agent
        .until("the log before", |heard| heard.length > OF_THE_LOG / 2)
        .await;
    run.agent
        .until("the end of the step", |heard| {
            heard.step("s1").state() == Aborted
        })
        .await;
    std::fs::write(run.path("data/go"), "").unwrap();
    // Length and SHA-256 are those of all that came.
    run.ends_as(Outcome::Failed).await;
    run.expect("s1", Aborted, "LOG");
    let reason = run.agent.heard().completed.clone().unwrap().reason;
    assert_eq!(reason, "STEP_BROKEN");
    let message = run.message("s1");
    assert!(message.contains("No space left on device"), "{message}");
    let printed = run.output("s1");
    assert!(printed.len() > most / 2 && printed.len() < most);
    assert!(numbers(100_000_000).starts_with(&printed), "not as printed");
    run.passed("s2");
    assert!(run.output("s2") == numbers(400_000), "not whole");
}

/// What `seq` prints, as much of it as any of these logs can hold.
fn numbers(count: u64) -> String {
    let lines = (1..=count.min(1_500_000)).map(|number| format!("{number}\n"));
    lines.collect()
}

#[tokio::test]
async fn files_and_archives_need_no_room_on_the_disk_of_the_test() {
    let make = "mkdir out; head -c 3000000 /dev/urandom > out/large; echo one > out/one.txt
        cat /dev/zero > filler; while head -c 4096 /dev/zero >> filler; do :; done; exit 1";
    let mut archive = keep(Some(0), "out", &["*"]);
    if let Operation::Artifacts(artifacts) = &mut archive {
        artifacts.compress = Some("all.tar.gz".to_owned());
    }
    let steps = vec![
        shell("s1", make).and(keep(Some(0), "out", &["*"])),
        step("s2", vec![archive]).when("always"),
        // From the conductor, where no container is.
        step("s3", vec![keep(None, "/data/out", &["one*"])]).when("always"),
    ];
    let on_disk = Run::on_disk(("data", 8 * MIB), &plan(steps), Manner::default());
    let Some((mut run, disk)) = on_disk else {
        return;
    };
    run.ends_as(Outcome::Failed).await;
    run.expect("s1", Failed, "EXIT_CODE");
    let free = rustix::fs::statvfs(disk.path()).unwrap().f_bavail;
    assert_eq!(free, 0, "the disk is full");
    run.passed("s2");
    run.passed("s3");
    let heard = run.agent.heard();
    let names: Vec<&str> = heard.artifacts.keys().map(String::as_str).collect();
    assert_eq!(names, ["all.tar.gz", "large", "one.txt"]);
    assert_eq!(heard.artifacts["large"].len(), 3_000_000);
    let plain = flate2::read::GzDecoder::new(&heard.artifacts["all.tar.gz"][..]);
    let mut inside = tar::Archive::new(plain);
    let mut inside = inside.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut content = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut content).unwrap();
        content
    });
    assert!(inside.next().unwrap() == heard.artifacts["large"]);
    assert_eq!(inside.next().unwrap(), b"one\n");
    assert!(inside.next().is_none());
}

//! Every byte arrives, whatever happens on the way.

use std::{
    fs,
    time::{Duration, Instant},
};

use muster_proto::runner::v1::{LogStream, Outcome, StepState::Canceled};
use sha2::{Digest as _, Sha256};

use crate::{
    agent::Manner,
    plan::{plan, shell},
    run::{Run, runs},
};

const MIB: u64 = 1 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundred_megabytes_arrive_whole_through_connections_that_break() {
    let script = "head -c 104857600 /dev/urandom > /data/blob
        cat /data/blob; sha256sum < /data/blob >&2";
    let manner = Manner {
        cuts: vec![1, MIB + 1, 20 * MIB, 30 * MIB + 17],
        ..Manner::default()
    };
    let mut run = Run::with(&plan(vec![shell("s1", script)]), manner, &[]);
    run.ends_as(Outcome::Passed).await;
    let heard = run.agent.heard();
    assert_eq!(heard.connections, 5);
    let of = |stream: LogStream| {
        let chunks = heard
            .chunks
            .iter()
            .filter(move |log| log.stream() == stream);
        chunks
            .flat_map(|log| log.data.to_vec())
            .collect::<Vec<u8>>()
    };
    let blob = of(LogStream::Stdout);
    assert_eq!(blob.len(), 100 << 20);
    let digest: String = Sha256::digest(&blob)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let told = String::from_utf8(of(LogStream::Stderr)).unwrap();
    assert_eq!(told.split_whitespace().next(), Some(digest.as_str()));
}

#[tokio::test]
async fn flood_waits_for_a_slow_agent_with_bounded_memory_and_disk() {
    let script = "head -c 67108864 /dev/zero; echo end > /data/end";
    let manner = Manner {
        deaf: true,
        ..Manner::default()
    };
    let limit = (4 * MIB).to_string();
    let options = ["--spool-limit", limit.as_str()];
    let mut run = Run::with(&plan(vec![shell("s1", script)]), manner, &options);
    let spool = run.path("muster/spool");
    let expected = 4 * MIB - 65_536..5 * MIB;
    for _ in 0..600 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        if folder_size(&spool) >= expected.start {
            break;
        }
    }
    // It is full, and stays as it is.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let size = folder_size(&spool);
    assert!(expected.contains(&size), "{size} bytes wait");
    assert!(!run.path("data/end").exists(), "the test did not wait");
    let status = fs::read_to_string(format!("/proc/{}/status", run.pid())).unwrap();
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < 40_000, "{peak} kB resident at most");
    run.agent.listen_again();
    run.ends_as(Outcome::Passed).await;
    assert_eq!(run.output("s1").len(), 64 << 20);
}

/// Cancels a step that waits for a full log, and waits until its process has ended though nobody
/// takes the log.
async fn cancel_with_a_full_log(script: &str, mark: &str) {
    let manner = Manner {
        deaf: true,
        ..Manner::default()
    };
    let options = ["--spool-limit", "300000", "--grace", "500ms"];
    let mut run = Run::with(&plan(vec![shell("s1", script)]), manner, &options);
    let mut size = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let now = folder_size(&run.path("muster/spool"));
        if now == size && size > 200_000 {
            break;
        }
        size = now;
    }
    assert!(runs(mark));
    run.agent.cancel(false);
    let patience = Instant::now() + Duration::from_secs(20);
    while runs(mark) {
        assert!(Instant::now() < patience, "the process heard no signal");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    run.agent.listen_again();
    run.ends_as(Outcome::Canceled).await;
    run.expect("s1", Canceled, "CANCELED");
}

#[tokio::test]
async fn step_that_waits_for_a_full_log_can_be_canceled() {
    cancel_with_a_full_log("trap '' TERM; cat /dev/zero; : full-log-1", "full-log-1").await;
}

#[tokio::test]
async fn step_that_fills_the_log_with_short_lines_can_be_canceled() {
    let script = "trap '' TERM; while :; do echo x; done; : full-log-2";
    cancel_with_a_full_log(script, "full-log-2").await;
}

#[tokio::test]
async fn agent_that_is_away_does_not_disturb_the_test() {
    let manner = Manner {
        cuts: vec![1],
        ..Manner::default()
    };
    let script = "for i in $(seq 20); do echo line $i; sleep 0.02; done";
    let mut run = Run::with(&plan(vec![shell("s1", script)]), manner, &[]);
    run.ends_as(Outcome::Passed).await;
    let expected: String = (1..=20).map(|line| format!("line {line}\n")).collect();
    assert_eq!(run.output("s1"), expected);
}

fn folder_size(folder: &std::path::Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.metadata().ok())
        .map(|file| file.len())
        .sum()
}

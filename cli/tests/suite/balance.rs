//! Shards that are balanced by the durations of earlier runs, on this machine.

use crate::home::{Done, Home};

const SHARDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/shards.yaml");

/// What the workers of a run have printed, by their names in its log.
fn workers(home: &Home, run: &Done) -> Vec<Vec<String>> {
    let names = run.stdout.lines().filter_map(|line| {
        let (_, rest) = line.split_once("worker ")?;
        let (_, name) = rest.split_once(" passed: ")?;
        Some(name.trim().to_owned())
    });
    let mut names: Vec<String> = names.collect();
    names.sort();
    let files = |name: &String| {
        let log = home.muster(["logs", name]).expect(0).stdout;
        let ran = log.lines().filter_map(|line| line.split_once("runs "));
        ran.map(|(_, file)| file.trim().to_owned()).collect()
    };
    names.iter().map(files).collect()
}

#[test]
fn the_second_run_is_split_by_what_the_first_has_measured() {
    let home = Home::new();
    let first = home.muster(["run", SHARDS]).expect(0);
    let told = "shards are split evenly: no earlier run of this workflow";
    assert!(first.stdout.contains(told), "{}", first.stdout);
    assert_eq!(
        workers(&home, &first),
        [["checkout.sh", "login.sh"], ["search.sh", "signup.sh"]],
        "{}",
        first.stdout
    );
    let second = home.muster(["run", SHARDS]).expect(0);
    for told in [
        "balanced by the durations of the last run: 4 of 4 values are known",
        "shard 1 of 2: 1 files, about ",
        "worker 1 (shard 2 of 2: 3 files, about ",
    ] {
        assert!(second.stdout.contains(told), "{told}: {}", second.stdout);
    }
    assert_eq!(
        workers(&home, &second),
        [
            vec!["checkout.sh"],
            vec!["login.sh", "search.sh", "signup.sh"]
        ],
        "{}",
        second.stdout
    );
    let workers = home
        .muster(["ls", "--children", "shards-2", "--output", "json"])
        .expect(0);
    assert!(
        workers.stdout.contains("shard 1 of 2: 1 files, about "),
        "{}",
        workers.stdout
    );
}

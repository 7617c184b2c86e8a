//! What is stored and is not what was stored: it is told, and nothing is made of it.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::home::Home;

const SMOKE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/smoke.yaml");

/// All files in a folder and below it.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    let (folders, mut found): (Vec<_>, Vec<_>) = paths.partition(|path| path.is_dir());
    found.extend(folders.iter().flat_map(|folder| files(folder)));
    found
}

/// Flips a bit in the middle of each file.
fn damage(folder: &Path) {
    let all = files(folder);
    assert!(!all.is_empty(), "{} has no files", folder.display());
    for file in all {
        let mut bytes = std::fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        if let Some(byte) = bytes.get_mut(middle) {
            *byte ^= 0x10;
        }
        std::fs::write(&file, bytes).unwrap();
    }
}

#[test]
fn an_artifact_that_is_damaged_is_no_file_and_its_name_is_told() {
    let home = Home::new();
    home.muster(["run", SMOKE]).expect(0);
    damage(&home.data().join("blobs/artifacts"));
    let words = "what is stored of artifact '";
    let done = home.muster(["artifacts", "smoke-1", "--download", "out"]);
    done.expect(1)
        .expect_error(&[words, "is not what was collected"]);
    assert_eq!(files(&home.path().join("out")), Vec::<PathBuf>::new());
    let archive = ["artifacts", "smoke-1", "--archive", "all.zip"];
    home.muster(archive)
        .expect(1)
        .expect_error(&[words, "leave it out with"]);
    assert!(!home.path().join("all.zip").exists());
}

#[test]
fn a_log_that_is_damaged_is_told_at_once() {
    let home = Home::new();
    home.muster(["run", SMOKE]).expect(0);
    damage(&home.data().join("blobs/logs"));
    let began = Instant::now();
    let done = home.muster(["logs", "smoke-1"]).expect(1);
    done.expect_error(&["bytes 0–", "of the log are not what was stored"]);
    // A fault that passes would be tried twenty times.
    assert!(
        began.elapsed() < Duration::from_secs(15),
        "{:?}",
        began.elapsed()
    );
}

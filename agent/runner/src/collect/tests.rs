//! Trees as tests leave them, hostile ones too.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::{fs::symlink, net::UnixListener},
};

use super::*;

type Files = BTreeMap<String, Vec<u8>>;

fn run(request: Request, volumes: Volumes) -> (Files, Vec<String>) {
    let (files, problems, _) = run_through(request, volumes);
    (files, problems)
}

fn run_through(request: Request, volumes: Volumes) -> (Files, Vec<String>, Option<String>) {
    let (items, mut received) = mpsc::channel(1);
    let thread = std::thread::spawn(move || collect(&request, &volumes, items));
    let (mut files, mut problems, mut current) = (Files::new(), Vec::new(), String::new());
    let mut first = None;
    while let Some(item) = received.blocking_recv() {
        match item {
            Item::File { path, .. } => {
                let before = files.insert(path.clone(), Vec::new());
                assert!(before.is_none(), "{path} twice");
                current = path;
            }
            Item::Data(data) => files.get_mut(&current).unwrap().extend(data),
            Item::FileEnd => {}
            Item::End {
                problems: told,
                files: count,
                failed,
            } => {
                assert_eq!(count, files.len() as u64);
                problems = told;
                first = failed;
            }
        }
    }
    thread.join().unwrap();
    (files, problems, first)
}

fn request(base: &Path, patterns: &[&str]) -> Request {
    Request {
        base: base.to_owned(),
        patterns: patterns.iter().map(|text| (*text).to_owned()).collect(),
        archive: None,
        names_only: false,
        shared_only: false,
    }
}

fn tree() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    fs::create_dir_all(root.join("out/logs")).unwrap();
    fs::write(root.join("out/one.txt"), "one").unwrap();
    fs::write(root.join("out/empty"), "").unwrap();
    fs::write(root.join("out/logs/two.log"), vec![7; 1_000_000]).unwrap();
    fs::write(root.join("out/logs/secret.key"), "key").unwrap();
    fs::write(root.join("outside"), "outside").unwrap();
    folder
}

fn names(files: &Files) -> Vec<&str> {
    files.keys().map(String::as_str).collect()
}

#[test]
fn files_come_with_names_relative_to_the_base() {
    let folder = tree();
    let base = folder.path().join("out");
    let wanted = request(&base, &["**/*", "!**/*.key"]);
    let (files, problems) = run(wanted, Volumes::in_place());
    assert_eq!(names(&files), ["empty", "logs/two.log", "one.txt"]);
    assert_eq!(files["logs/two.log"], vec![7; 1_000_000]);
    assert!(problems.is_empty(), "{problems:?}");
}

#[test]
fn absolute_pattern_outside_of_the_base_keeps_its_whole_path() {
    let folder = tree();
    let pattern = folder.path().join("outside");
    let base = folder.path().join("out");
    let wanted = request(&base, &[pattern.to_str().unwrap()]);
    let (files, _) = run(wanted, Volumes::in_place());
    let expected = pattern.to_str().unwrap().trim_start_matches('/');
    assert_eq!(names(&files), [expected]);
}

#[test]
fn links_out_of_the_tree_and_special_files_are_told_and_left_out() {
    let folder = tree();
    let base = folder.path().join("out");
    symlink("../outside", base.join("escape")).unwrap();
    symlink("/etc", base.join("folder")).unwrap();
    symlink("none", base.join("dangling")).unwrap();
    symlink("logs/two.log", base.join("inside")).unwrap();
    let _listener = UnixListener::bind(base.join("socket")).unwrap();
    let (files, problems, failed) = run_through(request(&base, &["*"]), Volumes::in_place());
    assert_eq!(names(&files), ["empty", "inside", "one.txt"]);
    assert_eq!(problems.len(), 4, "{problems:?}");
    assert_eq!(failed, None);
}

#[test]
fn what_can_not_be_looked_into_is_more_than_left_out() {
    let folder = tree();
    let deep = folder.path().join("out").join("d/".repeat(202));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("file"), "").unwrap();
    let wanted = request(folder.path(), &["**/*"]);
    let (_, problems, failed) = run_through(wanted, Volumes::in_place());
    assert_eq!(failed.as_ref(), problems.first());
    assert!(failed.unwrap().ends_with(": too deep"));
}

#[test]
fn paths_of_the_language_lead_into_the_folder_of_the_run() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("data/x")).unwrap();
    fs::write(folder.path().join("data/x/file"), "content").unwrap();
    let volumes = Volumes::below(folder.path());
    let patterns = ["x/*", "/etc/hostname", "/data/link"];
    let mut wanted = request(Path::new("/data"), &patterns);
    symlink("/etc/hostname", folder.path().join("data/link")).unwrap();
    wanted.shared_only = true;
    let (files, problems) = run(wanted, volumes);
    assert_eq!(names(&files), ["x/file"]);
    assert_eq!(problems.len(), 2, "{problems:?}");
}

#[test]
fn archive_holds_all_files_once() {
    let folder = tree();
    let mut wanted = request(&folder.path().join("out"), &["**/*"]);
    wanted.archive = Some("all.tar.gz".to_owned());
    let (files, problems) = run(wanted, Volumes::in_place());
    assert_eq!(names(&files), ["all.tar.gz"]);
    assert!(problems.is_empty(), "{problems:?}");
    let plain = flate2::read::GzDecoder::new(&files["all.tar.gz"][..]);
    let mut found = Files::new();
    for entry in tar::Archive::new(plain).entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        found.insert(entry.path().unwrap().to_str().unwrap().to_owned(), content);
    }
    let expected = ["empty", "logs/secret.key", "logs/two.log", "one.txt"];
    assert_eq!(names(&found), expected);
    assert_eq!(found["logs/two.log"], vec![7; 1_000_000]);
}

#[test]
fn archive_without_files_is_not_made() {
    let folder = tree();
    let mut wanted = request(folder.path(), &["*.none"]);
    wanted.archive = Some("all.tar.gz".to_owned());
    assert_eq!(run(wanted, Volumes::in_place()).0, Files::new());
}

#[test]
fn broken_pattern_is_a_problem_not_an_end() {
    let wanted = request(Path::new("/data"), &["a{"]);
    let (files, problems) = run(wanted, Volumes::in_place());
    assert!(files.is_empty());
    assert_eq!(problems.len(), 1);
}

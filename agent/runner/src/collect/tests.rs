//! Trees as tests leave them, hostile ones too.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::{fs::symlink, net::UnixListener},
};

use muster_proto::runner::v1::MissingFile;

use super::*;

type Files = BTreeMap<String, Vec<u8>>;

fn run(request: Request, volumes: Volumes) -> (Files, Vec<String>) {
    let (files, problems, _) = run_through(request, volumes);
    (files, problems)
}

fn run_through(request: Request, volumes: Volumes) -> (Files, Vec<String>, Option<String>) {
    let (files, problems, first, _) = run_within(LIMITS, request, volumes);
    (files, problems, first)
}

/// What is missing, by path.
type Absent = BTreeMap<String, MissingFile>;

fn run_within(
    limits: Limits,
    request: Request,
    volumes: Volumes,
) -> (Files, Vec<String>, Option<String>, Absent) {
    let (items, mut received) = mpsc::channel(1);
    let thread = std::thread::spawn(move || collect_within(limits, &request, &volumes, items));
    let (mut files, mut problems, mut current) = (Files::new(), Vec::new(), String::new());
    let (mut first, mut absent) = (None, Absent::new());
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
                missing,
            } => {
                assert_eq!(count, files.len() as u64);
                problems = told;
                first = failed;
                let missing = missing.finish().into_iter();
                absent.extend(missing.map(|file| (file.path.clone(), file)));
            }
        }
    }
    thread.join().unwrap();
    (files, problems, first, absent)
}

/// Reasons of what is missing, by path.
fn reasons(absent: &Absent) -> Vec<(&str, &str)> {
    let files = absent.values();
    files
        .map(|file| (file.path.as_str(), file.reason.as_str()))
        .collect()
}

fn request(base: &Path, patterns: &[&str]) -> Request {
    Request {
        base: base.to_owned(),
        patterns: patterns.iter().map(|text| (*text).to_owned()).collect(),
        archive: None,
        names_only: false,
        shared_only: false,
        digest_from: 0,
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
    let (_, problems, failed, absent) = run_within(LIMITS, wanted, Volumes::in_place());
    assert_eq!(failed.as_ref(), problems.first());
    assert!(failed.unwrap().ends_with(": too deep"));
    let [(path, reason)] = reasons(&absent)[..] else {
        panic!("{absent:?}");
    };
    assert_eq!((&path[..8], reason), ("out/d/d/", "TOO_DEEP"));
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

#[test]
fn names_that_would_harm_are_told_on_one_line_and_left_out() {
    use std::os::unix::ffi::OsStrExt as _;
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path();
    let long = format!("{0}/{0}/{0}/{0}/{0}", "n".repeat(240));
    fs::create_dir_all(base.join(&long)).unwrap();
    fs::create_dir_all(base.join(".muster/transfer")).unwrap();
    for bad in ["new\nline", "esc\x1b[2J", ".muster/transfer/x"] {
        fs::write(base.join(bad), "x").unwrap();
    }
    fs::write(base.join(&long).join("deep"), "x").unwrap();
    fs::write(base.join(std::ffi::OsStr::from_bytes(b"caf\xe9")), "x").unwrap();
    for good in ["..a", "a b", "ü"] {
        fs::write(base.join(good), "x").unwrap();
    }
    let wanted = request(base, &["**/*"]);
    let (files, problems, failed, absent) = run_within(LIMITS, wanted, Volumes::in_place());
    assert_eq!(names(&files), ["..a", "a b", "ü"]);
    assert_eq!(problems.len(), 5, "{problems:?}");
    let (paths, all): (Vec<&str>, Vec<&str>) = reasons(&absent).into_iter().unzip();
    let cut = format!("{}…", &long[..MAX_NAME - "…".len()]);
    let expected = [
        ".muster/transfer/x",
        "caf\u{fffd}",
        r"esc\u{1b}[2J",
        r"new\nline",
        &cut,
    ];
    assert_eq!(paths, expected);
    assert_eq!(all, ["BAD_NAME"; 5]);
    assert!(failed.is_some());
    for problem in &problems {
        assert!(!problem.chars().any(char::is_control), "{problem:?}");
    }
    for words in [
        "control characters",
        "not UTF-8",
        "1,024 bytes",
        "Muster's own",
    ] {
        let told = problems.iter().filter(|problem| problem.contains(words));
        assert!(told.count() >= 1, "{words}: {problems:?}");
    }
}

#[test]
fn hard_links_are_files_and_devices_are_not() {
    use rustix::fs::{FileType, Mode, makedev, mknodat};
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path();
    fs::write(base.join("one"), "content").unwrap();
    fs::hard_link(base.join("one"), base.join("two")).unwrap();
    let device = mknodat(
        rustix::fs::CWD,
        base.join("null"),
        FileType::CharacterDevice,
        Mode::from_raw_mode(0o666),
        makedev(1, 3),
    );
    let (files, problems) = run(request(base, &["*"]), Volumes::in_place());
    assert_eq!(names(&files), ["one", "two"]);
    assert_eq!(files["two"], b"content");
    // Only root may make one.
    assert_eq!(problems.len(), usize::from(device.is_ok()), "{problems:?}");
}

#[test]
fn file_of_the_kernel_that_says_it_is_empty_is_kept_with_its_bytes() {
    let wanted = request(Path::new("/"), &["/proc/self/status"]);
    let (files, problems) = run(wanted, Volumes::in_place());
    assert!(files["proc/self/status"].starts_with(b"Name:"));
    assert!(problems.is_empty(), "{problems:?}");
    // A tar tells the length first.
    let mut wanted = request(Path::new("/"), &["/proc/self/status"]);
    wanted.archive = Some("all.tar.gz".to_owned());
    let (_, problems) = run(wanted, Volumes::in_place());
    assert!(problems[0].contains("grew"), "{problems:?}");
}

#[test]
fn files_that_change_while_they_are_read_come_to_an_end_and_are_told() {
    const SIZE: u64 = 4_000_000;
    type Change = fn(&Path);
    let grow: Change = |path| {
        let mut file = fs::OpenOptions::new().append(true).open(path).unwrap();
        std::io::Write::write_all(&mut file, &[8; 1000]).unwrap();
    };
    let shrink: Change = |path| {
        let file = fs::OpenOptions::new().write(true).open(path).unwrap();
        file.set_len(SIZE / 2).unwrap();
    };
    let replace: Change = |path| {
        fs::write(path.with_extension("new"), "new").unwrap();
        fs::rename(path.with_extension("new"), path).unwrap();
    };
    let vanish: Change = |path| fs::remove_file(path).unwrap();
    for (change, size, words) in [
        (grow, SIZE, Some("grew")),
        (shrink, SIZE / 2, Some("shrank")),
        (replace, SIZE, None),
        (vanish, SIZE, None),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, vec![7; usize::try_from(SIZE).unwrap()]).unwrap();
        let wanted = request(folder.path(), &["file"]);
        let (items, mut received) = mpsc::channel(1);
        let thread = std::thread::spawn(move || collect(&wanted, &Volumes::in_place(), items));
        let (mut content, mut problems) = (Vec::new(), Vec::new());
        while let Some(item) = received.blocking_recv() {
            match item {
                Item::File { .. } => change(&path),
                Item::Data(data) => content.extend(data),
                Item::FileEnd => {}
                Item::End { problems: told, .. } => problems = told,
            }
        }
        thread.join().unwrap();
        assert_eq!(content.len() as u64, size, "{words:?}");
        assert!(content.iter().all(|byte| *byte == 7), "{words:?}");
        assert_eq!(problems.len(), usize::from(words.is_some()), "{problems:?}");
        assert!(
            words.is_none_or(|words| problems[0].contains(words)),
            "{problems:?}"
        );
    }
}

#[test]
fn holes_of_sparse_files_are_zeros() {
    use std::os::unix::fs::FileExt as _;

    use sha2::Digest as _;
    let folder = tempfile::tempdir().unwrap();
    let file = fs::File::create(folder.path().join("disk.img")).unwrap();
    file.write_all_at(b"begin", 0).unwrap();
    file.write_all_at(b"middle", 3_000_000).unwrap();
    file.set_len(7_000_001).unwrap();
    let (files, problems) = run(request(folder.path(), &["*"]), Volumes::in_place());
    assert_eq!(problems, [""; 0]);
    let mut whole = vec![0; 7_000_001];
    whole[..5].copy_from_slice(b"begin");
    whole[3_000_000..3_000_006].copy_from_slice(b"middle");
    assert!(files["disk.img"] == whole);
    let (told, bytes) = digests(Request {
        digest_from: 1,
        ..request(folder.path(), &["*"])
    });
    let expected: [u8; 32] = sha2::Sha256::digest(&whole).into();
    assert_eq!((told[0].size, told[0].sha256), (7_000_001, expected));
    assert_eq!(bytes, whole.len());
}

#[test]
fn files_beyond_the_limit_are_counted_and_told_once() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path();
    fs::create_dir_all(base.join("a/deep")).unwrap();
    let most = usize::try_from(MOST_FILES).unwrap();
    for number in 0..most + 40 {
        fs::write(base.join(format!("a/f{number:05}")), "").unwrap();
    }
    fs::write(base.join("a/deep/one"), "").unwrap();
    fs::write(base.join("z"), "").unwrap();
    fs::write(base.join("z.none"), "").unwrap();
    let wanted = request(base, &["**", "!*.none"]);
    let (files, problems, failed, absent) = run_within(LIMITS, wanted, Volumes::in_place());
    assert_eq!(files.len(), most);
    let last = reasons(&absent).last().copied();
    assert_eq!((absent.len(), last), (42, Some(("z", "TOO_MANY"))));
    assert!(files.contains_key("a/deep/one"), "the first ones by path");
    assert!(!files.contains_key("z"));
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].contains("42 are left out"), "{problems:?}");
    assert!(failed.is_some());
    // All of them fit into one archive.
    let mut wanted = request(base, &["**"]);
    wanted.archive = Some("all.tar.gz".to_owned());
    let (files, problems) = run(wanted, Volumes::in_place());
    assert!(problems.is_empty(), "{problems:?}");
    let plain = flate2::read::GzDecoder::new(&files["all.tar.gz"][..]);
    let entries = tar::Archive::new(plain).entries().unwrap().count();
    assert_eq!(entries, most + 43);
}

/// The digests that come with files, and how many bytes come.
fn digests(wanted: Request) -> (Vec<Digest>, usize) {
    let (items, mut received) = mpsc::channel(1);
    let thread = std::thread::spawn(move || collect(&wanted, &Volumes::in_place(), items));
    let (mut digests, mut bytes) = (Vec::new(), 0);
    while let Some(item) = received.blocking_recv() {
        match item {
            Item::File { digest, .. } => digests.extend(digest),
            Item::Data(data) => bytes += data.len(),
            Item::FileEnd | Item::End { .. } => {}
        }
    }
    thread.join().unwrap();
    (digests, bytes)
}

#[test]
fn large_files_come_with_their_digest_when_it_is_wanted() {
    use sha2::Digest as _;
    let folder = tree();
    let base = folder.path().join("out");
    for (from, names_only, hashed) in [(0, false, 0), (1_000_000, false, 1), (1_000_000, true, 0)] {
        let wanted = Request {
            digest_from: from,
            names_only,
            ..request(&base, &["**", "!**/*.key"])
        };
        let (digests, bytes) = digests(wanted);
        assert_eq!(digests.len(), hashed);
        for digest in digests {
            assert_eq!(digest.size, 1_000_000);
            let expected: [u8; 32] = sha2::Sha256::digest(vec![7; 1_000_000]).into();
            assert_eq!(digest.sha256, expected);
        }
        // The content comes whole all the same.
        assert_eq!(bytes, if names_only { 0 } else { 1_000_003 });
    }
}

#[test]
fn of_files_beyond_the_limit_the_first_are_named_and_the_others_counted() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path();
    for number in 0..500 {
        fs::write(base.join(format!("f{number:03}")), "x").unwrap();
    }
    let limits = Limits {
        files: 10,
        archived: 20,
        ..LIMITS
    };
    for (archive, kept, words) in [
        (
            None,
            10,
            "only the first 10 files are kept, 490 are left out",
        ),
        (
            Some("all.tar.gz".to_owned()),
            20,
            "only the first 20 files are in it, 480 are left out",
        ),
    ] {
        let wanted = Request {
            archive,
            ..request(base, &["*"])
        };
        let in_place = Volumes::in_place();
        let (files, problems, failed, absent) = run_within(limits, wanted, in_place);
        assert!(problems[0].starts_with(words), "{problems:?}");
        assert_eq!((problems.len(), failed.as_ref()), (1, problems.first()));
        let count = match files.get("all.tar.gz") {
            Some(archive) => unpacked(archive).len(),
            None => files.len(),
        };
        assert_eq!(count, kept);
        assert_eq!(absent.len(), missing::MOST);
        let first = format!("f{kept:03}");
        assert_eq!(reasons(&absent)[0], (first.as_str(), "TOO_MANY"));
        let more = 500 - kept - missing::MOST;
        let last = &absent.values().last().unwrap().message;
        let told = format!("; {more} more files are missing");
        assert!(last.ends_with(&told), "{last}");
    }
}

/// What is in an archive.
fn unpacked(archive: &[u8]) -> Files {
    let mut found = Files::new();
    let plain = flate2::read::GzDecoder::new(archive);
    for entry in tar::Archive::new(plain).entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        found.insert(entry.path().unwrap().to_str().unwrap().to_owned(), content);
    }
    found
}

#[test]
fn a_file_too_long_for_an_archive_is_left_out_unread_and_the_others_come() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path();
    // To read it would take hours; only file systems that hold so much can be tried.
    let huge = fs::File::create(base.join("huge")).unwrap();
    let size = [8 << 40, 1 << 40]
        .into_iter()
        .find(|size| huge.set_len(*size).is_ok());
    let size = size.expect("a sparse file");
    fs::write(base.join("a"), vec![1; 600]).unwrap();
    fs::write(base.join("b"), vec![2; 600]).unwrap();
    fs::write(base.join("c"), vec![3; 400]).unwrap();
    let mut wanted = request(base, &["*"]);
    wanted.archive = Some("all.tar.gz".to_owned());
    let started = std::time::Instant::now();
    let (files, problems, failed, absent) = run_within(LIMITS, wanted.clone(), Volumes::in_place());
    assert!(started.elapsed().as_secs() < 20, "it was read");
    assert_eq!(names(&unpacked(&files["all.tar.gz"])), ["a", "b", "c"]);
    assert_eq!(reasons(&absent), [("huge", "TOO_LARGE")]);
    let told = format!(
        "huge: it has {size} bytes, and all files of one archive together may have 107374182400, \
         of which 1600 are taken; left out"
    );
    assert!(problems[0].ends_with(&told), "{problems:?}");
    assert_eq!((problems.len(), failed.as_ref()), (1, problems.first()));
    // All together are what counts; one that still fits comes.
    let limits = Limits {
        bytes_archived: 1000,
        ..LIMITS
    };
    let (files, _, _, absent) = run_within(limits, wanted, Volumes::in_place());
    assert_eq!(names(&unpacked(&files["all.tar.gz"])), ["a", "c"]);
    assert_eq!(
        reasons(&absent),
        [("b", "TOO_LARGE"), ("huge", "TOO_LARGE")]
    );
}

#[test]
fn a_file_too_long_to_go_anywhere_at_once_is_not_hashed_before_it_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let huge = fs::File::create(folder.path().join("huge")).unwrap();
    if huge.set_len(1 << 40).is_err() {
        return;
    }
    let wanted = Request {
        digest_from: 1,
        ..request(folder.path(), &["*"])
    };
    let (items, mut received) = mpsc::channel(1);
    let thread = std::thread::spawn(move || collect(&wanted, &Volumes::in_place(), items));
    // It is sent until nobody wants more of it.
    let first = received.blocking_recv().unwrap();
    assert!(
        matches!(first, Item::File { digest: None, .. }),
        "{first:?}"
    );
    drop(received);
    thread.join().unwrap();
}

/// A .zip of one file, as any tool writes it.
fn zip(name: &str, content: impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
    use std::io::Write as _;
    let mut packed = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    let (mut crc, mut size) = (flate2::Crc::new(), 0_u32);
    for piece in content {
        crc.update(&piece);
        size += u32::try_from(piece.len()).unwrap();
        packed.write_all(&piece).unwrap();
    }
    let packed = packed.finish().unwrap();
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap();
    // Version, flags, method, time and date; then what is in both headers.
    let mut common = vec![20, 0, 0, 0, 8, 0, 0, 0, 0x21, 0];
    for number in [crc.sum(), length(&packed), size, length(name.as_bytes())] {
        common.extend(number.to_le_bytes());
    }
    let mut zip = b"PK\x03\x04".to_vec();
    zip.extend(&common);
    zip.extend(name.as_bytes());
    zip.extend(packed);
    let directory = length(&zip);
    zip.extend(b"PK\x01\x02\x14\0");
    zip.extend(&common);
    zip.extend([0; 14]);
    zip.extend(name.as_bytes());
    let end = length(&zip);
    zip.extend(b"PK\x05\x06\0\0\0\0\x01\0\x01\0");
    zip.extend((end - directory).to_le_bytes());
    zip.extend(directory.to_le_bytes());
    zip.extend([0; 2]);
    zip
}

#[test]
fn a_zip_bomb_is_kept_byte_for_byte_and_never_unpacked() {
    let inner = zip("zeros", std::iter::repeat_n(vec![0; 1 << 20], 512));
    assert!(inner.len() < 600_000, "{} bytes", inner.len());
    let bomb = zip("inner.zip", std::iter::repeat_n(inner.clone(), 64));
    assert!(bomb.len() < 2_000_000, "{} bytes", bomb.len());
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("inner.zip"), &inner).unwrap();
    fs::write(folder.path().join("bomb.zip"), &bomb).unwrap();
    let single = request(folder.path(), &["*"]);
    let archive = Request {
        archive: Some("all.tar.gz".to_owned()),
        ..single.clone()
    };
    // Its bytes count, not what they stand for.
    let limits = Limits {
        bytes_archived: (inner.len() + bomb.len()) as u64,
        ..LIMITS
    };
    let (files, problems, _, _) = run_within(limits, archive, Volumes::in_place());
    assert_eq!(problems, [""; 0]);
    let packed = &files["all.tar.gz"];
    assert!(packed.len() < 3_000_000, "{} bytes", packed.len());
    for files in [
        run(single, Volumes::in_place()).0,
        unpacked(&files["all.tar.gz"]),
    ] {
        assert_eq!(names(&files), ["bomb.zip", "inner.zip"]);
        assert!(files["bomb.zip"] == bomb && files["inner.zip"] == inner);
    }
}

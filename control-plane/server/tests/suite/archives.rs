//! Artifacts as one stream, read by the programs that people have.

use std::{
    collections::BTreeMap,
    io::Read as _,
    path::{Path, PathBuf},
    process::Command,
};

use muster_proto::v1::{
    ArchiveArtifactsRequest, archive_artifacts_request::Format, attempt_report::Phase,
};
use tonic::{Code, Status};

use super::{
    agent::{Agent, sha256},
    fixture::{Clients, Fixture, run},
};

type Files = BTreeMap<String, Vec<u8>>;

/// Names and sizes that archives have trouble with.
fn files() -> Files {
    let long = format!("{}/{}", "folder-".repeat(30), "name-".repeat(40));
    let noise = |size: usize| {
        (0..size)
            .map(|at| u8::try_from(at * at % 251).unwrap_or(0))
            .collect()
    };
    let files: [(String, Vec<u8>); 7] = [
        ("reports/junit.xml".to_owned(), b"<testsuite/>".to_vec()),
        ("reports/deep/er/a b.txt".to_owned(), b"text".to_vec()),
        ("empty".to_owned(), Vec::new()),
        ("block".to_owned(), noise(512)),
        ("large.bin".to_owned(), noise(1_500_000)),
        (long, b"long".to_vec()),
        ("\u{e4}/\u{1f600}.log".to_owned(), b"umlaut".to_vec()),
    ];
    files.into()
}

async fn with_files(fixture: &Fixture, admin: &mut Clients) -> String {
    let token = fixture.agent("east").await;
    let (mut agent, _) = Agent::connect(fixture, &token, Vec::new()).await;
    let made = admin.create(run()).await;
    let work = agent.work().await;
    agent.report(&work, Phase::Running).await;
    for (path, data) in files() {
        let stored = agent.artifact(&work, &path, &data, sha256(&data)).await;
        stored.expect("it is stored");
    }
    agent.complete(&work, b"").await;
    admin.finished(&made.name).await;
    made.name
}

async fn archive(
    clients: &mut Clients,
    execution: &str,
    patterns: &[&str],
    format: Format,
) -> Result<Vec<u8>, Status> {
    let request = ArchiveArtifactsRequest {
        parent: execution.to_owned(),
        patterns: patterns.iter().map(|text| (*text).to_owned()).collect(),
        format: format.into(),
    };
    let mut stream = clients
        .artifacts
        .archive_artifacts(request)
        .await?
        .into_inner();
    let mut all = Vec::new();
    while let Some(message) = stream.message().await? {
        assert!(message.data.len() <= 256 * 1024, "pieces are bounded");
        all.extend(message.data);
    }
    Ok(all)
}

/// All files below a folder.
fn read(folder: &Path) -> Files {
    let mut found = Files::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).expect("a folder") {
            let path: PathBuf = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(folder).expect("below").to_str();
            let name = name.expect("UTF-8").to_owned();
            found.insert(name, std::fs::read(path).expect("a file"));
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archive_is_read_by_the_programs_that_people_have() {
    let fixture = Fixture::start().await;
    let mut admin = fixture.admin().await;
    let execution = with_files(&fixture, &mut admin).await;
    for (format, name, flags) in [
        (Format::Tar, "all.tar", "-xf"),
        (Format::TarGz, "all.tar.gz", "-xzf"),
    ] {
        let dir = tempfile::tempdir().expect("a folder");
        let bytes = archive(&mut admin, &execution, &[], format).await;
        let file = dir.path().join(name);
        std::fs::write(&file, bytes.expect("an archive")).expect("written");
        let out = dir.path().join("out");
        std::fs::create_dir(&out).expect("a folder");
        let told = Command::new("tar")
            .args([flags, name, "-C", "out"])
            .current_dir(dir.path())
            .output()
            .expect("tar is there");
        assert!(
            told.status.success() && told.stderr.is_empty(),
            "{name}: {}",
            String::from_utf8_lossy(&told.stderr)
        );
        assert_eq!(read(&out), files(), "{name}");
    }

    let bytes = archive(&mut admin, &execution, &[], Format::Zip).await;
    let bytes = std::io::Cursor::new(bytes.expect("an archive"));
    let mut zip = zip::ZipArchive::new(bytes).expect("a zip");
    let mut found = Files::new();
    for index in 0..zip.len() {
        let mut file = zip.by_index(index).expect("an entry");
        let mut content = Vec::new();
        file.read_to_end(&mut content).expect("its bytes");
        assert_eq!(file.unix_mode().map(|mode| mode & 0o777), Some(0o644));
        let name = file.name().expect("UTF-8").into_owned();
        found.insert(name, content);
    }
    assert_eq!(found, files());
    fixture.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archive_has_what_the_patterns_mean_and_one_without_files_is_empty() {
    let fixture = Fixture::start().await;
    let mut admin = fixture.admin().await;
    let execution = with_files(&fixture, &mut admin).await;
    for (patterns, expected) in [
        (&["reports/**", "!**/*.txt"][..], &["reports/junit.xml"][..]),
        (&["none"], &[]),
    ] {
        let bytes = archive(&mut admin, &execution, patterns, Format::Zip).await;
        let bytes = std::io::Cursor::new(bytes.expect("an archive"));
        let zip = zip::ZipArchive::new(bytes).expect("a zip");
        let names = zip.file_names().map(|name| name.expect("UTF-8"));
        assert_eq!(names.collect::<Vec<_>>(), expected);
    }
    let refused = archive(&mut admin, &execution, &["a["], Format::Tar).await;
    assert_eq!(
        refused.expect_err("no pattern").code(),
        Code::InvalidArgument
    );
    let many = vec!["a"; 101];
    let refused = archive(&mut admin, &execution, &many, Format::Tar).await;
    assert_eq!(refused.expect_err("too many").code(), Code::InvalidArgument);
    let mut foreign = fixture.member_of_new_project("other").await;
    let refused = archive(&mut foreign, &execution, &[], Format::Tar).await;
    assert_eq!(refused.expect_err("foreign").code(), Code::NotFound);
    fixture.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archive_of_a_blob_that_is_not_what_was_stored_breaks_and_names_it() {
    let fixture = Fixture::start_on_files().await;
    let mut admin = fixture.admin().await;
    let execution = with_files(&fixture, &mut admin).await;
    let blobs = fixture.dir.path().join("blobs");
    for (path, damage) in [
        ("large.bin", "shorter"),
        ("block", "other"),
        ("reports/junit.xml", "longer"),
    ] {
        let content = files().remove(path).expect("one of them");
        let blob = read(&blobs).into_iter().find(|blob| blob.1 == content);
        let blob = blobs.join(blob.expect("its blob").0);
        let mut changed = content.clone();
        match damage {
            "shorter" => changed.truncate(content.len() - 1),
            "longer" => changed.push(0),
            _ => changed[100] ^= 1,
        }
        std::fs::write(&blob, changed).expect("damaged");
        for format in [Format::Tar, Format::TarGz, Format::Zip] {
            let broken = archive(&mut admin, &execution, &[path], format).await;
            let broken = broken.expect_err("it is not whole");
            assert_eq!(broken.code(), Code::DataLoss, "{damage}: {broken:?}");
            assert!(broken.message().contains(path), "{broken:?}");
        }
        std::fs::remove_file(&blob).expect("lost");
        let broken = archive(&mut admin, &execution, &[path], Format::Tar).await;
        broken.expect_err("it is not there");
    }
    let rest = archive(&mut admin, &execution, &["empty"], Format::Tar).await;
    rest.expect("the others are whole");
    fixture.server.stop().await;
}

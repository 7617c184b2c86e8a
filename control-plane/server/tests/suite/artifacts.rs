//! Uploads of artifacts that do not come to their end.

use std::time::Duration;

use muster_proto::v1::{
    ArtifactFooter, ArtifactHeader, Assignment, DownloadArtifactRequest, GetArtifactRequest,
    ListArtifactsRequest, ListArtifactsResponse, ListReportsRequest, MissArtifactsRequest,
    MissedFile, Report, UploadArtifactRequest, execution::State, report,
    upload_artifact_request::Part,
};
use sqlx::{Connection as _, Executor as _};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use super::{
    agent::{Agent, running, sha256},
    fixture::{Clients, Fixture},
};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

async fn list(clients: &mut Clients, execution: &str) -> ListArtifactsResponse {
    let request = ListArtifactsRequest {
        parent: execution.to_owned(),
        ..ListArtifactsRequest::default()
    };
    let listed = clients.artifacts.list_artifacts(request).await;
    listed.expect("a list").into_inner()
}

/// Waits until so many files are missing, and tells which and why.
async fn missing(clients: &mut Clients, execution: &str, count: usize) -> Vec<(String, String)> {
    let listed = async {
        loop {
            let listed = list(clients, execution).await;
            if listed.missing.len() == count {
                return listed;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let listed = tokio::time::timeout(PATIENCE, listed).await;
    let listed = listed.expect("it is noted").missing.into_iter();
    listed.map(|file| (file.path, file.reason)).collect()
}

/// Begins an upload that goes on until this is dropped or told more.
async fn begin(
    agent: &Agent,
    work: &Assignment,
    path: &str,
) -> (
    mpsc::Sender<UploadArtifactRequest>,
    tokio::task::JoinHandle<()>,
) {
    let header = ArtifactHeader {
        attempt: work.attempt.clone(),
        epoch: work.epoch,
        path: path.to_owned(),
        mode: 0o644,
        step: "s1".to_owned(),
    };
    let (sender, receiver) = mpsc::channel(4);
    for part in [Part::Header(header), Part::Data(vec![1; 100_000].into())] {
        let part = UploadArtifactRequest { part: Some(part) };
        sender.send(part).await.expect("there is space");
    }
    let mut clients = agent.clients.clone();
    let upload = tokio::spawn(async move {
        let upload = clients.link.upload_artifact(ReceiverStream::new(receiver));
        upload.await.expect_err("it does not come to its end");
    });
    (sender, upload)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_upload_is_no_file_and_is_named_with_its_reason() {
    let fixture = Fixture::start().await;
    let (mut admin, mut agent, made, work) = running(&fixture).await;
    let whole = agent
        .artifact(&work, "whole.txt", b"all", sha256(b"all"))
        .await;
    whole.expect("it is stored");

    // Its pod dies: the agent ends the stream without an end of the file.
    let (sender, upload) = begin(&agent, &work, "ended.bin").await;
    drop(sender);
    upload.await.expect("it is refused");
    // The agent dies: the call is reset.
    let (_sender, upload) = begin(&agent, &work, "reset.bin").await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    upload.abort();
    // What came is not what was sent.
    let (sender, upload) = begin(&agent, &work, "other.bin").await;
    let footer = Part::Footer(ArtifactFooter {
        size_bytes: 100_001,
        sha256: sha256(b""),
    });
    let footer = UploadArtifactRequest { part: Some(footer) };
    sender.send(footer).await.expect("there is space");
    upload.await.expect("it is refused");
    let found = missing(&mut admin, &made.name, 3).await;
    let found: Vec<(&str, &str)> = found
        .iter()
        .map(|(path, reason)| (path.as_str(), reason.as_str()))
        .collect();
    assert_eq!(
        found,
        [
            ("ended.bin", "INTERRUPTED"),
            ("other.bin", "MISMATCH"),
            ("reset.bin", "INTERRUPTED"),
        ]
    );
    let listed = list(&mut admin, &made.name).await;
    let paths: Vec<&str> = listed.artifacts.iter().map(|a| a.path.as_str()).collect();
    assert_eq!(paths, ["whole.txt"], "nothing else is a file");

    // Who sends it again makes it whole, and who never does leaves it missing for good.
    let again = agent
        .artifact(&work, "reset.bin", b"all", sha256(b"all"))
        .await;
    let name = again.expect("it is stored").name;
    let found = admin
        .artifacts
        .get_artifact(GetArtifactRequest { name })
        .await;
    assert_eq!(
        found
            .expect("it is there")
            .into_inner()
            .artifact
            .expect("told")
            .size_bytes,
        3
    );
    agent.complete(&work, b"").await;
    assert_eq!(admin.finished(&made.name).await.state(), State::Passed);
    let found = missing(&mut admin, &made.name, 2).await;
    assert!(
        found.iter().all(|(path, _)| path != "reset.bin"),
        "{found:?}"
    );
    fixture.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_long_is_refused_with_the_limit_and_named_as_missing() {
    let fixture = Fixture::start_with(|config| {
        config.max_artifact_size = 150_000;
        config.max_artifacts_size = 250_000;
    })
    .await;
    let (mut admin, mut agent, made, work) = running(&fixture).await;
    let data = vec![7; 150_001];
    for (path, size, limit) in [
        ("long", 150_001, "--max-artifact-size"),
        ("first", 150_000, ""),
        ("second", 100_001, "--max-artifacts-size"),
        ("third", 100_000, ""),
        ("last", 1, "--max-artifacts-size"),
        // It takes its own place.
        ("third", 100_000, ""),
    ] {
        let data = &data[..size];
        let stored = agent.artifact(&work, path, data, sha256(data)).await;
        match stored {
            Ok(_) => assert_eq!(limit, "", "{path}"),
            Err(refused) => {
                assert!(!limit.is_empty(), "{path}: {refused:?}");
                assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{path}");
                assert!(refused.message().contains(limit), "{path}: {refused:?}");
            }
        }
    }
    let found = missing(&mut admin, &made.name, 3).await;
    assert!(
        found.iter().all(|(_, reason)| reason == "TOO_LARGE"),
        "{found:?}"
    );
    let listed = list(&mut admin, &made.name).await;
    let paths: Vec<&str> = listed.artifacts.iter().map(|a| a.path.as_str()).collect();
    assert_eq!(paths, ["first", "third"]);
    fixture.server.stop().await;
}

/// What comes of an artifact from an offset on, and how that ends.
async fn download(clients: &mut Clients, name: &str, offset: i64) -> (Vec<u8>, Result<(), Status>) {
    let request = DownloadArtifactRequest {
        name: name.to_owned(),
        offset,
    };
    let mut all = Vec::new();
    let mut stream = match clients.artifacts.download_artifact(request).await {
        Ok(stream) => stream.into_inner(),
        Err(refused) => return (all, Err(refused)),
    };
    loop {
        match stream.message().await {
            Ok(Some(piece)) => all.extend_from_slice(&piece.data),
            Ok(None) => return (all, Ok(())),
            Err(broken) => return (all, Err(broken)),
        }
    }
}

/// The only blob of these bytes.
fn blob(fixture: &Fixture, content: &[u8]) -> std::path::PathBuf {
    let mut folders = vec![fixture.dir.path().join("blobs")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            match path.is_dir() {
                true => folders.push(path),
                false if std::fs::read(&path).expect("a file") == content => return path,
                false => {}
            }
        }
    }
    panic!("it is nowhere");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_of_a_blob_that_is_not_what_was_collected_ends_with_data_loss() {
    let fixture = Fixture::start_on_files().await;
    let (mut admin, mut agent, _, work) = running(&fixture).await;
    let content: Vec<u8> = (0..700_000_u32).map(|n| n.to_le_bytes()[1]).collect();
    let stored = agent.artifact(&work, "a.bin", &content, sha256(&content));
    let name = stored.await.expect("it is stored").name;
    assert_eq!(download(&mut admin, &name, 0).await.0, content);
    let (part, ended) = download(&mut admin, &name, 600_000).await;
    assert!(ended.is_ok() && part == content[600_000..], "{ended:?}");

    let blob = blob(&fixture, &content);
    let mut flipped = content.clone();
    flipped[300_000] ^= 4;
    let mut longer = content.clone();
    longer.push(0);
    for (how, damaged) in [
        ("flipped", flipped),
        ("shorter", content[..content.len() - 1].to_vec()),
        ("longer", longer),
        ("empty", Vec::new()),
    ] {
        std::fs::write(&blob, damaged).expect("damaged");
        let (_, broken) = download(&mut admin, &name, 0).await;
        let broken = broken.expect_err(how);
        assert_eq!(broken.code(), Code::DataLoss, "{how}: {broken:?}");
        let words = "what is stored of artifact 'a.bin' is not what was collected";
        assert!(broken.message().starts_with(words), "{how}: {broken:?}");
        // Of a part nobody knows the digest; its length is known.
        let (_, part) = download(&mut admin, &name, 600_000).await;
        assert_eq!(part.is_err(), how != "flipped", "{how}: {part:?}");
    }
    std::fs::remove_file(&blob).expect("lost");
    let (_, broken) = download(&mut admin, &name, 0).await;
    let broken = broken.expect_err("it is gone");
    assert_eq!(broken.code(), Code::DataLoss, "{broken:?}");
    assert!(
        broken.message().contains("gone from the object store"),
        "{broken:?}"
    );
    fixture.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_that_is_not_what_was_collected_is_broken_and_says_so() {
    let mut fixture = Fixture::start_on_files().await;
    let (mut admin, mut agent, made, work) = running(&fixture).await;
    let good = "<testsuite name='a'><testcase classname='m' name='sum'/></testsuite>";
    let stored = agent.artifact(&work, "a.xml", good.as_bytes(), sha256(good.as_bytes()));
    stored.await.expect("it is stored");
    let request = ListReportsRequest { parent: made.name };
    let first = until_read(&mut admin, &request).await;
    assert_eq!(first.state(), report::State::Read, "{first:?}");

    let blob = blob(&fixture, good.as_bytes());
    let url = format!("sqlite://{}/muster.db", fixture.dir.path().display());
    for (how, damaged) in [
        ("another test", Some(good.replace("sum", "min"))),
        ("no XML any more", Some(good.replace('>', "]"))),
        ("shorter", Some(good.replace("</testsuite>", ""))),
        ("gone", None),
    ] {
        match damaged {
            Some(text) => std::fs::write(&blob, text).expect("damaged"),
            None => std::fs::remove_file(&blob).expect("lost"),
        }
        // It is read again, as after a crash.
        let mut db = sqlx::SqliteConnection::connect(&url).await.expect("SQLite");
        db.execute("update reports set state = 'pending', message = ''")
            .await
            .expect("it is set");
        db.close().await.expect("it is closed");
        fixture = fixture.restart().await;
        admin = fixture.admin().await;
        let told = until_read(&mut admin, &request).await;
        assert_eq!(told.state(), report::State::Broken, "{how}: {told:?}");
        let words = "what is stored of artifact 'a.xml' is not what was collected";
        let gone = "what was stored of artifact 'a.xml' is gone from the object store";
        let expected = if how == "gone" { gone } else { words };
        assert!(told.message.starts_with(expected), "{how}: {told:?}");
    }
    fixture.server.stop().await;
}

/// The only report, once it is read.
async fn until_read(clients: &mut Clients, request: &ListReportsRequest) -> Report {
    let read = async {
        loop {
            let listed = clients.tests.list_reports(request.clone()).await;
            let mut all = listed.expect("a list").into_inner().reports;
            match all.pop() {
                Some(report) if report.state() != report::State::Pending => return report,
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, read)
        .await
        .expect("it is read")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_could_not_be_collected_are_listed_as_missing_until_they_come() {
    let fixture = Fixture::start().await;
    let (mut admin, mut agent, made, work) = running(&fixture).await;
    let file = |path: &str, reason: &str| MissedFile {
        path: path.to_owned(),
        reason: reason.to_owned(),
        message: "why".to_owned(),
    };
    let request = |files: Vec<MissedFile>| MissArtifactsRequest {
        attempt: work.attempt.clone(),
        epoch: work.epoch,
        step: "s1".to_owned(),
        files,
    };
    let mut link = agent.clients.link.clone();
    let files = vec![
        file("locked", "UNREADABLE"),
        file(r"new\nline", "BAD_NAME"),
        file(".muster/x", "BAD_NAME"),
    ];
    // Who has not heard that it is noted says it again.
    for _ in 0..2 {
        let noted = link.miss_artifacts(request(files.clone())).await;
        noted.expect("it is noted");
    }
    let found = missing(&mut admin, &made.name, 3).await;
    let found: Vec<(&str, &str)> = found
        .iter()
        .map(|(path, reason)| (path.as_str(), reason.as_str()))
        .collect();
    assert_eq!(
        found,
        [
            (".muster/x", "BAD_NAME"),
            ("locked", "UNREADABLE"),
            (r"new\nline", "BAD_NAME"),
        ]
    );
    for (bad, field) in [
        (vec![file("../x", "BAD_NAME")], "files[0].path"),
        (
            vec![file("a", "TOO_DEEP"), file("b", "too deep")],
            "files[1].reason",
        ),
        (vec![file("a", "TOO_DEEP"); 1001], "files"),
    ] {
        let refused = link.miss_artifacts(request(bad)).await;
        let refused = refused.expect_err("it is refused");
        assert_eq!(refused.code(), tonic::Code::InvalidArgument);
        assert!(refused.message().contains(field), "{refused:?}");
    }
    // No more than so many of an execution.
    let many = (0..999).map(|number| file(&format!("m{number}"), "TOO_MANY"));
    let noted = link.miss_artifacts(request(many.collect())).await;
    noted.expect("it is noted");
    assert_eq!(list(&mut admin, &made.name).await.missing.len(), 1000);
    // The file itself takes the place of its note.
    let come = agent
        .artifact(&work, "locked", b"all", sha256(b"all"))
        .await;
    come.expect("it is stored");
    let listed = list(&mut admin, &made.name).await;
    assert!(listed.missing.iter().all(|file| file.path != "locked"));
    // An agent speaks for its own attempts alone.
    let other = fixture.agent("west").await;
    let (mut other, _) = Agent::connect(&fixture, &other, Vec::new()).await;
    let foreign = other.clients.link.miss_artifacts(request(files)).await;
    let foreign = foreign.expect_err("it is refused");
    assert_eq!(foreign.code(), tonic::Code::NotFound);
    fixture.server.stop().await;
}

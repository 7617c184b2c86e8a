//! Uploads around the server. Runs where `MUSTER_TEST_S3` is given, as `objects`.

use std::time::Duration;

use muster_core::clock::Clock;
use muster_proto::v1::{
    ArtifactFooter, ArtifactHeader, Assignment, BeginDirectUploadRequest,
    BeginDirectUploadResponse, EndDirectUploadRequest, GetArtifactRequest, ListArtifactsRequest,
    attempt_report::Phase,
};
use muster_server::{Config, config::DirectUploads};
use muster_storage::{Blobs, Store};
use muster_tests::given::object_store_behind_a_wire;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tonic::{Code, Status};

use super::{
    agent::{Agent, sha256},
    fixture::{Clients, Fixture, run},
    home::options,
};

/// From so many bytes on files go directly.
const FROM: u64 = 1000;

fn prepare(config: &mut Config, url: &str) {
    config.blobs = Some(url.to_owned());
    config.blob_options = options();
    config.max_artifact_size = 100_000;
    config.max_artifacts_size = 250_000;
    config.direct_uploads = Some(DirectUploads {
        from: FROM,
        endpoint: None,
        ca_file: None,
    });
}

/// An agent with an attempt of an execution.
struct Scene {
    fixture: Fixture,
    admin: Clients,
    agent: Agent,
    work: Assignment,
    execution: String,
    /// Where the blobs are.
    url: String,
}

impl Scene {
    /// Nothing when no object store is given.
    async fn start() -> Option<Self> {
        let given = object_store_behind_a_wire().await;
        let (proxy, url) = given.expect("it is given where it is required")?;
        // As long as the test runs.
        std::mem::forget(proxy);
        let fixture = Fixture::start_with(|config| prepare(config, &url)).await;
        let mut admin = fixture.admin().await;
        let token = fixture.agent("east").await;
        let (mut agent, _) = Agent::connect(&fixture, &token, Vec::new()).await;
        let execution = admin.create(run()).await.name;
        let work = agent.work().await;
        agent.report(&work, Phase::Running).await;
        Some(Self {
            fixture,
            admin,
            agent,
            work,
            execution,
            url,
        })
    }

    fn header(&self, path: &str) -> ArtifactHeader {
        ArtifactHeader {
            attempt: self.work.attempt.clone(),
            epoch: self.work.epoch,
            path: path.to_owned(),
            mode: 0o644,
            step: "s1".to_owned(),
        }
    }

    async fn begin(
        &mut self,
        path: &str,
        data: &[u8],
    ) -> Result<BeginDirectUploadResponse, Status> {
        let request = BeginDirectUploadRequest {
            header: Some(self.header(path)),
            footer: Some(footer(data)),
            has_authorities: false,
        };
        let begun = self.agent.clients.link.begin_direct_upload(request).await;
        Ok(begun?.into_inner())
    }

    async fn end(&mut self, path: &str, data: &[u8], key: &str) -> Result<String, Status> {
        let request = EndDirectUploadRequest {
            header: Some(self.header(path)),
            footer: Some(footer(data)),
            key: key.to_owned(),
        };
        let ended = self.agent.clients.link.end_direct_upload(request).await;
        Ok(ended?.into_inner().name)
    }

    async fn listed(&mut self) -> Vec<String> {
        let request = ListArtifactsRequest {
            parent: self.execution.clone(),
            ..ListArtifactsRequest::default()
        };
        let listed = self.admin.artifacts.list_artifacts(request).await;
        let artifacts = listed.expect("a list").into_inner().artifacts.into_iter();
        artifacts.map(|artifact| artifact.path).collect()
    }
}

fn footer(data: &[u8]) -> ArtifactFooter {
    ArtifactFooter {
        size_bytes: i64::try_from(data.len()).expect("short"),
        sha256: sha256(data),
    }
}

/// Puts something as a pod does.
async fn put(begun: &BeginDirectUploadResponse, data: &[u8]) -> u16 {
    let rest = begun.url.strip_prefix("http://").expect("a plain URL");
    let (host, path) = rest.split_once('/').expect("a path");
    let mut head = format!("PUT /{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n");
    for (name, value) in &begun.headers {
        head += &format!("{name}: {value}\r\n");
    }
    let mut stream = TcpStream::connect(host).await.expect("a store");
    stream.write_all(head.as_bytes()).await.expect("sent");
    stream.write_all(b"\r\n").await.expect("sent");
    drop(stream.write_all(data).await);
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    let status = answer.split(' ').nth(1).expect("a status");
    status.parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_put_directly_is_listed_when_it_is_what_was_told() {
    let Some(mut scene) = Scene::start().await else {
        return;
    };
    assert_eq!(scene.work.direct_upload_from_bytes, 1000);
    let report = format!(
        "<testsuite tests=\"1\"><testcase name=\"a\"/><!-- {} --></testsuite>",
        "x".repeat(90_000)
    );
    let data = report.as_bytes();
    let begun = scene.begin("out/junit.xml", data).await.expect("a way");
    assert!(
        begun.url.contains("X-Amz-Expires=900&"),
        "{}",
        begun.url.len()
    );
    let headers: Vec<&str> = begun.headers.keys().map(String::as_str).collect();
    assert_eq!(headers.len(), 2, "{headers:?}");
    assert!(begun.authorities.is_empty(), "it is not encrypted");

    // Nothing is there yet, and something else is not taken.
    let early = scene.end("out/junit.xml", data, &begun.key).await;
    assert_eq!(
        early.expect_err("nothing is there").code(),
        Code::FailedPrecondition
    );
    let other = report.replace("name=\"a\"", "name=\"b\"");
    assert_eq!(put(&begun, other.as_bytes()).await, 400);
    assert_eq!(scene.listed().await, [""; 0]);

    assert_eq!(put(&begun, data).await, 200);
    let lied = scene
        .end("out/junit.xml", other.as_bytes(), &begun.key)
        .await;
    assert_eq!(
        lied.expect_err("it is another one").code(),
        Code::FailedPrecondition
    );
    assert_eq!(
        scene.listed().await,
        [""; 0],
        "nobody has said that it is there"
    );
    let name = scene
        .end("out/junit.xml", data, &begun.key)
        .await
        .expect("listed");
    let again = scene.end("out/junit.xml", data, &begun.key).await;
    assert_eq!(again.expect("a repeat"), name);

    let request = GetArtifactRequest { name };
    let found = scene.admin.artifacts.get_artifact(request).await;
    let found = found.expect("it").into_inner().artifact.expect("it");
    assert_eq!(found.sha256, sha256(data));
    assert_eq!(found.size_bytes, i64::try_from(data.len()).expect("short"));
    // Its first bytes were looked at.
    assert!(found.content_type.contains("xml"), "{}", found.content_type);
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_hold_before_a_url_is_given_out() {
    let Some(mut scene) = Scene::start().await else {
        return;
    };
    let small = scene.begin("small", &[1; 999]).await.expect("an answer");
    assert_eq!(
        (small.url.as_str(), small.key.as_str()),
        ("", ""),
        "by the agent"
    );
    let large = scene
        .begin("large", &[1; 100_001])
        .await
        .expect_err("too large");
    assert_eq!(large.code(), Code::InvalidArgument);
    assert!(large.message().contains("--max-artifact-size"), "{large:?}");
    for bad in ["/etc/passwd", "../a", ""] {
        let refused = scene.begin(bad, &[1; 2000]).await.expect_err("no path");
        assert_eq!(refused.code(), Code::InvalidArgument, "{bad}");
    }
    // What is given out counts, whether it comes or not.
    for path in ["a", "b"] {
        let begun = scene.begin(path, &[1; 100_000]).await.expect("a way");
        assert!(!begun.url.is_empty());
    }
    let third = scene.begin("c", &[1; 100_000]).await.expect("an answer");
    assert_eq!(third.url, "", "by the agent, which counts what is there");
    // Another one's key, and one that was never given out.
    let begun = scene.begin("d", &[1; 2000]).await.expect("a way");
    assert_eq!(put(&begun, &[1; 2000]).await, 200);
    for key in ["artifacts/x/y", "logs/x/y", ""] {
        let refused = scene
            .end("d", &[1; 2000], key)
            .await
            .expect_err("not its own");
        assert_eq!(refused.code(), Code::InvalidArgument, "{key}");
    }
    // Whose lease is lost gets none.
    scene.work.epoch += 1;
    let lost = scene.begin("e", &[1; 2000]).await.expect_err("it is lost");
    assert_eq!(lost.code(), Code::Aborted);
    let lost = scene.end("d", &[1; 2000], &begun.key).await;
    assert_eq!(lost.expect_err("it is lost").code(), Code::Aborted);
    assert_eq!(scene.listed().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_never_told_is_not_listed_and_goes() {
    let Some(mut scene) = Scene::start().await else {
        return;
    };
    let data = [7; 5000];
    let begun = scene.begin("lost", &data).await.expect("a way");
    assert_eq!(put(&begun, &data).await, 200);
    assert_eq!(scene.listed().await, [""; 0]);
    let blobs = Blobs::open(&scene.url, &options()).await.expect("blobs");
    assert!(blobs.exists(&begun.key).await.expect("an answer"));

    // The server is gone before it hears of it; a while later another one cleans up.
    let database = scene.fixture.dir.config().database_url();
    let store = Store::connect(&database, &muster_storage::Options::default()).await;
    let store = store.expect("the database");
    let keeper = store.keeper();
    assert_eq!(keeper.count_doomed_blobs().await.expect("a number"), 1);
    let due = jiff::Timestamp::UNIX_EPOCH;
    keeper
        .put_off_blobs(std::slice::from_ref(&begun.key), due)
        .await
        .expect("due now");
    store.close().await;
    let url = scene.url.clone();
    let change = |config: &mut Config| {
        prepare(config, &url);
        config.retention_interval = Duration::from_millis(100);
    };
    let _fixture = scene
        .fixture
        .restart_with(Clock::system(), change, || {})
        .await;
    let gone = async {
        while blobs.exists(&begun.key).await.expect("an answer") {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let gone = tokio::time::timeout(Duration::from_secs(60), gone).await;
    gone.expect("it is deleted");
}

//! Uploads of artifacts that break and go on where they broke: over real gRPC, with files, and with an
//! S3-compatible store where `MUSTER_TEST_S3` is a URL for `Blobs`.

use std::{path::PathBuf, time::Duration};

use muster_proto::v1::{
    ArtifactFooter, ArtifactHeader, Assignment, Execution, GetArtifactRequest,
    ListArtifactsRequest, ResumeUploadRequest, ResumeUploadResponse, UploadArtifactRequest,
    UploadKept, attempt_report::Phase, execution::State, resume_upload_request,
    resume_upload_response::Told, upload_artifact_request::Part,
};
use muster_tests::given::object_store_behind_a_wire;
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use super::{
    agent::{Agent, running, sha256},
    fixture::{Clients, Fixture, run},
    home::options,
};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Parts of a file that is written to the disk.
const PART: usize = 1 << 20;
/// How many uploads a server keeps.
const MOST: usize = 64;
/// Bytes of one message.
const PIECE: usize = 100_000;

/// A running attempt on a server, and the agent that has it.
struct Scene {
    fixture: Fixture,
    admin: Clients,
    agent: Agent,
    work: Assignment,
    made: Execution,
}

impl Scene {
    async fn start(fixture: Fixture) -> Self {
        let (admin, agent, made, work) = running(&fixture).await;
        Self {
            fixture,
            admin,
            agent,
            work,
            made,
        }
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

    /// Sends the beginning of a file; the call goes on until the sender is dropped or the task ended.
    async fn begin(
        &self,
        path: &str,
        data: &[u8],
    ) -> (mpsc::Sender<UploadArtifactRequest>, JoinHandle<Status>) {
        let (sender, receiver) = mpsc::channel(4);
        let mut clients = self.agent.clients.clone();
        let call = tokio::spawn(async move {
            let upload = clients.link.upload_artifact(ReceiverStream::new(receiver));
            upload.await.expect_err("it does not come to its end")
        });
        let header = Part::Header(self.header(path));
        let data = data.chunks(PIECE).map(|it| Part::Data(it.to_vec().into()));
        for part in std::iter::once(header).chain(data) {
            let part = UploadArtifactRequest { part: Some(part) };
            sender.send(part).await.expect("it is taken");
        }
        (sender, call)
    }

    /// Sends the beginning of a file, and breaks off.
    async fn break_off(&mut self, path: &str, data: &[u8]) {
        let (sender, call) = self.begin(path, data).await;
        drop(sender);
        let refused = call.await.expect("no panic");
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
        assert_eq!(self.missing().await, [(path, "INTERRUPTED")].map(owned));
    }

    async fn resume(&mut self, path: &str) -> Result<Resumed, Status> {
        let header = self.header(path);
        Resumed::open(&mut self.agent.clients, header).await
    }

    async fn missing(&mut self) -> Vec<(String, String)> {
        let request = ListArtifactsRequest {
            parent: self.made.name.clone(),
            ..ListArtifactsRequest::default()
        };
        let listed = self.admin.artifacts.list_artifacts(request).await;
        let missing = listed.expect("a list").into_inner().missing.into_iter();
        missing.map(|file| (file.path, file.reason)).collect()
    }

    /// Files of uploads that are not whole.
    fn staged(&self) -> Vec<PathBuf> {
        let folder = self.fixture.dir.path().join("blobs/artifacts");
        let folders = std::fs::read_dir(folder).into_iter().flatten();
        folders
            .flat_map(|folder| std::fs::read_dir(folder.expect("a folder").path()))
            .flatten()
            .map(|file| file.expect("a file").path())
            .filter(|path| path.to_string_lossy().contains('#'))
            .collect()
    }

    /// Waits until so many files of uploads are there that are not whole.
    async fn has_staged(&self, count: usize) {
        let is_so = async {
            while self.staged().len() != count {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, is_so).await;
        assert!(waited.is_ok(), "not {count}: {:?}", self.staged());
    }

    /// The artifact is there and is these bytes.
    async fn has_artifact(&mut self, name: String, data: &[u8]) {
        let request = GetArtifactRequest { name };
        let found = self.admin.artifacts.get_artifact(request).await;
        let found = found.expect("it is there").into_inner().artifact;
        let found = found.expect("told");
        assert_eq!(
            (usize::try_from(found.size_bytes), found.sha256),
            (Ok(data.len()), sha256(data))
        );
    }
}

/// A call that goes on with an upload.
struct Resumed {
    sender: mpsc::Sender<ResumeUploadRequest>,
    answers: Streaming<ResumeUploadResponse>,
    kept: UploadKept,
}

impl Resumed {
    async fn open(clients: &mut Clients, header: ArtifactHeader) -> Result<Self, Status> {
        let (sender, receiver) = mpsc::channel(4);
        let header = resume_upload_request::Part::Header(header);
        let header = ResumeUploadRequest { part: Some(header) };
        sender.send(header).await.expect("there is space");
        let call = clients.link.resume_upload(ReceiverStream::new(receiver));
        let mut answers = call.await?.into_inner();
        let told = answers.message().await?.and_then(|answer| answer.told);
        let Some(Told::Kept(kept)) = told else {
            panic!("it says what it has: {told:?}")
        };
        Ok(Self {
            sender,
            answers,
            kept,
        })
    }

    /// How much there is; it is the beginning of the file.
    fn kept(&self, data: &[u8]) -> usize {
        let size = usize::try_from(self.kept.size_bytes).expect("small");
        assert_eq!(self.kept.sha256, sha256(&data[..size]));
        size
    }

    async fn send(&self, data: &[u8]) {
        for piece in data.chunks(PIECE) {
            let data = resume_upload_request::Part::Data(piece.to_vec().into());
            let data = ResumeUploadRequest { part: Some(data) };
            self.sender.send(data).await.expect("it is taken");
        }
    }

    /// Says that the file is these bytes. Returns its name.
    async fn end(mut self, data: &[u8]) -> Result<String, Status> {
        let footer = ArtifactFooter {
            size_bytes: i64::try_from(data.len()).expect("small"),
            sha256: sha256(data),
        };
        let footer = resume_upload_request::Part::Footer(footer);
        let footer = ResumeUploadRequest { part: Some(footer) };
        self.sender.send(footer).await.expect("it is taken");
        match self.answers.message().await?.and_then(|answer| answer.told) {
            Some(Told::Name(name)) => Ok(name),
            other => panic!("{other:?}"),
        }
    }

    /// Breaks off; waits until the server has seen it.
    async fn break_off(mut self) {
        drop(self.sender);
        let refused = self.answers.message().await.expect_err("it has no end");
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
    }
}

fn owned((path, reason): (&str, &str)) -> (String, String) {
    (path.to_owned(), reason.to_owned())
}

/// Bytes that differ from place to place.
fn noise(size: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_u32;
    (0..size)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state.to_le_bytes()[0]
        })
        .collect()
}

/// Breaks twice, the first time without a word; most of the file is sent once.
async fn goes_on(fixture: Fixture, part: usize) {
    let mut scene = Scene::start(fixture).await;
    let data = noise(part * 3 + 17);
    let (_sender, call) = scene.begin("large", &data[..part * 3 / 2]).await;
    // All of it has arrived, and the agent is gone.
    tokio::time::sleep(Duration::from_millis(500)).await;
    call.abort();
    let first = scene.resume("large").await.expect("it is taken");
    let from = first.kept(&data);
    assert_eq!(from, part, "whole parts are kept");
    assert_eq!(scene.missing().await, [("large", "INTERRUPTED")].map(owned));
    first.send(&data[from..part * 5 / 2]).await;
    first.break_off().await;
    let second = scene.resume("large").await.expect("it is taken");
    let from = second.kept(&data);
    assert_eq!(from, part * 2);
    second.send(&data[from..]).await;
    let name = second.end(&data).await.expect("it is stored");
    scene.has_artifact(name, &data).await;
    assert_eq!(scene.missing().await, []);
    scene.has_staged(0).await;
    scene.agent.complete(&scene.work, b"").await;
    let done = scene.admin.finished(&scene.made.name).await;
    assert_eq!(done.state(), State::Passed);
    scene.fixture.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_broke_goes_on_where_it_broke() {
    Box::pin(goes_on(Fixture::start_on_files().await, PART)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_to_an_object_store_that_broke_goes_on_where_it_broke() {
    let given = object_store_behind_a_wire().await;
    let Some((_wire, url)) = given.expect("it is given where it is required") else {
        return;
    };
    let fixture = Fixture::start_with(|config| {
        config.blobs = Some(url);
        config.blob_options = options();
    });
    Box::pin(goes_on(fixture.await, 5 << 20)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_call_goes_on_with_an_upload_whose_connection_is_not_known_to_be_gone() {
    let mut scene = Scene::start(Fixture::start_on_files().await).await;
    let data = noise(PART * 3);
    let (_sender, older) = scene.begin("large", &data[..PART * 2]).await;
    scene.has_staged(1).await;
    let newer = scene.resume("large").await.expect("it is taken");
    let from = newer.kept(&data);
    assert!(from > 0, "what the older one has sent is there");
    let refused = older.await.expect("no panic");
    assert_eq!(refused.code(), Code::Aborted, "{refused:?}");
    newer.send(&data[from..]).await;
    let name = newer.end(&data).await.expect("it is stored");
    scene.has_artifact(name, &data).await;
    scene.fixture.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_known_begins_again_and_what_is_not_leased_is_refused() {
    let mut scene = Scene::start(Fixture::start_on_files().await).await;
    let data = noise(PART * 2 + 5);
    scene.break_off("large", &data[..PART * 2]).await;
    let other = scene.resume("other").await.expect("it is taken");
    assert_eq!(other.kept(&data), 0);
    other.send(&data).await;
    let name = other.end(&data).await.expect("it is stored");
    scene.has_artifact(name, &data).await;

    let mut header = scene.header("large");
    header.epoch += 1;
    let refused = Resumed::open(&mut scene.agent.clients, header).await;
    let refused = refused.err().expect("its lease is another one");
    assert_eq!(refused.code(), Code::Aborted, "{refused:?}");
    let stranger = scene.fixture.agent("west").await;
    let mut stranger = scene.fixture.clients(&stranger).await;
    let refused = Resumed::open(&mut stranger, scene.header("large")).await;
    let refused = refused.err().expect("it is another agent's");
    assert_eq!(refused.code(), Code::NotFound, "{refused:?}");

    // One from the beginning forgets what was kept.
    assert_eq!(scene.staged().len(), 1);
    let digest = sha256(b"short");
    let again = scene.agent.artifact(&scene.work, "large", b"short", digest);
    let name = again.await.expect("it is stored").name;
    scene.has_artifact(name, b"short").await;
    scene.has_staged(0).await;
    let resumed = scene.resume("large").await.expect("it is taken");
    assert_eq!(resumed.kept(&data), 0);
    scene.fixture.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_in_pieces_and_is_not_what_was_told_is_refused_whole() {
    let mut scene = Scene::start(Fixture::start_on_files().await).await;
    let data = noise(PART * 2);
    scene.break_off("large", &data).await;
    let resumed = scene.resume("large").await.expect("it is taken");
    assert_eq!(resumed.kept(&data), PART * 2);
    let refused = resumed.end(&data[1..]).await.expect_err("another size");
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
    assert_eq!(scene.missing().await, [("large", "MISMATCH")].map(owned));
    scene.has_staged(0).await;
    let resumed = scene.resume("large").await.expect("it is taken");
    assert_eq!(resumed.kept(&data), 0);
    scene.fixture.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_goes_on_with_goes_after_its_time() {
    let fixture = Fixture::start_on_files_with(|config| {
        config.keep_uploads = Duration::from_millis(700);
    });
    let mut scene = Scene::start(fixture.await).await;
    let data = noise(PART * 2);
    scene.break_off("large", &data).await;
    assert_eq!(scene.staged().len(), 1);
    scene.has_staged(0).await;
    let resumed = scene.resume("large").await.expect("it is taken");
    assert_eq!(resumed.kept(&data), 0);
    scene.fixture.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_too_many_that_are_kept_the_first_one_goes() {
    let mut scene = Scene::start(Fixture::start_on_files().await).await;
    let data = noise(PART);
    for number in 0..=MOST {
        let (sender, call) = scene.begin(&number.to_string(), &data).await;
        drop(sender);
        call.await.expect("no panic");
    }
    scene.has_staged(MOST).await;
    for (path, kept) in [("0", 0), ("1", PART)] {
        let resumed = scene.resume(path).await.expect("it is taken");
        assert_eq!(resumed.kept(&data), kept, "{path}");
    }
    scene.fixture.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_goes_with_its_attempt_and_with_its_server() {
    let mut scene = Scene::start(Fixture::start_on_files().await).await;
    let data = noise(PART * 2);
    scene.break_off("large", &data).await;
    assert_eq!(scene.staged().len(), 1);
    scene.agent.complete(&scene.work, b"").await;
    scene.has_staged(0).await;

    scene.made = scene.admin.create(run()).await;
    scene.work = scene.agent.work().await;
    scene.agent.report(&scene.work, Phase::Running).await;
    scene.break_off("large", &data).await;
    assert_eq!(scene.staged().len(), 1);
    let folder = scene.fixture.dir;
    scene.fixture.server.stop().await;
    let mut left = Vec::new();
    for folder in std::fs::read_dir(folder.path().join("blobs/artifacts")).expect("a folder") {
        left.extend(std::fs::read_dir(folder.expect("a folder").path()).expect("a folder"));
    }
    assert!(left.is_empty(), "{left:?}");
}

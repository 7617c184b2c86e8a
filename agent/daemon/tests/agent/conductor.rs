//! A conductor, played by a test over the agent's real socket.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use muster_proto::runner::v1::{
    AgentMessage, AgentWelcome, ArtifactBegin, ArtifactEnd, ArtifactPart, Completed,
    ConductorHello, ConductorMessage, DirectWish, Log, LogStream, MissingFile, MissingFiles,
    Outcome, PROTOCOL, Phase, Progress, agent_message::Message as Heard, artifact_part::Part,
    conductor_hello::Purpose, conductor_message::Message as Say,
};
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use tokio::{net::UnixStream, time::timeout};
use tokio_util::codec::{Framed, LengthDelimitedCodec};

use crate::{eventually, server::PATIENCE};

/// What the agent gave the process that it started in the conductor's place.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    pub(crate) socket: PathBuf,
    pub(crate) token: String,
    pub(crate) pid: i32,
}

impl Given {
    /// Waits until the process has written down what it got.
    pub(crate) async fn read(runs: &Path, attempt: &str) -> Self {
        let file = runs.join(attempt).join("given");
        let text = eventually("the agent starts a conductor", || {
            std::fs::read_to_string(&file).ok()
        })
        .await;
        let mut lines = text.lines();
        Self {
            socket: PathBuf::from(lines.next().expect("a socket")),
            token: lines.next().expect("a token").to_owned(),
            pid: lines
                .next()
                .and_then(|pid| pid.parse().ok())
                .expect("a pid"),
        }
    }
}

/// One connection.
pub(crate) struct Connection(Framed<UnixStream, LengthDelimitedCodec>);

impl Connection {
    pub(crate) async fn open(given: &Given, hello: ConductorHello) -> Self {
        let stream = UnixStream::connect(&given.socket)
            .await
            .expect("the agent listens");
        let mut connection = Self(Framed::new(stream, LengthDelimitedCodec::new()));
        connection.say(Say::Hello(hello)).await;
        connection
    }

    /// A control connection and its welcome.
    pub(crate) async fn control(
        given: &Given,
        attempt: &str,
        has_plan: bool,
    ) -> (Self, AgentWelcome) {
        Self::greet(given, hello(given, attempt, Purpose::Control, has_plan)).await
    }

    /// The same with another hello.
    pub(crate) async fn greet(given: &Given, hello: ConductorHello) -> (Self, AgentWelcome) {
        let mut connection = Self::open(given, hello).await;
        match connection.heard().await {
            Some(Heard::Welcome(welcome)) => (connection, welcome),
            other => panic!("not welcome: {other:?}"),
        }
    }

    pub(crate) async fn say(&mut self, message: Say) {
        let message = ConductorMessage {
            message: Some(message),
        };
        self.0
            .send(Bytes::from(message.encode_to_vec()))
            .await
            .expect("the agent reads");
    }

    /// The next message; none at the end of the connection.
    pub(crate) async fn heard(&mut self) -> Option<Heard> {
        let frame = timeout(PATIENCE, self.0.next())
            .await
            .expect("the agent speaks in time");
        let frame = frame?.ok()?;
        AgentMessage::decode(frame.freeze())
            .expect("a message")
            .message
    }

    /// Waits for a message that fits.
    pub(crate) async fn hears<T>(&mut self, fits: impl Fn(&Heard) -> Option<T>) -> T {
        loop {
            let heard = self.heard().await.expect("the connection goes on");
            if let Some(found) = fits(&heard) {
                return found;
            }
        }
    }

    pub(crate) async fn progress(&mut self, sequence: u64) {
        let progress = Progress {
            sequence,
            phase: Phase::Running.into(),
            ..Progress::default()
        };
        self.say(Say::Progress(progress)).await;
    }

    pub(crate) async fn log(&mut self, offset: u64, text: &str) {
        let log = Log {
            offset,
            data: Bytes::copy_from_slice(text.as_bytes()),
            stream: LogStream::Stdout.into(),
            step: "s1".to_owned(),
            time_ms: 1,
        };
        self.say(Say::Log(log)).await;
    }

    pub(crate) async fn completed(&mut self, log: &str) {
        let record = Completed {
            outcome: Outcome::Passed.into(),
            log_size: log.len() as u64,
            log_sha256: Sha256::digest(log).to_vec().into(),
            ..Completed::default()
        };
        self.say(Say::Completed(record)).await;
    }

    /// Waits until the agent says that so much of the log is durable.
    pub(crate) async fn durable(&mut self, offset: u64) {
        self.hears(|heard| match heard {
            Heard::Acknowledge(ack) if ack.log_offset >= offset => Some(()),
            _ => None,
        })
        .await;
    }

    /// Sends an artifact that asks for a way around the agent, and that goes there when it is given one.
    /// Returns where that is, and the answer.
    pub(crate) async fn direct(
        given: &Given,
        attempt: &str,
        path: &str,
        data: &str,
    ) -> (String, Option<String>) {
        let mut connection =
            Self::open(given, hello(given, attempt, Purpose::Artifact, true)).await;
        let size = data.len() as u64;
        let sha256 = Bytes::from(Sha256::digest(data).to_vec());
        let say = async |connection: &mut Self, part| {
            let part = ArtifactPart { part: Some(part) };
            connection.say(Say::Artifact(part)).await;
        };
        let begin = ArtifactBegin {
            path: path.to_owned(),
            mode: 0o644,
            step: "s1".to_owned(),
            direct: Some(DirectWish {
                size,
                sha256: sha256.clone(),
                has_authorities: false,
            }),
            resume: false,
        };
        say(&mut connection, Part::Begin(begin)).await;
        let Some(Heard::DirectUpload(way)) = connection.heard().await else {
            panic!("it says whether there is a way")
        };
        let direct = !way.url.is_empty();
        if !direct {
            let data = Bytes::copy_from_slice(data.as_bytes());
            say(&mut connection, Part::Data(data)).await;
        }
        let end = ArtifactEnd {
            size,
            sha256,
            direct,
        };
        say(&mut connection, Part::End(end)).await;
        match connection.heard().await {
            Some(Heard::ArtifactAck(ack)) => (way.url, Some(ack.error)),
            _ => (way.url, None),
        }
    }

    /// Tells of one missing file; whether that is noted.
    pub(crate) async fn missing(given: &Given, attempt: &str, path: &str, reason: &str) -> bool {
        let mut connection = Self::open(given, hello(given, attempt, Purpose::Missing, true)).await;
        let file = MissingFile {
            path: path.to_owned(),
            reason: reason.to_owned(),
            message: "why".to_owned(),
        };
        let files = MissingFiles {
            step: "s1".to_owned(),
            files: vec![file],
        };
        connection.say(Say::Missing(files)).await;
        matches!(connection.heard().await, Some(Heard::MissingNoted(_)))
    }

    /// Sends an artifact that was sent before, without what need not come again. Returns how much that is, and
    /// the answer.
    pub(crate) async fn again(
        given: &Given,
        attempt: &str,
        path: &str,
        data: &str,
    ) -> (u64, Option<String>) {
        let mut connection =
            Self::open(given, hello(given, attempt, Purpose::Artifact, true)).await;
        let say = async |connection: &mut Self, part| {
            let part = ArtifactPart { part: Some(part) };
            connection.say(Say::Artifact(part)).await;
        };
        let begin = ArtifactBegin {
            path: path.to_owned(),
            mode: 0o644,
            step: "s1".to_owned(),
            direct: None,
            resume: true,
        };
        say(&mut connection, Part::Begin(begin)).await;
        let Some(Heard::ArtifactKept(kept)) = connection.heard().await else {
            panic!("it says what is kept")
        };
        let (known, rest) = data.split_at(usize::try_from(kept.size).expect("it is small"));
        if kept.size > 0 {
            assert_eq!(kept.sha256, Sha256::digest(known).to_vec());
        }
        let rest = Bytes::copy_from_slice(rest.as_bytes());
        say(&mut connection, Part::Data(rest)).await;
        let end = ArtifactEnd {
            size: data.len() as u64,
            sha256: Sha256::digest(data).to_vec().into(),
            direct: false,
        };
        say(&mut connection, Part::End(end)).await;
        match connection.heard().await {
            Some(Heard::ArtifactAck(ack)) => (kept.size, Some(ack.error)),
            _ => (kept.size, None),
        }
    }

    /// Sends an artifact. Returns the error of the acknowledgement; none when the connection was
    /// closed instead.
    pub(crate) async fn artifact(
        given: &Given,
        attempt: &str,
        path: &str,
        parts: &[&str],
    ) -> Option<String> {
        let mut connection =
            Self::open(given, hello(given, attempt, Purpose::Artifact, true)).await;
        let size = parts.iter().map(|part| part.len() as u64).sum();
        let begin = Part::Begin(ArtifactBegin {
            path: path.to_owned(),
            mode: 0o644,
            step: "s1".to_owned(),
            direct: None,
            resume: false,
        });
        let data = parts
            .iter()
            .map(|part| Part::Data(Bytes::copy_from_slice(part.as_bytes())));
        let end = Part::End(ArtifactEnd {
            size,
            sha256: Sha256::digest(parts.concat()).to_vec().into(),
            direct: false,
        });
        for part in std::iter::once(begin).chain(data).chain([end]) {
            connection
                .say(Say::Artifact(ArtifactPart { part: Some(part) }))
                .await;
        }
        match connection.heard().await {
            Some(Heard::ArtifactAck(ack)) => Some(ack.error),
            _ => None,
        }
    }
}

pub(crate) fn hello(
    given: &Given,
    attempt: &str,
    purpose: Purpose,
    has_plan: bool,
) -> ConductorHello {
    ConductorHello {
        attempt: attempt.to_owned(),
        token: given.token.clone(),
        protocol: PROTOCOL,
        purpose: purpose.into(),
        has_plan,
        log_start: 0,
        log_end: 0,
    }
}

//! The agent's end, played: it welcomes, keeps what it hears, acknowledges, and misbehaves on
//! demand.

use std::{
    collections::BTreeMap,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use muster_proto::runner::v1::{
    Acknowledge, AgentMessage, AgentWelcome, ArtifactAck, ArtifactKept, Cancel, ChildrenAnswer,
    Completed, CompletedAck, ConductorHello, ConductorMessage, CredentialGiven, DirectUpload,
    DurationsGiven, Log, LogStream, MissingFile, MissingNoted, Progress, Refused, StepStatus,
    VerdictGiven, VerdictWish, agent_message::Message, artifact_part::Part, children_order::Order,
    conductor_hello::Purpose, conductor_message::Message as Said,
};
use muster_runner::frame::{FrameReader, FrameWriter};
use muster_spec::plan::Plan;
use sha2::{Digest as _, Sha256};
use tokio::{
    net::{
        UnixListener, UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

pub(crate) const ATTEMPT: &str = "0199f5a0-0000-7000-8000-000000000001";
pub(crate) const TOKEN: &str = "a token";

/// How the agent behaves.
#[derive(Debug, Clone, Default)]
pub(crate) struct Manner {
    /// Cuts the control connection after so many bytes of log on it, once for each entry.
    pub(crate) cuts: Vec<u64>,
    /// Cuts so many artifact connections at their first bytes.
    pub(crate) artifact_cuts: u32,
    /// Cuts artifact connections when so many bytes of a file have come by them, once for each entry.
    pub(crate) cuts_within: Vec<usize>,
    /// Files that change when a connection is cut within them.
    pub(crate) changes: Vec<PathBuf>,
    /// Hears and acknowledges nothing of the log until it is told to.
    pub(crate) deaf: bool,
    /// An agent of the release before takes one on each connection.
    pub(crate) one_artifact_each: bool,
    /// Takes no more artifacts than so many.
    pub(crate) most_artifacts: Option<usize>,
    /// Refuses artifacts for good, with these words.
    pub(crate) refuse_artifacts: Option<&'static str>,
    /// Where artifacts may be put directly, when they ask.
    pub(crate) direct: Option<DirectUpload>,
    /// Files whose ends change while it says where.
    pub(crate) spoils: Vec<PathBuf>,
    /// Credentials of the project.
    pub(crate) credentials: BTreeMap<String, String>,
    /// How long values of shards take, in milliseconds; others are not known.
    pub(crate) durations: BTreeMap<String, i64>,
    /// Judges steps.
    pub(crate) judge: Option<fn(&VerdictWish) -> VerdictGiven>,
    /// Cuts so many connections for verdicts.
    pub(crate) verdict_cuts: u32,
    /// Cuts so many connections for missing files.
    pub(crate) missing_cuts: u32,
    /// An agent of the release before takes none for missing files.
    pub(crate) notes_nothing: bool,
    /// Does not answer orders to let children go on.
    pub(crate) holds_children: bool,
    /// Image configs for the welcome.
    pub(crate) welcome: AgentWelcome,
}

/// What the agent heard.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// Chunks of the log, without overlap.
    pub(crate) chunks: Vec<Log>,
    /// How many connections brought artifacts.
    pub(crate) artifact_connections: usize,
    /// Length of the log.
    pub(crate) length: u64,
    /// Below it the conductor was told that all is durable.
    pub(crate) durable: u64,
    pub(crate) progress: Progress,
    pub(crate) completed: Option<Completed>,
    pub(crate) artifacts: BTreeMap<String, Vec<u8>>,
    /// What came of artifacts whose connections were cut within them.
    pub(crate) kept: BTreeMap<String, Vec<u8>>,
    /// How many bytes of artifacts were sent.
    pub(crate) artifact_bytes: usize,
    /// Of each artifact that was sent again: where it went on.
    pub(crate) resumed: Vec<usize>,
    /// Paths that asked for a way around the agent.
    pub(crate) asked: Vec<String>,
    /// Sizes of artifacts that went around the agent.
    pub(crate) direct: BTreeMap<String, u64>,
    /// Files that are missing, with the step that was to collect them.
    pub(crate) missing: Vec<(String, MissingFile)>,
    /// Credentials that were asked for.
    pub(crate) wishes: Vec<String>,
    /// Values of shards of which durations were asked, by question.
    pub(crate) weighed: Vec<Vec<String>>,
    /// Verdicts that were asked for.
    pub(crate) verdicts: Vec<VerdictWish>,
    /// Orders about children.
    pub(crate) children: Vec<Order>,
    /// Control connections so far.
    pub(crate) connections: u32,
    orders: Vec<Message>,
}

impl Heard {
    /// All bytes of the log.
    pub(crate) fn log(&self) -> Vec<u8> {
        self.chunks
            .iter()
            .flat_map(|log| log.data.to_vec())
            .collect()
    }

    /// What the processes of a step printed.
    pub(crate) fn output(&self, step: &str) -> String {
        let of_step = |log: &&Log| log.step == step && log.stream() != LogStream::System;
        let bytes = self
            .chunks
            .iter()
            .filter(of_step)
            .flat_map(|log| log.data.to_vec());
        String::from_utf8_lossy(&bytes.collect::<Vec<u8>>()).into_owned()
    }

    /// Remarks of the conductor.
    pub(crate) fn remarks(&self) -> String {
        let remarks = |log: &&Log| log.stream() == LogStream::System;
        let bytes = self
            .chunks
            .iter()
            .filter(remarks)
            .flat_map(|log| log.data.to_vec());
        String::from_utf8_lossy(&bytes.collect::<Vec<u8>>()).into_owned()
    }

    pub(crate) fn step(&self, reference: &str) -> &StepStatus {
        let found = self
            .progress
            .steps
            .iter()
            .find(|step| step.reference == reference);
        found.unwrap_or_else(|| panic!("no step {reference} in {:?}", self.progress))
    }
}

/// The agent.
#[derive(Clone)]
pub(crate) struct Agent {
    plan: Arc<Vec<u8>>,
    manner: Arc<Mutex<Manner>>,
    heard: Arc<Mutex<Heard>>,
    changed: watch::Sender<u64>,
}

impl Agent {
    pub(crate) fn listen(socket: &Path, plan: &Plan, manner: Manner) -> Self {
        let agent = Self {
            plan: Arc::new(serde_json::to_vec(plan).unwrap()),
            manner: Arc::new(Mutex::new(manner)),
            heard: Arc::default(),
            changed: watch::Sender::new(0),
        };
        let listener = UnixListener::bind(socket).unwrap();
        let accepting = agent.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(accepting.clone().attend(stream));
            }
        });
        agent
    }

    pub(crate) fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap()
    }

    pub(crate) fn manner(&self) -> MutexGuard<'_, Manner> {
        self.manner.lock().unwrap()
    }

    /// Gives an order, on this and on later connections.
    pub(crate) fn order(&self, order: Message) {
        self.heard().orders.push(order);
        self.touch();
    }

    pub(crate) fn cancel(&self, force: bool) {
        self.order(Message::Cancel(Cancel {
            force,
            message: "enough".to_owned(),
            ..Cancel::default()
        }));
    }

    pub(crate) fn refuse(&self) {
        self.order(Message::Refused(Refused {
            message: "the lease is lost".to_owned(),
            permanent: true,
        }));
    }

    /// Lets a deaf agent hear.
    pub(crate) fn listen_again(&self) {
        self.manner().deaf = false;
        self.touch();
    }

    /// Waits until something is true of what was heard.
    pub(crate) async fn until(&self, what: &str, is: impl Fn(&Heard) -> bool) {
        let mut changed = self.changed.subscribe();
        let wait = async {
            while !is(&self.heard()) {
                changed.changed().await.unwrap();
            }
        };
        if tokio::time::timeout(Duration::from_secs(100), wait)
            .await
            .is_err()
        {
            let heard = self.heard();
            panic!(
                "not in time: {what}; {:?}; {}",
                heard.progress,
                heard.remarks()
            );
        }
    }

    fn touch(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    async fn attend(self, stream: UnixStream) {
        let (read, write) = stream.into_split();
        let (mut reader, writer) = (FrameReader::new(read), FrameWriter::new(write));
        let Ok(Some(Said::Hello(hello))) = hear(&mut reader).await else {
            return;
        };
        assert_eq!(
            (hello.attempt.as_str(), hello.token.as_str()),
            (ATTEMPT, TOKEN)
        );
        match hello.purpose() {
            Purpose::Control => self.control(&hello, reader, writer).await,
            Purpose::Artifact => self.artifact(reader, writer).await,
            Purpose::Credential => self.credential(reader, writer).await,
            Purpose::Durations => self.durations(reader, writer).await,
            Purpose::Verdict => self.verdict(reader, writer).await,
            Purpose::Missing => self.missing(reader, writer).await,
            Purpose::Archive => panic!("nothing here gives files on"),
            Purpose::Unspecified => panic!("a connection without a purpose"),
        }
    }

    async fn control(
        self,
        hello: &ConductorHello,
        mut reader: FrameReader<OwnedReadHalf>,
        mut writer: FrameWriter<OwnedWriteHalf>,
    ) {
        let offset = self.begin(hello);
        let mut welcome = self.manner().welcome.clone();
        welcome.log_offset = offset;
        welcome.judges = self.manner().judge.is_some();
        welcome.notes_missing = !self.manner().notes_nothing;
        if !hello.has_plan {
            welcome.plan = self.plan.to_vec().into();
        }
        say(&mut writer, Message::Welcome(welcome)).await;
        let mut changed = self.changed.subscribe();
        changed.mark_changed();
        let (mut ordered, mut received) = (0, 0);
        loop {
            let deaf = self.manner().deaf;
            tokio::select! {
                said = hear(&mut reader), if !deaf => {
                    let Ok(Some(said)) = said else { return };
                    if let Said::Log(log) = &said {
                        received += log.data.len() as u64;
                        if self.cuts(received) {
                            return;
                        }
                    }
                    for answer in self.take(said) {
                        say(&mut writer, answer).await;
                    }
                }
                _ = changed.changed() => {
                    let orders: Vec<_> = self.heard().orders.iter().skip(ordered).cloned().collect();
                    ordered += orders.len();
                    for order in orders {
                        say(&mut writer, order).await;
                    }
                }
            }
        }
    }

    /// A connection begins: what is not durable is forgotten, as an agent does that died.
    fn begin(&self, hello: &ConductorHello) -> u64 {
        let mut heard = self.heard();
        heard.connections += 1;
        let durable = heard.durable;
        assert!(
            hello.log_start <= durable,
            "{hello:?} has not what is not durable"
        );
        assert!(hello.log_end >= durable);
        let mut length = 0;
        heard.chunks.retain_mut(|log| {
            let room = usize::try_from(durable.saturating_sub(length)).unwrap();
            length += log.data.len() as u64;
            log.data.truncate(room);
            !log.data.is_empty()
        });
        heard.length = durable;
        durable
    }

    fn cuts(&self, received: u64) -> bool {
        let mut manner = self.manner();
        let now = manner.cuts.first().is_some_and(|limit| received >= *limit);
        if now {
            manner.cuts.remove(0);
        }
        now
    }

    fn take(&self, said: Said) -> Vec<Message> {
        let mut heard = self.heard();
        let mut answers = Vec::new();
        match said {
            Said::Progress(progress) => {
                assert!(progress.sequence >= heard.progress.sequence);
                heard.progress = progress;
            }
            Said::Log(log) => {
                heard.log_chunk(log);
                // Durable is less than heard, at no particular border.
                heard.durable = heard.length - heard.length.min(1000);
                answers.push(heard.acknowledge());
            }
            Said::Completed(completed) => {
                heard.durable = heard.length;
                heard.progress = completed.progress.clone().unwrap();
                heard.completed = Some(completed);
                answers.extend([heard.acknowledge(), Message::CompletedAck(CompletedAck {})]);
            }
            Said::Children(order) => {
                let id = order.id;
                // An empty one says that there are children.
                if let Some(order) = order.order {
                    let holds = matches!(order, Order::Resume(_)) && self.manner().holds_children;
                    let answer = ChildrenAnswer {
                        id,
                        ..ChildrenAnswer::default()
                    };
                    answers.extend((!holds).then_some(Message::ChildrenAnswer(answer)));
                    heard.children.push(order);
                }
            }
            Said::Hello(_)
            | Said::Artifact(_)
            | Said::Archive(_)
            | Said::Credential(_)
            | Said::Durations(_)
            | Said::Verdict(_)
            | Said::Missing(_) => panic!("does not belong here"),
        }
        drop(heard);
        self.touch();
        answers
    }

    async fn credential(
        self,
        mut reader: FrameReader<OwnedReadHalf>,
        mut writer: FrameWriter<OwnedWriteHalf>,
    ) {
        let Ok(Some(Said::Credential(wish))) = hear(&mut reader).await else {
            panic!("no wish")
        };
        let value = self.manner().credentials.get(&wish.name).cloned();
        let error = match &value {
            Some(_) => String::new(),
            None => format!("there is no '{}'", wish.name),
        };
        self.heard().wishes.push(wish.name);
        let value = value.unwrap_or_default();
        say(
            &mut writer,
            Message::Credential(CredentialGiven { value, error }),
        )
        .await;
    }

    async fn durations(
        self,
        mut reader: FrameReader<OwnedReadHalf>,
        mut writer: FrameWriter<OwnedWriteHalf>,
    ) {
        let mut values = Vec::new();
        loop {
            let Ok(Some(Said::Durations(wish))) = hear(&mut reader).await else {
                panic!("no wish")
            };
            values.extend(wish.values);
            if wish.last {
                break;
            }
        }
        let known = self.manner().durations.clone();
        let millis = |value: &String| known.get(value).copied().unwrap_or(-1);
        let given = DurationsGiven {
            durations_ms: values.iter().map(millis).collect(),
            runs: u32::from(!known.is_empty()),
            error: String::new(),
        };
        self.heard().weighed.push(values);
        say(&mut writer, Message::Durations(given)).await;
    }

    /// Breaks off so often as it is to, then judges.
    async fn verdict(
        self,
        mut reader: FrameReader<OwnedReadHalf>,
        mut writer: FrameWriter<OwnedWriteHalf>,
    ) {
        let Ok(Some(Said::Verdict(wish))) = hear(&mut reader).await else {
            panic!("no wish")
        };
        let given = {
            let mut manner = self.manner();
            if manner.verdict_cuts > 0 {
                manner.verdict_cuts -= 1;
                return;
            }
            let judge = manner.judge.expect("it says that it judges");
            judge(&wish)
        };
        self.heard().verdicts.push(wish);
        say(&mut writer, Message::Verdict(given)).await;
    }

    /// Breaks off so often as it is to, then takes note.
    async fn missing(
        self,
        mut reader: FrameReader<OwnedReadHalf>,
        mut writer: FrameWriter<OwnedWriteHalf>,
    ) {
        let Ok(Some(Said::Missing(missing))) = hear(&mut reader).await else {
            panic!("no list")
        };
        {
            let mut manner = self.manner();
            assert!(!manner.notes_nothing, "it does not say that it does");
            if manner.missing_cuts > 0 {
                manner.missing_cuts -= 1;
                return;
            }
        }
        let files = missing.files.into_iter();
        let files = files.map(|file| (missing.step.clone(), file));
        self.heard().missing.extend(files);
        say(&mut writer, Message::MissingNoted(MissingNoted {})).await;
    }

    async fn artifact(
        self,
        mut reader: FrameReader<OwnedReadHalf>,
        mut writer: FrameWriter<OwnedWriteHalf>,
    ) {
        self.heard().artifact_connections += 1;
        let (mut path, mut bytes, mut came) = (String::new(), Vec::new(), 0);
        while let Ok(Some(Said::Artifact(part))) = hear(&mut reader).await {
            match part.part.unwrap() {
                Part::Begin(begin) => {
                    path = begin.path;
                    came = 0;
                    if begin.resume {
                        bytes = self.heard().kept.remove(&path).unwrap_or_default();
                        self.heard().resumed.push(bytes.len());
                        let kept = ArtifactKept {
                            size: bytes.len() as u64,
                            sha256: Sha256::digest(&bytes).to_vec().into(),
                        };
                        say(&mut writer, Message::ArtifactKept(kept)).await;
                    }
                    if let Some(wish) = begin.direct {
                        self.heard().asked.push(path.clone());
                        let given = self.manner().direct.clone().unwrap_or_default();
                        for path in &self.manner().spoils {
                            let file = std::fs::File::options().write(true).open(path).unwrap();
                            file.write_at(b"spoilt", wish.size - 6).unwrap();
                        }
                        let headers = [("content-length".to_owned(), wish.size.to_string())];
                        let given = DirectUpload {
                            headers: headers.into(),
                            ..given
                        };
                        say(&mut writer, Message::DirectUpload(given)).await;
                    }
                }
                Part::End(end) if end.direct => {
                    let path = std::mem::take(&mut path);
                    self.heard().direct.insert(path, end.size);
                    let ack = ArtifactAck {
                        more: true,
                        ..ArtifactAck::default()
                    };
                    say(&mut writer, Message::ArtifactAck(ack)).await;
                    self.touch();
                }
                Part::Data(data) => {
                    came += data.len();
                    self.heard().artifact_bytes += data.len();
                    bytes.extend(data);
                    let mut manner = self.manner();
                    if manner.cuts_within.first().is_some_and(|cut| came >= *cut) {
                        manner.cuts_within.remove(0);
                        for path in &manner.changes {
                            let file = std::fs::File::options().write(true).open(path).unwrap();
                            file.write_at(b"changed", 0).unwrap();
                        }
                        self.heard().kept.insert(path, bytes);
                        return;
                    }
                    if manner.artifact_cuts > 0 {
                        manner.artifact_cuts -= 1;
                        return;
                    }
                }
                Part::End(end) => {
                    assert_eq!(end.size, bytes.len() as u64);
                    assert_eq!(end.sha256, Sha256::digest(&bytes).to_vec());
                    let most = self.manner().most_artifacts.unwrap_or(usize::MAX);
                    let full = self.heard().artifacts.len() >= most;
                    let error = match self.manner().refuse_artifacts {
                        Some(words) => words,
                        None if full => "there are too many",
                        None => "",
                    };
                    if error.is_empty() {
                        let path = std::mem::take(&mut path);
                        let before = self.heard().artifacts.insert(path, bytes.clone());
                        // A file whose acknowledgement did not come may be sent again.
                        let same = before.is_none_or(|before| before == bytes);
                        assert!(same, "another file came under the same name");
                    }
                    let error = error.to_owned();
                    bytes.clear();
                    let more = !self.manner().one_artifact_each;
                    let ack = ArtifactAck { error, more, full };
                    say(&mut writer, Message::ArtifactAck(ack)).await;
                    self.touch();
                    if !more {
                        return;
                    }
                }
            }
        }
    }
}

impl Heard {
    fn log_chunk(&mut self, mut log: Log) {
        assert!(log.offset <= self.length, "a gap at {}", self.length);
        let known = usize::try_from(self.length - log.offset).unwrap();
        if known < log.data.len() {
            log.data = log.data.split_off(known);
            log.offset = self.length;
            self.length += log.data.len() as u64;
            self.chunks.push(log);
        }
    }

    fn acknowledge(&self) -> Message {
        Message::Acknowledge(Acknowledge {
            log_offset: self.durable,
            progress: self.progress.sequence,
        })
    }
}

async fn hear(
    reader: &mut FrameReader<OwnedReadHalf>,
) -> Result<Option<Said>, muster_runner::frame::Error> {
    let message = reader.next::<ConductorMessage>().await?;
    Ok(message.map(|message| message.message.unwrap()))
}

/// The other end may be gone already.
async fn say(writer: &mut FrameWriter<OwnedWriteHalf>, message: Message) {
    let message = AgentMessage {
        message: Some(message),
    };
    drop(writer.send(&message).await);
}

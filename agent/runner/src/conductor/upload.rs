//! One artifact on its way to the agent, on a connection that no other one uses meanwhile; or to the object
//! store, and then the connection tells only of it. Of one that was sent before, what the server has kept is
//! read and hashed again, but not sent.

use std::{rc::Rc, time::Duration};

use bytes::Bytes;
use muster_proto::runner::v1::{
    ArtifactAck, ArtifactBegin, ArtifactEnd, ArtifactKept, ArtifactPart, DirectUpload, DirectWish,
    agent_message::Message as Heard, artifact_part::Part, conductor_hello::Purpose,
    conductor_message::Message as Said,
};
use sha2::{Digest as _, Sha256};
use tokio::time::timeout;

use super::{
    agent::{Agent, Hearing, Speaking},
    direct::Direct,
    put::Put,
};
use crate::collect;

/// A connection that has carried an artifact and takes another one.
pub(super) struct Carrier {
    hearing: Hearing,
    speaking: Speaking,
}

/// An artifact on its way.
pub(super) struct Upload {
    carrier: Carrier,
    size: u64,
    digest: Sha256,
    /// What need not be sent, until it has gone by.
    kept: Option<ArtifactKept>,
    around: Option<Around>,
}

/// An artifact on its way around the agent.
struct Around {
    put: Put,
    direct: Rc<Direct>,
    /// What is allowed to be put.
    wanted: collect::Digest,
    /// Bytes that are not sent before it is known what follows: the store never gets the last ones of a
    /// file that has changed.
    held: Option<Bytes>,
}

/// Why an upload did not come to its end.
#[derive(Debug)]
pub(super) enum Broken {
    /// The connection broke: the file is to be sent again, from where it broke if it can be.
    Connection,
    /// It does not begin with what was sent of it before: it is to be sent again from its first byte.
    Changed,
    /// It never will be durable, in these words.
    Refused(String),
    /// Neither it nor any other one will be, in these words.
    Full(String),
    /// It does not come into the object store directly: it is to be sent by the agent.
    Around,
}

/// How long it may take until it is known where an artifact may be put, or what is kept of it.
const GIVEN: Duration = Duration::from_secs(60);
/// How long to wait for how much is kept: an agent looks for its server for a while, and that waits until another
/// call has handed over what it has.
const KEPT: Duration = Duration::from_secs(180);
/// How long the last words of an agent that hears no more may take.
const LAST_WORDS: Duration = Duration::from_secs(1);

impl Upload {
    /// Begins, on a connection that is there if it still works; waits as long as there is no agent. With a
    /// digest it goes around the agent, when that is possible.
    pub(super) async fn begin(
        agent: &Agent,
        direct: &Rc<Direct>,
        carrier: Option<Carrier>,
        begin: ArtifactBegin,
        digest: Option<collect::Digest>,
    ) -> Result<Self, Broken> {
        let digest = digest.filter(|_| direct.from() > 0 && !begin.resume);
        if let Some(carrier) = carrier {
            let mut upload = Self::on(carrier);
            match upload.start(agent, begin.clone(), direct, digest).await {
                Err(Broken::Connection) => {}
                started => return started.map(|()| upload),
            }
        }
        let connection = agent.connect(Purpose::Artifact, (true, 0, 0)).await;
        let (hearing, speaking) = connection.split();
        let mut upload = Self::on(Carrier { hearing, speaking });
        upload.start(agent, begin, direct, digest).await?;
        Ok(upload)
    }

    fn on(carrier: Carrier) -> Self {
        Self {
            carrier,
            size: 0,
            digest: Sha256::new(),
            kept: None,
            around: None,
        }
    }

    async fn start(
        &mut self,
        agent: &Agent,
        mut begin: ArtifactBegin,
        direct: &Rc<Direct>,
        digest: Option<collect::Digest>,
    ) -> Result<(), Broken> {
        begin.direct = digest.map(|digest| DirectWish {
            size: digest.size,
            sha256: Bytes::copy_from_slice(&digest.sha256),
            has_authorities: direct.has_authorities(),
        });
        begin.resume &= agent.resumes();
        let resume = begin.resume;
        self.say(Part::Begin(begin)).await?;
        if resume {
            let Ok(kept) = timeout(KEPT, self.answer(kept)).await else {
                return Err(Broken::Connection);
            };
            self.kept = Some(kept?).filter(|kept| kept.size > 0);
        }
        let Some(wanted) = digest else {
            return Ok(());
        };
        let Ok(given) = timeout(GIVEN, self.answer(given)).await else {
            // An agent of before this version, that the pod was given back to, waits for the content.
            direct.give_up("the agent does not say where they may be put");
            return Err(Broken::Around);
        };
        let given = given?;
        if given.url.is_empty() {
            return Ok(());
        }
        match Put::begin(direct, &given).await {
            Ok(put) => {
                self.around = Some(Around {
                    put,
                    direct: Rc::clone(direct),
                    wanted,
                    held: None,
                });
            }
            // Nothing is lost: it goes on as any other one.
            Err(why) => direct.give_up(&why),
        }
        Ok(())
    }

    pub(super) async fn data(&mut self, mut data: Bytes) -> Result<(), Broken> {
        if self.kept.is_some() {
            self.pass_over(&mut data)?;
            if data.is_empty() {
                return Ok(());
            }
        }
        self.size += data.len() as u64;
        self.digest.update(&data);
        match &mut self.around {
            Some(around) => around.data(data).await,
            None => self.say(Part::Data(data)).await,
        }
    }

    /// Takes what need not be sent from the beginning of `data`.
    fn pass_over(&mut self, data: &mut Bytes) -> Result<(), Broken> {
        let Some(kept) = &self.kept else {
            return Ok(());
        };
        let left = usize::try_from(kept.size - self.size).unwrap_or(usize::MAX);
        let known = data.split_to(left.min(data.len()));
        self.size += known.len() as u64;
        self.digest.update(&known);
        if self.size < kept.size {
            return Ok(());
        }
        if self.digest.clone().finalize().as_slice() != kept.sha256 {
            return Err(Broken::Changed);
        }
        self.kept = None;
        Ok(())
    }

    /// Ends it; waits until it is durable. Returns the connection when it takes another one.
    pub(super) async fn end(mut self) -> Result<Option<Carrier>, Broken> {
        if self.kept.is_some() {
            // It is shorter than what was sent of it.
            return Err(Broken::Changed);
        }
        let sha256 = self.digest.clone().finalize();
        let around = self.around.take();
        let direct = around.is_some();
        if let Some(around) = around {
            let sent = collect::Digest {
                size: self.size,
                sha256: sha256.into(),
            };
            around.end(sent).await?;
        }
        let end = ArtifactEnd {
            size: self.size,
            sha256: sha256.to_vec().into(),
            direct,
        };
        let told = match self.say(Part::End(end)).await {
            Ok(()) => self.verdict().await,
            Err(broken) => Err(broken),
        };
        let more = told.map_err(|broken| match broken {
            // Who knows whether it would be listed the next time.
            Broken::Connection if direct => Broken::Around,
            other => other,
        })?;
        Ok(more.then_some(self.carrier))
    }

    /// What is told of the artifact that was begun, which `wanted` knows.
    async fn answer<T>(&mut self, wanted: impl Fn(Heard) -> Option<T>) -> Result<T, Broken> {
        loop {
            let message = self.carrier.hearing.hear().await;
            match message.map(|message| message.message) {
                Ok(Some(Heard::ArtifactAck(ack))) => return Err(Broken::of(ack)),
                Ok(Some(Heard::Refused(_))) | Err(_) => return Err(Broken::Connection),
                Ok(Some(message)) => {
                    if let Some(answer) = wanted(message) {
                        return Ok(answer);
                    }
                }
                Ok(None) => {}
            }
        }
    }

    /// Whether the connection takes another one, when this one is durable.
    async fn verdict(&mut self) -> Result<bool, Broken> {
        loop {
            let message = self.carrier.hearing.hear().await;
            match message.map(|message| message.message) {
                Ok(Some(Heard::ArtifactAck(ack))) if ack.error.is_empty() => return Ok(ack.more),
                Ok(Some(Heard::ArtifactAck(ack))) => return Err(Broken::of(ack)),
                Ok(Some(Heard::Refused(_))) | Err(_) => return Err(Broken::Connection),
                Ok(_) => {}
            }
        }
    }

    async fn say(&mut self, part: Part) -> Result<(), Broken> {
        let part = ArtifactPart { part: Some(part) };
        if self
            .carrier
            .speaking
            .say(Said::Artifact(part))
            .await
            .is_ok()
        {
            return Ok(());
        }
        // An agent that refuses early says why, and hears no more.
        match timeout(LAST_WORDS, self.verdict()).await {
            Ok(Err(broken)) => Err(broken),
            Ok(Ok(_)) | Err(_) => Err(Broken::Connection),
        }
    }
}

/// Where the artifact may be put.
fn given(message: Heard) -> Option<DirectUpload> {
    match message {
        Heard::DirectUpload(given) => Some(given),
        _ => None,
    }
}

/// What is kept of the artifact.
fn kept(message: Heard) -> Option<ArtifactKept> {
    match message {
        Heard::ArtifactKept(kept) => Some(kept),
        _ => None,
    }
}

impl Around {
    async fn data(&mut self, data: Bytes) -> Result<(), Broken> {
        let Some(ready) = self.held.replace(data) else {
            return Ok(());
        };
        self.put.data(ready).await.map_err(|why| {
            self.direct.give_up(&why);
            Broken::Around
        })
    }

    /// Ends it, when what was sent is what was allowed.
    async fn end(mut self, sent: collect::Digest) -> Result<(), Broken> {
        if sent != self.wanted {
            // It has changed since it was hashed: another one may stand still.
            return Err(Broken::Around);
        }
        let direct = Rc::clone(&self.direct);
        let put = async {
            if let Some(last) = self.held.take() {
                self.put.data(last).await?;
            }
            self.put.end().await
        };
        put.await.map_err(|why| {
            direct.give_up(&why);
            Broken::Around
        })
    }
}

impl Broken {
    fn of(ack: ArtifactAck) -> Self {
        match ack.full {
            true => Self::Full(ack.error),
            false => Self::Refused(ack.error),
        }
    }
}

//! One artifact on its way to the agent, on a connection of its own.

use std::time::Duration;

use bytes::Bytes;
use muster_proto::runner::v1::{
    ArtifactBegin, ArtifactEnd, ArtifactPart, agent_message::Message as Heard, artifact_part::Part,
    conductor_hello::Purpose, conductor_message::Message as Said,
};
use sha2::{Digest as _, Sha256};
use tokio::time::timeout;

use super::agent::{Agent, Hearing, Speaking};

/// An artifact on its way.
pub(super) struct Upload {
    hearing: Hearing,
    speaking: Speaking,
    size: u64,
    digest: Sha256,
}

/// Why an upload did not come to its end.
#[derive(Debug)]
pub(super) enum Broken {
    /// The connection broke: the whole file is to be sent again.
    Connection,
    /// It never will be durable, in these words.
    Refused(String),
}

/// How long the last words of an agent that hears no more may take.
const LAST_WORDS: Duration = Duration::from_secs(1);

impl Upload {
    /// Begins; waits as long as there is no agent.
    pub(super) async fn begin(agent: &Agent, begin: ArtifactBegin) -> Result<Self, Broken> {
        let connection = agent.connect(Purpose::Artifact, (true, 0, 0)).await;
        let (hearing, speaking) = connection.split();
        let mut upload = Self {
            hearing,
            speaking,
            size: 0,
            digest: Sha256::new(),
        };
        upload.say(Part::Begin(begin)).await?;
        Ok(upload)
    }

    pub(super) async fn data(&mut self, data: Bytes) -> Result<(), Broken> {
        self.size += data.len() as u64;
        self.digest.update(&data);
        self.say(Part::Data(data)).await
    }

    /// Ends it; waits until it is durable.
    pub(super) async fn end(mut self) -> Result<(), Broken> {
        let end = ArtifactEnd {
            size: self.size,
            sha256: self.digest.clone().finalize().to_vec().into(),
        };
        self.say(Part::End(end)).await?;
        self.verdict().await
    }

    async fn verdict(&mut self) -> Result<(), Broken> {
        loop {
            let message = self.hearing.hear().await;
            match message.map(|message| message.message) {
                Ok(Some(Heard::ArtifactAck(ack))) if ack.error.is_empty() => return Ok(()),
                Ok(Some(Heard::ArtifactAck(ack))) => return Err(Broken::Refused(ack.error)),
                Ok(Some(Heard::Refused(_))) | Err(_) => return Err(Broken::Connection),
                Ok(_) => {}
            }
        }
    }

    async fn say(&mut self, part: Part) -> Result<(), Broken> {
        let part = ArtifactPart { part: Some(part) };
        if self.speaking.say(Said::Artifact(part)).await.is_ok() {
            return Ok(());
        }
        // An agent that refuses early says why, and hears no more.
        match timeout(LAST_WORDS, self.verdict()).await {
            Ok(Err(broken)) => Err(broken),
            Ok(Ok(())) | Err(_) => Err(Broken::Connection),
        }
    }
}

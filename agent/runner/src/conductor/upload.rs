//! One artifact on its way to the agent, on a connection of its own.

use bytes::Bytes;
use muster_proto::runner::v1::{
    ArtifactBegin, ArtifactEnd, ArtifactPart, agent_message::Message as Heard, artifact_part::Part,
    conductor_hello::Purpose, conductor_message::Message as Said,
};
use sha2::{Digest as _, Sha256};

use super::agent::{Agent, Hearing, Speaking};

/// An artifact on its way.
pub(super) struct Upload {
    hearing: Hearing,
    speaking: Speaking,
    size: u64,
    digest: Sha256,
}

/// The connection broke: the whole file is to be sent again.
#[derive(Debug)]
pub(super) struct Broken;

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

    /// Ends it; the answer is empty when it is durable, else why it never will be.
    pub(super) async fn end(mut self) -> Result<String, Broken> {
        let end = ArtifactEnd {
            size: self.size,
            sha256: self.digest.clone().finalize().to_vec().into(),
        };
        self.say(Part::End(end)).await?;
        loop {
            match self.hearing.hear().await {
                Ok(message) => {
                    if let Some(Heard::ArtifactAck(ack)) = message.message {
                        return Ok(ack.error);
                    }
                }
                Err(_) => return Err(Broken),
            }
        }
    }

    async fn say(&mut self, part: Part) -> Result<(), Broken> {
        let part = ArtifactPart { part: Some(part) };
        self.speaking
            .say(Said::Artifact(part))
            .await
            .map_err(|_broken| Broken)
    }
}

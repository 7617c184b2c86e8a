//! One artifact on its way to the agent, on a connection that no other one uses meanwhile.

use std::time::Duration;

use bytes::Bytes;
use muster_proto::runner::v1::{
    ArtifactBegin, ArtifactEnd, ArtifactPart, agent_message::Message as Heard, artifact_part::Part,
    conductor_hello::Purpose, conductor_message::Message as Said,
};
use sha2::{Digest as _, Sha256};
use tokio::time::timeout;

use super::agent::{Agent, Hearing, Speaking};

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
}

/// Why an upload did not come to its end.
#[derive(Debug)]
pub(super) enum Broken {
    /// The connection broke: the whole file is to be sent again.
    Connection,
    /// It never will be durable, in these words.
    Refused(String),
    /// Neither it nor any other one will be, in these words.
    Full(String),
}

/// How long the last words of an agent that hears no more may take.
const LAST_WORDS: Duration = Duration::from_secs(1);

impl Upload {
    /// Begins, on a connection that is there if it still works; waits as long as there is no agent.
    pub(super) async fn begin(
        agent: &Agent,
        carrier: Option<Carrier>,
        begin: ArtifactBegin,
    ) -> Result<Self, Broken> {
        if let Some(carrier) = carrier {
            let mut upload = Self::on(carrier);
            if upload.say(Part::Begin(begin.clone())).await.is_ok() {
                return Ok(upload);
            }
        }
        let connection = agent.connect(Purpose::Artifact, (true, 0, 0)).await;
        let (hearing, speaking) = connection.split();
        let mut upload = Self::on(Carrier { hearing, speaking });
        upload.say(Part::Begin(begin)).await?;
        Ok(upload)
    }

    fn on(carrier: Carrier) -> Self {
        Self {
            carrier,
            size: 0,
            digest: Sha256::new(),
        }
    }

    pub(super) async fn data(&mut self, data: Bytes) -> Result<(), Broken> {
        self.size += data.len() as u64;
        self.digest.update(&data);
        self.say(Part::Data(data)).await
    }

    /// Ends it; waits until it is durable. Returns the connection when it takes another one.
    pub(super) async fn end(mut self) -> Result<Option<Carrier>, Broken> {
        let end = ArtifactEnd {
            size: self.size,
            sha256: self.digest.clone().finalize().to_vec().into(),
        };
        self.say(Part::End(end)).await?;
        let more = self.verdict().await?;
        Ok(more.then_some(self.carrier))
    }

    /// Whether the connection takes another one, when this one is durable.
    async fn verdict(&mut self) -> Result<bool, Broken> {
        loop {
            let message = self.carrier.hearing.hear().await;
            match message.map(|message| message.message) {
                Ok(Some(Heard::ArtifactAck(ack))) if ack.error.is_empty() => return Ok(ack.more),
                Ok(Some(Heard::ArtifactAck(ack))) if ack.full => {
                    return Err(Broken::Full(ack.error));
                }
                Ok(Some(Heard::ArtifactAck(ack))) => return Err(Broken::Refused(ack.error)),
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

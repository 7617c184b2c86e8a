//! The connection to the conductor, and how much may be sent on it.

use std::collections::VecDeque;

use muster_proto::runner::v1::{ShimMessage, ShimRequest, shim_message, shim_request};
use tokio::net::{
    UnixStream,
    unix::{OwnedReadHalf, OwnedWriteHalf},
};

use crate::frame::{self, FrameReader, FrameWriter};

/// The conductor does not listen any more; it never comes back.
#[derive(Debug, thiserror::Error)]
pub(super) enum Gone {
    /// It closed the connection.
    #[error("it closed the connection")]
    Closed,
    /// It asked for a second thing before the first was over.
    #[error("it asked for something while a process ran")]
    Confused,
    /// The connection broke.
    #[error("the connection broke")]
    Broken(#[source] frame::Error),
}

pub(super) struct Peer {
    reader: FrameReader<OwnedReadHalf>,
    writer: FrameWriter<OwnedWriteHalf>,
    /// Requests that came while something else was awaited.
    waiting: VecDeque<shim_request::Message>,
    credit: u64,
}

impl Peer {
    pub(super) fn new(stream: UnixStream) -> Self {
        let (reader, writer) = stream.into_split();
        Self {
            reader: FrameReader::new(reader),
            writer: FrameWriter::new(writer),
            waiting: VecDeque::new(),
            credit: 0,
        }
    }

    /// The next request; a grant is counted already. Nothing is lost when the future is
    /// dropped.
    pub(super) async fn next(&mut self) -> Result<shim_request::Message, Gone> {
        if let Some(request) = self.waiting.pop_front() {
            return Ok(request);
        }
        self.read().await
    }

    async fn read(&mut self) -> Result<shim_request::Message, Gone> {
        loop {
            let request = self.reader.next::<ShimRequest>().await;
            let request = request.map_err(Gone::Broken)?.ok_or(Gone::Closed)?;
            if let Some(shim_request::Message::Grant(grant)) = &request.message {
                self.credit = self.credit.saturating_add(grant.bytes);
            }
            // A request that this version does not know has no message.
            if let Some(message) = request.message {
                return Ok(message);
            }
        }
    }

    /// Bytes that may be sent now.
    pub(super) fn credit(&self) -> u64 {
        self.credit
    }

    /// Takes bytes from the credit that is there.
    pub(super) fn take(&mut self, bytes: usize) {
        self.credit = self.credit.saturating_sub(bytes as u64);
    }

    /// Waits until something may be sent, and takes at most so many bytes from the credit.
    pub(super) async fn spend(&mut self, most: usize) -> Result<usize, Gone> {
        while self.credit == 0 && most > 0 {
            match self.read().await? {
                shim_request::Message::Grant(_) => {}
                other => self.waiting.push_back(other),
            }
        }
        let bytes = most.min(usize::try_from(self.credit).unwrap_or(usize::MAX));
        self.take(bytes);
        Ok(bytes)
    }

    pub(super) async fn send(&mut self, message: shim_message::Message) -> Result<(), Gone> {
        let message = ShimMessage {
            message: Some(message),
        };
        self.writer.send(&message).await.map_err(Gone::Broken)
    }
}

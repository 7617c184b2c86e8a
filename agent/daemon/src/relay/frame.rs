//! Frames on a stream: a 4 byte big-endian length and a message.

use std::{io, marker::PhantomData};

use bytes::{Bytes, BytesMut};
use futures::{SinkExt as _, StreamExt as _};
use muster_proto::runner::v1::{MAX_FRAME, MAX_FRAME_OF_AGENT};
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf};
use tokio_util::codec::{FramedRead, FramedWrite, LengthDelimitedCodec};

/// Longest frame of somebody who has not shown a token.
const MAX_HELLO: usize = 4 << 10;
/// Room for reading, at first.
const READ_ROOM: usize = 8 << 10;

/// A stream of bytes in both directions.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Receives messages of one type.
pub(super) struct Receiver<M> {
    frames: FramedRead<ReadHalf<Box<dyn Stream>>, LengthDelimitedCodec>,
    message: PhantomData<fn() -> M>,
}

/// Sends messages of one type.
pub(super) struct Sender<M> {
    frames: FramedWrite<WriteHalf<Box<dyn Stream>>, LengthDelimitedCodec>,
    message: PhantomData<fn(M)>,
}

/// Makes both halves of a connection.
pub(super) fn split<I, O>(stream: Box<dyn Stream>) -> (Receiver<I>, Sender<O>) {
    let (read, write) = tokio::io::split(stream);
    let codec = |limit| {
        LengthDelimitedCodec::builder()
            .max_frame_length(limit)
            .new_codec()
    };
    let receiver = Receiver {
        frames: FramedRead::with_capacity(read, codec(MAX_HELLO), READ_ROOM),
        message: PhantomData,
    };
    let sender = Sender {
        frames: FramedWrite::new(write, codec(MAX_FRAME_OF_AGENT)),
        message: PhantomData,
    };
    (receiver, sender)
}

impl<M: Message + Default> Receiver<M> {
    /// The other side has shown its token: it may send long frames.
    pub(super) fn authenticated(&mut self) {
        self.frames.decoder_mut().set_max_frame_length(MAX_FRAME);
    }

    /// Returns the next message, `None` at the end of the stream. Loses nothing when it is
    /// dropped before it is done.
    pub(super) async fn receive(&mut self) -> io::Result<Option<M>> {
        let frame = match self.frames.next().await.transpose() {
            Ok(Some(frame)) => frame,
            Ok(None) => return Ok(None),
            // A program that ends does not say goodbye to TLS; nothing rests on that.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        };
        let message = M::decode(frame.freeze())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        Ok(Some(message))
    }
}

impl<M: Message> Sender<M> {
    /// Sends a message. A connection whose send was dropped half-way can not be used again.
    pub(super) async fn send(&mut self, message: &M) -> io::Result<()> {
        let mut bytes = BytesMut::with_capacity(message.encoded_len());
        message
            .encode(&mut bytes)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        self.frames.send(Bytes::from(bytes)).await
    }
}

#[cfg(test)]
mod tests {
    use muster_proto::runner::v1::{ConductorMessage, Log, conductor_message::Message as Said};

    use super::*;

    fn log(size: usize) -> ConductorMessage {
        ConductorMessage {
            message: Some(Said::Log(Log {
                data: vec![7; size].into(),
                ..Log::default()
            })),
        }
    }

    #[tokio::test]
    async fn a_stranger_can_not_send_a_long_frame() {
        let (near, far) = tokio::io::duplex(64 << 10);
        let (mut receiver, _sender) = split::<ConductorMessage, ConductorMessage>(Box::new(near));
        let (_receiver, mut sender) = split::<ConductorMessage, ConductorMessage>(Box::new(far));
        sender.send(&log(100)).await.expect("it is sent");
        assert!(receiver.receive().await.is_ok());
        sender.send(&log(8 << 10)).await.expect("it is sent");
        assert!(receiver.receive().await.is_err());
    }

    #[tokio::test]
    async fn somebody_with_a_token_may() {
        let (near, far) = tokio::io::duplex(64 << 10);
        let (mut receiver, _sender) = split::<ConductorMessage, ConductorMessage>(Box::new(near));
        let (_receiver, mut sender) = split::<ConductorMessage, ConductorMessage>(Box::new(far));
        receiver.authenticated();
        sender.send(&log(8 << 10)).await.expect("it is sent");
        assert_eq!(
            receiver.receive().await.expect("it fits"),
            Some(log(8 << 10))
        );
    }
}

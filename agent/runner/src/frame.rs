//! Frames: a 4 byte big-endian length, then a message; what all connections of
//! `muster.runner.v1` carry. Who says what is elsewhere.

use std::io;

use bytes::{Buf as _, BytesMut};
use muster_proto::runner::v1::MAX_FRAME;
use prost::Message;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Buffer that a writer keeps between messages.
const KEPT: usize = 128 << 10;
/// Least space for a read.
const READ: usize = 4 << 10;

/// Why a connection can not go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection broke.
    #[error("the connection broke")]
    Io(#[source] io::Error),
    /// The other end announced or this end made a frame above the limit.
    #[error("a frame of {0} bytes is above the limit")]
    TooLarge(usize),
    /// The bytes are not the message that was expected.
    #[error("a frame is not a message of this protocol")]
    Malformed(#[source] prost::DecodeError),
    /// The other end stopped in the middle of a frame.
    #[error("the connection ended in the middle of a frame")]
    Truncated,
}

/// Reads messages.
#[derive(Debug)]
pub struct FrameReader<R> {
    source: R,
    buffer: BytesMut,
    limit: usize,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// Reads from `source`.
    pub fn new(source: R) -> Self {
        Self::with_limit(source, MAX_FRAME)
    }

    /// Reads from `source` frames of at most `limit` bytes.
    pub fn with_limit(source: R, limit: usize) -> Self {
        Self {
            source,
            buffer: BytesMut::new(),
            limit,
        }
    }

    /// The next message; `None` when the other end closed the connection between two. Nothing
    /// is lost when the future is dropped before it is ready.
    ///
    /// # Errors
    ///
    /// When the connection breaks or carries something else.
    pub async fn next<M: Message + Default>(&mut self) -> Result<Option<M>, Error> {
        loop {
            let wanted = match self.length()? {
                Some(length) if self.buffer.len() >= 4 + length => {
                    self.buffer.advance(4);
                    let frame = self.buffer.split_to(length).freeze();
                    return M::decode(frame).map(Some).map_err(Error::Malformed);
                }
                Some(length) => 4 + length - self.buffer.len(),
                None => READ,
            };
            self.buffer.reserve(wanted.max(READ));
            let read = self.source.read_buf(&mut self.buffer).await;
            if read.map_err(Error::Io)? == 0 {
                return if self.buffer.is_empty() {
                    Ok(None)
                } else {
                    Err(Error::Truncated)
                };
            }
        }
    }

    fn length(&self) -> Result<Option<usize>, Error> {
        let Some(head) = self.buffer.first_chunk::<4>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*head) as usize;
        if length > self.limit {
            return Err(Error::TooLarge(length));
        }
        Ok(Some(length))
    }
}

/// Writes messages.
#[derive(Debug)]
pub struct FrameWriter<W> {
    target: W,
    buffer: BytesMut,
}

impl<W: AsyncWrite + Unpin> FrameWriter<W> {
    /// Writes to `target`.
    pub fn new(target: W) -> Self {
        Self {
            target,
            buffer: BytesMut::new(),
        }
    }

    /// Writes one message. When the future is dropped before it is ready the connection is of
    /// no use any more.
    ///
    /// # Errors
    ///
    /// When the connection breaks or the message is too large.
    pub async fn send<M: Message>(&mut self, message: &M) -> Result<(), Error> {
        let length = message.encoded_len();
        let Some(head) = u32::try_from(length).ok().filter(|_| length <= MAX_FRAME) else {
            return Err(Error::TooLarge(length));
        };
        self.buffer.clear();
        self.buffer.reserve(4 + length);
        self.buffer.extend_from_slice(&head.to_be_bytes());
        message.encode_raw(&mut self.buffer);
        let written = self.target.write_all(&self.buffer).await;
        written.map_err(Error::Io)?;
        self.target.flush().await.map_err(Error::Io)?;
        if self.buffer.capacity() > KEPT {
            self.buffer = BytesMut::new();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use muster_proto::runner::v1::{Grant, Log};

    use super::*;

    #[tokio::test]
    async fn messages_arrive_as_they_were_sent_in_pieces_of_any_size() {
        let (near, far) = tokio::io::duplex(3);
        let mut writer = FrameWriter::new(near);
        let sender = async {
            for bytes in 0..100 {
                writer.send(&Grant { bytes }).await.unwrap();
            }
            drop(writer);
        };
        let mut reader = FrameReader::new(far);
        let receiver = async {
            for bytes in 0..100 {
                let read = reader.next::<Grant>().await.unwrap();
                assert_eq!(read, Some(Grant { bytes }));
            }
            assert_eq!(reader.next::<Grant>().await.unwrap(), None);
        };
        tokio::join!(sender, receiver);
    }

    #[tokio::test]
    async fn announced_length_above_the_limit_is_refused() {
        let source: &[u8] = &[0xff, 0xff, 0xff, 0xff, 1, 2, 3];
        let error = FrameReader::new(source).next::<Grant>().await.unwrap_err();
        assert!(matches!(error, Error::TooLarge(0xffff_ffff)), "{error}");
    }

    #[tokio::test]
    async fn end_in_mid_frame_is_an_error() {
        let source: &[u8] = &[0, 0, 0, 9, 1];
        let error = FrameReader::new(source).next::<Grant>().await.unwrap_err();
        assert!(matches!(error, Error::Truncated), "{error}");
    }

    #[tokio::test]
    async fn message_above_the_limit_is_not_sent() {
        let mut sent = Vec::new();
        let log = Log {
            data: vec![0; MAX_FRAME].into(),
            ..Log::default()
        };
        let error = FrameWriter::new(&mut sent).send(&log).await.unwrap_err();
        assert!(matches!(error, Error::TooLarge(_)), "{error}");
        assert!(sent.is_empty());
    }
}

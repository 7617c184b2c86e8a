//! Bytes that come on a channel, as a reader that waits for them. For threads that may block.

use std::io::{self, Read};

use bytes::{Buf as _, Bytes};
use tokio::sync::mpsc;

/// The reader.
#[derive(Debug)]
pub(super) struct Pipe {
    pieces: mpsc::Receiver<Result<Bytes, muster_storage::Error>>,
    rest: Bytes,
}

impl Pipe {
    pub(super) fn new(pieces: mpsc::Receiver<Result<Bytes, muster_storage::Error>>) -> Self {
        Self {
            pieces,
            rest: Bytes::new(),
        }
    }
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.pieces.blocking_recv() {
                Some(Ok(piece)) => self.rest = piece,
                Some(Err(error)) => return Err(io::Error::other(error)),
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.rest.len());
        buffer[..count].copy_from_slice(&self.rest[..count]);
        self.rest.advance(count);
        Ok(count)
    }
}

//! The pipes that carry a process's standard output and standard error.

use std::{
    io,
    process::{ChildStderr, ChildStdout},
};

use bytes::Bytes;
use muster_proto::runner::v1::{LogStream, MAX_LOG_DATA};
use tokio::net::unix::pipe::Receiver;

pub(super) struct Output {
    stdout: Option<Receiver>,
    stderr: Option<Receiver>,
    buffer: Vec<u8>,
}

impl Output {
    pub(super) fn new(
        stdout: Option<ChildStdout>,
        stderr: Option<ChildStderr>,
    ) -> io::Result<Self> {
        let stdout = stdout.map(|pipe| Receiver::from_owned_fd(pipe.into()));
        let stderr = stderr.map(|pipe| Receiver::from_owned_fd(pipe.into()));
        Ok(Self {
            stdout: stdout.transpose()?,
            stderr: stderr.transpose()?,
            buffer: Vec::new(),
        })
    }

    /// Whether more may come.
    pub(super) fn is_open(&self) -> bool {
        self.stdout.is_some() || self.stderr.is_some()
    }

    /// The next bytes, at most `limit`; `None` when no more can come. Nothing is lost when the
    /// future is dropped.
    pub(super) async fn next(&mut self, limit: u64) -> Option<(LogStream, Bytes)> {
        let limit = usize::try_from(limit).unwrap_or(MAX_LOG_DATA);
        self.buffer.resize(MAX_LOG_DATA, 0);
        while self.is_open() {
            let (stream, pipe) = tokio::select! {
                () = readable(self.stdout.as_ref()), if self.stdout.is_some() => {
                    (LogStream::Stdout, &mut self.stdout)
                }
                () = readable(self.stderr.as_ref()), if self.stderr.is_some() => {
                    (LogStream::Stderr, &mut self.stderr)
                }
            };
            let space = limit.clamp(1, MAX_LOG_DATA);
            let (Some(open), Some(space)) = (pipe.as_ref(), self.buffer.get_mut(..space)) else {
                continue;
            };
            match open.try_read(space) {
                Ok(0) => *pipe = None,
                Ok(read) => {
                    let data = space.get(..read).unwrap_or_default();
                    return Some((stream, Bytes::copy_from_slice(data)));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => *pipe = None,
            }
        }
        None
    }
}

async fn readable(pipe: Option<&Receiver>) {
    if let Some(pipe) = pipe {
        // An error shows again when it is read.
        drop(pipe.readable().await);
    }
}

//! Fetching an archive: downloaded and unpacked at the same time, nothing of it kept in memory.

use std::{io, path::Path, time::Duration};

use bytes::{Buf as _, Bytes};
use http_body_util::BodyExt as _;
use tokio::{sync::mpsc, time::timeout};

use super::{
    download,
    operation::{At, Failure},
    uri::Uri,
};
use crate::unpack::{self, Stopper, Unpacked};

/// Most tries.
const TRIES: u32 = 6;
/// Wait before the second try; it doubles with each one.
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// How long a server may be silent in the middle of an archive.
const SILENCE: Duration = Duration::from_secs(60);
/// Parts of an archive between download and disk.
const PARTS: usize = 4;

/// Why an archive is not there.
enum Error {
    /// Another try may help.
    Passing(String),
    Final(String),
}

impl From<download::Error> for Error {
    fn from(error: download::Error) -> Self {
        match error {
            download::Error::Passing(text) => Self::Passing(text),
            download::Error::Final(text) => Self::Final(text),
        }
    }
}

impl At<'_> {
    /// Fetches an archive into a shared folder.
    pub(super) async fn tarball(&self, url: &str, path: &str) -> Result<(), Failure> {
        self.place(path)?;
        let around = self.around(None).await?;
        let url = self.template("content.tarball.url", url, &around).await?;
        // An archive that the suite around this workflow has put aside.
        if let Some((execution, archive)) = url
            .strip_prefix("muster:")
            .and_then(|rest| rest.split_once('/'))
        {
            return tokio::select! {
                taken = self.take(execution, archive, path, false) => taken,
                cause = self.limits.reached() => Err(Failure::stopped(&cause, self.step)),
            };
        }
        let shown = match Uri::parse(&url) {
            Ok(uri) if uri.origin.is_some() => uri.shown(),
            Ok(_) => return Err(failure("the URL", "it is neither http nor https")),
            Err(error) => return Err(failure("the URL", &error)),
        };
        let mut delay = FIRST_DELAY;
        let mut tried = 1;
        loop {
            let fetched = tokio::select! {
                fetched = self.fetch(&url, path) => fetched,
                cause = self.limits.reached() => return Err(Failure::stopped(&cause, self.step)),
            };
            let why = match fetched {
                Ok(Unpacked { entries, bytes }) => {
                    let text = format!("{shown}: {entries} entries, {bytes} bytes, in {path}");
                    self.run.spool.remark(self.step, &text).await;
                    return Ok(());
                }
                Err(Error::Passing(why)) if tried < TRIES => why,
                Err(Error::Passing(why) | Error::Final(why)) => return Err(failure(&shown, &why)),
            };
            tried += 1;
            let text = format!("{shown}: {why}; try {tried} of {TRIES} in {delay:?}");
            self.run.spool.remark(self.step, &text).await;
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                cause = self.limits.reached() => return Err(Failure::stopped(&cause, self.step)),
            }
            delay *= 2;
        }
    }

    async fn fetch(&self, url: &str, path: &str) -> Result<Unpacked, Error> {
        let Some((root, rest)) = self.run.volumes.shared(Path::new(path)) else {
            return Err(Error::Final(format!("{path} is on no shared folder")));
        };
        let mut body = download::get(url).await?.into_body();
        let (sender, parts) = mpsc::channel(PARTS);
        let stopper = Stopper::default();
        let stop = stopper.stop();
        let unpacking = tokio::task::spawn_blocking(move || {
            let source = Parts {
                parts,
                part: Bytes::new(),
            };
            unpack::unpack(source, &root, &rest, &stop)
        });
        let mut broken = None;
        loop {
            let frame = match timeout(SILENCE, body.frame()).await {
                Ok(None) => break,
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(error))) => {
                    broken = Some(format!("the connection broke: {error}"));
                    break;
                }
                Err(_) => {
                    broken = Some(format!("nothing came for {} seconds", SILENCE.as_secs()));
                    break;
                }
            };
            // An archive may end before its file does; and a refused one is not read on.
            if let Ok(data) = frame.into_data()
                && sender.send(Ok(data)).await.is_err()
            {
                break;
            }
        }
        if let Some(why) = &broken {
            // Unpacking may have ended before.
            drop(sender.send(Err(io::Error::other(why.clone()))).await);
        }
        drop(sender);
        let unpacked = unpacking
            .await
            .map_err(|error| Error::Final(error.to_string()))?;
        match (unpacked, broken) {
            (Ok(unpacked), None) => Ok(unpacked),
            (_, Some(why)) => Err(Error::Passing(why)),
            (Err(error), None) => Err(Error::Final(format!("the archive: {error}"))),
        }
    }
}

fn failure(shown: &str, why: &str) -> Failure {
    Failure::new("TARBALL", format!("{shown} can not be fetched: {why}"))
}

/// The body of an answer as something to read.
struct Parts {
    parts: mpsc::Receiver<io::Result<Bytes>>,
    part: Bytes,
}

impl io::Read for Parts {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.part.is_empty() {
            match self.parts.blocking_recv() {
                Some(part) => self.part = part?,
                None => return Ok(0),
            }
        }
        let length = buffer.len().min(self.part.len());
        let (target, _) = buffer.split_at_mut(length);
        self.part.copy_to_slice(target);
        Ok(length)
    }
}

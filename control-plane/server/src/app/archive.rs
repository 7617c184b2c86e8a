//! Many artifacts as one archive: read from the blobs, checked and packed as they are sent, a piece at
//! a time. How a form is written is in [`encoder`].

mod encoder;
mod place;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::TryStreamExt as _;
use muster_core::id::{ExecutionId, ProjectId};
use muster_spec::pattern::Selection;
use muster_storage::{
    artifact::{Artifact, Below},
    blob::PIECE,
};
use tokio::sync::mpsc;

use self::{
    encoder::{Encoder, Entry},
    place::Place,
};
use super::{
    Access, App, Caller, Error,
    audit::Reading,
    whole::{self, Check},
};

pub(crate) use encoder::Form;
pub(super) use place::Places;

/// How long a reader may take nothing before its archive ends: it holds a place that others wait for.
const PATIENCE: Duration = Duration::from_secs(60);
/// Artifacts that are looked up at once.
const PAGE: u32 = 1000;
/// Pieces, of at most [`PIECE`], that wait for a slow reader.
const AHEAD: usize = 2;

impl App {
    /// Streams the artifacts of an execution that `chosen` means. Of several with one path, which are of
    /// different attempts, it has the newest.
    ///
    /// What comes last is an error when it is not the whole archive.
    pub(crate) async fn archive_artifacts(
        self: &Arc<Self>,
        caller: &Caller,
        [project, execution]: [&str; 2],
        chosen: Selection,
        form: Form,
    ) -> Result<mpsc::Receiver<Result<Bytes, Error>>, Error> {
        let project = self.project(caller, project, Access::Read).await?;
        let execution = self.store.executions(project.id).find(execution).await?;
        super::artifacts::refuse_deleted(&execution)?;
        let place = self.archives.take(caller.token)?;
        self.note_reading(caller, &project, &execution, Reading::Archive, None);
        // One more, so that what went wrong can always be told.
        let (sender, pieces) = mpsc::channel(AHEAD + 1);
        let last = sender.clone().try_reserve_owned();
        let last = last.map_err(|error| Error::Internal(error.to_string().into()))?;
        let archive = Archive {
            app: Arc::clone(self),
            project: project.id,
            execution: execution.id,
            encoder: Some(Encoder::new(form)),
            packed: Vec::new(),
            sender,
            _place: place,
        };
        self.tasks.spawn(archive.run(chosen, last));
        Ok(pieces)
    }
}

/// An archive that is being made.
struct Archive {
    app: Arc<App>,
    project: ProjectId,
    execution: ExecutionId,
    /// Away while it works on a thread where it may block.
    encoder: Option<Encoder>,
    /// What waits to be sent because it is little.
    packed: Vec<u8>,
    sender: mpsc::Sender<Result<Bytes, Error>>,
    _place: Place,
}

/// Place for the last word of an archive, which needs no reader.
type Last = mpsc::OwnedPermit<Result<Bytes, Error>>;

/// Why an archive does not come to its end.
enum Stop {
    /// Nobody wants the rest.
    Gone,
    Failed(Error),
}

impl<E: Into<Error>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl Archive {
    async fn run(mut self, chosen: Selection, last: Last) {
        if let Err(Stop::Failed(error)) = self.write(&chosen).await {
            // The reader may be gone, which is no news.
            last.send(Err(error));
        }
    }

    async fn write(&mut self, chosen: &Selection) -> Result<(), Stop> {
        let app = Arc::clone(&self.app);
        let artifacts = app.store.artifacts(self.project);
        let mut after = None;
        // By path, and the newest of a path last.
        let mut newest: Option<Artifact> = None;
        loop {
            let all = Below::default();
            let page = artifacts
                .list(self.execution, &all, after.as_ref(), PAGE)
                .await?;
            for artifact in page.items {
                if !chosen.matches(&artifact.path) {
                    continue;
                }
                let path = artifact.path.clone();
                match newest.replace(artifact) {
                    Some(before) if before.path != path => self.append(&before).await?,
                    _ => {}
                }
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        if let Some(last) = newest {
            self.append(&last).await?;
        }
        self.work(|encoder| encoder.finish()).await?;
        self.send(0).await
    }

    async fn append(&mut self, artifact: &Artifact) -> Result<(), Stop> {
        let entry = Entry::new(artifact);
        let mut bytes = match self.app.blobs.read(&artifact.blob, 0).await {
            Err(error) if error.is_not_found() => {
                // Deleted meanwhile, or lost.
                let artifacts = self.app.store.artifacts(self.project);
                artifacts.get(artifact.id).await?;
                return Err(ends(&whole::gone(artifact), artifact).into());
            }
            read => read?,
        };
        self.work(move |encoder| encoder.begin(&entry)).await?;
        let mut check = Check::new(artifact, 0);
        while let Some(piece) = bytes.try_next().await? {
            let is_expected;
            (check, is_expected) = self
                .work(move |encoder| {
                    let is_expected = check.take(&piece);
                    if is_expected {
                        encoder.data(&piece)?;
                    }
                    Ok((check, is_expected))
                })
                .await?;
            if !is_expected {
                break;
            }
            self.send(PIECE / 2).await?;
        }
        if let Some(wrong) = check.finish(artifact) {
            return Err(ends(&wrong, artifact).into());
        }
        self.work(|encoder| encoder.end()).await
    }

    /// Packs, on a thread that may be busy with it.
    async fn work<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Encoder) -> std::io::Result<T> + Send + 'static,
    ) -> Result<T, Stop> {
        let internal = |error: Box<dyn std::error::Error + Send + Sync>| Error::Internal(error);
        let Some(mut encoder) = self.encoder.take() else {
            return Err(Stop::Gone);
        };
        let done = tokio::task::spawn_blocking(move || {
            let done = work(&mut encoder);
            (encoder, done)
        });
        let (encoder, done) = done.await.map_err(|error| internal(error.into()))?;
        let done = done.map_err(|error| internal(error.into()))?;
        self.packed.append(&mut encoder.take());
        self.encoder = Some(encoder);
        Ok(done)
    }

    /// Sends what is packed when it is more than `little` bytes.
    async fn send(&mut self, little: usize) -> Result<(), Stop> {
        if self.packed.len() <= little {
            return Ok(());
        }
        let mut packed = Bytes::from(std::mem::take(&mut self.packed));
        while !packed.is_empty() {
            let piece = packed.split_to(packed.len().min(PIECE));
            give(&self.sender, piece, PATIENCE).await?;
        }
        Ok(())
    }
}

/// Gives a piece to the reader, who has to take one before it in time.
async fn give(
    sender: &mpsc::Sender<Result<Bytes, Error>>,
    piece: Bytes,
    patience: Duration,
) -> Result<(), Stop> {
    match tokio::time::timeout(patience, sender.send(Ok(piece))).await {
        Ok(sent) => sent.map_err(|_closed| Stop::Gone),
        Err(_elapsed) => Err(Stop::Failed(Error::LimitReached(format!(
            "nothing of the archive was read for {} s, so it ends here; read it faster, or leave files out by patterns",
            patience.as_secs()
        )))),
    }
}

/// Ends the archive at an artifact that is not what was collected.
fn ends(wrong: &str, artifact: &Artifact) -> Error {
    let path = &artifact.path;
    Error::DataLoss(format!(
        "{wrong}, so the archive ends here; leave it out with the pattern '!{path}'"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_reader_that_takes_nothing_is_waited_for_a_while() {
        let short = Duration::from_millis(20);
        let (sender, mut pieces) = mpsc::channel(AHEAD + 1);
        let last = sender.clone().try_reserve_owned().expect("a place");
        let piece = Bytes::from_static(b"piece");
        for _ in 0..AHEAD {
            assert!(give(&sender, piece.clone(), short).await.is_ok());
        }
        let Err(Stop::Failed(error)) = give(&sender, piece.clone(), short).await else {
            panic!("it is given up");
        };
        // The word of it needs no reader, and comes behind what was given.
        last.send(Err(error));
        for _ in 0..AHEAD {
            assert!(matches!(pieces.recv().await, Some(Ok(_))));
        }
        let word = pieces.recv().await;
        assert!(matches!(word, Some(Err(Error::LimitReached(_)))));
        // One that takes a piece in time is waited for, and one that is gone is not.
        let long = Duration::from_secs(60);
        let slow = tokio::spawn(async move {
            for _ in 0..10 {
                pieces.recv().await.expect("a piece").expect("no word");
            }
        });
        for _ in 0..10 {
            assert!(give(&sender, piece.clone(), long).await.is_ok());
        }
        slow.await.expect("it ends");
        let gone = give(&sender, piece, long).await;
        assert!(matches!(gone, Err(Stop::Gone)));
    }
}

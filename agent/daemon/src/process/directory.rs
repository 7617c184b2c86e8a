//! The directory of one attempt: what steps see, and what a later agent has to know.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Read as _, Seek as _, SeekFrom},
    os::unix::{
        fs::{DirBuilderExt as _, FileTypeExt as _, OpenOptionsExt as _, PermissionsExt as _},
        net::UnixStream,
    },
    path::{Path, PathBuf},
    time::Duration,
};

use muster_core::id::AttemptId;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::conductor::Conductor;
use crate::Error;

/// What steps see below it, beside the conductor's own `muster`.
const PARTS: [&str; 5] = ["data", "testkube", "tmp", "muster", "work"];
const MARK: &str = "attempt.json";
const CONDUCTOR: &str = "conductor.json";
const OUTPUT: &str = "conductor.log";
/// How much of a dead conductor's output is shown.
const LAST_WORDS: u64 = 2000;

/// A socket that nobody listens on may be one that is just being made; after this age it is not.
const DEAD_SOCKET: Duration = Duration::from_secs(60);

/// Removes sockets of agents that were killed.
pub(super) fn remove_dead_sockets(root: &Path) {
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        let is_socket = entry.file_type().is_ok_and(|kind| kind.is_socket());
        let age = entry.metadata().and_then(|metadata| metadata.modified());
        let is_old = age.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > DEAD_SOCKET));
        let is_dead = is_socket
            && is_old
            && UnixStream::connect(entry.path())
                .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
        if is_dead && let Err(error) = fs::remove_file(entry.path()) {
            tracing::debug!(%error, "cannot remove the socket of a dead agent");
        }
    }
}

/// The directory of one attempt.
pub(super) struct Directory {
    pub(super) attempt: AttemptId,
    pub(super) path: PathBuf,
}

/// Whose it is.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Mark {
    /// Epoch of the lease.
    pub(super) epoch: i64,
    /// It ends with its agent.
    pub(super) embedded: bool,
    /// The agent that made it.
    pub(super) owner: Conductor,
}

impl Mark {
    /// Whether another embedded agent still runs it.
    pub(super) fn owned_by_another(&self) -> bool {
        self.embedded && self.owner != Conductor::this() && self.owner.runs()
    }
}

/// Makes the directory of all attempts; nobody else may look into it.
pub(super) fn make_root(path: &Path) -> Result<PathBuf, Error> {
    let failed = |source| Error::File {
        action: "make",
        path: path.to_owned(),
        source,
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(failed)?;
    path.canonicalize().map_err(failed)
}

/// All directories of attempts.
pub(super) fn all(root: &Path) -> Result<Vec<Directory>, Error> {
    let entries = fs::read_dir(root).map_err(|source| Error::File {
        action: "list",
        path: root.to_owned(),
        source,
    })?;
    let attempts = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    Ok(attempts
        .map(|attempt| Directory::new(root, attempt))
        .collect())
}

impl Directory {
    /// The directory of `attempt`, which may not exist.
    pub(super) fn new(root: &Path, attempt: AttemptId) -> Self {
        Self {
            attempt,
            path: root.join(attempt.to_string()),
        }
    }

    /// Makes it, or what is missing of it.
    pub(super) fn make(&self, mark: &Mark) -> io::Result<()> {
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(&self.path)?;
        self.write(MARK, mark)?;
        for part in PARTS {
            builder.create(self.path.join(part))?;
        }
        Ok(())
    }

    /// Whose it is; none when it is not there or was not made to its end.
    pub(super) fn mark(&self) -> Option<Mark> {
        self.read(MARK)
    }

    /// Its conductor, whether it still runs or not.
    pub(super) fn conductor(&self) -> Option<Conductor> {
        self.read(CONDUCTOR)
    }

    /// Writes down which process its conductor is.
    pub(super) fn record(&self, conductor: Conductor) -> io::Result<()> {
        self.write(CONDUCTOR, &conductor)
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        serde_json::from_slice(&fs::read(self.path.join(name)).ok()?).ok()
    }

    /// Writes a file whole or not at all.
    fn write(&self, name: &str, value: &impl Serialize) -> io::Result<()> {
        let draft = self.path.join(format!(".{name}"));
        fs::write(&draft, serde_json::to_vec(value)?)?;
        fs::rename(draft, self.path.join(name))
    }

    /// Where its conductor's own output goes.
    pub(super) fn output(&self) -> io::Result<File> {
        OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(self.path.join(OUTPUT))
    }

    /// The end of that output.
    pub(super) fn last_words(&self) -> String {
        let read = || -> io::Result<String> {
            let mut file = File::open(self.path.join(OUTPUT))?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(LAST_WORDS)))?;
            let mut bytes = Vec::new();
            file.take(LAST_WORDS).read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
        };
        read().unwrap_or_default()
    }

    /// Removes it, also what steps have made hard to remove.
    pub(super) async fn remove(&self) -> Result<(), Error> {
        let path = self.path.clone();
        let removed = tokio::task::spawn_blocking(move || remove_all(&path)).await;
        removed
            .unwrap_or_else(|error| Err(io::Error::other(error)))
            .map_err(|source| Error::File {
                action: "remove",
                path: self.path.clone(),
                source,
            })
    }
}

fn remove_all(path: &Path) -> io::Result<()> {
    let gone = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    };
    if fs::remove_dir_all(path).or_else(gone).is_ok() {
        return Ok(());
    }
    // A directory without permissions stops the removal; links are not followed.
    let mut open = vec![path.to_owned()];
    while let Some(directory) = open.pop() {
        fs::set_permissions(&directory, Permissions::from_mode(0o700)).or_else(gone)?;
        let Ok(entries) = fs::read_dir(&directory) else {
            continue;
        };
        let inner = entries
            .flatten()
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        open.extend(inner.map(|entry| entry.path()));
    }
    fs::remove_dir_all(path).or_else(gone)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark() -> Mark {
        Mark {
            epoch: 4,
            embedded: true,
            owner: Conductor::this(),
        }
    }

    #[tokio::test]
    async fn a_directory_without_permissions_is_removed_too() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let directory = Directory::new(root.path(), AttemptId::generate());
        directory.make(&mark()).expect("it is writable");
        let locked = directory.path.join("data/locked/in");
        fs::create_dir_all(&locked).expect("it is writable");
        fs::set_permissions(
            directory.path.join("data/locked"),
            Permissions::from_mode(0o000),
        )
        .expect("it is ours");
        directory.remove().await.expect("it can be removed");
        assert!(!directory.path.exists());
        directory.remove().await.expect("nothing to do");
    }

    #[test]
    fn only_directories_of_attempts_are_listed() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let directory = Directory::new(root.path(), AttemptId::generate());
        directory.make(&mark()).expect("it is writable");
        fs::create_dir(root.path().join("other")).expect("it is writable");
        let all = all(root.path()).expect("it can be read");
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].mark().map(|mark| mark.epoch), Some(4));
    }
}

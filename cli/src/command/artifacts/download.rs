//! Brings artifacts into a local folder: checked, complete or not there at all, and never outside
//! the folder, whatever their paths say.

use std::{
    io::Write as _,
    path::{Component, Path, PathBuf},
    time::Duration,
};

use muster_proto::v1::{Artifact, DownloadArtifactRequest};
use sha2::{Digest as _, Sha256};
use tokio::task::JoinSet;
use tonic::{Code, Status};

use super::part::{Destination, Part};
use crate::{
    arguments::Global,
    client::Client,
    error::Error,
    terminal::{escape, measure},
    view::hexadecimal,
};

/// Downloads at a time.
const PARALLEL: usize = 8;
/// How often a broken download is taken up again without anything new.
const TRIES: u32 = 5;
/// Longest path, as the server has it.
const MAX_PATH: usize = 1024;

/// Downloads `artifacts` into `folder`, which is made when it is not there.
///
/// # Errors
///
/// The first failure; files that were complete before it stay.
pub(crate) async fn all(
    client: &Client,
    artifacts: &[Artifact],
    folder: &Path,
    global: &Global,
) -> Result<(), Error> {
    // All paths before the first byte: a bad one leaves nothing behind.
    let artifacts = super::newest(artifacts.to_vec());
    let mut waiting = artifacts
        .iter()
        .map(|artifact| Ok((artifact.clone(), relative(&artifact.path)?)))
        .collect::<Result<Vec<_>, Error>>()?
        .into_iter();
    std::fs::create_dir_all(folder).map_err(Error::file("make", folder))?;
    let mut running = JoinSet::new();
    let (mut count, mut bytes) = (0_usize, 0_i64);
    loop {
        while running.len() < PARALLEL
            && let Some((artifact, path)) = waiting.next()
        {
            let client = client.clone();
            let folder = folder.to_path_buf();
            running.spawn(async move {
                one(&client, &artifact, &folder, &path)
                    .await
                    .map(|()| artifact.size_bytes)
            });
        }
        let Some(done) = running.join_next().await else {
            break;
        };
        bytes += done.map_err(|error| Error::Local(error.to_string()))??;
        count += 1;
        progress(global, count, artifacts.len(), bytes);
    }
    let size = measure::size(bytes);
    let place = folder.display();
    super::super::note(global, &format!("{count} files, {size}, in {place}"));
    Ok(())
}

fn progress(global: &Global, count: usize, all: usize, bytes: i64) {
    if !global.stderr().interactive {
        return;
    }
    let end = if count == all { "\r\x1b[K" } else { "" };
    let size = measure::size(bytes);
    // When nobody looks, nobody misses it.
    let _unread = write!(
        std::io::stderr(),
        "\r\x1b[K{count}/{all} files, {size}{end}"
    );
}

/// Downloads one artifact to `name`, `-` for standard output.
///
/// # Errors
///
/// When it does not come whole; no file of that name is made or changed then.
pub(super) async fn to(client: &Client, artifact: &Artifact, name: &Path) -> Result<(), Error> {
    let mut destination = Destination::open(name)?;
    fetch(client, artifact, |bytes| destination.write(bytes)).await?;
    destination.finish(mode(artifact))
}

async fn one(
    client: &Client,
    artifact: &Artifact,
    folder: &Path,
    path: &Path,
) -> Result<(), Error> {
    let target = place(folder, path)?;
    let mut part = Part::create(&target)?;
    let failed = || Error::file("write", &target);
    fetch(client, artifact, |bytes| {
        part.write_all(bytes).map_err(failed())
    })
    .await?;
    part.finish(mode(artifact))
}

/// No set-user-id and the like from foreign machines; always readable for the owner.
const fn mode(artifact: &Artifact) -> u32 {
    artifact.mode & 0o777 | 0o600
}

/// Brings all bytes of an artifact, in order, and compares them with what was collected.
async fn fetch(
    client: &Client,
    artifact: &Artifact,
    mut write: impl FnMut(&[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut check = Check::default();
    let mut offset = 0_i64;
    let mut tries = 0;
    loop {
        let before = offset;
        let taken = |bytes: &[u8]| {
            write(bytes)?;
            check.0.update(bytes);
            Ok(())
        };
        match receive(client, artifact, taken, &mut offset).await {
            Ok(()) => break,
            Err(Broken::Here(error)) => return Err(error),
            Err(Broken::Stream(status)) => {
                tries = if offset > before { 0 } else { tries + 1 };
                if tries > TRIES || !matches!(status.code(), Code::Unavailable | Code::Unknown) {
                    return Err(client.error(&status));
                }
                tokio::time::sleep(Duration::from_millis(300) * tries).await;
            }
        }
    }
    check.finish(artifact, offset)
}

/// Compares all that came of an artifact with what was collected. The server does the same as long as
/// it sends a file as a whole; nobody else looks at one that came in parts.
#[derive(Default)]
struct Check(Sha256);

impl Check {
    fn finish(self, artifact: &Artifact, size: i64) -> Result<(), Error> {
        let found = hexadecimal(&self.0.finalize());
        if size == artifact.size_bytes && found == artifact.sha256 {
            return Ok(());
        }
        Err(Error::Corrupt(format!(
            "{} is not what was collected: {size} bytes with sha256 {found}, expected {} with {}",
            escape::visible(&artifact.path),
            artifact.size_bytes,
            escape::visible(&artifact.sha256),
        )))
    }
}

enum Broken {
    Here(Error),
    Stream(Status),
}

async fn receive(
    client: &Client,
    artifact: &Artifact,
    mut take: impl FnMut(&[u8]) -> Result<(), Error>,
    offset: &mut i64,
) -> Result<(), Broken> {
    let request = DownloadArtifactRequest {
        name: artifact.name.clone(),
        offset: *offset,
    };
    let response = client.artifacts().download_artifact(request).await;
    let mut stream = response.map_err(Broken::Stream)?.into_inner();
    while let Some(message) = stream.message().await.map_err(Broken::Stream)? {
        take(&message.data).map_err(Broken::Here)?;
        *offset += i64::try_from(message.data.len()).unwrap_or(0);
    }
    Ok(())
}

/// The path of an artifact, when it is relative and stays where it is put.
fn relative(path: &str) -> Result<PathBuf, Error> {
    let plain = !path.is_empty()
        && path.len() <= MAX_PATH
        && !path.contains('\0')
        && Path::new(path)
            .components()
            .all(|component| matches!(component, Component::Normal(_)))
        && !path.ends_with('/');
    if plain {
        return Ok(PathBuf::from(path));
    }
    Err(Error::Corrupt(format!(
        "the path '{}' would leave the folder; nothing was downloaded",
        escape::visible(path)
    )))
}

/// Where a file goes; makes the folders above it. A link on the way could lead elsewhere.
fn place(folder: &Path, path: &Path) -> Result<PathBuf, Error> {
    let mut current = folder.to_path_buf();
    for component in path.parent().into_iter().flat_map(Path::components) {
        current.push(component);
        match std::fs::create_dir(&current) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                let found = std::fs::symlink_metadata(&current);
                let found = found.map_err(Error::file("read", &current))?;
                if !found.is_dir() {
                    let error = std::io::Error::other("it is there and is no folder");
                    return Err(Error::file("make", &current)(error));
                }
            }
            Err(error) => return Err(Error::file("make", &current)(error)),
        }
    }
    Ok(folder.join(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_leaves_the_folder_is_refused() {
        for good in ["a", "a/b.txt", "..a/b", "a/..b"] {
            assert!(relative(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "/a",
            "../a",
            "a/../../b",
            "a/..",
            ".",
            "a\0b",
            "a/",
            &"a".repeat(1025),
        ] {
            assert!(relative(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_not_what_was_collected_is_corrupt() {
        let artifact = Artifact {
            path: "a.txt".to_owned(),
            size_bytes: 3,
            sha256: hexadecimal(&Sha256::digest(b"abc")),
            ..Artifact::default()
        };
        let check = |bytes: &[u8]| {
            let mut check = Check::default();
            check.0.update(bytes);
            let size = i64::try_from(bytes.len()).unwrap();
            check.finish(&artifact, size)
        };
        assert!(check(b"abc").is_ok());
        for bad in [&b"abd"[..], b"ab", b"abcd", b""] {
            let error = check(bad).unwrap_err();
            let words = "a.txt is not what was collected: ";
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    #[test]
    fn a_link_in_the_folder_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(outside.path(), folder.path().join("link")).unwrap();
        assert!(place(folder.path(), Path::new("link/a")).is_err());
        let inside = place(folder.path(), Path::new("a/b/c")).unwrap();
        assert!(inside.parent().unwrap().is_dir());
    }
}

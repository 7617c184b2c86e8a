//! Files of uploads that a crash has cut off, in a store that is a directory: the name of the blob, `#` and a
//! number. They are in no list of blobs.

use std::{
    fs::{self, DirEntry},
    io,
    path::Path,
    time::{Duration, SystemTime},
};

use super::Blobs;
use crate::{Error, error::Away};

/// Folders that blobs are written to.
const FOLDERS: [&str; 3] = ["logs", "artifacts", "check"];
/// Deepest folder below those.
const DEEPEST: usize = 2;
/// Most files that one sweep deletes.
const MOST: u64 = 10_000;

impl Blobs {
    /// Deletes files of uploads that have not changed for so long, and returns how many they were. A store
    /// that is no directory has none.
    ///
    /// # Errors
    ///
    /// [`Error::StoreAway`] when the directory can not be read or a file not be deleted.
    pub async fn sweep_staged(&self, older: Duration) -> Result<u64, Error> {
        let Some(folder) = self.folder.clone() else {
            return Ok(0);
        };
        let failed = |error: io::Error| Error::StoreAway {
            why: Away::Unreachable,
            operation: "sweep_staged_blobs",
            source: error.into(),
        };
        let now = SystemTime::from(self.now().await?);
        let before = now.checked_sub(older).unwrap_or(SystemTime::UNIX_EPOCH);
        let swept = tokio::task::spawn_blocking(move || {
            let mut deleted = 0;
            for name in FOLDERS {
                sweep(&folder.join(name), before, DEEPEST, &mut deleted)?;
            }
            Ok(deleted)
        });
        swept
            .await
            .map_err(|error| failed(io::Error::other(error)))?
            .map_err(failed)
    }
}

fn sweep(folder: &Path, before: SystemTime, deeper: usize, deleted: &mut u64) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if *deleted >= MOST {
            return Ok(());
        }
        let kind = match entry.file_type() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            kind => kind?,
        };
        if kind.is_dir() && deeper > 0 {
            sweep(&entry.path(), before, deeper - 1, deleted)?;
        } else if kind.is_file() && is_staged(&entry) {
            let old = entry.metadata().and_then(|file| file.modified());
            let gone = match old {
                Ok(modified) if modified >= before => continue,
                old => old.and_then(|_old| fs::remove_file(entry.path())),
            };
            match gone {
                // It became a blob meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                gone => gone?,
            }
            *deleted += 1;
        }
    }
    Ok(())
}

/// Whether it has the name of an upload; no blob has one like it.
fn is_staged(entry: &DirEntry) -> bool {
    let name = entry.file_name();
    let parts = name.to_str().and_then(|name| name.rsplit_once('#'));
    parts.is_some_and(|(blob, number)| {
        !blob.is_empty() && !number.is_empty() && number.bytes().all(|it| it.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob::Options;

    #[tokio::test]
    async fn uploads_that_were_cut_off_go_and_blobs_and_young_ones_stay() {
        let folder = tempfile::tempdir().expect("a directory");
        let url = format!("file://{}", folder.path().display());
        let blobs = Blobs::open(&url, &Options::default()).await.expect("blobs");
        let file = |name: &str, hours: u64| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(&path, "12345").expect("a file");
            let age = Duration::from_secs(hours * 3600);
            let now = path
                .metadata()
                .and_then(|it| it.modified())
                .expect("a time");
            let opened = fs::File::options().write(true).open(&path);
            opened
                .expect("it is there")
                .set_modified(now - age)
                .expect("set");
            path
        };
        let old = [
            file("artifacts/one/aa#1", 25),
            file("logs/two/bb#17", 25),
            file("check#dir/x", 25),
        ];
        let kept = [
            file("artifacts/one/aa", 25),
            file("artifacts/one/cc#1", 23),
            file("artifacts/one/dd#x", 25),
            file("elsewhere/ee#1", 25),
        ];
        let day = Duration::from_secs(24 * 3600);
        assert_eq!(blobs.sweep_staged(day).await.expect("swept"), 2);
        assert!(!old[..2].iter().any(|path| path.exists()));
        assert!(kept.iter().chain(&old[2..]).all(|path| path.exists()));
        assert_eq!(blobs.sweep_staged(day).await.expect("swept"), 0);
    }
}

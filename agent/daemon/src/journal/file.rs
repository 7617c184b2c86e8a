//! The journal's file: lines are added at its end, and it is written anew, whole or not at all.
//!
//! The directory is locked for each change, and whoever opens the journal puts a new file in the
//! place of the old one. So a process whose file is not the one at the path any more knows that a
//! newer process has taken its place, and what it wrote before was read by that one.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

/// Why the file can not be changed.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The disk is full, or can not be written for another reason.
    Io(io::Error),
    /// A newer process has it.
    TakenOver,
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The file, as far as this process has it.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    directory: File,
    /// None until this process has put its own file there.
    own: Option<Own>,
}

#[derive(Debug)]
struct Own {
    file: Arc<File>,
    length: u64,
}

/// Which file it is, whatever its name.
fn identity(metadata: &fs::Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

impl Log {
    /// Opens the directory, which is made when missing; the file is not touched yet.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let parent = path
            .parent()
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(parent)?;
        Ok(Self {
            path: path.to_owned(),
            directory: File::open(parent)?,
            own: None,
        })
    }

    /// Whether this process has put its own file there.
    pub(super) const fn is_own(&self) -> bool {
        self.own.is_some()
    }

    /// Runs `change` while no other process changes the journal.
    fn locked<T>(
        &mut self,
        change: impl FnOnce(&mut Self) -> Result<T, Trouble>,
    ) -> Result<T, Trouble> {
        self.directory.lock()?;
        let result = change(self);
        self.directory.unlock()?;
        result
    }

    /// Reads what is there and puts `make` of it in its place, in one step for others.
    pub(super) fn take_over<T>(
        &mut self,
        read: impl FnOnce(Vec<u8>) -> io::Result<T>,
        make: impl FnOnce(&T) -> Vec<u8>,
    ) -> io::Result<(T, io::Result<()>)> {
        self.directory.lock()?;
        let told = match fs::read(&self.path) {
            Ok(bytes) => read(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => read(Vec::new()),
            Err(error) => Err(error),
        };
        let result = told.map(|told| {
            let replaced = self.replace(&make(&told));
            (told, replaced)
        });
        self.directory.unlock()?;
        result
    }

    /// Writes the whole file anew.
    pub(super) fn rewrite(&mut self, text: &[u8]) -> Result<(), Trouble> {
        self.locked(|log| {
            match fs::symlink_metadata(&log.path) {
                Ok(there) if there.is_file() => log.check(&there)?,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
            Ok(log.replace(text)?)
        })
    }

    fn replace(&mut self, text: &[u8]) -> io::Result<()> {
        let draft = self.path.with_extension("draft");
        let mut options = OpenOptions::new();
        options
            .create(true)
            .truncate(true)
            .append(false)
            .write(true)
            .mode(0o600);
        let mut file = options.open(&draft)?;
        file.write_all(text)?;
        file.sync_all()?;
        fs::rename(&draft, &self.path)?;
        // Without this the old file could come back, and lines that are added to the new one go.
        self.directory.sync_all()?;
        let length = text.len() as u64;
        self.own = Some(Own {
            file: Arc::new(file),
            length,
        });
        Ok(())
    }

    /// Whether what is at the path is still this process's own file.
    fn check(&self, there: &fs::Metadata) -> Result<(), Trouble> {
        let Some(own) = &self.own else {
            return Err(io::Error::other("the journal could not be written yet").into());
        };
        if identity(&own.file.metadata()?) == identity(there) {
            Ok(())
        } else {
            Err(Trouble::TakenOver)
        }
    }

    /// Adds lines. They are durable only after [`Self::file`] is synced.
    pub(super) fn append(&mut self, text: &[u8]) -> Result<(), Trouble> {
        self.locked(|log| {
            let there = fs::symlink_metadata(&log.path)?;
            if !there.is_file() {
                return Err(io::Error::other("something else is in the journal's place").into());
            }
            log.check(&there)?;
            let Some(own) = &mut log.own else {
                return Ok(());
            };
            let written = (&*own.file).write_all(text);
            if written.is_ok() {
                own.length += text.len() as u64;
            } else if let Err(error) = own.file.set_len(own.length) {
                // Half a line is told apart when it is read.
                tracing::debug!(%error, "cannot take half a line back");
            }
            Ok(written?)
        })
    }

    /// The file to sync.
    pub(super) fn file(&self) -> Option<Arc<File>> {
        self.own.as_ref().map(|own| Arc::clone(&own.file))
    }

    #[cfg(test)]
    pub(super) fn length(&self) -> u64 {
        self.own.as_ref().map_or(0, |own| own.length)
    }
}

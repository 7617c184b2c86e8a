//! A file that is whole or not there: it grows under another name beside its place and takes it at the
//! end.

use std::{
    fs::{File, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use crate::error::Error;

/// A file that is being written. Dropped before its end it leaves nothing.
#[derive(Debug)]
pub(super) struct Part {
    file: File,
    path: PathBuf,
    target: PathBuf,
    is_whole: bool,
}

impl Part {
    /// Begins the file that will be at `target`, which may be there already.
    ///
    /// # Errors
    ///
    /// [`Error::File`].
    pub(super) fn create(target: &Path) -> Result<Self, Error> {
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let name: String = name.chars().take(50).collect();
        let name = format!(".{name}.{}.part", uuid::Uuid::new_v4().simple());
        let path = target.with_file_name(name);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(Error::file("write", target))?;
        Ok(Self {
            file,
            path,
            target: target.to_owned(),
            is_whole: false,
        })
    }

    /// Puts the file, with these permission bits, in its place.
    ///
    /// # Errors
    ///
    /// [`Error::File`].
    pub(super) fn finish(mut self, mode: u32) -> Result<(), Error> {
        self.file
            .set_permissions(Permissions::from_mode(mode))
            .and_then(|()| self.file.sync_all())
            .and_then(|()| std::fs::rename(&self.path, &self.target))
            .map_err(Error::file("write", &self.target))?;
        self.is_whole = true;
        Ok(())
    }
}

impl Write for Part {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.is_whole {
            // The error is told already; a part that can not be removed changes nothing.
            let _kept = std::fs::remove_file(&self.path);
        }
    }
}

/// Where bytes go that a user asked for by name.
#[derive(Debug)]
pub(super) enum Destination {
    /// Standard output.
    Output,
    /// A file, whole or not at all.
    File(Part),
}

impl Destination {
    /// `-` is standard output.
    pub(super) fn open(name: &Path) -> Result<Self, Error> {
        if name == Path::new("-") {
            return Ok(Self::Output);
        }
        Part::create(name).map(Self::File)
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        match self {
            Self::Output => std::io::stdout().write_all(bytes).map_err(output),
            Self::File(part) => part
                .write_all(bytes)
                .map_err(Error::file("write", &part.target)),
        }
    }

    pub(super) fn finish(self, mode: u32) -> Result<(), Error> {
        match self {
            Self::Output => std::io::stdout().flush().map_err(output),
            Self::File(part) => part.finish(mode),
        }
    }
}

fn output(error: io::Error) -> Error {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Error::OutputClosed;
    }
    Error::file("write", Path::new("standard output"))(error)
}

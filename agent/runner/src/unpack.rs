//! Unpacking a tar archive into a folder that it can not leave. Where it comes from is not here.
//!
//! Every folder on the way is opened without following links, below an open folder, so neither
//! the archive nor a process that changes the tree meanwhile leads anywhere else.

mod gate;

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, BufReader, Read},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Component, Path},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use flate2::read::MultiGzDecoder;
use rustix::{
    fs::{
        AtFlags, CWD, FileType, Mode, OFlags, fchmod, linkat, mkdirat, openat, statat, symlinkat,
        unlinkat,
    },
    io::Errno,
};
use tar::{Archive, Entry, EntryType};

use self::gate::{Gate, Room};
use crate::{arguments::Arguments, fail};

/// Most bytes of all files together, unpacked.
pub(crate) const MAX_BYTES: u64 = 8 << 30;
/// Most entries: each costs an inode of the node.
pub(crate) const MAX_ENTRIES: usize = 500_000;
/// Longest name of an entry or of what a link leads to, in bytes: the kernel takes no longer path.
const MAX_NAME: usize = 4096;
/// Most bytes of headers of one entry. Extended attributes are the most of it: the kernel has at
/// most 64 KiB of each.
const MAX_HEADERS: u64 = 1 << 20;
/// Most folders above an entry.
const MAX_DEPTH: usize = 100;
/// Characters of a name that are told.
const SHOWN: usize = 500;
/// Part of a file that is copied at once.
const PART: usize = 64 << 10;

const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Why an archive is not unpacked, or not to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// It can not be read: broken, or the connection is.
    #[error("it can not be read: {0}")]
    Broken(#[source] io::Error),
    /// It has more than is allowed.
    #[error("it has more than {0}")]
    TooLarge(&'static str),
    /// An entry would leave the folder, or is no file, folder or link.
    #[error("'{path}' {why}")]
    Refused { path: String, why: &'static str },
    /// The folder does not take an entry.
    #[error("'{path}' can not be written: {source}")]
    Write { path: String, source: io::Error },
    /// Nobody waits for it any more.
    #[error("it was stopped")]
    Stopped,
}

/// Ends unpacking on another thread when it is dropped.
#[derive(Debug, Default)]
pub(crate) struct Stopper(Stop);

/// What unpacking looks at again and again.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stopper {
    pub(crate) fn stop(&self) -> Stop {
        self.0.clone()
    }
}

impl Drop for Stopper {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

impl Stop {
    fn check(&self) -> Result<(), Error> {
        match self.0.load(Ordering::Relaxed) {
            true => Err(Error::Stopped),
            false => Ok(()),
        }
    }
}

/// Mode `unpack`: for a folder that only the user of a step's container can write to.
pub(crate) fn main(mut arguments: Arguments) -> ExitCode {
    let (Some(archive), Some(folder)) = (arguments.next(), arguments.next()) else {
        return fail::fail("give an ARCHIVE and a DIR", "");
    };
    let root = Path::new("/");
    let rest = Path::new(&folder);
    let rest = rest.strip_prefix(root).unwrap_or(rest);
    match File::open(&archive) {
        Ok(file) => match unpack(file, root, rest, &Stop::default()) {
            Ok(_) => ExitCode::SUCCESS,
            Err(error) => fail::fail(error, ""),
        },
        Err(error) => fail::fail(format!("{archive}: {error}"), ""),
    }
}

impl Error {
    /// Whether another user may be able to do it.
    pub(crate) fn is_permission(&self) -> bool {
        matches!(self, Self::Write { source, .. } if source.kind() == io::ErrorKind::PermissionDenied)
    }
}

/// What came out.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Unpacked {
    pub(crate) entries: usize,
    pub(crate) bytes: u64,
}

/// Unpacks a tar archive, gzipped or not, into `rest` below the folder `root`, which is there;
/// what is missing of `rest` is made.
pub(crate) fn unpack(
    source: impl Read,
    root: &Path,
    rest: &Path,
    stop: &Stop,
) -> Result<Unpacked, Error> {
    let write = |source: Errno| Error::Write {
        path: root.join(rest).display().to_string(),
        source: source.into(),
    };
    let mut folder = openat(CWD, root, FOLDER & !OFlags::NOFOLLOW, Mode::empty()).map_err(write)?;
    for part in parts(rest).ok_or_else(|| refused(rest, OUTSIDE))? {
        folder = enter(&folder, &part).map_err(write)?;
    }
    let mut source = BufReader::with_capacity(PART, source);
    let head = io::BufRead::fill_buf(&mut source).map_err(Error::Broken)?;
    match head {
        [0x1f, 0x8b, ..] => entries(MultiGzDecoder::new(source), &folder, stop),
        [] => Err(Error::Broken(io::Error::other("it is empty"))),
        _ => entries(source, &folder, stop),
    }
}

const OUTSIDE: &str = "leads out of the folder";
const LINK_OUTSIDE: &str =
    "is a link that leads out of the folder, or has '..' after a name, which may do so";

fn entries(source: impl Read, root: &OwnedFd, stop: &Stop) -> Result<Unpacked, Error> {
    let room = Room::default();
    let gate = Gate {
        source,
        room: room.clone(),
    };
    let mut archive = Archive::new(gate);
    let mut unpacked = Unpacked::default();
    let mut skipped = 0;
    let mut entries = archive.entries().map_err(Error::Broken)?;
    loop {
        stop.check()?;
        room.limit(MAX_HEADERS);
        let entry = entries.next();
        if room.is_spent() {
            return Err(Error::TooLarge("1 MiB of headers for one entry"));
        }
        room.open();
        let Some(entry) = entry else {
            return Ok(unpacked);
        };
        let mut entry = entry.map_err(Error::Broken)?;
        unpacked.entries += 1;
        if unpacked.entries > MAX_ENTRIES {
            return Err(Error::TooLarge("500,000 entries"));
        }
        one(&mut entry, root, &mut unpacked.bytes, stop)?;
        // What is left of it would be read as headers are.
        let ignore = |source| Error::Write {
            path: String::new(),
            source,
        };
        copy(&mut entry, &mut io::sink(), &mut skipped, stop, ignore)?;
    }
}

/// Unpacks one entry.
fn one(
    entry: &mut Entry<'_, impl Read>,
    root: &OwnedFd,
    bytes: &mut u64,
    stop: &Stop,
) -> Result<(), Error> {
    let kind = entry.header().entry_type();
    if matches!(kind, EntryType::XGlobalHeader | EntryType::XHeader) {
        return Ok(());
    }
    let path = entry.path().map_err(Error::Broken)?.into_owned();
    if path.as_os_str().len() > MAX_NAME {
        return Err(refused(&path, "has a name of more than 4 KiB"));
    }
    let Some(mut names) = parts(&path) else {
        return Err(refused(&path, OUTSIDE));
    };
    let Some(name) = names.pop() else {
        return Ok(());
    };
    let write = |source: io::Error| Error::Write {
        path: path.display().to_string(),
        source,
    };
    let parent = descend(root, &names).map_err(|error| write(error.into()))?;
    let mode = entry.header().mode().unwrap_or(0o644) & 0o777;
    match kind {
        EntryType::Directory => {
            let folder = enter(&parent, &name).map_err(|error| write(error.into()))?;
            fchmod(&folder, shared(mode | 0o700)).map_err(|error| write(error.into()))
        }
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
            remove(&parent, &name).map_err(|error| write(error.into()))?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
            let mode = shared(mode | 0o400);
            let file = openat(
                &parent,
                name.as_os_str(),
                flags | OFlags::CLOEXEC,
                Mode::RUSR,
            )
            .map_err(|error| write(error.into()))?;
            let mut file = File::from(file);
            copy(entry, &mut file, bytes, stop, write)?;
            fchmod(file.as_fd(), mode).map_err(|error| write(error.into()))
        }
        EntryType::Symlink => {
            let target = link_name(entry, &path)?;
            if !stays_inside(names.len(), &target) {
                return Err(refused(&path, LINK_OUTSIDE));
            }
            remove(&parent, &name)
                .and_then(|()| symlinkat(target.as_os_str(), &parent, name.as_os_str()))
                .map_err(|error| write(error.into()))
        }
        EntryType::Link => {
            let target = link_name(entry, &path)?;
            let mut from = parts(Path::new(&target)).ok_or_else(|| refused(&path, OUTSIDE))?;
            let old = from.pop().ok_or_else(|| refused(&path, OUTSIDE))?;
            let folder = descend(root, &from).map_err(|error| write(error.into()))?;
            let (old, new) = (old.as_os_str(), name.as_os_str());
            let found = statat(&folder, old, AtFlags::SYMLINK_NOFOLLOW);
            let found = found.map_err(|error| write(error.into()))?;
            // A symbolic link means another file in another folder.
            if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
                return Err(refused(&path, "is a hard link to what is no file"));
            }
            remove(&parent, &name)
                .and_then(|()| linkat(&folder, old, &parent, new, AtFlags::empty()))
                .map_err(|error| write(error.into()))
        }
        _ => Err(refused(&path, "is neither file, folder nor link")),
    }
}

fn refused(path: &Path, why: &'static str) -> Error {
    let path = path.display().to_string();
    let path = path.chars().take(SHOWN).collect();
    Error::Refused { path, why }
}

fn link_name(entry: &Entry<'_, impl Read>, path: &Path) -> Result<OsString, Error> {
    let target = entry.link_name().map_err(Error::Broken)?;
    let target = target.filter(|target| !target.as_os_str().is_empty());
    let length = |target: &std::borrow::Cow<'_, Path>| target.as_os_str().len();
    if target
        .as_ref()
        .is_some_and(|target| length(target) > MAX_NAME)
    {
        return Err(refused(path, "is a link to a name of more than 4 KiB"));
    }
    target
        .map(|target| target.into_owned().into_os_string())
        .ok_or_else(|| refused(path, "is a link to nothing"))
}

/// The names of a relative path; none when it is absolute, leads up or has too many.
fn parts(path: &Path) -> Option<Vec<OsString>> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name.to_owned()),
            Component::CurDir => {}
            Component::RootDir | Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    (names.len() <= MAX_DEPTH).then_some(names)
}

/// Whether a link in a folder of this depth stays below the folder of the archive. The depth is a
/// real one, no link is on the way; after a name `..` means another folder when that is a link.
fn stays_inside(depth: usize, target: &OsStr) -> bool {
    if target.as_bytes().contains(&0) {
        return false;
    }
    let mut above = Some(depth);
    for component in Path::new(target).components() {
        match (component, above) {
            (Component::Normal(_), _) => above = None,
            (Component::CurDir, _) => {}
            (Component::ParentDir, Some(depth)) if depth > 0 => above = Some(depth - 1),
            (Component::ParentDir | Component::RootDir | Component::Prefix(_), _) => return false,
        }
    }
    true
}

/// Opens a folder in another one, made when it is missing.
fn enter(folder: &OwnedFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    match openat(folder, name, FOLDER, Mode::empty()) {
        Err(Errno::NOENT) => {}
        opened => return opened,
    }
    match mkdirat(folder, name, Mode::RWXU) {
        Ok(()) => {
            let made = openat(folder, name, FOLDER, Mode::empty())?;
            fchmod(&made, shared(0o755))?;
            Ok(made)
        }
        Err(Errno::EXIST) => openat(folder, name, FOLDER, Mode::empty()),
        Err(error) => Err(error),
    }
}

fn descend(root: &OwnedFd, names: &[OsString]) -> Result<OwnedFd, Errno> {
    let start = openat(root, ".", FOLDER, Mode::empty())?;
    names
        .iter()
        .try_fold(start, |folder, name| enter(&folder, name))
}

/// What the owner may is allowed to the group too: steps are other users of the same group.
fn shared(mode: u32) -> Mode {
    Mode::from_raw_mode(mode | ((mode & 0o700) >> 3))
}

/// Makes room for an entry. A folder stays and is in the way.
fn remove(folder: &OwnedFd, name: &OsStr) -> Result<(), Errno> {
    match unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error),
    }
}

fn copy(
    source: &mut impl Read,
    target: &mut impl io::Write,
    bytes: &mut u64,
    stop: &Stop,
    write: impl Fn(io::Error) -> Error,
) -> Result<(), Error> {
    let mut part = vec![0; PART];
    loop {
        stop.check()?;
        let read = source.read(&mut part).map_err(Error::Broken)?;
        let Some(data) = part.get(..read).filter(|data| !data.is_empty()) else {
            return Ok(());
        };
        *bytes += read as u64;
        if *bytes > MAX_BYTES {
            return Err(Error::TooLarge("8 GiB"));
        }
        target.write_all(data).map_err(&write)?;
    }
}

#[cfg(test)]
mod tests;

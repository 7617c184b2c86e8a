//! Opening and making files without following a symbolic link at any place of the path: what a
//! test can write may lead anywhere.

use std::{
    fs::File,
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::{Component, Path},
};

use rustix::{
    fs::{CWD, Mode, OFlags, mkdirat, openat},
    io::Errno,
};

const FOLDER: OFlags = OFlags::PATH
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Opens an absolute path.
pub(crate) fn open(path: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
    let mut components = path.components().peekable();
    let mut folder = openat(CWD, "/", FOLDER & !OFlags::NOFOLLOW, Mode::empty())?;
    let mut name = Path::new(".").as_os_str();
    while let Some(component) = components.next() {
        let part = match component {
            Component::RootDir | Component::CurDir => continue,
            Component::Normal(part) => part,
            Component::ParentDir | Component::Prefix(_) => {
                return Err(io::ErrorKind::InvalidInput.into());
            }
        };
        if components.peek().is_none() {
            name = part;
        } else {
            folder = openat(folder.as_fd(), part, FOLDER, Mode::empty())?;
        }
    }
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(folder.as_fd(), name, flags, mode)?)
}

/// Opens an absolute path to read it, without waiting on a named pipe.
pub(crate) fn read(path: &Path) -> io::Result<OwnedFd> {
    open(
        path,
        OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY,
        Mode::empty(),
    )
}

/// Finds a folder below `root`, which may be reached by links; folders that are missing are made.
/// What is in them needs not be readable.
pub(crate) fn folder(root: &Path, rest: &Path) -> io::Result<OwnedFd> {
    let start = openat(CWD, root, FOLDER & !OFlags::NOFOLLOW, Mode::empty())?;
    let folder = rest.components().try_fold(start, |folder, component| {
        let name = match component {
            Component::CurDir => return Ok(folder),
            Component::Normal(name) => name,
            Component::RootDir | Component::ParentDir | Component::Prefix(_) => {
                return Err(Errno::INVAL);
            }
        };
        match mkdirat(&folder, name, Mode::RWXU | Mode::RWXG | Mode::RWXO) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
        openat(&folder, name, FOLDER, Mode::empty())
    });
    Ok(folder?)
}

/// Opens a plain file below `root` to write it, and makes it and the folders above it when they are
/// missing. A pipe is not waited for.
pub(crate) fn create(root: &Path, rest: &Path) -> io::Result<File> {
    let name = rest.file_name().ok_or(io::ErrorKind::IsADirectory)?;
    let folder = folder(root, rest.parent().unwrap_or_else(|| Path::new("")))?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NONBLOCK | OFlags::NOCTTY;
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = File::from(openat(&folder, name, flags, Mode::from_raw_mode(0o666))?);
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("not a plain file")),
    }
}

/// An error of this module in words.
pub(crate) fn explain(error: &io::Error) -> String {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::LOOP | Errno::NOTDIR) => "a part of its path is a link or no folder".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Read as _, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn links_are_not_followed_at_any_place() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        fs::create_dir(root.join("real")).unwrap();
        fs::write(root.join("real/file"), "content").unwrap();
        symlink("real", root.join("folder")).unwrap();
        symlink("real/file", root.join("link")).unwrap();
        let mut text = String::new();
        let mut file = fs::File::from(read(&root.join("real/file")).unwrap());
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "content");
        assert!(read(&root.join("folder/file")).is_err());
        assert!(read(&root.join("link")).is_err());
        assert!(read(Path::new("/")).is_ok());
        assert!(read(&root.join("real/../real/file")).is_err());
    }

    #[test]
    fn files_and_folders_are_not_made_through_links() {
        let outer = tempfile::tempdir().unwrap();
        let (root, out) = (outer.path().join("root"), outer.path().join("out"));
        fs::create_dir(&root).unwrap();
        fs::create_dir(&out).unwrap();
        fs::write(out.join("file"), "theirs").unwrap();
        symlink("root", outer.path().join("mount")).unwrap();
        symlink(&out, root.join("folder")).unwrap();
        symlink(out.join("file"), root.join("file")).unwrap();
        symlink(out.join("new"), root.join("new")).unwrap();
        // The mount itself is not of a test.
        let mount = outer.path().join("mount");
        create(&mount, Path::new("a/b/c")).unwrap();
        assert!(root.join("a/b/c").is_file());
        for path in ["folder/x", "folder/x/y", "file", "new", "a/../b", "/b", ""] {
            assert!(create(&mount, Path::new(path)).is_err(), "{path}");
        }
        for path in ["folder", "folder/x", "file", "new", ".."] {
            assert!(folder(&mount, Path::new(path)).is_err(), "{path}");
        }
        assert_eq!(fs::read_to_string(out.join("file")).unwrap(), "theirs");
        assert_eq!(fs::read_dir(&out).unwrap().count(), 1);
    }
}

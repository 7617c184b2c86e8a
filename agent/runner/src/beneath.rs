//! Opening files without following a symbolic link at any place of the path: what a test can
//! write may lead anywhere.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::{Component, Path},
};

use rustix::fs::{CWD, Mode, OFlags, openat};

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
}

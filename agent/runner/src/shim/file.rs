//! Small files that the conductor writes and reads in the container.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use crate::beneath;

/// Largest file that is read.
const LARGEST: u64 = 512 << 10;

/// Writes a file and makes the folders above it.
pub(crate) fn write(path: &Path, content: &[u8], mode: u32) -> Result<(), String> {
    let shown = path.display();
    let error = |error: std::io::Error| format!("can not write '{shown}': {error}");
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(error)?;
    }
    let file = open(path, fs::OpenOptions::new().write(true).create(true)).map_err(error)?;
    fill(file, content, mode).map_err(error)
}

/// Writes a file of a shared folder without following a link: what a test has put there may lead
/// to what only the conductor can write.
pub(crate) fn write_beneath(
    folder: &Path,
    rest: &Path,
    content: &[u8],
    mode: u32,
) -> Result<(), String> {
    let file = beneath::create(folder, rest);
    file.and_then(|file| fill(file, content, mode))
        .map_err(|error| beneath::explain(&error))
}

fn fill(mut file: File, content: &[u8], mode: u32) -> io::Result<()> {
    file.set_len(0)?;
    file.write_all(content)?;
    file.set_permissions(fs::Permissions::from_mode(mode))
}

/// Opens a plain file; a pipe that a test left there must not make the run wait for its other end.
fn open(path: &Path, options: &mut fs::OpenOptions) -> io::Result<File> {
    let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = options.custom_flags(nonblocking).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("not a plain file")),
    }
}

/// Reads a file; an error is why not.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, String> {
    let file = open(path, fs::OpenOptions::new().read(true));
    content(file.map_err(|error| error.to_string())?)
}

/// Reads a file of a shared folder without following a link: what a test has put there may lead
/// to what only the conductor can read.
pub(crate) fn read_beneath(folder: &Path, rest: &Path) -> Result<Vec<u8>, String> {
    let read = || {
        let file = beneath::read(&fs::canonicalize(folder)?.join(rest))?;
        let file = File::from(file);
        match file.metadata()?.is_file() {
            true => Ok(file),
            false => Err(io::Error::other("not a plain file")),
        }
    };
    content(read().map_err(|error| beneath::explain(&error))?)
}

fn content(file: File) -> Result<Vec<u8>, String> {
    let mut content = Vec::new();
    file.take(LARGEST + 1)
        .read_to_end(&mut content)
        .map_err(|error| error.to_string())?;
    if content.len() as u64 > LARGEST {
        return Err(format!("larger than {LARGEST} bytes"));
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_is_written_with_its_mode_and_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/c");
        write(&path, b"content", 0o750).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o750
        );
        assert_eq!(read(&path).unwrap(), b"content");
    }

    #[test]
    fn too_large_files_and_folders_are_refused_with_their_names() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("large");
        fs::write(&path, vec![0; (512 << 10) + 1]).unwrap();
        assert!(read(&path).unwrap_err().contains("larger than 524288"));
        assert!(
            read(folder.path())
                .unwrap_err()
                .contains("not a plain file")
        );
        assert!(write(folder.path(), b"", 0o644).is_err());
    }

    #[test]
    fn shared_files_are_read_without_following_links() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir(root.join("in")).unwrap();
        fs::write(root.join("in/file"), "content").unwrap();
        std::os::unix::fs::symlink("/etc", root.join("link")).unwrap();
        std::os::unix::fs::symlink("in/file", root.join("file")).unwrap();
        let read = |path: &str| read_beneath(root, Path::new(path));
        assert_eq!(read("in/file").unwrap(), b"content");
        assert!(read("link/passwd").unwrap_err().contains("a link"));
        assert!(read("file").unwrap_err().contains("a link"));
        assert!(read("in").unwrap_err().contains("not a plain file"));
        assert!(read("none").unwrap_err().contains("No such file"));
    }

    #[test]
    fn a_pipe_is_refused_and_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RUSR).unwrap();
        assert!(write(&path, b"", 0o644).is_err());
        assert!(read(&path).unwrap_err().contains("not a plain file"));
    }
}

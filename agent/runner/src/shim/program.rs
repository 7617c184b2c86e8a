//! Finding the program of a command, and saying exactly why it can not be run.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File},
    io::{self, Read as _},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use rustix::fs::{Access, access};

/// Why a process was not started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// `NOT_FOUND`, `NOT_EXECUTABLE`, `NO_SHELL`, `WORKING_DIR` or `SPAWN`.
    pub(super) reason: &'static str,
    /// For people.
    pub(super) error: String,
}

impl Refusal {
    pub(super) fn new(reason: &'static str, error: impl Into<String>) -> Self {
        Self {
            reason,
            error: error.into(),
        }
    }
}

/// The file of a program: by its path, or by its name in `search`, the value of PATH.
pub(super) fn find(
    name: &str,
    search: Option<&OsStr>,
    working_dir: &Path,
) -> Result<PathBuf, Refusal> {
    if name.contains('/') {
        let path = working_dir.join(name);
        return check(&path).map(|()| path);
    }
    let mut refused = None;
    for folder in std::env::split_paths(search.unwrap_or_default()) {
        let path = working_dir.join(folder).join(name);
        match check(&path) {
            Ok(()) => return Ok(path),
            Err(refusal) if refusal.reason == "NOT_EXECUTABLE" => {
                refused.get_or_insert(refusal);
            }
            Err(_) => {}
        }
    }
    Err(refused.unwrap_or_else(|| {
        let search = search.map(OsStr::to_string_lossy).unwrap_or_default();
        let error = format!(
            "'{name}' is not in the container's PATH ({search}); check `command` and the image"
        );
        Refusal::new("NOT_FOUND", error)
    }))
}

fn check(path: &Path) -> Result<(), Refusal> {
    let shown = path.display();
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => Err(Refusal::new(
            "NOT_EXECUTABLE",
            format!("'{shown}' is a folder"),
        )),
        Ok(_) => access(path, Access::EXEC_OK).map_err(|_refused| {
            let error = format!("'{shown}' may not be executed by this user; check its mode");
            Refusal::new("NOT_EXECUTABLE", error)
        }),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(Refusal::new(
            "NOT_EXECUTABLE",
            format!("'{shown}' can not be reached by this user: {error}"),
        )),
        Err(_) => Err(Refusal::new(
            "NOT_FOUND",
            format!("'{shown}' does not exist in the container; check `command` and the image"),
        )),
    }
}

/// Why the kernel did not execute a file that is there.
pub(super) fn explain(path: &Path, error: &io::Error) -> Refusal {
    let shown = path.display();
    match error
        .raw_os_error()
        .map(rustix::io::Errno::from_raw_os_error)
    {
        Some(rustix::io::Errno::NOENT) => {
            let cause = interpreter(path).map_or_else(
                || "the loader that it is linked to is not in the container".to_owned(),
                |interpreter| {
                    let interpreter = interpreter.to_string_lossy().into_owned();
                    format!("its interpreter '{interpreter}' is not in the container")
                },
            );
            Refusal::new("NOT_FOUND", format!("'{shown}' can not start: {cause}"))
        }
        Some(rustix::io::Errno::NOEXEC) => Refusal::new(
            "NOT_EXECUTABLE",
            format!("'{shown}' is neither a program for this machine nor a script with `#!`"),
        ),
        Some(rustix::io::Errno::ACCESS | rustix::io::Errno::PERM) => Refusal::new(
            "NOT_EXECUTABLE",
            format!("'{shown}' may not be executed: {error}"),
        ),
        _ => Refusal::new("SPAWN", format!("'{shown}' can not start: {error}")),
    }
}

/// The program after `#!`.
fn interpreter(path: &Path) -> Option<OsString> {
    let mut head = Vec::new();
    File::open(path)
        .ok()?
        .take(256)
        .read_to_end(&mut head)
        .ok()?;
    let line = head
        .strip_prefix(b"#!")?
        .split(|byte| *byte == b'\n')
        .next()?;
    let name = line
        .trim_ascii()
        .split(|byte| matches!(byte, b' ' | b'\t'))
        .next()?;
    Some(OsStr::from_bytes(name).to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn script(folder: &Path, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = folder.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn program_is_found_in_path_past_files_that_can_not_run() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (folder.path().join("1"), folder.path().join("2"));
        fs::create_dir(&first).unwrap();
        fs::create_dir(&second).unwrap();
        script(&first, "tool", "", 0o644);
        let wanted = script(&second, "tool", "", 0o755);
        let search = std::env::join_paths([&first, &second]).unwrap();
        let found = find("tool", Some(&search), Path::new("/"));
        assert_eq!(found, Ok(wanted));
        let found = find("tool", Some(first.as_os_str()), Path::new("/")).unwrap_err();
        assert_eq!(found.reason, "NOT_EXECUTABLE");
        let found = find("none", Some(&search), Path::new("/")).unwrap_err();
        assert_eq!(found.reason, "NOT_FOUND");
        assert!(found.error.contains("PATH"), "{}", found.error);
    }

    #[test]
    fn missing_interpreter_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = script(folder.path(), "tool", "#! /no/such/shell -e\n", 0o755);
        let error = std::process::Command::new(&path).spawn().unwrap_err();
        let refusal = explain(&path, &error);
        assert_eq!(refusal.reason, "NOT_FOUND");
        assert!(
            refusal.error.contains("'/no/such/shell'"),
            "{}",
            refusal.error
        );
    }

    #[test]
    fn file_that_is_no_program_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = script(folder.path(), "tool", "just text", 0o755);
        let error = std::process::Command::new(&path).spawn().unwrap_err();
        assert_eq!(explain(&path, &error).reason, "NOT_EXECUTABLE");
    }

    #[test]
    fn relative_path_is_below_the_working_directory() {
        let folder = tempfile::tempdir().unwrap();
        let wanted = script(folder.path(), "tool", "", 0o755);
        let found = find("./tool", None, folder.path()).unwrap();
        assert_eq!(
            fs::canonicalize(found).unwrap(),
            fs::canonicalize(wanted).unwrap()
        );
        let folder_itself = find("/", None, folder.path()).unwrap_err();
        assert_eq!(folder_itself.reason, "NOT_EXECUTABLE");
    }
}

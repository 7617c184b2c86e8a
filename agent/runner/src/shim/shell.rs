//! The shell of a script: the container's own, or the bundled BusyBox.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::fs::{Access, access};

use super::{environment::Environment, program::Refusal};
use crate::volumes::Volumes;

/// Longest script that is passed as an argument; the kernel takes 128 KiB.
const LONGEST_ARGUMENT: usize = 120 << 10;

/// How to run a script.
#[derive(Debug)]
pub(super) struct Shell {
    /// The file to execute.
    pub(super) program: PathBuf,
    /// Its own name and its arguments.
    pub(super) argv: Vec<String>,
    /// A file with the script, to remove afterwards.
    pub(super) file: Option<PathBuf>,
}

impl Shell {
    /// Finds a shell for `script`, which stops at its first failing line.
    pub(super) fn of(
        script: &str,
        prefer_bash: bool,
        environment: &mut Environment,
        volumes: &Volumes,
    ) -> Result<Self, Refusal> {
        let candidates = if prefer_bash {
            ["/bin/bash", "/usr/bin/bash", "/bin/sh"]
        } else {
            ["/bin/sh", "/bin/bash", "/usr/bin/bash"]
        };
        let own = candidates
            .into_iter()
            .find(|path| is_executable(path.as_ref()));
        let (program, name) = match own {
            Some(path) if path.ends_with("bash") => (PathBuf::from(path), "bash"),
            Some(path) => (PathBuf::from(path), "sh"),
            None => (bundled(environment, volumes)?, "sh"),
        };
        let script = format!("set -e\n{script}");
        let (argv, file) = if script.len() <= LONGEST_ARGUMENT {
            (vec![name.to_owned(), "-c".to_owned(), script], None)
        } else {
            let file = write(&script, volumes)?;
            (
                vec![name.to_owned(), file.display().to_string()],
                Some(file),
            )
        };
        Ok(Self {
            program,
            argv,
            file,
        })
    }
}

fn is_executable(path: &Path) -> bool {
    path.is_file() && access(path, Access::EXEC_OK).is_ok()
}

/// The bundled shell; its tools are put behind the container's own PATH.
fn bundled(environment: &mut Environment, volumes: &Volumes) -> Result<PathBuf, Refusal> {
    let busybox = volumes.real(Path::new("/.muster/bin/busybox"));
    if !is_executable(&busybox) {
        let error = "the image has neither /bin/sh nor /bin/bash, and the runner image no BusyBox; give `command`";
        return Err(Refusal::new("NO_SHELL", error));
    }
    let mut last = None;
    for folder in ["/.muster/applets", "/tmp/.muster-applets"] {
        let folder = volumes.real(Path::new(folder));
        match link_applets(&busybox, &folder) {
            Ok(()) => {
                append_to_path(environment, &folder);
                return Ok(busybox);
            }
            Err(error) => last = Some(error),
        }
    }
    // The shell itself still works, with its built-in commands.
    match last {
        Some(error) if error.kind() == io::ErrorKind::NotFound => Err(Refusal::new(
            "NO_SHELL",
            format!("the bundled shell does not start: {error}"),
        )),
        _ => Ok(busybox),
    }
}

/// Makes a folder with a link for each of BusyBox's tools, all or nothing.
fn link_applets(busybox: &Path, folder: &Path) -> io::Result<()> {
    if folder.exists() {
        return Ok(());
    }
    let list = Command::new(busybox).arg("--list").output()?;
    let mut partial = folder.as_os_str().to_owned();
    partial.push(format!(".{}", std::process::id()));
    let partial = PathBuf::from(partial);
    fs::create_dir(&partial)?;
    for applet in String::from_utf8_lossy(&list.stdout).lines() {
        symlink(busybox, partial.join(applet))?;
    }
    match fs::rename(&partial, folder) {
        // Another container was faster.
        Err(_) if folder.exists() => fs::remove_dir_all(&partial),
        renamed => renamed,
    }
}

fn append_to_path(environment: &mut Environment, folder: &Path) {
    let name = OsString::from("PATH");
    let mut path = environment.get(&name).unwrap_or_default().to_owned();
    if !path.is_empty() {
        path.push(":");
    }
    path.push(folder);
    environment.set(name, path);
}

/// Writes a long script to a file that the shell can read.
fn write(script: &str, volumes: &Volumes) -> Result<PathBuf, Refusal> {
    let name = format!(".muster-script-{}", crate::clock::now_ms());
    let mut last = None;
    for folder in ["/tmp", "/.muster/run", "/data"] {
        let path = volumes.real(Path::new(folder)).join(&name);
        match fs::write(&path, script) {
            Ok(()) => return Ok(path),
            Err(error) => last = Some(error),
        }
    }
    let error = last.map(|error| error.to_string()).unwrap_or_default();
    let error = format!(
        "the script is too long for an argument, and no shared folder is writable: {error}"
    );
    Err(Refusal::new("SPAWN", error))
}

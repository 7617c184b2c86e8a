//! Mode `install`: puts this program and BusyBox on the volume that step containers share.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use crate::{arguments::Arguments, fail};

/// BusyBox in the runner image.
const BUSYBOX: &str = "/bin/busybox";

/// Why it could not be installed.
#[derive(Debug, thiserror::Error)]
#[error("can not write {path}: {source}; is the volume mounted and writable?")]
struct Error {
    path: PathBuf,
    source: io::Error,
}

pub(crate) fn main(mut arguments: Arguments) -> ExitCode {
    let Some(folder) = arguments.next() else {
        return fail::fail("`install` needs a folder", "example: install /.muster");
    };
    match install(Path::new(&folder), Path::new(BUSYBOX)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail::end(error),
    }
}

fn install(folder: &Path, busybox: &Path) -> Result<(), Error> {
    let binaries = folder.join("bin");
    let run = folder.join("run");
    for made in [&binaries, &run] {
        fs::create_dir_all(made).map_err(|source| Error {
            path: made.clone(),
            source,
        })?;
    }
    place(Path::new("/proc/self/exe"), &binaries.join("muster-runner"))?;
    if busybox.exists() {
        place(busybox, &binaries.join("busybox"))?;
    }
    Ok(())
}

/// Copies a program so that nobody ever sees a part of it.
fn place(source: &Path, target: &Path) -> Result<(), Error> {
    let error = |source| Error {
        path: target.to_owned(),
        source,
    };
    let mut name = target.as_os_str().to_owned();
    name.push(format!(".{}", std::process::id()));
    let partial = PathBuf::from(name);
    fs::copy(source, &partial).map_err(error)?;
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(&partial, mode).map_err(error)?;
    fs::rename(&partial, target).map_err(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn program_and_shell_are_placed_executable_and_again_over_themselves() {
        let folder = tempfile::tempdir().unwrap();
        let busybox = folder.path().join("busybox");
        fs::write(&busybox, "shell").unwrap();
        let target = folder.path().join("muster");
        for _ in 0..2 {
            install(&target, &busybox).unwrap();
        }
        for name in ["bin/muster-runner", "bin/busybox"] {
            let mode = fs::metadata(target.join(name)).unwrap().permissions();
            assert_eq!(mode.mode() & 0o777, 0o755, "{name}");
        }
        assert_eq!(fs::read(target.join("bin/busybox")).unwrap(), b"shell");
        assert!(target.join("run").is_dir());
        assert_eq!(fs::read_dir(target.join("bin")).unwrap().count(), 2);
    }

    #[test]
    fn folder_that_can_not_be_made_is_named() {
        let error = install(Path::new("/proc/none"), Path::new("/none")).unwrap_err();
        assert!(error.to_string().contains("/proc/none/bin"), "{error}");
    }
}

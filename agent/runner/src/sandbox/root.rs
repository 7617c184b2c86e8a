//! The file system of a sandbox: the host's top-level folders, covered by a [`Layer`] where that is
//! possible, with the shared folders of the run in place of its own. Nothing is written to the
//! host's file system to get there.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use rustix::{
    mount::{
        MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_bind_recursive,
        mount_change, mount_remount, unmount,
    },
    process::{chdir, pivot_root},
};

use super::{Error, Options, layer::Layer};
use crate::volumes::{SHARED, is_placeable, own_folder};

/// This program in the sandbox, whatever is mounted over its own path.
pub(super) const PROGRAM: &str = ".muster/bin/muster-runner";

/// Builds the file system below the folder of a run; gives what becomes `/`, and remarks for
/// people.
pub(super) fn build(options: &Options) -> Result<(PathBuf, String), Error> {
    let (run, folders) = (options.root.as_path(), options.folders.as_slice());
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )
    .map_err(|error| Error::new("can not keep mounts apart from the host's", error))?;
    let container = options.layer.as_deref();
    let mut layer = container
        .map(|container| Layer::new(run, container, &options.places))
        .transpose()?;
    let root = match &layer {
        Some(layer) => layer.root(),
        None => empty(run)?,
    };
    let mut remarks = String::new();
    for entry in fs::read_dir("/").map_err(|error| Error::new("can not list /", error))? {
        let Ok(entry) = entry else { continue };
        let name = entry.file_name();
        let taken = SHARED
            .iter()
            .any(|(path, _)| Path::new(path) == entry.path());
        if taken || name == "proc" {
            continue;
        }
        if let Err(error) = show(&entry, &root.join(&name), layer.as_mut()) {
            remarks.push_str(&format!(
                "{} is not visible: {error}; ",
                entry.path().display()
            ));
        }
    }
    for (path, folder) in SHARED {
        let target = root.join(path.trim_start_matches('/'));
        make(&target)?;
        mount_bind(run.join(folder), &target)
            .map_err(|error| Error::new(format!("can not mount {path}"), error))?;
    }
    for (index, folder) in folders.iter().enumerate() {
        // A step that needs one that has no place here is failed by the conductor.
        if !is_placeable(folder, folders) {
            continue;
        }
        let target = root.join(folder.strip_prefix("/").unwrap_or(folder));
        make(&target)?;
        mount_bind(own_folder(run, index), &target)
            .map_err(|error| Error::new(format!("can not mount {}", folder.display()), error))?;
    }
    show_program(&root)?;
    remarks.push_str(processes(&root)?);
    remarks.extend(layer.map(|layer| layer.remark()));
    Ok((root, remarks))
}

/// A root in which nothing can be written.
fn empty(run: &Path) -> Result<PathBuf, Error> {
    let root = run.join("root");
    make(&root)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount("tmpfs", &root, "tmpfs", flags, c"size=1m,mode=755")
        .map_err(|error| Error::new("can not mount a tmpfs", error))?;
    Ok(root)
}

fn make(folder: &Path) -> Result<(), Error> {
    fs::create_dir_all(folder)
        .map_err(|error| Error::new(format!("can not make {}", folder.display()), error))
}

/// A layer may have it from an earlier try.
fn make_new(folder: &Path) -> io::Result<()> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Shows a top-level entry of the host.
fn show(entry: &fs::DirEntry, target: &Path, layer: Option<&mut Layer>) -> io::Result<()> {
    let kind = entry.file_type()?;
    if kind.is_symlink() {
        let link = symlink(fs::read_link(entry.path())?, target);
        return link.or_else(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Ok(()),
            _ => Err(error),
        });
    }
    if kind.is_dir() {
        make_new(target)?;
        match layer {
            Some(layer) => layer.show(&entry.path(), target)?,
            None => mount_bind_recursive(entry.path(), target)?,
        }
    } else if kind.is_file() {
        File::create(target)?;
        mount_bind(entry.path(), target)?;
    }
    Ok(())
}

fn show_program(root: &Path) -> Result<(), Error> {
    let target = root.join(PROGRAM);
    if let Some(folder) = target.parent() {
        make(folder)?;
    }
    let error = |error| Error::new("can not show the runner", error);
    File::options()
        .create(true)
        .append(true)
        .open(&target)
        .map_err(error)?;
    let program = fs::read_link("/proc/self/exe").map_err(error)?;
    mount_bind(program, &target).map_err(|refused| error(refused.into()))
}

/// Shows the processes of the sandbox alone; where the kernel refuses, the host's.
fn processes(root: &Path) -> Result<&'static str, Error> {
    let target = root.join("proc");
    make(&target)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    if mount("proc", &target, "proc", flags, None).is_ok() {
        return Ok("");
    }
    mount_bind_recursive("/proc", &target)
        .map_err(|error| Error::new("can not mount /proc", error))?;
    Ok("/proc shows the processes of the host; ")
}

/// Makes it the root of this process, and the data folder its working directory.
pub(super) fn enter(root: &Path, closed: bool) -> Result<(), Error> {
    let error = |error| Error::new("can not change the root", error);
    chdir(root).map_err(error)?;
    pivot_root(".", ".").map_err(error)?;
    unmount(".", UnmountFlags::DETACH).map_err(error)?;
    if closed {
        let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
        mount_remount("/", flags, c"").map_err(error)?;
    }
    chdir("/data").map_err(error)
}

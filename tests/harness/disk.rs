//! Small disks of their own, which a test fills, frees and breaks.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, ensure};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::command::run;

/// A small disk in memory, for as long as this lives.
#[derive(Debug)]
pub struct Disk(PathBuf);

impl Disk {
    /// Mounts one of this size at a folder, which is made. None, and a word about it, where this
    /// user can not mount.
    ///
    /// # Errors
    ///
    /// When it can not be mounted and `MUSTER_TEST_REQUIRE_MOUNT` is set.
    pub fn mount(path: &Path, bytes: u64) -> anyhow::Result<Option<Self>> {
        fs::create_dir_all(path)?;
        let size = std::ffi::CString::new(format!("size={bytes}"))?;
        match mount("tmpfs", path, "tmpfs", MountFlags::empty(), &*size) {
            Ok(()) => Ok(Some(Self(path.to_owned()))),
            Err(error) => skip(&error.to_string()).map(|()| None),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Leaves no byte free.
    ///
    /// # Errors
    ///
    /// When it holds more than it should.
    pub fn fill(&self) -> anyhow::Result<()> {
        let mut filler = fs::File::create(self.filler())?;
        let piece = [0; 4096];
        // The last piece may fit in part: again until nothing does.
        while std::io::Write::write(&mut filler, &piece).is_ok_and(|written| written > 0) {}
        let left = rustix::fs::statvfs(&self.0)?.f_bavail;
        ensure!(left == 0, "{left} blocks are free");
        Ok(())
    }

    /// Makes room again.
    ///
    /// # Errors
    ///
    /// When it was not filled.
    pub fn free(&self) -> anyhow::Result<()> {
        Ok(fs::remove_file(self.filler())?)
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        unmount(&self.0, UnmountFlags::DETACH).ok();
    }
}

/// A disk that can break the way that disks do: its file system meets an error, and becomes
/// read-only under those who write to it.
#[derive(Debug)]
pub struct Breakable {
    path: PathBuf,
    image: PathBuf,
    mounted: bool,
}

impl Breakable {
    /// Makes one, with its folder and its image in `folder`. None, and a word about it, where this
    /// user or kernel can not.
    ///
    /// # Errors
    ///
    /// When it can not be mounted and `MUSTER_TEST_REQUIRE_MOUNT` is set.
    pub fn mount(folder: &Path, bytes: u64) -> anyhow::Result<Option<Self>> {
        let (path, image) = (folder.join("disk"), folder.join("disk.image"));
        fs::create_dir_all(&path)?;
        fs::File::create(&image)?.set_len(bytes)?;
        let mut disk = Self {
            path,
            image,
            mounted: false,
        };
        let made = run(Command::new("mkfs.ext4").arg("-q").arg(&disk.image));
        match made.and_then(|()| disk.mount_again()) {
            Ok(()) => Ok(Some(disk)),
            Err(error) => skip(&format!("{error:#}")).map(|()| None),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Lets the file system meet an error: it is read-only from here on.
    ///
    /// # Errors
    ///
    /// When the kernel does not do it.
    pub fn fail(&self) -> anyhow::Result<()> {
        let mounts = fs::read_to_string("/proc/mounts")?;
        let place = self.path.to_str().context("a path of text")?;
        let device = mounts
            .lines()
            .filter_map(|line| line.split_once(' '))
            .find_map(|(device, rest)| (rest.split(' ').next() == Some(place)).then_some(device))
            .and_then(|device| device.strip_prefix("/dev/"))
            .context("the mount is listed")?;
        fs::write(format!("/sys/fs/ext4/{device}/trigger_fs_error"), "1")?;
        let written = fs::write(self.path.join("probe"), "x");
        ensure!(written.is_err(), "it can still be written");
        Ok(())
    }

    /// Repairs it, when nobody uses it any more, and mounts it again.
    ///
    /// # Errors
    ///
    /// When somebody uses it, or it can not be repaired.
    pub fn repair(&mut self) -> anyhow::Result<()> {
        unmount(&self.path, UnmountFlags::empty()).context("somebody uses the disk")?;
        self.mounted = false;
        // It says by its exit code 1 that it has repaired something.
        Command::new("e2fsck")
            .arg("-fy")
            .arg(&self.image)
            .output()?;
        self.mount_again()
    }

    fn mount_again(&mut self) -> anyhow::Result<()> {
        let options = "loop,errors=remount-ro";
        run(Command::new("mount")
            .args(["-t", "ext4", "-o", options])
            .args([&self.image, &self.path]))?;
        self.mounted = true;
        Ok(())
    }
}

impl Drop for Breakable {
    fn drop(&mut self) {
        if self.mounted {
            unmount(&self.path, UnmountFlags::DETACH).ok();
        }
    }
}

#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
fn skip(error: &str) -> anyhow::Result<()> {
    let required = std::env::var_os("MUSTER_TEST_REQUIRE_MOUNT").is_some();
    ensure!(!required, "cannot mount: {error}");
    eprintln!("skipped: this needs the right to mount a disk: {error}");
    Ok(())
}

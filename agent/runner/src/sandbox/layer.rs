//! What a step writes outside of the shared folders: a layer over the machine's top-level folders,
//! below the run's own folder and removed with it. Nothing of it reaches the machine.
//!
//! The kernel checks each access twice: as the step against what it sees, and as the owner of the
//! layer against the machine's own file. So a step reads no more than it could without the layer.

use std::{
    ffi::CString,
    fs, io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{Access, StatVfsMountFlags, access, statvfs},
    mount::{MountFlags, mount, mount_bind, mount_bind_recursive},
    process::geteuid,
};

use super::Error;

/// Folders whose files are doors to what runs on the machine: a copy of a socket or a device
/// leads nowhere.
const LIVE: [&str; 3] = ["/dev", "/run", "/sys"];

/// The layer of one container.
pub(super) struct Layer {
    folder: PathBuf,
    /// Folders that the plan wants to write in, and whether they can be made ready for that.
    places: Vec<PathBuf>,
    /// All that is mounted on this machine.
    mounts: Vec<PathBuf>,
    covered: usize,
    refused: Vec<(PathBuf, String)>,
}

impl Layer {
    /// Makes an empty one below a run's own folder. `places` are absolute and normal.
    pub(super) fn new(run: &Path, container: &str, places: &[PathBuf]) -> Result<Self, Error> {
        let folder = run.join("layers").join(container);
        let error = |source| Error::new(format!("can not make {}", folder.display()), source);
        let table = fs::read_to_string("/proc/self/mountinfo")
            .map_err(|source| Error::new("can not read the table of mounts", source))?;
        let layer = Self {
            places: places.iter().map(|place| existing(place)).collect(),
            mounts: points(&table),
            covered: 0,
            refused: Vec::new(),
            folder: folder.clone(),
        };
        let root = layer.root();
        fs::create_dir_all(&root).map_err(error)?;
        fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).map_err(error)?;
        mount_bind(&root, &root).map_err(|refused| error(refused.into()))?;
        Ok(layer)
    }

    /// What becomes `/`: a plain folder, so that steps can make others in it.
    pub(super) fn root(&self) -> PathBuf {
        self.folder.join("root")
    }

    /// Shows a top-level folder of the machine at `target`: covered when that is possible.
    pub(super) fn show(&mut self, folder: &Path, target: &Path) -> io::Result<()> {
        let covered = if is_live(folder) {
            Err(io::Error::other("it leads to what runs on the machine"))
        } else {
            self.cover(folder, target)
        };
        match covered {
            Ok(()) => {
                self.covered += 1;
                Ok(())
            }
            Err(error) => {
                self.refused.push((folder.to_owned(), error.to_string()));
                Ok(mount_bind_recursive(folder, target)?)
            }
        }
    }

    fn cover(&self, folder: &Path, target: &Path) -> io::Result<()> {
        let inner = topmost(&self.mounts, folder);
        if !inner.is_empty() && !keeps_mounts() {
            // What such a mount hides would come to light below it.
            return Err(io::Error::other("other file systems are mounted in it"));
        }
        access(folder, Access::READ_OK | Access::EXEC_OK)?;
        let name = folder.strip_prefix("/").unwrap_or(folder);
        let upper = self.folder.join("upper").join(name);
        let work = self.folder.join("work").join(name);
        fs::create_dir_all(&work)?;
        copy_folder(folder, &upper)?;
        for place in &self.places {
            self.ready(folder, place)?;
        }
        let [lower, upper, work] = [folder, &upper, &work].map(|path| plain(path));
        let options = format!(
            "userxattr,lowerdir={},upperdir={},workdir={}",
            lower?, upper?, work?
        );
        let options = CString::new(options).map_err(io::Error::other)?;
        mount("overlay", target, "overlay", flags(folder)?, &*options)?;
        for point in inner {
            let place = target.join(point.strip_prefix(folder).unwrap_or(point));
            mount_bind_recursive(point, place)?;
        }
        Ok(())
    }

    /// Lets an ordinary user write in a folder of the machine that is not its own, where the plan
    /// wants that: the layer has that folder from the beginning, as the user's.
    fn ready(&self, top: &Path, place: &Path) -> io::Result<()> {
        let is_closed = access(place, Access::WRITE_OK).is_err();
        let hidden = access(place, Access::READ_OK | Access::EXEC_OK).is_err();
        let Ok(rest) = place.strip_prefix(top) else {
            return Ok(());
        };
        if !is_closed || hidden {
            return Ok(());
        }
        let mut lower = top.to_owned();
        for part in rest.components() {
            lower.push(part);
            let name = lower.strip_prefix("/").unwrap_or(&lower);
            copy_folder(&lower, &self.folder.join("upper").join(name))?;
        }
        Ok(())
    }

    /// What does not hold, for people; empty when the plan does not notice.
    pub(super) fn remark(&self) -> String {
        let first = self.refused.iter().find(|(folder, _)| !is_live(folder));
        if let (0, Some((folder, why))) = (self.covered, first) {
            return format!(
                "files outside of /data, /testkube and /tmp are the machine's own: {} can not be \
                 covered ({why}); overlay mounts for users need Linux 5.11 or later; ",
                folder.display()
            );
        }
        let wanted = |folder: &Path| self.places.iter().any(|place| place.starts_with(folder));
        let refused = self.refused.iter().filter(|(folder, _)| wanted(folder));
        refused
            .map(|(folder, why)| {
                format!(
                    "{} is the machine's own, not a copy for this run: {why}; use a folder below \
                     /data, or one that is not on this machine; ",
                    folder.display()
                )
            })
            .collect()
    }
}

/// The folder itself, without what is in it.
fn copy_folder(lower: &Path, upper: &Path) -> io::Result<()> {
    let metadata = fs::metadata(lower)?;
    fs::create_dir_all(upper)?;
    let is_same = chown(upper, Some(metadata.uid()), Some(metadata.gid())).is_ok();
    let own = if is_same { 0 } else { 0o700 };
    let mode = metadata.mode() & 0o7777 | own;
    fs::set_permissions(upper, fs::Permissions::from_mode(mode))
}

fn is_live(folder: &Path) -> bool {
    LIVE.iter().any(|live| folder == Path::new(live))
}

/// Whether this process may see what mounts hide: real root in the namespaces of the machine.
fn keeps_mounts() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let mut words = map.split_whitespace();
    geteuid().is_root() && words.next() == Some("0") && words.nth(1) == Some("4294967295")
}

/// What holds for the machine's folder holds for the layer over it.
fn flags(folder: &Path) -> io::Result<MountFlags> {
    let found = statvfs(folder)?.f_flag;
    let pairs = [
        (StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
        (StatVfsMountFlags::NODEV, MountFlags::NODEV),
        (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
    ];
    let given = pairs
        .into_iter()
        .filter(|(there, _)| found.contains(*there));
    Ok(given.fold(MountFlags::empty(), |all, (_, flag)| all | flag))
}

/// The path as an option of a mount, which has no quotes.
fn plain(path: &Path) -> io::Result<&str> {
    path.to_str()
        .filter(|text| !text.contains([',', ':', '\\', '"']))
        .ok_or_else(|| {
            let shown = path.display();
            io::Error::other(format!(
                "`{shown}` has characters that a mount can not name"
            ))
        })
}

/// The nearest folder above a path, or itself, that is on the machine, without links.
fn existing(path: &Path) -> PathBuf {
    let found = path.ancestors().find_map(|above| {
        let real = above.canonicalize().ok()?;
        real.is_dir().then_some(real)
    });
    found.unwrap_or_else(|| PathBuf::from("/"))
}

/// Mount points of a table as `/proc/self/mountinfo` has it.
fn points(table: &str) -> Vec<PathBuf> {
    let fields = table.lines().filter_map(|line| line.split(' ').nth(4));
    fields.map(|field| PathBuf::from(unescape(field))).collect()
}

/// The table has spaces, tabs, line breaks and backslashes as three octal digits.
fn unescape(field: &str) -> String {
    [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ]
    .into_iter()
    .fold(field.to_owned(), |text, (code, meant)| {
        text.replace(code, meant)
    })
}

/// Mount points in a folder that are not in another one of it.
fn topmost<'a>(mounts: &'a [PathBuf], folder: &Path) -> Vec<&'a Path> {
    let is_in = |point: &&PathBuf| point.starts_with(folder) && *point != folder;
    let mut all: Vec<&Path> = mounts.iter().filter(is_in).map(PathBuf::as_path).collect();
    all.sort();
    all.dedup();
    let mut top: Vec<&Path> = Vec::new();
    for point in all {
        if !top.last().is_some_and(|last| point.starts_with(last)) {
            top.push(point);
        }
    }
    top.retain(|point| point.components().all(|part| part != Component::ParentDir));
    top
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_of_a_folder_are_its_topmost_ones() {
        let table = "1 0 8:1 / / rw - ext4 a rw\n2 1 8:2 / /var rw - ext4 b rw\n\
            3 2 8:3 / /var/lib/x rw - ext4 c rw\n4 3 8:4 / /var/lib/x/y rw - ext4 d rw\n\
            5 2 8:5 / /var/with\\040space rw - ext4 e rw\n6 1 8:6 / /various rw - ext4 f rw\n";
        let mounts = points(table);
        let found = topmost(&mounts, Path::new("/var"));
        assert_eq!(
            found,
            [Path::new("/var/lib/x"), Path::new("/var/with space")]
        );
        assert!(topmost(&mounts, Path::new("/etc")).is_empty());
    }

    #[test]
    fn names_that_options_of_a_mount_can_not_hold_are_refused() {
        assert!(plain(Path::new("/etc")).is_ok());
        for path in ["/a,b", "/a:b", "/a\\b"] {
            assert!(plain(Path::new(path)).is_err(), "{path}");
        }
    }

    #[test]
    fn nearest_folder_on_the_machine_is_found() {
        assert_eq!(existing(Path::new("/no-such-name/a")), Path::new("/"));
        assert_eq!(
            existing(Path::new("/proc/self/no/a")).components().count(),
            3
        );
    }

    fn layer(covered: usize, places: &[&str]) -> Layer {
        Layer {
            folder: PathBuf::new(),
            places: places.iter().map(PathBuf::from).collect(),
            mounts: Vec::new(),
            covered,
            refused: vec![(PathBuf::from("/var"), "why".to_owned())],
        }
    }

    #[test]
    fn a_folder_that_can_not_be_covered_is_told_of_when_the_plan_writes_there() {
        assert_eq!(layer(3, &["/etc"]).remark(), "");
        assert!(
            layer(3, &["/var/lib"])
                .remark()
                .contains("/var is the machine's own")
        );
        assert!(layer(0, &[]).remark().contains("Linux 5.11"));
    }
}

//! What the kernel says of this container's memory: kills and the limit, for both versions of
//! control groups.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Limits above this are none.
const UNLIMITED: u64 = 1 << 60;

/// The memory controller of this container.
#[derive(Debug)]
pub(super) struct Memory {
    folders: Vec<PathBuf>,
}

impl Memory {
    pub(super) fn of_container() -> Self {
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        Self {
            folders: folders(&groups, Path::new("/sys/fs/cgroup")),
        }
    }

    /// Processes that the kernel killed for memory so far.
    pub(super) fn kills(&self) -> u64 {
        self.first(|folder| {
            number_after(&folder.join("memory.events"), "oom_kill")
                .or_else(|| number_after(&folder.join("memory.oom_control"), "oom_kill"))
        })
    }

    /// The limit in bytes; 0 when there is none or nobody can tell.
    pub(super) fn limit(&self) -> u64 {
        self.first(|folder| {
            number(&folder.join("memory.max"))
                .or_else(|| number(&folder.join("memory.limit_in_bytes")))
                .filter(|limit| *limit < UNLIMITED)
        })
    }

    fn first(&self, read: impl Fn(&Path) -> Option<u64>) -> u64 {
        self.folders
            .iter()
            .find_map(|folder| read(folder))
            .unwrap_or(0)
    }
}

/// Where the controller may be: at the group's own path, or at the root of what is mounted.
fn folders(groups: &str, mount: &Path) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(id), Some(controllers), Some(path)) =
            (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let path = path.trim_start_matches('/');
        if controllers.split(',').any(|name| name == "memory") {
            let mount = mount.join("memory");
            folders.extend([mount.join(path), mount]);
        } else if id == "0" && controllers.is_empty() {
            folders.extend([mount.join(path), mount.to_owned()]);
        }
    }
    folders
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn number_after(path: &Path, key: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    value?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(groups: &str, files: &[(&str, &str)]) -> (Memory, tempfile::TempDir) {
        let mount = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = mount.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let folders = folders(groups, mount.path());
        (Memory { folders }, mount)
    }

    #[test]
    fn version_two_is_read() {
        let files = [
            (
                "memory.events",
                "low 0\noom 4\noom_kill 3\noom_group_kill 1\n",
            ),
            ("memory.max", "50331648\n"),
        ];
        let (memory, _mount) = memory("0::/\n", &files);
        assert_eq!((memory.kills(), memory.limit()), (3, 50_331_648));
    }

    #[test]
    fn version_one_is_read_at_the_path_of_the_group() {
        let files = [
            ("memory/pod/memory.oom_control", "under_oom 0\noom_kill 2\n"),
            ("memory/pod/memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory/memory.oom_control", "oom_kill 9\n"),
        ];
        let (memory, _mount) = memory("4:memory:/pod\n0::/\n", &files);
        assert_eq!((memory.kills(), memory.limit()), (2, 0));
    }

    #[test]
    fn nothing_known_is_zero() {
        let (memory, _mount) = memory("garbage\n0::/x", &[]);
        assert_eq!((memory.kills(), memory.limit()), (0, 0));
    }
}

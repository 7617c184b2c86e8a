//! Folders for fetched content: on a volume that is there, or on one of their own.

use super::files;

/// Folders that images need for themselves: content may be put below them, never over them.
const NEEDED: [&str; 14] = [
    "/", "/bin", "/boot", "/etc", "/home", "/lib", "/lib64", "/opt", "/root", "/run", "/sbin",
    "/srv", "/usr", "/var",
];
/// Folders that belong to the kernel or to the runner.
const CLOSED: [&str; 4] = ["/.muster", "/dev", "/proc", "/sys"];

/// A folder.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Folder {
    /// Absolute and normal.
    pub(super) path: String,
    /// No volume is there yet.
    pub(super) needs_volume: bool,
}

/// Why a folder is refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) message: String,
    pub(super) cure: &'static str,
}

/// Who writes into a folder, and on which volumes it can.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Writer {
    /// A container that has the volumes of the workflow too.
    Container,
    /// The conductor, on a volume of the folder's own when there is none.
    Conductor,
    /// The conductor, on volumes that are there.
    WithoutVolume,
}

/// The folder that `text` means. `mounts` are those of the workflow's own volumes.
pub(super) fn find(
    text: &str,
    base: Option<&str>,
    mounts: &[&str],
    writer: Writer,
) -> Result<Folder, Refusal> {
    let refuse = |message: &str, cure| {
        let short: String = text.chars().take(80).collect();
        let message = format!("`{}` {message}", short.escape_debug());
        Err(Refusal { message, cure })
    };
    let wanted = if text.starts_with('/') {
        text.to_owned()
    } else {
        let base = base.filter(|base| base.starts_with('/') && !base.contains("{{"));
        format!("{}/{text}", base.unwrap_or("/data"))
    };
    let Some(path) = normal(&wanted) else {
        return refuse(
            "is not a folder for content",
            "write an absolute path without `..`, such as /data/repo",
        );
    };
    if NEEDED.contains(&path.as_str()) || CLOSED.iter().any(|closed| is_below(&path, closed)) {
        return refuse(
            "can not be replaced by content: containers need it",
            "use a folder below /data",
        );
    }
    if files::is_shared(&path) {
        let needs_volume = false;
        return Ok(Folder { path, needs_volume });
    }
    let mounted = mounts
        .iter()
        .any(|mount| normal(mount).is_some_and(|mount| is_below(&path, &mount)));
    if mounted && writer == Writer::Container {
        let needs_volume = false;
        return Ok(Folder { path, needs_volume });
    }
    if mounted {
        return refuse(
            "is on a volume of the workflow's own, where archives are not unpacked",
            "use a folder below /data, or one where no volume is mounted",
        );
    }
    if writer == Writer::WithoutVolume {
        return refuse(
            "is on no volume, so steps would not see what is put there",
            "leave `mount` out, or use a folder below /data",
        );
    }
    let needs_volume = true;
    Ok(Folder { path, needs_volume })
}

fn is_below(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// An absolute path without `.`, double and last slashes; none when it has `..` or odd characters.
pub(super) fn normal(path: &str) -> Option<String> {
    if !path.starts_with('/') || path.contains("{{") || path.contains(char::is_control) {
        return None;
    }
    let parts: Vec<&str> = path
        .split('/')
        .filter(|part| !matches!(*part, "" | "."))
        .collect();
    // Kubernetes takes no colon in the path of a mount.
    let good = parts
        .iter()
        .all(|part| *part != ".." && !part.contains(':'));
    good.then(|| format!("/{}", parts.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_outside_of_volumes_get_one() {
        for (text, path, needs_volume) in [
            ("/data/repo/", "/data/repo", false),
            ("/repo", "/repo", true),
            ("/usr/src/app", "/usr/src/app", true),
            ("fixtures", "/data/fixtures", false),
        ] {
            let path = path.to_owned();
            let expected = Ok(Folder { path, needs_volume });
            assert_eq!(find(text, None, &[], Writer::Conductor), expected, "{text}");
        }
        let found = find("x", Some("/work"), &[], Writer::Conductor);
        assert_eq!(found.map(|folder| folder.path), Ok("/work/x".to_owned()));
    }

    #[test]
    fn folders_that_containers_need_are_refused() {
        for text in [
            "/",
            "/etc/",
            "/usr",
            "/proc/1",
            "/.muster/bin",
            "/data/../etc",
        ] {
            assert!(find(text, None, &[], Writer::Conductor).is_err(), "{text}");
        }
        assert!(find("/repo", None, &[], Writer::WithoutVolume).is_err());
        assert!(find("/work/x", None, &["/work/"], Writer::Conductor).is_err());
    }

    #[test]
    fn a_container_reaches_the_volumes_of_the_workflow() {
        let folder = find("/work/x", None, &["/work/"], Writer::Container);
        assert_eq!(folder.map(|folder| folder.needs_volume), Ok(false));
    }
}

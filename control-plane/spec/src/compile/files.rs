//! Where files are written: on shared volumes by the conductor, elsewhere in each container
//! before its first process.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::expression::Value;
use crate::plan::{self, Operation};
use crate::problem::{Place, Problems};
use crate::schema::{self, EnvValue};

use super::{environment, secret};

/// Volumes that all containers and the conductor share.
const SHARED: [&str; 3] = ["data", "testkube", "tmp"];

/// Files for the conductor, and files for containers.
#[derive(Debug, Default)]
pub(super) struct Files {
    pub(super) shared: Vec<plan::File>,
    pub(super) inside: Vec<plan::File>,
    /// Where the path of the first file for containers is.
    pub(super) inside_place: Option<Arc<Place>>,
}

/// Splits files by who writes them; relative paths begin at the working directory. `value` gives
/// container and variable of what the cluster resolves.
pub(super) fn split(
    files: &[schema::File],
    working_dir: Option<&str>,
    problems: &mut Problems,
    mut value: impl FnMut(&Value, &str) -> (usize, String),
) -> Files {
    let mut split = Files::default();
    for file in files {
        let path = match working_dir {
            Some(base) if !file.path.text.starts_with(['/', '{']) => {
                format!("{}/{}", base.trim_end_matches('/'), file.path.text)
            }
            _ => file.path.text.clone(),
        };
        let shared = is_shared(&path);
        let place = Arc::clone(&file.path.place);
        let (content, values) = match &file.content {
            EnvValue::Plain(text) => {
                let mut container = None;
                let content = secret::replace(text, problems, &mut |reference| {
                    let (index, name) = value(&reference.from(), reference.prefix());
                    container = Some(index);
                    name
                });
                (content, container)
            }
            EnvValue::From(from) => {
                let (container, name) = value(&environment::optional(from.value.clone()), "VALUE_");
                (format!("{{{{ env.{name} }}}}"), Some(container))
            }
        };
        let file = plan::File {
            path,
            content,
            mode: file.mode.unwrap_or(0o644),
            values,
        };
        if shared {
            split.shared.push(file);
        } else {
            split.inside.push(file);
            split.inside_place.get_or_insert(place);
        }
    }
    split
}

/// Whether a path is certainly below a shared volume.
pub(super) fn is_shared(path: &str) -> bool {
    let mut parts = path.split('/').filter(|part| !matches!(*part, "" | "."));
    path.starts_with('/')
        && !path.contains("{{")
        && parts.clone().all(|part| part != "..")
        && parts.next().is_some_and(|first| SHARED.contains(&first))
}

/// Puts the files before the first process of each container in these operations.
pub(super) fn place(
    operations: &mut Vec<Operation>,
    files: &[plan::File],
    done: &mut BTreeSet<usize>,
) {
    if files.is_empty() {
        return;
    }
    let mut index = 0;
    while index < operations.len() {
        let container = match &mut operations[index] {
            Operation::Run(run) if done.insert(run.container) => Some(run.container),
            Operation::Steps { steps } => {
                for step in steps {
                    place(&mut step.operations, files, done);
                }
                None
            }
            _ => None,
        };
        if container.is_some() {
            let files = files.to_vec();
            operations.insert(index, Operation::Files { container, files });
            index += 1;
        }
        index += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_that_stay_on_shared_volumes_are_shared() {
        for (path, shared) in [
            ("/data/x", true),
            ("//data/./x", true),
            ("/tmp", true),
            ("/database/x", false),
            ("/data/../etc/x", false),
            ("data/x", false),
            ("/data/{{ env.X }}", false),
            ("/etc/x", false),
        ] {
            assert_eq!(is_shared(path), shared, "{path}");
        }
    }
}

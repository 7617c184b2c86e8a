//! `content` of workflow and steps: files, then the repository, then archives.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Builder;
use crate::compile::folder::{self, Writer};
use crate::compile::{environment, files, secret};
use crate::expression::Value;
use crate::plan::{self, Operation, Receive, Tool};
use crate::problem::{Place, Problem, Problems};
use crate::schema::{AuthType, Container, Content, EnvValue, Git, Tarball, Text};

/// Where a repository is put when nothing else is said.
const DEFAULT_PATH: &str = "/data/repo";
/// Tries after the first one when nothing else is said.
const DEFAULT_RETRIES: u32 = 5;

/// Most folders for content that are volumes of their own: each is mounted into every container.
const MAX_FOLDERS: usize = 20;

/// What fetches content.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) operations: Vec<Operation>,
    /// Files that are written in each container, before its first process.
    pub(super) inside: Vec<plan::File>,
    /// Where the path of the first of them is.
    pub(super) inside_place: Option<Arc<Place>>,
}

impl Fetched {
    /// Puts this before all steps of a workflow.
    pub(super) fn before(self, mut steps: Vec<plan::Step>) -> Vec<plan::Step> {
        let mut done = BTreeSet::new();
        for step in &mut steps {
            files::place(&mut step.operations, &self.inside, &mut done);
        }
        if !self.operations.is_empty() {
            steps.insert(0, first_step(self.operations));
        }
        steps
    }
}

/// Settings with the repository as working directory, unless they have another one.
pub(super) fn with_directory(mut settings: Container, content: &Content) -> Container {
    let Some(git) = &content.git else {
        return settings;
    };
    let path = git.mount_path.as_ref().map(|path| path.text.as_str());
    let path = path.filter(|path| !path.is_empty()).unwrap_or(DEFAULT_PATH);
    if settings.working_dir.is_none() && folder::normal(path).as_deref() == Some(DEFAULT_PATH) {
        settings.working_dir = Some(Text {
            text: DEFAULT_PATH.to_owned(),
            place: std::sync::Arc::clone(&git.place),
        });
    }
    settings
}

impl Builder<'_> {
    /// What comes before all steps.
    pub(super) fn first(&mut self, settings: &Container) -> Fetched {
        let spec = self.spec;
        self.content(&spec.content, settings, false, self.whole)
    }

    /// What fetches the content of a step, in the order of the language; `whole` when no template
    /// is missing that could add to it.
    pub(super) fn content(
        &mut self,
        content: &Content,
        settings: &Container,
        after: bool,
        whole: bool,
    ) -> Fetched {
        let working_dir = settings.working_dir.as_ref();
        let (containers, problems) = (&mut self.containers, &mut *self.problems);
        let mut wrong = Problems::default();
        let split = files::split(
            &content.files,
            working_dir.map(|text| text.text.as_str()),
            &mut wrong,
            |from, prefix| containers.value(from, prefix, after, problems),
        );
        wrong.into_iter().for_each(|problem| problems.push(problem));
        let mut operations = Vec::new();
        if !split.shared.is_empty() {
            operations.push(Operation::Files {
                container: None,
                files: split.shared,
            });
        }
        if let Some(git) = &content.git {
            operations.extend(self.git(git, settings, after, whole));
        }
        for tarball in &content.tarballs {
            operations.extend(self.tarball(tarball, settings));
        }
        Fetched {
            operations,
            inside: split.inside,
            inside_place: split.inside_place,
        }
    }

    fn git(
        &mut self,
        git: &Git,
        settings: &Container,
        after: bool,
        whole: bool,
    ) -> Option<Operation> {
        let uri = git.uri.as_ref().filter(|uri| !uri.text.trim().is_empty());
        let Some(uri) = uri else {
            if whole {
                let message = "the URI of the repository is missing";
                let cure = "give `uri`, for example https://example.com/team/tests.git";
                self.problems
                    .push(Problem::new(&git.place, message).with_cure(cure));
            }
            return None;
        };
        if uri.text.trim_start().starts_with('-') || uri.text.contains("::") {
            let message = "this is no URI of a repository";
            let cure = "https://, http://, ssh://, git:// and user@host:path are allowed";
            self.problems
                .push(Problem::new(&uri.place, message).with_cure(cure));
            return None;
        }
        let path = git.mount_path.as_ref().filter(|path| !path.text.is_empty());
        let path = match path {
            None => DEFAULT_PATH.to_owned(),
            Some(text) => self.folder(text, settings, Writer::Container)?,
        };
        let mut values = None;
        let mut wrong = Problems::default();
        let mut name_of = |from: &Value, prefix: &str| {
            let (container, name) = self.containers.value(from, prefix, after, self.problems);
            values = Some(container);
            name
        };
        let mut credential = |value: &Option<EnvValue>| match value.as_ref()? {
            EnvValue::Plain(text) => Some(secret::replace(text, &mut wrong, &mut |reference| {
                name_of(&reference.from(), reference.prefix())
            })),
            EnvValue::From(from) => {
                let name = name_of(&environment::optional(from.value.clone()), "VALUE_");
                Some(format!("{{{{ env.{name} }}}}"))
            }
        };
        let username = credential(&git.username);
        let token = credential(&git.token);
        let ssh_key = credential(&git.ssh_key);
        wrong
            .into_iter()
            .for_each(|problem| self.problems.push(problem));
        let container = self
            .containers
            .tool(Tool::Git, settings, after, self.problems);
        Some(Operation::Git(Box::new(plan::Git {
            container,
            values,
            uri: uri.text.trim().to_owned(),
            revision: git.revision.as_ref().map(|text| text.text.clone()),
            username,
            token,
            bearer: git.auth_type == Some(AuthType::Header),
            ssh_key,
            path,
            paths: git.paths.iter().map(|path| path.text.clone()).collect(),
            cone: git.cone.unwrap_or(false),
            verbose: git.verbose.unwrap_or(false),
            retries: git.retries.unwrap_or(DEFAULT_RETRIES),
        })))
    }

    fn tarball(&mut self, tarball: &Tarball, settings: &Container) -> Option<Operation> {
        let url = tarball.url.text.trim();
        // The last one is what a suite puts into the config of its members.
        let schemes = ["http://", "https://", "muster:"];
        if !url.contains("{{") && !schemes.iter().any(|scheme| url.starts_with(scheme)) {
            let short: String = url.chars().take(60).collect();
            let message = format!("expected a URL with http or https, found `{short}`");
            self.problems
                .push(Problem::new(&tarball.url.place, message));
            return None;
        }
        let writer = match tarball.mount {
            Some(false) => Writer::WithoutVolume,
            _ => Writer::Conductor,
        };
        let path = self.folder(&tarball.path, settings, writer)?;
        Some(Operation::Tarball {
            url: url.to_owned(),
            path,
        })
    }

    /// Folders for files of the parent.
    pub(in crate::compile) fn receive(&mut self, archives: &[Receive]) {
        for archive in archives {
            let place = Place {
                path: "transfer.to".into(),
                ..Place::default()
            };
            let text = Text {
                text: archive.to.clone(),
                place: Arc::new(place),
            };
            self.folder(&text, &self.spec.container, Writer::Conductor);
        }
    }

    /// The folder for fetched content, noted as a shared one when no volume is there.
    fn folder(&mut self, text: &Text, settings: &Container, writer: Writer) -> Option<String> {
        let mounts = settings.volume_mounts.iter();
        let mounts: Vec<&str> = mounts
            .filter_map(|mount| mount.value.get("mountPath")?.as_str())
            .collect();
        let base = settings.working_dir.as_ref().map(|text| text.text.as_str());
        match folder::find(&text.text, base, &mounts, writer) {
            Ok(folder) => {
                if folder.needs_volume {
                    self.folders.insert(folder.path.clone());
                }
                if self.folders.len() > MAX_FOLDERS {
                    let message =
                        format!("more than {MAX_FOLDERS} folders for content outside of /data");
                    let problem = Problem::new(&text.place, message);
                    self.problems
                        .push(problem.with_cure("use folders below /data"));
                    return None;
                }
                Some(folder.path)
            }
            Err(error) => {
                let problem = Problem::new(&text.place, error.message).with_cure(error.cure);
                self.problems.push(problem);
                None
            }
        }
    }
}

/// The step that stands for `content` of the workflow.
fn first_step(operations: Vec<Operation>) -> plan::Step {
    let only_files = operations
        .iter()
        .all(|one| matches!(one, Operation::Files { .. }));
    let name = if only_files {
        "Write files"
    } else {
        "Fetch content"
    };
    plan::Step {
        operations,
        ..super::step("s0", name, Operation::Steps { steps: Vec::new() })
    }
}

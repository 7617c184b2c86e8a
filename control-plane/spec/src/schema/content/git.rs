//! `content.git`: a repository. How it is fetched is not here.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::value;
use crate::problem::{Place, Problem};
use crate::schema::container::EnvValue;
use crate::schema::field::{Object, Reader, Text};

/// A repository.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Git {
    /// Where it begins.
    pub place: Arc<Place>,
    /// `uri`, a template; may come from a template of workflows.
    pub uri: Option<Text>,
    /// `revision`, a template: a branch, tag or commit.
    pub revision: Option<Text>,
    /// `username` or `usernameFrom`.
    pub username: Option<EnvValue>,
    /// `token` or `tokenFrom`.
    pub token: Option<EnvValue>,
    /// `sshKey` or `sshKeyFrom`: a private key.
    pub ssh_key: Option<EnvValue>,
    /// `authType`.
    pub auth_type: Option<AuthType>,
    /// `mountPath`, a template that must be known before the pod starts.
    pub mount_path: Option<Text>,
    /// `cone`: `paths` are folders.
    pub cone: Option<bool>,
    /// `paths`, templates: all that is wanted of the tree.
    pub paths: Vec<Text>,
    /// `verbose`: git's own progress in the log.
    pub verbose: Option<bool>,
    /// `retry.count`: most tries after the first one.
    pub retries: Option<u32>,
}

/// How user and token are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AuthType {
    /// As user name and password.
    Basic,
    /// The token as a bearer.
    Header,
}

/// Most tries after the first one, a rule of the language.
const MAX_RETRIES: u32 = 20;
/// Most `paths`: they travel in the environment of one process.
const MAX_PATHS: usize = 1000;

impl AuthType {
    /// Its name in a manifest.
    pub(in crate::schema) const fn name(self) -> &'static str {
        match self {
            Self::Basic => "basic",
            Self::Header => "header",
        }
    }
}

impl Git {
    pub(super) fn read(reader: &mut Reader, parent: &mut Object<'_>) -> Option<Self> {
        let mut object = parent.take("git")?.object(reader)?;
        let git = Self {
            place: object.place(reader),
            uri: object.text(reader, "uri"),
            revision: object.scalar(reader, "revision"),
            username: value(reader, &mut object, "username", "usernameFrom"),
            token: value(reader, &mut object, "token", "tokenFrom"),
            ssh_key: value(reader, &mut object, "sshKey", "sshKeyFrom"),
            auth_type: auth_type(reader, &mut object),
            mount_path: object.said(reader, "mountPath"),
            cone: object.flag(reader, "cone"),
            paths: object.text_list(reader, "paths").unwrap_or_default(),
            verbose: object.flag(reader, "verbose"),
            retries: retries(reader, &mut object),
        };
        if git.paths.len() > MAX_PATHS {
            let message = format!(
                "{} paths, at most {MAX_PATHS} are allowed: name the folders above them",
                git.paths.len()
            );
            let path = format!("{}.paths", object.path());
            reader.problem(object.mark(), &path, message);
        }
        object.finish(reader);
        Some(git)
    }

    /// These fields over those of a template.
    pub(super) fn over(self, template: Self) -> Self {
        // Credentials go together: those of a template are not mixed with own ones.
        let own = self.username.is_some() || self.token.is_some() || self.ssh_key.is_some();
        let below = |value: Option<EnvValue>| value.filter(|_| !own);
        Self {
            place: self.place,
            uri: self.uri.or(template.uri),
            revision: self.revision.or(template.revision),
            username: self.username.or_else(|| below(template.username)),
            token: self.token.or_else(|| below(template.token)),
            ssh_key: self.ssh_key.or_else(|| below(template.ssh_key)),
            auth_type: self.auth_type.or(template.auth_type),
            mount_path: self.mount_path.or(template.mount_path),
            cone: self.cone.or(template.cone),
            paths: if self.paths.is_empty() {
                template.paths
            } else {
                self.paths
            },
            verbose: self.verbose.or(template.verbose),
            retries: self.retries.or(template.retries),
        }
    }
}

fn auth_type(reader: &mut Reader, object: &mut Object<'_>) -> Option<AuthType> {
    let text = object.text(reader, "authType")?;
    let problem = match text.text.as_str() {
        "" => return None,
        "basic" => return Some(AuthType::Basic),
        "header" => return Some(AuthType::Header),
        "github" => Problem::new(
            &text.place,
            "`github` needs an app of a vendor's own service",
        )
        .with_cure(
            "put a token of your own into a Secret, and write `authType: basic` with `tokenFrom`",
        ),
        other => {
            let short: String = other.chars().take(60).collect();
            Problem::new(&text.place, format!("unknown authType `{short}`"))
                .with_cure("allowed: basic, header")
        }
    };
    reader.problems.push(problem);
    None
}

fn retries(reader: &mut Reader, object: &mut Object<'_>) -> Option<u32> {
    let mut retry = object.take("retry")?.object(reader)?;
    let count = retry.take("count");
    retry.finish(reader);
    let count = count?;
    let number = u32::try_from(count.integer(reader)?).ok();
    let number = number.filter(|number| *number <= MAX_RETRIES);
    if number.is_none() {
        let message = format!(
            "expected 0 to {MAX_RETRIES}, found {}",
            count.node.describe()
        );
        reader.problem(count.node.mark, &count.path, message);
    }
    number
}

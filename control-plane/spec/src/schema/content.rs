//! `content` of a workflow or step: files here, repositories and archives in files of their own.

mod git;
mod tarball;

pub use git::{AuthType, Git};
pub use tarball::Tarball;

use serde::{Deserialize, Serialize};

use super::container::EnvValue;
use super::field::{Found, Object, Reader, Text};

/// What is put into the pod before a workflow or step.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Content {
    /// `files`.
    pub files: Vec<File>,
    /// `git`.
    pub git: Option<Box<Git>>,
    /// `tarball`.
    pub tarballs: Vec<Tarball>,
}

/// A file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct File {
    /// `path`, a template.
    pub path: Text,
    /// `content`, a template, or `contentFrom`.
    pub content: EnvValue,
    /// `mode`: permission bits.
    pub mode: Option<u32>,
}

impl Content {
    /// Reads the field `content`.
    pub(super) fn read(reader: &mut Reader, parent: &mut Object<'_>) -> Self {
        let Some(mut object) = parent
            .take("content")
            .and_then(|found| found.object(reader))
        else {
            return Self::default();
        };
        let content = Self {
            files: object.list(reader, "files", File::read),
            git: Git::read(reader, &mut object).map(Box::new),
            tarballs: object.list(reader, "tarball", Tarball::read),
        };
        object.finish(reader);
        content
    }

    /// Whether there is nothing in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.files.is_empty() && self.git.is_none() && self.tarballs.is_empty()
    }

    /// What a template brings comes first; of a repository the fields of `self` win.
    pub(crate) fn over(self, template: Self) -> Self {
        fn join<T>(mut first: Vec<T>, second: Vec<T>) -> Vec<T> {
            first.extend(second);
            first
        }
        Self {
            files: join(template.files, self.files),
            git: match (self.git, template.git) {
                (Some(own), Some(template)) => Some(Box::new(own.over(*template))),
                (own, template) => own.or(template),
            },
            tarballs: join(template.tarballs, self.tarballs),
        }
    }
}

/// Kinds of an `EnvVarSource`.
pub(crate) const SOURCES: [&str; 5] = [
    "secretKeyRef",
    "configMapKeyRef",
    "fieldRef",
    "resourceFieldRef",
    "fileKeyRef",
];

/// A value that is given, or taken from the cluster: `name` or `nameFrom`, not both.
fn value(
    reader: &mut Reader,
    object: &mut Object<'_>,
    name: &'static str,
    from: &'static str,
) -> Option<EnvValue> {
    let plain = object.take(name);
    let Some(source) = object.take(from) else {
        return plain?.text(reader).map(EnvValue::Plain);
    };
    if let Some(plain) = plain {
        let message = format!("either `{name}` or `{from}` is allowed, not both");
        reader.problem(plain.node.mark, &plain.path, message);
        return None;
    }
    super::container::checked(reader, &source, &SOURCES).map(EnvValue::From)
}

impl File {
    fn read(reader: &mut Reader, found: &Found<'_>) -> Option<Self> {
        let mut object = found.object(reader)?;
        let path = object.text(reader, "path");
        let content = value(reader, &mut object, "content", "contentFrom");
        let mode = object.take("mode");
        if path.as_ref().is_none_or(|path| path.text.is_empty()) {
            let place = format!("{}.path", object.path());
            reader.problem(object.mark(), &place, "the path of a file is missing");
        }
        let place = object.place(reader);
        object.finish(reader);
        let mode = match mode {
            None => None,
            Some(found) => {
                let mode = u32::try_from(found.integer(reader)?).ok();
                if mode.is_none_or(|mode| mode > 0o7777) {
                    let found_text = found.node.describe();
                    let message =
                        format!("expected permission bits such as 0644, found {found_text}");
                    reader.problem(found.node.mark, &found.path, message);
                    return None;
                }
                mode
            }
        };
        Some(Self {
            path: path?,
            content: content.unwrap_or(EnvValue::Plain(Text {
                text: String::new(),
                place,
            })),
            mode,
        })
    }
}

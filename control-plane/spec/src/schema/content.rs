//! `content` of a workflow or step.

use serde::{Deserialize, Serialize};

use super::field::{Found, Object, Reader, Text};

/// What is put into the pod before a workflow or step.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Content {
    /// `files`.
    pub files: Vec<File>,
}

/// A file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct File {
    /// `path`, a template.
    pub path: Text,
    /// `content`, a template.
    pub content: Text,
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
        object.unsupported(reader, &["git", "tarball"]);
        let content = Self {
            files: object.list(reader, "files", File::read),
        };
        object.finish(reader);
        content
    }
}

impl File {
    fn read(reader: &mut Reader, found: &Found<'_>) -> Option<Self> {
        let mut object = found.object(reader)?;
        object.unsupported(reader, &["contentFrom"]);
        let path = object.text(reader, "path");
        let content = object.text(reader, "content");
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
                    let message = "expected permission bits such as 0644";
                    reader.problem(found.node.mark, &found.path, message);
                    return None;
                }
                mode
            }
        };
        Some(Self {
            path: path?,
            content: content.unwrap_or(Text {
                text: String::new(),
                place,
            }),
            mode,
        })
    }
}

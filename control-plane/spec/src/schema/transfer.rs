//! Files that go from a step to its services, workers and suite members, and back: `transfer`,
//! `fetch`, and `tarball` of a member.

use serde::{Deserialize, Serialize};

use super::field::{Found, Object, Reader, Text};
use super::strategy::DynamicList;
use super::visit::Visitor;

/// Files of one folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Transfer {
    /// `from`: the folder, a template.
    pub from: Text,
    /// `files`: patterns below it; all of it when absent.
    pub files: Option<DynamicList>,
    /// `to`: the folder on the other side, a template; the same one when absent.
    pub to: Option<Text>,
}

impl Transfer {
    /// Reads an item of `transfer` or `fetch`.
    pub(super) fn read(reader: &mut Reader, found: &Found<'_>) -> Option<Self> {
        let mut object = found.object(reader)?;
        let transfer = Self::fields(reader, &mut object);
        let to = object.said(reader, "to");
        // All folders that can be written to are volumes already.
        object.flag(reader, "mount");
        object.finish(reader);
        transfer.map(|transfer| Self { to, ..transfer })
    }

    /// Reads an entry of `tarball`, which has no other side.
    pub(super) fn read_tarball(reader: &mut Reader, found: &Found<'_>) -> Option<Self> {
        let mut object = found.object(reader)?;
        let transfer = Self::fields(reader, &mut object);
        object.finish(reader);
        transfer
    }

    fn fields(reader: &mut Reader, object: &mut Object<'_>) -> Option<Self> {
        let from = object.text(reader, "from");
        let files = object.take("files");
        if from.is_none() {
            let path = format!("{}.from", object.path());
            reader.problem(
                object.mark(),
                &path,
                "`from` is missing: the folder to take",
            );
        }
        Some(Self {
            files: files.and_then(|found| DynamicList::read(reader, &found)),
            from: from?,
            to: None,
        })
    }

    pub(super) fn visit(&mut self, visitor: &mut dyn Visitor) {
        visitor.template(&mut self.from);
        if let Some(files) = &mut self.files {
            files.visit(visitor);
        }
        if let Some(to) = &mut self.to {
            visitor.template(to);
        }
    }
}

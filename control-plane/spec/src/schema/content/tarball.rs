//! `content.tarball`: archives. How they are fetched is not here.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::problem::Place;
use crate::schema::field::{Found, Reader, Text};

/// An archive.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tarball {
    /// Where it begins.
    pub place: Arc<Place>,
    /// `url`, a template.
    pub url: Text,
    /// `path`, a template that must be known before the pod starts: the folder for its content.
    pub path: Text,
    /// `mount`: the folder is a volume of its own.
    pub mount: Option<bool>,
}

impl Tarball {
    pub(super) fn read(reader: &mut Reader, found: &Found<'_>) -> Option<Self> {
        let mut object = found.object(reader)?;
        let mut needed = |reader: &mut Reader, name, what: &str| {
            let text = object.text(reader, name);
            let text = text.filter(|text| !text.text.is_empty());
            if text.is_none() {
                let path = format!("{}.{name}", object.path());
                reader.problem(object.mark(), &path, format!("{what} is missing"));
            }
            text
        };
        let url = needed(reader, "url", "the URL of an archive");
        let path = needed(reader, "path", "the folder for an archive");
        let mount = object.flag(reader, "mount");
        let place = object.place(reader);
        object.finish(reader);
        Some(Self {
            place,
            url: url?,
            path: path?,
            mount,
        })
    }
}

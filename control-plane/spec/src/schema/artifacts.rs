//! `artifacts` of a step.

use serde::{Deserialize, Serialize};

use super::field::{Found, Reader, Text};

/// Files to keep.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Artifacts {
    /// `workingDir`: base of relative patterns.
    pub working_dir: Option<Text>,
    /// `paths`: patterns.
    pub paths: Vec<Text>,
    /// `compress.name`: one archive of this name.
    pub compress: Option<Text>,
}

impl Artifacts {
    pub(super) fn read(reader: &mut Reader, found: &Found<'_>) -> Option<Self> {
        let mut object = found.object(reader)?;
        let compress = object.take("compress").map(|found| {
            let mut object = found.object(reader)?;
            let name = object.text(reader, "name");
            if name.is_none() {
                let path = format!("{}.name", object.path());
                reader.problem(object.mark(), &path, "the name of the archive is missing");
            }
            object.finish(reader);
            name
        });
        let artifacts = Self {
            working_dir: object.said(reader, "workingDir"),
            paths: object.text_list(reader, "paths").unwrap_or_default(),
            compress: compress.flatten(),
        };
        if artifacts.paths.is_empty() {
            let path = format!("{}.paths", object.path());
            reader.problem(object.mark(), &path, "at least one path is needed");
        }
        object.finish(reader);
        Some(artifacts)
    }
}

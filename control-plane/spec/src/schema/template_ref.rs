//! References to templates: items of `use`, and `template` of a step.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::field::{Found, Object, Reader, Text};

/// A template with values for its parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TemplateRef {
    /// Its name; `/` stands for `--`.
    pub name: Text,
    /// Values of its `config`, as templates.
    pub config: IndexMap<String, Text>,
}

impl TemplateRef {
    /// Reads the field `use`.
    pub(super) fn read_uses(reader: &mut Reader, object: &mut Object<'_>) -> Vec<Self> {
        object.list(reader, "use", Self::read)
    }

    pub(super) fn read(reader: &mut Reader, found: &Found<'_>) -> Option<Self> {
        let mut object = found.object(reader)?;
        let name = object.text(reader, "name");
        let config = object
            .take("config")
            .map(|found| found.scalars(reader, "text or a number"))
            .unwrap_or_default();
        if name.is_none() {
            let path = format!("{}.name", object.path());
            reader.problem(object.mark(), &path, "the name of a template is missing");
        }
        object.finish(reader);
        Some(Self {
            name: name?,
            config,
        })
    }
}

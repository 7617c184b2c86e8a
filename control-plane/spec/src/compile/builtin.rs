//! Templates that every installation has, unless it stores its own under the same name.

use std::sync::LazyLock;

use crate::manifest::{self, Document};
use crate::schema::Template;
use crate::yaml::Limits;

static TEMPLATES: LazyLock<Vec<Template>> = LazyLock::new(|| {
    let texts = [
        include_str!("builtin/artillery.yaml"),
        include_str!("builtin/cypress.yaml"),
        include_str!("builtin/distribute--evenly.yaml"),
        include_str!("builtin/gradle.yaml"),
        include_str!("builtin/jmeter.yaml"),
        include_str!("builtin/k6.yaml"),
        include_str!("builtin/maven.yaml"),
        include_str!("builtin/playwright.yaml"),
        include_str!("builtin/postman.yaml"),
    ];
    let documents = texts
        .into_iter()
        .flat_map(|text| manifest::parse(text, Limits::default()).unwrap_or_default());
    documents
        .filter_map(|document| match document {
            Document::Template(template) => Some(template),
            Document::Workflow(_) | Document::Request(_) | Document::Foreign(_) => None,
        })
        .collect()
});

/// All of them.
#[must_use]
pub fn all() -> &'static [Template] {
    &TEMPLATES
}

/// One by its name, `--` and not `/` in it.
#[must_use]
pub fn template(name: &str) -> Option<&'static Template> {
    TEMPLATES
        .iter()
        .find(|template| template.metadata.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_can_be_read() {
        assert_eq!(TEMPLATES.len(), 18);
        assert!(template("distribute--evenly").is_some());
    }
}

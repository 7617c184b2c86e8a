//! `metadata` of a document.

use std::collections::BTreeMap;

use super::field::{Found, Object, Reader};

/// `metadata` of a document.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Metadata {
    /// Name, a DNS subdomain.
    pub name: String,
    /// Namespace; says where a manifest was exported from, no more.
    pub namespace: Option<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
}

/// What a cluster adds to an exported manifest.
pub(crate) const OF_THE_CLUSTER: [&str; 9] = [
    "uid",
    "resourceVersion",
    "generation",
    "generateName",
    "creationTimestamp",
    "deletionTimestamp",
    "managedFields",
    "ownerReferences",
    "finalizers",
];

impl Metadata {
    pub(super) fn read(reader: &mut Reader, document: &mut Object<'_>) -> Option<Self> {
        let Some(found) = document.take("metadata") else {
            reader.problem(document.mark(), "metadata", "`metadata.name` is missing");
            return None;
        };
        let mut object = found.object(reader)?;
        let name = match object.take("name") {
            Some(name) => read_name(reader, &name),
            None => {
                reader.problem(
                    found.node.mark,
                    "metadata.name",
                    "`metadata.name` is missing",
                );
                None
            }
        };
        let metadata = Self {
            namespace: object.text(reader, "namespace").map(|text| text.text),
            labels: texts(&mut object, reader, "labels"),
            annotations: texts(&mut object, reader, "annotations"),
            name: name.clone().unwrap_or_default(),
        };
        object.ignore(&OF_THE_CLUSTER);
        object.finish(reader);
        name.map(|_| metadata)
    }
}

fn texts(
    object: &mut Object<'_>,
    reader: &mut Reader,
    name: &'static str,
) -> BTreeMap<String, String> {
    let texts = object.texts(reader, name);
    texts
        .into_iter()
        .map(|(key, text)| (key, text.text))
        .collect()
}

fn read_name(reader: &mut Reader, found: &Found<'_>) -> Option<String> {
    let name = found.text(reader)?.text;
    if is_subdomain(&name) {
        return Some(name);
    }
    let short: String = name.chars().take(80).collect();
    reader.problem(
        found.node.mark,
        &found.path,
        format!(
            "`{short}` is not a name: up to 253 lower-case letters, digits, `-` and `.`, beginning and ending with a letter or digit"
        ),
    );
    None
}

/// RFC 1123, as Kubernetes has it.
fn is_subdomain(name: &str) -> bool {
    let edge = |c: Option<u8>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let bytes = name.as_bytes();
    bytes.len() <= 253
        && edge(bytes.first().copied())
        && edge(bytes.last().copied())
        && bytes
            .iter()
            .all(|&c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-' || c == b'.')
}

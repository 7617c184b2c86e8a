//! Documents: the head that all have, and the kinds with a `spec` of steps.

#[cfg(test)]
use std::collections::{BTreeMap, BTreeSet};

use std::sync::Arc;

use crate::manifest::{Broken, Document, Parsed};
use crate::problem::{Place, Problem};
use crate::suggest;
use crate::yaml::Node;

use super::field::{Found, Object, Reader};
use super::list;
use super::metadata::Metadata;
use super::request::Request;
use super::spec::Spec;
use super::template_ref::TemplateRef;

/// `kind: TestWorkflow`.
#[derive(Debug, Clone, PartialEq)]
pub struct Workflow {
    /// `metadata`.
    pub metadata: Metadata,
    /// `description`.
    pub description: Option<String>,
    /// Where `spec` is.
    pub place: Arc<Place>,
    /// `spec.use`: templates that are merged into the whole workflow.
    pub uses: Vec<TemplateRef>,
    /// The rest of `spec`.
    pub spec: Spec,
    /// Fields that the language has and this version does not: the workflow is read but can not
    /// be compiled.
    pub unsupported: Vec<Problem>,
    /// Fields that have no effect.
    pub warnings: Vec<Problem>,
}

/// `kind: TestWorkflowTemplate`.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    /// `metadata`.
    pub metadata: Metadata,
    /// `description`.
    pub description: Option<String>,
    /// `spec.use`: templates that are merged into this one.
    pub uses: Vec<TemplateRef>,
    /// The rest of `spec`.
    pub spec: Spec,
    /// Fields that the language has and this version does not: workflows that use the template
    /// can not be compiled.
    pub unsupported: Vec<Problem>,
    /// Fields that have no effect.
    pub warnings: Vec<Problem>,
}

/// A document of a kind that the language has and this version does not: not looked into.
#[derive(Debug, Clone, PartialEq)]
pub struct Foreign {
    /// `kind`.
    pub kind: &'static str,
    /// `metadata.name`, or nothing.
    pub name: String,
    /// That it is not supported, with its place.
    pub problem: Problem,
}

/// The group of the original and Muster's own.
pub(crate) const API_VERSIONS: [&str; 2] = ["testworkflows.testkube.io/v1", "muster.dev/v1"];

pub(crate) const WORKFLOW: &str = "TestWorkflow";
pub(crate) const TEMPLATE: &str = "TestWorkflowTemplate";
pub(crate) const REQUEST: &str = "TestWorkflowExecution";
pub(crate) const KINDS: [&str; 3] = [WORKFLOW, TEMPLATE, REQUEST];
/// Kinds that are passed over.
const FOREIGN: [&str; 4] = [
    "TestTrigger",
    "WorkflowTrigger",
    "Webhook",
    "WebhookTemplate",
];

/// Reads all documents of a file: those that keep to the schema, and what is wrong with the others.
pub(crate) fn read(nodes: &[Node]) -> Parsed {
    let mut parsed = Parsed::default();
    let nodes: Vec<&Node> = nodes
        .iter()
        .flat_map(|node| list::items(node).map_or_else(|| vec![node], |all| all.iter().collect()))
        .collect();
    for &node in &nodes {
        let mut reader = Reader::default();
        let kind = text_of(node.get("kind"));
        let metadata = node.get("metadata");
        let name = text_of(metadata.and_then(|metadata| metadata.get("name")));
        let name: String = name.chars().take(253).collect();
        // A template may be used by a workflow of another file.
        if nodes.len() > 1 || kind == TEMPLATE {
            reader.document = name.as_str().into();
        }
        let document = foreign(&reader, node).or_else(|| read_one(&mut reader, node));
        if reader.problems.is_empty() {
            parsed.documents.extend(document);
        } else {
            let kind = KINDS.into_iter().find(|known| *known == kind);
            parsed.broken.push(Broken { kind, name });
        }
        for problem in reader.problems {
            parsed.problems.push(problem);
        }
    }
    if nodes.is_empty() {
        let place = crate::yaml::Mark::START.place("");
        parsed
            .problems
            .push(Problem::new(&place, "the file is empty").with_cure(
                "write a document with `apiVersion`, `kind: TestWorkflow`, `metadata` and `spec`",
            ));
    }
    parsed
}

/// The fields that the reader knows in a document, by their paths, and what it finds wrong.
#[cfg(test)]
pub(crate) fn known_fields(
    node: &Node,
) -> (BTreeMap<String, BTreeSet<String>>, crate::problem::Problems) {
    let mut reader = Reader::default();
    drop(read_one(&mut reader, node));
    (reader.known, reader.problems)
}

fn text_of(node: Option<&Node>) -> &str {
    match node.map(|node| &node.content) {
        Some(crate::yaml::Content::Scalar(scalar)) => &scalar.text,
        _ => "",
    }
}

/// A document of a kind that this version passes over, whatever is in it.
fn foreign(reader: &Reader, node: &Node) -> Option<Document> {
    let found = text_of(node.get("kind"));
    let kind = FOREIGN.into_iter().find(|kind| *kind == found)?;
    let place = reader.place(node.get("kind")?.mark, "kind");
    let metadata = node.get("metadata");
    let name = text_of(metadata.and_then(|metadata| metadata.get("name")));
    Some(Document::Foreign(Foreign {
        kind,
        name: name.chars().take(253).collect(),
        problem: Problem::new(&place, format!("not supported yet: kind `{kind}`"))
            .with_cure("the document is passed over"),
    }))
}

fn read_one(reader: &mut Reader, node: &Node) -> Option<Document> {
    let found = Found {
        node,
        path: String::new(),
    };
    let mut object = found.object(reader)?;
    let kind = read_head(reader, &mut object)?;
    let metadata = Metadata::read(reader, &mut object);
    // What a cluster recorded of earlier runs.
    object.take("status");
    let description = object.text(reader, "description").map(|text| text.text);
    let spec = match object.take("spec") {
        Some(found) => found.object(reader),
        None => {
            reader.problem(node.mark, "spec", "`spec` is missing");
            None
        }
    };
    object.finish(reader);
    let mut spec = spec?;
    if kind == REQUEST {
        return Request::read(reader, metadata, description, spec).map(Document::Request);
    }
    let place = spec.place(reader);
    let uses = TemplateRef::read_uses(reader, &mut spec);
    let spec = Spec::read(reader, spec);
    let metadata = metadata?;
    let unsupported = std::mem::take(&mut reader.unsupported).0;
    let warnings = std::mem::take(&mut reader.warnings).0;
    Some(if kind == WORKFLOW {
        Document::Workflow(Workflow {
            metadata,
            description,
            place,
            uses,
            spec,
            unsupported,
            warnings,
        })
    } else {
        Document::Template(Template {
            metadata,
            description,
            uses,
            spec,
            unsupported,
            warnings,
        })
    })
}

/// Checks `apiVersion` and gives the kind.
fn read_head(reader: &mut Reader, object: &mut Object<'_>) -> Option<&'static str> {
    let version = object.take("apiVersion");
    let kind = object.take("kind");
    match &version {
        None => reader.problem(
            object.mark(),
            "apiVersion",
            format!("`apiVersion` is missing: write `{}`", API_VERSIONS[0]),
        ),
        Some(found) => {
            let text = found.text(reader)?;
            if !API_VERSIONS.contains(&text.text.as_str()) {
                let problem = Problem::new(
                    &text.place,
                    format!("unknown apiVersion `{}`", shorten(&text.text)),
                );
                let cure = format!("allowed: {}", API_VERSIONS.join(", "));
                reader.problems.push(problem.with_cure(cure));
            }
        }
    }
    let Some(found) = kind else {
        let message = format!("`kind` is missing: write `{WORKFLOW}` or `{TEMPLATE}`");
        reader.problem(object.mark(), "kind", message);
        return None;
    };
    let text = found.text(reader)?;
    let kind = KINDS.into_iter().find(|known| *known == text.text);
    if kind.is_none() {
        let message = format!("unknown kind `{}`", shorten(&text.text));
        let mut problem = Problem::new(&text.place, message);
        problem.cure = suggest::advice(&text.text, &KINDS);
        reader.problems.push(problem);
    }
    kind
}

fn shorten(text: &str) -> String {
    text.chars().take(60).collect()
}

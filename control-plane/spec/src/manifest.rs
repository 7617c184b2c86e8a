//! Manifest files: YAML documents of the language, read strictly, and which of them is run. What
//! it compiles to is not decided here.

use crate::problem::Problems;
use crate::schema::{Foreign, Request, Template, Workflow};
use crate::yaml::Limits;

/// One document of a file.
#[derive(Debug, Clone, PartialEq)]
pub enum Document {
    /// `kind: TestWorkflow`.
    Workflow(Workflow),
    /// `kind: TestWorkflowTemplate`.
    Template(Template),
    /// `kind: TestWorkflowExecution`.
    Request(Request),
    /// A kind of the language that this version passes over.
    Foreign(Foreign),
}

impl Document {
    /// `metadata.name`.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Workflow(workflow) => &workflow.metadata.name,
            Self::Template(template) => &template.metadata.name,
            Self::Request(request) => &request.metadata.name,
            Self::Foreign(foreign) => &foreign.name,
        }
    }

    /// `kind`, such as `TestWorkflow`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Workflow(_) => "TestWorkflow",
            Self::Template(_) => "TestWorkflowTemplate",
            Self::Request(_) => "TestWorkflowExecution",
            Self::Foreign(foreign) => foreign.kind,
        }
    }
}

/// Reads all documents of a file.
///
/// Fields that the language has and this version does not support yet do not make a file bad:
/// they are kept in [`Workflow::unsupported`] and refused when that workflow is compiled, so
/// that others in the same file can run. Whole documents of that sort are [`Document::Foreign`].
///
/// # Errors
///
/// All problems found, each with line, field path and cure, when the file is not YAML or breaks
/// the schema.
pub fn parse(text: &str, limits: Limits) -> Result<Vec<Document>, Problems> {
    let parsed = parse_each(text, limits);
    match parsed.problems.is_empty() {
        true => Ok(parsed.documents),
        false => Err(parsed.problems),
    }
}

/// What was read of a file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Parsed {
    /// The documents that keep to the schema.
    pub documents: Vec<Document>,
    /// The others.
    pub broken: Vec<Broken>,
    /// What is wrong with those, or with the whole file.
    pub problems: Problems,
}

/// A document that breaks the schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// `kind`, when it is one of the language.
    pub kind: Option<&'static str>,
    /// `metadata.name` as it is written, or nothing.
    pub name: String,
}

/// Reads the documents of a file one by one.
#[must_use]
pub fn parse_each(text: &str, limits: Limits) -> Parsed {
    match crate::yaml::read(text, limits) {
        Ok(nodes) => crate::schema::read(&nodes),
        Err(problem) => Parsed {
            problems: problem.into(),
            ..Parsed::default()
        },
    }
}

/// A workflow as a document: what was read gives the same when it is read again, apart from places,
/// comments and fields without effect.
#[must_use]
pub fn write(workflow: &Workflow) -> String {
    let mut value = crate::schema::write_workflow(
        &workflow.metadata,
        workflow.description.as_deref(),
        &workflow.spec,
    );
    crate::schema::write_uses(&mut value, &workflow.uses);
    crate::yaml::write(&value)
}

/// The texts of the documents in a list, as `kubectl get -o yaml` prints it; nothing when the text is
/// no list. Comments are not kept.
///
/// # Errors
///
/// When the text is not YAML.
pub fn items_of_list(text: &str, limits: Limits) -> Result<Option<Vec<String>>, Problems> {
    let nodes = crate::yaml::read(text, limits)?;
    let [node] = nodes.as_slice() else {
        return Ok(None);
    };
    let texts = |items: &[crate::yaml::Node]| {
        let items = items.iter();
        items
            .map(|item| crate::yaml::write(&item.to_value()))
            .collect()
    };
    Ok(crate::schema::items(node).map(texts))
}

/// What is run of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// The workflow.
    pub workflow: Chosen,
    /// The document that asks for it, when there is one.
    pub request: Option<Request>,
    /// All templates of the file.
    pub templates: Vec<Template>,
}

/// A workflow that is run.
#[derive(Debug, Clone, PartialEq)]
pub enum Chosen {
    /// One of the file.
    Here(Box<Workflow>),
    /// A stored one, by its name.
    Stored(String),
}

impl Choice {
    /// A stored workflow, asked for by its name.
    #[must_use]
    pub fn stored(name: &str) -> Self {
        Self {
            workflow: Chosen::Stored(name.to_owned()),
            request: None,
            templates: Vec::new(),
        }
    }
}

/// Why it is not plain what is run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotChosen {
    /// There is nothing to run.
    #[error("there is no TestWorkflow in it{}", passed_over(.0))]
    Nothing(Vec<&'static str>),
    /// There is none of the wanted name.
    #[error("there is no workflow '{wanted}' in it, only {}", .names.join(", "))]
    Unknown {
        /// The name.
        wanted: String,
        /// Those that are there.
        names: Vec<String>,
    },
    /// There are several.
    #[error("{} of kind {kind} are in it: name one of {}", .names.len(), .names.join(", "))]
    Several {
        /// Their kind.
        kind: &'static str,
        /// Their names.
        names: Vec<String>,
    },
}

fn passed_over(kinds: &[&'static str]) -> String {
    match kinds {
        [] => String::new(),
        kinds => format!("; not supported yet: {}", kinds.join(", ")),
    }
}

/// Chooses what is run of a file: the `TestWorkflowExecution` or, when there is none, the
/// workflow; of several that of the wanted name.
///
/// # Errors
///
/// [`NotChosen`] names what is there.
pub fn choose(documents: Vec<Document>, wanted: Option<&str>) -> Result<Choice, NotChosen> {
    let mut sorted = Sorted::new(documents);
    let chosen = match wanted {
        Some(name) => sorted.requests.iter().position(|r| r.metadata.name == name),
        None if sorted.requests.len() == 1 => Some(0),
        None if sorted.requests.is_empty() => None,
        None => {
            return Err(NotChosen::Several {
                kind: crate::schema::REQUEST,
                names: names(&sorted.requests, |request| &request.metadata.name),
            });
        }
    };
    let Some(at) = chosen else {
        return choose_workflow(sorted, wanted);
    };
    let request = sorted.requests.swap_remove(at);
    let name = &request.workflow.text;
    let here = sorted
        .workflows
        .into_iter()
        .find(|it| it.metadata.name == *name);
    Ok(Choice {
        workflow: here.map_or_else(
            || Chosen::Stored(name.clone()),
            |workflow| Chosen::Here(Box::new(workflow)),
        ),
        request: Some(request),
        templates: sorted.templates,
    })
}

/// Chooses a workflow of a file by its name alone, as a suite names its members.
///
/// # Errors
///
/// [`NotChosen`] names what is there.
pub fn choose_member(documents: Vec<Document>, name: &str) -> Result<Choice, NotChosen> {
    choose_workflow(Sorted::new(documents), Some(name))
}

fn choose_workflow(mut sorted: Sorted, wanted: Option<&str>) -> Result<Choice, NotChosen> {
    let workflows = &sorted.workflows;
    let at = match wanted {
        Some(name) => workflows.iter().position(|it| it.metadata.name == name),
        None if workflows.len() == 1 => Some(0),
        None => None,
    };
    let Some(at) = at else {
        let mut all = names(workflows, |workflow| &workflow.metadata.name);
        all.extend(names(&sorted.requests, |request| &request.metadata.name));
        return Err(match wanted {
            _ if all.is_empty() => NotChosen::Nothing(sorted.foreign),
            Some(wanted) => NotChosen::Unknown {
                wanted: wanted.chars().take(253).collect(),
                names: all,
            },
            None => NotChosen::Several {
                kind: crate::schema::WORKFLOW,
                names: all,
            },
        });
    };
    Ok(Choice {
        workflow: Chosen::Here(Box::new(sorted.workflows.swap_remove(at))),
        request: None,
        templates: sorted.templates,
    })
}

fn names<T>(all: &[T], name: impl Fn(&T) -> &String) -> Vec<String> {
    all.iter().map(|one| name(one).clone()).collect()
}

/// Documents by their kinds.
#[derive(Default)]
struct Sorted {
    workflows: Vec<Workflow>,
    templates: Vec<Template>,
    requests: Vec<Request>,
    foreign: Vec<&'static str>,
}

impl Sorted {
    fn new(documents: Vec<Document>) -> Self {
        let mut sorted = Self::default();
        for document in documents {
            match document {
                Document::Workflow(workflow) => sorted.workflows.push(workflow),
                Document::Template(template) => sorted.templates.push(template),
                Document::Request(request) => sorted.requests.push(request),
                Document::Foreign(foreign) => sorted.foreign.push(foreign.kind),
            }
        }
        sorted
    }
}

#[cfg(test)]
mod tests;

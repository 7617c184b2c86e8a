//! Manifest files: YAML documents of the language, read strictly. Which of them is run, and what
//! it compiles to, is not decided here.

use crate::problem::Problems;
use crate::schema::{Template, Workflow};
use crate::yaml::Limits;

/// One document of a file.
#[derive(Debug, Clone, PartialEq)]
pub enum Document {
    /// `kind: TestWorkflow`.
    Workflow(Workflow),
    /// `kind: TestWorkflowTemplate`.
    Template(Template),
}

impl Document {
    /// `metadata.name`.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Workflow(workflow) => &workflow.metadata.name,
            Self::Template(template) => &template.metadata.name,
        }
    }

    /// `TestWorkflow` or `TestWorkflowTemplate`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Workflow(_) => "TestWorkflow",
            Self::Template(_) => "TestWorkflowTemplate",
        }
    }
}

/// Reads all documents of a file.
///
/// Fields that the language has and this version does not support yet do not make a file bad:
/// they are kept in [`Workflow::unsupported`] and refused when that workflow is compiled, so
/// that others in the same file can run.
///
/// # Errors
///
/// All problems found, each with line, field path and cure, when the file is not YAML or breaks
/// the schema.
pub fn parse(text: &str, limits: Limits) -> Result<Vec<Document>, Problems> {
    let nodes = crate::yaml::read(text, limits)?;
    crate::schema::read(&nodes)
}

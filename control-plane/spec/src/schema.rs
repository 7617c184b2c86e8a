//! The documents of the language, read strictly from YAML nodes: every field is known, has its
//! type, and remembers its place. What the fields lead to is the business of
//! [`crate::compile`].

mod artifacts;
mod claim;
mod container;
mod content;
mod document;
mod field;
mod metadata;
mod parameter;
mod pod;
mod spec;
mod step;
mod template_ref;
mod visit;

pub use artifacts::Artifacts;
pub use container::{Container, EnvValue, EnvVar, Run};
pub use content::{AuthType, Content, File, Git, Tarball};
pub use document::{Template, Workflow};
pub use field::{Json, Text};
pub use metadata::Metadata;
pub use parameter::{Kind, Parameter};
pub use pod::{Job, Pod};
pub use spec::{Execution, Spec, System, Target};
pub use step::{Retry, Step};
pub use template_ref::TemplateRef;

pub(crate) use document::read;
pub(crate) use visit::Visitor;

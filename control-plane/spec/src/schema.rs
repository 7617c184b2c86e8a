//! The documents of the language, read strictly from YAML nodes: every field is known, has its
//! type, and remembers its place. What the fields lead to is the business of
//! [`crate::compile`].

mod artifacts;
mod claim;
mod container;
mod content;
mod document;
mod execute;
mod field;
mod list;
mod metadata;
mod parallel;
mod parameter;
mod pod;
mod recovery;
mod request;
mod service;
mod spec;
mod step;
mod strategy;
mod template_ref;
mod transfer;
mod visit;
mod write;

pub use artifacts::Artifacts;
pub use container::{Container, EnvValue, EnvVar, Run};
pub use content::{AuthType, Content, File, Git, Tarball};
pub use document::{Foreign, Template, Workflow};
pub use execute::{Execute, Member, Requirement, Selector};
pub use field::{Json, Text};
pub use metadata::Metadata;
pub use parallel::Parallel;
pub use parameter::{Kind, Parameter};
pub use pod::{Job, Pod};
pub use recovery::{Concurrency, Recovery};
pub use request::Request;
pub use service::{Service, Services};
pub use spec::{Execution, Spec, System, Target, Timeouts};
pub use step::{Retry, Step};
pub use strategy::{Balance, DynamicList, Strategy};
pub use template_ref::TemplateRef;
pub use transfer::Transfer;

pub(crate) use claim::FIELDS as CLAIM;
pub(crate) use container::{ENV_FROM, SECURITY_CONTEXT, VOLUME_MOUNT};
pub(crate) use content::SOURCES;
#[cfg(test)]
pub(crate) use document::known_fields;
pub(crate) use document::{API_VERSIONS, KINDS, REQUEST, TEMPLATE, WORKFLOW, read};
pub(crate) use execute::OPERATORS;
pub(crate) use list::items;
pub(crate) use metadata::OF_THE_CLUSTER;
pub(crate) use pod::FIELDS as POD;
pub(crate) use service::PROBE;
pub(crate) use visit::{Names, Visitor};
pub(crate) use write::{uses as write_uses, workflow as write_workflow};

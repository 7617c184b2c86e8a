//! `services` of a workflow or step: helpers that live as long as their owner.

use std::sync::Arc;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::problem::Place;
use crate::rerun;

use super::claim;
use super::container::{Container, checked};
use super::content::Content;
use super::field::{Found, Json, Object, Reader, Text};
use super::pod::Pod;
use super::strategy::Strategy;
use super::template_ref::TemplateRef;
use super::transfer::Transfer;
use super::visit::Visitor;

/// Services by name.
pub type Services = IndexMap<String, Service>;

/// A service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// Where it begins.
    pub place: Arc<Place>,
    /// `use`: templates of its container and pod.
    pub uses: Vec<TemplateRef>,
    /// How many instances there are, and with which values.
    pub strategy: Strategy,
    /// `description` of an instance, a template.
    pub description: Option<Text>,
    /// `logs`, an expression.
    pub logs: Option<Text>,
    /// `timeout`: longest time until it is ready, a template of a duration.
    pub timeout: Option<Text>,
    /// `transfer`: files that it gets.
    pub transfer: Vec<Transfer>,
    /// `content`.
    pub content: Content,
    /// Settings of its container.
    pub container: Container,
    /// `shell`, a template of a script.
    pub shell: Option<Text>,
    /// `pod`.
    pub pod: Pod,
    /// `restartPolicy`: whether it is started again when it fails; true by default.
    pub restarts: bool,
    /// `pvcs`: claims of volumes for each instance.
    pub claims: IndexMap<String, Json>,
    /// `readinessProbe`: a Kubernetes `Probe`.
    pub readiness_probe: Option<Json>,
}

/// Most services of one owner.
const MAX_SERVICES: usize = 50;

/// A service is a container itself.
const CONTAINER: &str = "write `image`, `env`, `resources`, … beside `shell`";

/// Fields of a Kubernetes `Probe` that readiness knows.
pub(crate) const PROBE: [&str; 9] = [
    "exec",
    "httpGet",
    "tcpSocket",
    "grpc",
    "initialDelaySeconds",
    "periodSeconds",
    "timeoutSeconds",
    "successThreshold",
    "failureThreshold",
];

/// Reads the field `services`.
pub(super) fn read_all(reader: &mut Reader, object: &mut Object<'_>) -> Services {
    let Some(found) = object.take("services") else {
        return Services::new();
    };
    let entries = found.entries(reader);
    if entries.len() > MAX_SERVICES {
        let message = format!(
            "{} services, at most {MAX_SERVICES} are allowed",
            entries.len()
        );
        reader.problem(found.node.mark, &found.path, message);
        return Services::new();
    }
    let mut services = Services::new();
    for (entry, found) in entries {
        if !is_name(&entry.key) {
            let message = "the name of a service has 1 to 63 letters, digits, `-` and `_`";
            reader.problem(entry.mark, &found.path, message);
        } else if let Some(service) = Service::read(reader, &found) {
            services.insert(entry.key.clone(), service);
        }
    }
    services
}

fn is_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    !name.is_empty() && name.len() <= 63 && name.chars().all(allowed)
}

impl Service {
    fn read(reader: &mut Reader, found: &Found<'_>) -> Option<Self> {
        let mut object = found.object(reader)?;
        let uses = TemplateRef::read_uses(reader, &mut object);
        let restarts = object
            .take("restartPolicy")
            .is_none_or(|found| restarts(reader, &found));
        let service = Self {
            place: object.place(reader),
            uses,
            strategy: Strategy::read(reader, &mut object),
            description: object.said(reader, "description"),
            logs: object
                .take("logs")
                .and_then(|found| found.scalar(reader, "an expression")),
            timeout: object.said(reader, "timeout"),
            transfer: object.list(reader, "transfer", Transfer::read),
            content: Content::read(reader, &mut object),
            container: Container::fields(reader, &mut object),
            shell: object.text(reader, "shell"),
            pod: Pod::read(reader, &mut object),
            restarts,
            claims: claim::read(reader, &mut object),
            readiness_probe: object
                .take("readinessProbe")
                .and_then(|found| checked(reader, &found, &PROBE)),
        };
        object.cure("container", CONTAINER);
        object.finish(reader);
        Some(service)
    }

    pub(super) fn visit(&mut self, visitor: &mut dyn Visitor) {
        self.strategy.visit(visitor);
        let mut names = self.strategy.names();
        names.extend(self.claims.keys().map(|name| format!("pvcs.{name}")));
        names.insert(rerun::NAME.to_owned());
        visitor.enter(names, &self.strategy);
        if let Some(timeout) = &mut self.timeout {
            visitor.template(timeout);
        }
        for template in &mut self.uses {
            template.visit(visitor);
        }
        for claim in self.claims.values_mut() {
            visitor.value(claim);
        }
        if let Some(logs) = &mut self.logs {
            visitor.expression(logs);
        }
        if let Some(text) = &mut self.description {
            visitor.template(text);
        }
        for transfer in &mut self.transfer {
            transfer.visit(visitor);
        }
        self.content.visit(visitor);
        self.container.visit(visitor);
        if let Some(text) = &mut self.shell {
            visitor.inside(text);
        }
        self.pod.visit(visitor);
        if let Some(probe) = &mut self.readiness_probe {
            visitor.value(probe);
        }
        visitor.leave();
    }
}

fn restarts(reader: &mut Reader, found: &Found<'_>) -> bool {
    let policy = found.text(reader);
    match policy.as_ref().map(|text| text.text.as_str()) {
        Some("Never") => false,
        Some("OnFailure") | None => true,
        Some(other) => {
            let short: String = other.chars().take(60).collect();
            let message = format!("unknown restart policy `{short}`; allowed: OnFailure, Never");
            reader.problem(found.node.mark, &found.path, message);
            true
        }
    }
}

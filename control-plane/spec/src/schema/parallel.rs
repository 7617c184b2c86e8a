//! `parallel` of a step: workers, each a small workflow of its own.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::problem::Place;
use crate::rerun;

use super::field::{Found, Reader, Text};
use super::spec::{Spec, Target};
use super::step::Step;
use super::strategy::{self, Strategy};
use super::template_ref::TemplateRef;
use super::transfer::Transfer;
use super::visit::Visitor;

/// Workers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Parallel {
    /// Where it begins.
    pub place: Arc<Place>,
    /// How many there are, and with which values.
    pub strategy: Strategy,
    /// `parallelism`: most workers at a time, an expression.
    pub parallelism: Option<Text>,
    /// `failFast`: the first failure ends the others.
    pub fail_fast: bool,
    /// `paused`: each worker waits before its first own step until all of them are there.
    pub paused: bool,
    /// `description` of a worker, a template.
    pub description: Option<Text>,
    /// `logs`, an expression.
    pub logs: Option<Text>,
    /// `transfer`: files that each worker gets.
    pub transfer: Vec<Transfer>,
    /// `fetch`: files that come back.
    pub fetch: Vec<Transfer>,
    /// `use`: templates of the workers.
    pub uses: Vec<TemplateRef>,
    /// What a worker does: the fields of a workflow; those of a step are its first step.
    pub worker: Spec,
}

impl Parallel {
    /// Reads the field `parallel` of a step.
    pub(super) fn read(reader: &mut Reader, found: &Found<'_>) -> Option<Self> {
        let mut object = found.object(reader)?;
        let place = object.place(reader);
        let uses = TemplateRef::read_uses(reader, &mut object);
        let target = object
            .take("target")
            .and_then(|found| Target::read_of_child(reader, &found));
        let own = Step::read_operations(reader, &mut object);
        let known = "workers know the parameters of their workflow";
        object.without_effect(reader, "config", known);
        let mut worker = Spec::fields(reader, &mut object);
        worker.config.clear();
        let paused = own.paused;
        if own.does_something() {
            worker.steps.insert(0, own);
        }
        worker.execution.target = target.or_else(|| worker.execution.target.take());
        let parallel = Self {
            place,
            strategy: Strategy::read(reader, &mut object),
            parallelism: strategy::number(reader, &mut object, "parallelism"),
            fail_fast: object.flag(reader, "failFast").unwrap_or(false),
            paused,
            description: object.said(reader, "description"),
            logs: object
                .take("logs")
                .and_then(|found| found.scalar(reader, "an expression")),
            transfer: object.list(reader, "transfer", Transfer::read),
            fetch: object.list(reader, "fetch", Transfer::read),
            uses,
            worker,
        };
        object.finish(reader);
        Some(parallel)
    }

    pub(super) fn visit(&mut self, visitor: &mut dyn Visitor) {
        self.strategy.visit(visitor);
        if let Some(text) = &mut self.parallelism {
            visitor.formula(text);
        }
        let mut names = self.strategy.names();
        self.worker.own_names(&mut names);
        // Each runs again what it has failed itself.
        names.insert(rerun::NAME.to_owned());
        visitor.enter(names, &self.strategy);
        for template in &mut self.uses {
            template.visit(visitor);
        }
        if let Some(text) = &mut self.logs {
            visitor.expression(text);
        }
        if let Some(text) = &mut self.description {
            visitor.template(text);
        }
        for transfer in self.transfer.iter_mut().chain(&mut self.fetch) {
            transfer.visit(visitor);
        }
        self.worker.visit(visitor);
        visitor.leave();
    }
}

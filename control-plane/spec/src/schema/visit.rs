//! One walk over all texts of a spec, for resolving expressions in place.

use std::collections::BTreeSet;

use indexmap::IndexMap;

use super::{
    Artifacts, Container, Content, EnvValue, Execution, Git, Job, Json, Pod, Spec, Step, Strategy,
    Target, TemplateRef, Text,
};

/// Variables by their paths, such as `index` or `matrix.browser`.
pub(crate) type Names = BTreeSet<String>;

/// What is done with each text.
pub(crate) trait Visitor {
    /// A text with `{{ }}` parts.
    fn template(&mut self, text: &mut Text);
    /// A text with `{{ }}` parts for a process in a container, so that it may name secrets.
    fn inside(&mut self, text: &mut Text);
    /// A bare expression.
    fn expression(&mut self, text: &mut Text);
    /// A value with templates in its texts; it must be known before the pod starts.
    fn value(&mut self, value: &mut Json);
    /// A template that must be known before the pod starts.
    fn early(&mut self, text: &mut Text);
    /// A bare expression whose value counts and not only whether it is true.
    fn formula(&mut self, text: &mut Text);
    /// A value with templates in its texts, which may be known later than the pod starts.
    fn late_value(&mut self, value: &mut Json);
    /// What follows, until [`Visitor::leave`], is compiled later, for an execution of its own
    /// that has these variables of its own, once for each instance of a strategy.
    fn enter(&mut self, own: Names, strategy: &Strategy);
    /// The end of what [`Visitor::enter`] began.
    fn leave(&mut self);
}

fn each<'a>(texts: impl IntoIterator<Item = &'a mut Text>, mut visit: impl FnMut(&mut Text)) {
    for text in texts {
        visit(text);
    }
}

impl Spec {
    /// Visits all texts but those of `config`.
    pub(crate) fn visit(&mut self, visitor: &mut dyn Visitor) {
        self.content.visit(visitor);
        self.container.visit(visitor);
        self.job.visit(visitor);
        self.pod.visit(visitor);
        for claim in self.claims.values_mut() {
            visitor.value(claim);
        }
        self.execution.visit(visitor);
        each(self.timeouts.texts_mut(), |text| visitor.early(text));
        each(self.concurrency.texts_mut(), |text| visitor.early(text));
        for service in self.services.values_mut() {
            service.visit(visitor);
        }
        for steps in [&mut self.setup, &mut self.steps, &mut self.after] {
            for step in steps {
                step.visit(visitor);
            }
        }
    }
}

impl Step {
    fn visit(&mut self, visitor: &mut dyn Visitor) {
        let templates = [&mut self.name, &mut self.timeout, &mut self.delay];
        each(templates.into_iter().flatten(), |text| {
            visitor.template(text);
        });
        let inside = [&mut self.working_dir, &mut self.shell];
        each(inside.into_iter().flatten(), |text| visitor.inside(text));
        each(&mut self.condition, |text| visitor.expression(text));
        if let Some(retry) = &mut self.retry {
            each(&mut retry.until, |text| visitor.expression(text));
        }
        for template in self.uses.iter_mut().chain(&mut self.template) {
            template.visit(visitor);
        }
        self.content.visit(visitor);
        self.container.visit(visitor);
        if let Some(run) = &mut self.run {
            run.container.visit(visitor);
            each(&mut run.shell, |text| visitor.inside(text));
        }
        for service in self.services.values_mut() {
            service.visit(visitor);
        }
        if let Some(execute) = &mut self.execute {
            execute.visit(visitor);
        }
        if let Some(parallel) = &mut self.parallel {
            parallel.visit(visitor);
        }
        if let Some(artifacts) = &mut self.artifacts {
            artifacts.visit(visitor);
        }
        for step in self.setup.iter_mut().chain(&mut self.steps) {
            step.visit(visitor);
        }
    }
}

impl TemplateRef {
    pub(crate) fn visit(&mut self, visitor: &mut dyn Visitor) {
        each(self.config.values_mut(), |text| visitor.template(text));
    }
}

impl Content {
    pub(super) fn visit(&mut self, visitor: &mut dyn Visitor) {
        for file in &mut self.files {
            visitor.template(&mut file.path);
            file.content.visit(visitor);
        }
        if let Some(git) = &mut self.git {
            git.visit(visitor);
        }
        for tarball in &mut self.tarballs {
            visitor.template(&mut tarball.url);
            visitor.early(&mut tarball.path);
        }
    }
}

impl Git {
    fn visit(&mut self, visitor: &mut dyn Visitor) {
        let templates = self.uri.iter_mut().chain(&mut self.revision);
        each(templates.chain(&mut self.paths), |text| {
            visitor.template(text);
        });
        each(&mut self.mount_path, |text| visitor.early(text));
        let values = self.username.iter_mut().chain(&mut self.token);
        for value in values.chain(&mut self.ssh_key) {
            value.visit(visitor);
        }
    }
}

impl EnvValue {
    fn visit(&mut self, visitor: &mut dyn Visitor) {
        match self {
            Self::Plain(text) => visitor.inside(text),
            Self::From(value) => visitor.value(value),
        }
    }
}

impl Container {
    pub(super) fn visit(&mut self, visitor: &mut dyn Visitor) {
        each(&mut self.working_dir, |text| visitor.inside(text));
        each(&mut self.image, |text| visitor.early(text));
        each(&mut self.image_pull_policy, |text| visitor.early(text));
        for variable in &mut self.env {
            variable.value.visit(visitor);
        }
        for list in [&mut self.command, &mut self.args].into_iter().flatten() {
            each(list, |text| visitor.inside(text));
        }
        let quantities = self.limits.values_mut().chain(self.requests.values_mut());
        each(quantities, |text| visitor.early(text));
        let values = self.env_from.iter_mut().chain(&mut self.volume_mounts);
        for value in values.chain(&mut self.security_context) {
            visitor.value(value);
        }
    }
}

impl Artifacts {
    fn visit(&mut self, visitor: &mut dyn Visitor) {
        let texts = self.working_dir.iter_mut().chain(&mut self.paths);
        each(texts.chain(&mut self.compress), |text| {
            visitor.template(text);
        });
    }
}

impl Job {
    fn visit(&mut self, visitor: &mut dyn Visitor) {
        visit_map(&mut self.labels, visitor);
        visit_map(&mut self.annotations, visitor);
        let texts = self.namespace.iter_mut();
        each(texts.chain(&mut self.active_deadline_seconds), |text| {
            visitor.early(text);
        });
    }
}

impl Pod {
    pub(super) fn visit(&mut self, visitor: &mut dyn Visitor) {
        each(&mut self.active_deadline_seconds, |text| {
            visitor.early(text);
        });
        for value in self.fields.values_mut() {
            visitor.value(value);
        }
    }
}

impl Execution {
    fn visit(&mut self, visitor: &mut dyn Visitor) {
        visit_map(&mut self.tags, visitor);
        if let Some(target) = &mut self.target {
            target.visit(visitor);
        }
        each(self.recovery.texts_mut(), |text| visitor.early(text));
    }
}

impl Target {
    pub(super) fn visit(&mut self, visitor: &mut dyn Visitor) {
        let values = self.matches.values_mut().chain(self.not.values_mut());
        let texts = values.flatten().chain(&mut self.replicate);
        each(texts, |text| visitor.early(text));
    }
}

fn visit_map(map: &mut IndexMap<String, Text>, visitor: &mut dyn Visitor) {
    each(map.values_mut(), |text| visitor.early(text));
}

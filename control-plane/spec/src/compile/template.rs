//! Templates: found by name, given their parameters, merged into workflows and steps.

use std::sync::Arc;

use crate::expression::Budget;
use crate::problem::{Problem, Problems};
use crate::schema::{
    Container, Job, Parallel, Pod, Service, Services, Spec, Step, Template, TemplateRef, Text,
};
use crate::suggest;

use super::resolve::Resolver;
use super::scope::{Base, Document};
use super::{MAX_STEPS, MAX_TEMPLATE_SIZE, builtin, config, merge};

/// The templates at hand.
#[derive(Debug)]
pub(super) struct Library<'a> {
    templates: &'a [Template],
    base: &'a Base,
    budget: &'a Budget,
    problems: &'a mut Problems,
    warnings: &'a mut Problems,
    /// What all uses together hold, and how many steps of them.
    size: usize,
    steps: usize,
    /// Settings of job and pod of templates that steps use: below those of the workflow.
    below: Vec<(Job, Pod)>,
}

impl<'a> Library<'a> {
    pub(super) fn new(
        templates: &'a [Template],
        base: &'a Base,
        budget: &'a Budget,
        problems: &'a mut Problems,
        warnings: &'a mut Problems,
    ) -> Self {
        Self {
            templates,
            base,
            budget,
            problems,
            warnings,
            size: 0,
            steps: 0,
            below: Vec::new(),
        }
    }

    /// The spec of a workflow with all templates merged in.
    pub(super) fn expand(&mut self, mut spec: Spec, uses: &[TemplateRef]) -> Spec {
        self.services(&mut spec.services);
        for steps in [&mut spec.setup, &mut spec.steps, &mut spec.after] {
            for step in steps {
                self.step(step);
            }
        }
        for (job, pod) in std::mem::take(&mut self.below).into_iter().rev() {
            spec.job = merge::job(&job, &spec.job);
            spec.pod = merge::pod(&pod, &spec.pod);
        }
        // The last template is nearest to the workflow, so it is merged first.
        for reference in uses.iter().rev() {
            if let Some(template) = self.instance(reference) {
                spec = under(template, spec);
            }
        }
        spec
    }

    fn step(&mut self, step: &mut Step) {
        for nested in step.setup.iter_mut().chain(&mut step.steps) {
            self.step(nested);
        }
        self.services(&mut step.services);
        if let Some(parallel) = &mut step.parallel {
            self.parallel(parallel);
        }
        if let Some(reference) = step.template.take()
            && let Some(template) = self.instance(&reference)
        {
            self.below
                .push((template.job.clone(), template.pod.clone()));
            let first = as_steps(&reference, template, step);
            step.setup.splice(0..0, first);
        }
        for reference in std::mem::take(&mut step.uses).iter().rev() {
            let Some(template) = self.instance(reference) else {
                continue;
            };
            self.below.push((template.job, template.pod));
            step.container = merge::container(&template.container, &step.container);
            step.content = std::mem::take(&mut step.content).over(template.content);
            step.setup.splice(0..0, template.setup);
            step.steps.splice(0..0, template.steps);
            step.steps.extend(template.after);
            step.services = over(template.services, std::mem::take(&mut step.services));
        }
    }

    /// Workers are workflows of their own: what templates say of their pods stays with them.
    fn parallel(&mut self, parallel: &mut Parallel) {
        let outer = std::mem::take(&mut self.below);
        let worker = std::mem::take(&mut parallel.worker);
        parallel.worker = self.expand(worker, &parallel.uses);
        parallel.uses.clear();
        self.below = outer;
    }

    fn services(&mut self, services: &mut Services) {
        for service in services.values_mut() {
            self.service(service);
        }
    }

    fn service(&mut self, service: &mut Service) {
        for reference in std::mem::take(&mut service.uses).iter().rev() {
            let Some(template) = self.instance(reference) else {
                continue;
            };
            let steps = [&template.setup, &template.steps, &template.after];
            if steps.iter().any(|steps| !steps.is_empty()) || !template.services.is_empty() {
                let name = &reference.name.text;
                let message = format!(
                    "the template `{name}` has steps or services, so a service can not use it"
                );
                self.problems
                    .push(Problem::new(&reference.name.place, message));
                continue;
            }
            service.container = merge::container(&template.container, &service.container);
            service.pod = merge::pod(&template.pod, &service.pod);
            service.content = std::mem::take(&mut service.content).over(template.content);
        }
    }

    /// The spec of a template with its parameters put in.
    fn instance(&mut self, reference: &TemplateRef) -> Option<Spec> {
        let wanted = normal(&reference.name.text);
        let found = self
            .templates
            .iter()
            .find(|template| normal(&template.metadata.name) == wanted);
        let Some(template) = found.or_else(|| builtin::template(&wanted)) else {
            self.missing(&reference.name);
            return None;
        };
        if self.size > MAX_TEMPLATE_SIZE || self.steps > MAX_STEPS {
            return None;
        }
        for problem in &template.unsupported {
            self.problems.push(problem.clone());
        }
        for warning in &template.warnings {
            self.warnings.push(warning.clone());
        }
        let mut spec = template.spec.clone();
        let values = config::of_template(
            &spec.config,
            &reference.name,
            &reference.config,
            self.base,
            self.problems,
        );
        if !self.problems.is_empty() {
            return None;
        }
        let scope = Document::of_template(self.base, &values);
        let mut resolver = Resolver::new(&scope, self.budget, self.problems);
        spec.visit(&mut resolver);
        self.size += resolver.size();
        self.steps += count(&spec.setup) + count(&spec.steps) + count(&spec.after);
        for (found, limit, what) in [
            (self.size, MAX_TEMPLATE_SIZE, "values"),
            (self.steps, MAX_STEPS, "steps"),
        ] {
            if found > limit {
                let message = format!("templates with more than {limit} {what}, all uses counted");
                let problem = Problem::new(&reference.name.place, message);
                self.problems.push(problem);
                return None;
            }
        }
        Some(spec)
    }

    fn missing(&mut self, name: &Text) {
        let short: String = name.text.chars().take(100).collect();
        let message = format!("there is no template `{short}`");
        let mut problem = Problem::new(&name.place, message);
        let known: Vec<&str> = self
            .templates
            .iter()
            .map(|template| template.metadata.name.as_str())
            .collect();
        problem.cure = suggest::advice(&normal(&name.text), &known).or_else(|| {
            known
                .is_empty()
                .then(|| "put it into the same file or store it".to_owned())
        });
        self.problems.push(problem);
    }
}

fn count(steps: &[Step]) -> usize {
    let nested = |step: &Step| 1 + count(&step.setup) + count(&step.steps);
    steps.iter().map(nested).sum()
}

/// The services of a template below those of its user.
fn over(mut low: Services, high: Services) -> Services {
    low.extend(high);
    low
}

/// `a/b` names the template `a--b`.
fn normal(name: &str) -> String {
    name.replace('/', "--")
}

/// A workflow over a template: its values win, its steps come after those of the template, and
/// the `after` list of the template comes last.
fn under(template: Spec, own: Spec) -> Spec {
    let mut tags = template.execution.tags;
    tags.extend(own.execution.tags);
    let mut claims = template.claims;
    claims.extend(own.claims);
    let join = |mut first: Vec<Step>, second: Vec<Step>| {
        first.extend(second);
        first
    };
    Spec {
        config: own.config,
        content: own.content.over(template.content),
        container: merge::container(&template.container, &own.container),
        job: merge::job(&template.job, &own.job),
        pod: merge::pod(&template.pod, &own.pod),
        claims,
        system: crate::schema::System {
            pure_by_default: own
                .system
                .pure_by_default
                .or(template.system.pure_by_default),
            isolated_containers: own
                .system
                .isolated_containers
                .or(template.system.isolated_containers),
        },
        execution: crate::schema::Execution {
            tags,
            target: own.execution.target.or(template.execution.target),
        },
        setup: join(template.setup, own.setup),
        services: over(template.services, own.services),
        steps: join(template.steps, own.steps),
        after: join(own.after, template.after),
    }
}

/// The steps of a template that is run as a step; in a group when it has settings of its own.
fn as_steps(reference: &TemplateRef, template: Spec, step: &Step) -> Vec<Step> {
    let mut steps = template.setup;
    steps.extend(template.steps);
    steps.extend(template.after);
    let plain = template.container == Container::default()
        && template.content.is_empty()
        && template.services.is_empty();
    if plain || steps.is_empty() {
        return steps;
    }
    vec![Step {
        name: Some(reference.name.clone()),
        content: template.content,
        container: template.container,
        services: template.services,
        steps,
        ..Step::empty(Arc::clone(&step.place))
    }]
}

//! Templates: found by name, given their parameters, merged into workflows, steps and one another.

use std::sync::Arc;

use indexmap::IndexMap;

use crate::expression::Budget;
use crate::problem::{Missing, Place, Problem, Problems};
use crate::rerun;
use crate::schema::{
    Container, Job, Json, Parallel, Pod, Service, Services, Spec, Step, Template, TemplateRef, Text,
};
use crate::suggest;

use super::resolve::Resolver;
use super::scope::{Base, Document};
use super::{
    MAX_STEP_DEPTH, MAX_STEPS, MAX_TEMPLATE_DEPTH, MAX_TEMPLATE_SIZE, MAX_TEMPLATE_USES, builtin,
    config, merge, weight,
};

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
    /// How deep the step is that is being expanded.
    depth: usize,
    /// What is being expanded belongs to workers or services, which are compiled once more.
    inside: bool,
    /// How many uses there are.
    uses: usize,
    /// The templates that are being expanded, each used by the one before it.
    chain: Vec<String>,
    /// Settings of job and pod, and claims, of templates that steps use: below those of the workflow.
    below: Vec<Below>,
    /// How many uses came to nothing.
    lost: usize,
}

/// What a template that a step uses says of the whole pod.
#[derive(Debug)]
struct Below {
    place: Arc<Place>,
    job: Job,
    pod: Pod,
    claims: IndexMap<String, Json>,
}

/// What came of merging.
pub(super) struct Expanded {
    /// The spec; what uses a template that is not there keeps the reference.
    pub(super) spec: Spec,
    /// All that the document itself uses is in it.
    pub(super) whole: bool,
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
            depth: 0,
            inside: false,
            uses: 0,
            chain: Vec::new(),
            below: Vec::new(),
            lost: 0,
        }
    }

    /// Whether every use, wherever it is, came to something.
    pub(super) fn is_complete(&self) -> bool {
        self.lost == 0
    }

    /// The spec of a workflow with all templates merged in.
    pub(super) fn expand(&mut self, mut spec: Spec, uses: &[TemplateRef]) -> Expanded {
        self.services(&mut spec.services);
        for steps in [&mut spec.setup, &mut spec.steps, &mut spec.after] {
            for step in steps {
                self.step(step);
            }
        }
        for below in std::mem::take(&mut self.below).into_iter().rev() {
            if !self.pay(weight::spec(&spec) + weight::pod(&below.pod), &below.place) {
                break;
            }
            spec.job = merge::job(&below.job, &spec.job);
            spec.pod = merge::pod(&below.pod, &spec.pod);
            spec.claims = over(below.claims, spec.claims);
        }
        let lost = self.lost;
        // The last template is nearest to the workflow, so it is merged first.
        for reference in uses.iter().rev() {
            if !self.pay(weight::spec(&spec), &reference.name.place) {
                break;
            }
            if let Some(template) = self.instance(reference) {
                spec = under(template, spec);
            }
        }
        let whole = self.lost == lost;
        Expanded { spec, whole }
    }

    fn step(&mut self, step: &mut Step) {
        self.depth += 1;
        if self.depth <= MAX_STEP_DEPTH {
            self.step_within(step);
        } else {
            let message = format!("steps are nested deeper than {MAX_STEP_DEPTH} levels");
            self.problems.push(Problem::new(&step.place, message));
        }
        self.depth -= 1;
    }

    fn step_within(&mut self, step: &mut Step) {
        for nested in step.setup.iter_mut().chain(&mut step.steps) {
            self.step(nested);
        }
        self.services(&mut step.services);
        if let Some(parallel) = &mut step.parallel {
            self.parallel(parallel);
        }
        if let Some(reference) = step.template.take() {
            match self.instance(&reference) {
                Some(template) => {
                    self.below.push(Below {
                        place: Arc::clone(&reference.name.place),
                        job: template.job.clone(),
                        pod: template.pod.clone(),
                        claims: template.claims.clone(),
                    });
                    let first = as_steps(&reference, template, step);
                    step.setup.splice(0..0, first);
                }
                None => step.template = Some(reference),
            }
        }
        let lost = self.lost;
        let uses = std::mem::take(&mut step.uses);
        for reference in uses.iter().rev() {
            if !self.pay(weight::step(step), &reference.name.place) {
                break;
            }
            let Some(template) = self.instance(reference) else {
                continue;
            };
            self.below.push(Below {
                place: Arc::clone(&reference.name.place),
                job: template.job,
                pod: template.pod,
                claims: template.claims,
            });
            step.container = merge::container(&template.container, &step.container);
            step.content = std::mem::take(&mut step.content).over(template.content);
            step.setup.splice(0..0, template.setup);
            step.steps.splice(0..0, template.steps);
            step.steps.extend(template.after);
            step.services = over(template.services, std::mem::take(&mut step.services));
        }
        if self.lost > lost {
            step.uses = uses;
        }
    }

    /// Workers are workflows of their own: what templates say of their pods stays with them.
    fn parallel(&mut self, parallel: &mut Parallel) {
        let outer = std::mem::take(&mut self.below);
        let worker = std::mem::take(&mut parallel.worker);
        let outside = std::mem::replace(&mut self.inside, true);
        let Expanded { spec, whole } = self.expand(worker, &parallel.uses);
        parallel.worker = spec;
        self.inside = outside;
        if whole {
            parallel.uses.clear();
        }
        self.below = outer;
    }

    fn services(&mut self, services: &mut Services) {
        for service in services.values_mut() {
            self.service(service);
        }
    }

    fn service(&mut self, service: &mut Service) {
        let outside = std::mem::replace(&mut self.inside, true);
        self.service_within(service);
        self.inside = outside;
    }

    fn service_within(&mut self, service: &mut Service) {
        let lost = self.lost;
        let uses = std::mem::take(&mut service.uses);
        for reference in uses.iter().rev() {
            if !self.pay(weight::service(service), &reference.name.place) {
                break;
            }
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
            service.claims = over(template.claims, std::mem::take(&mut service.claims));
        }
        if self.lost > lost {
            service.uses = uses;
        }
    }

    /// Pays for merging once more; false when it is too much.
    fn pay(&mut self, units: usize, place: &Place) -> bool {
        let paid = self.budget.charge(units).is_ok();
        if !paid {
            let message = "what uses templates is too large for so many of them";
            self.problems.push(Problem::new(place, message));
        }
        paid
    }

    /// The spec of a template with its parameters and the templates that it uses put in.
    fn instance(&mut self, reference: &TemplateRef) -> Option<Spec> {
        let wanted = normal(&reference.name.text);
        let before = self.problems.0.len();
        let found = self.find(&reference.name, &wanted);
        let filled = found.and_then(|template| self.fill(template, reference));
        self.name_chain(before);
        if filled.is_none() {
            self.lost += 1;
        }
        self.expand_in(wanted, filled?)
    }

    /// As [`Library::instance`], of a template that is at hand.
    pub(super) fn instance_of(
        &mut self,
        template: &Template,
        reference: &TemplateRef,
    ) -> Option<Spec> {
        let filled = self.fill(template, reference)?;
        self.expand_in(normal(&template.metadata.name), filled)
    }

    /// Names the chain of templates in the problems from `before` on.
    fn name_chain(&mut self, before: usize) {
        if !self.chain.is_empty() {
            let chain = self.chain.join(" → ");
            for problem in self.problems.0.iter_mut().skip(before) {
                problem.message = format!("{} (in {chain})", problem.message);
            }
        }
    }

    fn expand_in(&mut self, name: String, filled: (Spec, Vec<TemplateRef>)) -> Option<Spec> {
        let (spec, uses) = filled;
        let outer = std::mem::take(&mut self.below);
        self.chain.push(name);
        let expanded = self.expand(spec, &uses);
        self.chain.pop();
        self.below = outer;
        Some(expanded.spec)
    }

    /// The template of a name, unless it uses itself or there are too many.
    fn find(&mut self, name: &Text, wanted: &str) -> Option<&'a Template> {
        self.uses += 1;
        let mut chain = self.chain.clone();
        chain.push(wanted.chars().take(100).collect());
        let message = if self.chain.iter().any(|above| above == wanted) {
            format!("templates use one another: {}", chain.join(" → "))
        } else if chain.len() > MAX_TEMPLATE_DEPTH {
            format!("templates in templates, more than {MAX_TEMPLATE_DEPTH} deep")
        } else if self.uses > MAX_TEMPLATE_USES {
            format!("more than {MAX_TEMPLATE_USES} uses of templates, those in templates counted")
        } else {
            let own = self.templates.iter();
            let mut own = own.filter(|template| normal(&template.metadata.name) == wanted);
            let found = own.next().or_else(|| builtin::template(wanted));
            if found.is_none() {
                self.missing(name);
            }
            return found;
        };
        self.problems.push(Problem::new(&name.place, message));
        None
    }

    /// The spec of a template with its parameters put in, and what it uses itself.
    fn fill(
        &mut self,
        template: &Template,
        reference: &TemplateRef,
    ) -> Option<(Spec, Vec<TemplateRef>)> {
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
        let mut uses = template.uses.clone();
        let (values, late) = config::of_template(
            &spec.config,
            &reference.name,
            &reference.config,
            self.base,
            self.problems,
            self.warnings,
        );
        let scope = Document::of_template(self.base, &values, &late);
        let mut resolver = Resolver::new(&scope, self.budget, self.problems);
        if self.inside {
            let claims = template.spec.claims.keys();
            let claims = claims.map(|name| format!("pvcs.{name}"));
            resolver.within(claims.chain([rerun::NAME.to_owned()]).collect());
        }
        spec.visit(&mut resolver);
        for nested in &mut uses {
            nested.visit(&mut resolver);
        }
        let size = resolver.size();
        let steps = count(&spec.setup) + count(&spec.steps) + count(&spec.after);
        self.weigh(size, steps, &reference.name)?;
        Some((spec, uses))
    }

    /// Counts a spec that is used once more; nothing when that is too much.
    pub(super) fn weigh_again(&mut self, spec: &Spec, name: &Text) -> Option<()> {
        let steps = count(&spec.setup) + count(&spec.steps) + count(&spec.after);
        // Without steps a copy costs about as much as one.
        self.weigh(0, steps + 1, name)
    }

    /// Counts what a template brings; nothing when that is too much.
    fn weigh(&mut self, size: usize, steps: usize, name: &Text) -> Option<()> {
        self.size += size;
        self.steps += steps;
        for (found, limit, what) in [
            (self.size, MAX_TEMPLATE_SIZE, "values"),
            (self.steps, MAX_STEPS, "steps"),
        ] {
            if found > limit {
                let message = format!("templates with more than {limit} {what}, all uses counted");
                self.problems.push(Problem::new(&name.place, message));
                return None;
            }
        }
        Some(())
    }

    fn missing(&mut self, name: &Text) {
        if self.problems.is_full() {
            return;
        }
        let short: String = name.text.chars().take(100).collect();
        let message = format!("there is no template `{short}`");
        let mut problem = Problem::new(&name.place, message);
        problem.missing = Some(Box::new(Missing::Template(name.text.clone())));
        let wanted = normal(&name.text);
        let known = self.templates.iter().chain(builtin::all());
        let known = known.map(|template| template.metadata.name.as_str());
        problem.cure = Some(match suggest::nearest(&wanted, known) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "put it into the same file or store it".to_owned(),
        });
        self.problems.push(problem);
    }
}

/// A message of a problem without the chain of templates that it may name at its end.
#[must_use]
pub fn without_chain(message: &str) -> &str {
    let chain = message.rfind(" (in ").filter(|_| message.ends_with(')'));
    chain.map_or(message, |at| &message[..at])
}

fn count(steps: &[Step]) -> usize {
    let nested = |step: &Step| 1 + count(&step.setup) + count(&step.steps);
    steps.iter().map(nested).sum()
}

/// What a template has by names, below what its user has.
fn over<T>(mut low: IndexMap<String, T>, high: IndexMap<String, T>) -> IndexMap<String, T> {
    low.extend(high);
    low
}

/// `a/b` names the template `a--b`.
fn normal(name: &str) -> String {
    name.replace('/', "--")
}

/// A workflow over a template: its values win, its steps come after those of the template, and
/// the `after` list of the template comes last.
pub(super) fn under(template: Spec, own: Spec) -> Spec {
    let mut tags = template.execution.tags;
    tags.extend(own.execution.tags);
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
        claims: over(template.claims, own.claims),
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
            recovery: own.execution.recovery.over(template.execution.recovery),
        },
        timeouts: own.timeouts.over(template.timeouts),
        concurrency: own.concurrency.over(template.concurrency),
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

//! From steps of the language to steps of the plan.

use std::collections::BTreeSet;

use crate::duration;
use crate::plan::{self, Operation};
use crate::problem::{Problem, Problems};
use crate::schema::{Container, Spec, Step, Text};

use super::container::{Containers, Demand};
use super::environment;
use super::{MAX_STEPS, files, merge, name};

mod children;
mod content;
mod process;

/// Builds the steps of a plan and finds the containers that they need.
#[derive(Debug)]
pub(super) struct Builder<'a> {
    spec: &'a Spec,
    /// All templates that the document itself uses are in it: what it has not, it lacks.
    whole: bool,
    containers: Containers,
    problems: &'a mut Problems,
    warnings: &'a mut Problems,
    /// Ids that steps were given; those made of names give way to them.
    given: BTreeSet<&'a str>,
    ids: BTreeSet<String>,
    /// Folders of repositories and archives outside of the language's own.
    folders: BTreeSet<String>,
    count: usize,
    /// Bytes of what was put into the plan so far, roughly.
    bytes: usize,
}

/// What a step has from above.
#[derive(Clone, Copy)]
struct Above<'a> {
    settings: &'a Container,
    pure: bool,
    after: bool,
    /// No template is missing that could add to the settings.
    whole: bool,
}

impl<'a> Builder<'a> {
    pub(super) fn new(
        spec: &'a Spec,
        whole: bool,
        problems: &'a mut Problems,
        warnings: &'a mut Problems,
    ) -> Self {
        let mut builder = Self {
            spec,
            whole,
            containers: Containers::default(),
            problems,
            warnings,
            given: BTreeSet::new(),
            ids: BTreeSet::new(),
            folders: BTreeSet::new(),
            count: 0,
            bytes: 0,
        };
        for steps in [&spec.setup, &spec.steps, &spec.after] {
            builder.gather_ids(steps);
        }
        builder
    }

    /// The containers, and the folders that they share.
    pub(super) fn into_containers(self) -> (Vec<plan::Container>, Vec<String>) {
        let folders = self.folders.into_iter().collect();
        (self.containers.into_inner(), folders)
    }

    /// All steps, in one list: `setup`, `steps`, `after`.
    pub(super) fn steps(&mut self) -> Vec<plan::Step> {
        let spec = self.spec;
        let system = spec.system;
        let pure =
            !system.isolated_containers.unwrap_or(false) && system.pure_by_default.unwrap_or(true);
        let settings = content::with_directory(spec.container.clone(), &spec.content);
        let above = Above {
            settings: &settings,
            pure,
            after: false,
            whole: self.whole,
        };
        let first = self.first(&settings);
        let mut steps = Vec::new();
        let lists = [
            (&spec.setup, false),
            (&spec.steps, false),
            (&spec.after, true),
        ];
        for (list, after) in lists {
            let first = steps.len() + 1;
            steps.extend(self.list(list, "s", first, Above { after, ..above }));
        }
        if steps.is_empty() && self.whole {
            let place = crate::problem::Place {
                path: "spec".into(),
                ..crate::problem::Place::default()
            };
            let message = "the workflow has no steps";
            let cure = "give it `steps`, or a template that has some with `use`";
            self.problems
                .push(Problem::new(&place, message).with_cure(cure.to_owned()));
        }
        let mut steps = steps;
        if let Some(start) = self.services(&spec.services, &settings, true) {
            steps.insert(0, step("s0-services", "Start services", start));
        }
        first.before(steps)
    }

    fn gather_ids(&mut self, steps: &'a [Step]) {
        for step in steps {
            if let Some(id) = &step.id
                && !self.given.insert(&id.text)
            {
                let id_text = &id.text;
                let message = format!(
                    "another step has the id `{id_text}` too: `step.{id_text}` means the first one"
                );
                self.warnings.push(Problem::new(&id.place, message));
            }
            self.gather_ids(&step.setup);
            self.gather_ids(&step.steps);
        }
    }

    fn list(
        &mut self,
        steps: &[Step],
        prefix: &str,
        first: usize,
        above: Above<'_>,
    ) -> Vec<plan::Step> {
        let mut built = Vec::with_capacity(steps.len());
        for (index, step) in steps.iter().enumerate() {
            self.count += 1;
            if self.count > MAX_STEPS {
                let message = format!("more than {MAX_STEPS} steps");
                self.problems.push(Problem::new(&step.place, message));
                break;
            }
            built.push(self.step(step, format!("{prefix}{}", first + index), above));
        }
        built
    }

    fn step(&mut self, step: &Step, reference: String, above: Above<'_>) -> plan::Step {
        let mut settings = merge::container(above.settings, &step.container);
        if let Some(directory) = &step.working_dir {
            settings.working_dir = Some(directory.clone());
        }
        let settings = content::with_directory(settings, &step.content);
        let here = Above {
            settings: &settings,
            pure: step.pure.unwrap_or(above.pure)
                && !self.spec.system.isolated_containers.unwrap_or(false),
            after: above.after,
            whole: above.whole && step.uses.is_empty(),
        };
        let operations = self.operations(step, &reference, here);
        let only_artifacts = matches!(operations.as_slice(), [Operation::Artifacts(_)]);
        let is_nothing = operations.is_empty() && step.content.is_empty();
        if is_nothing && !step.paused && is_whole(step) {
            self.warnings
                .push(Problem::new(&step.place, "the step does nothing"));
        }
        self.check_duration(step.timeout.as_ref());
        let default = if only_artifacts { "always" } else { "passed" };
        let name = step.name.as_ref().map(|name| name.text.clone());
        plan::Step {
            reference,
            id: self.id(step),
            name: name.unwrap_or_else(|| name::default_name(step).to_owned()),
            condition: text_or(step.condition.as_ref(), default),
            optional: step.optional,
            negative: step.negative,
            paused: step.paused,
            retry: step.retry.as_ref().map(|retry| plan::Retry {
                count: retry.count,
                until: text_or(retry.until.as_ref(), "passed"),
                backoff: false,
            }),
            timeout: step.timeout.as_ref().map(|text| text.text.clone()),
            after: above.after,
            operations,
        }
    }

    fn id(&mut self, step: &Step) -> Option<String> {
        if let Some(id) = &step.id {
            let first = self.ids.insert(id.text.clone());
            return first.then(|| id.text.clone());
        }
        let slug = name::slug(&step.name.as_ref()?.text)?;
        let free = !self.given.contains(slug.as_str()) && self.ids.insert(slug.clone());
        free.then_some(slug)
    }

    /// The operations of a step in the order of the language.
    fn operations(&mut self, step: &Step, reference: &str, here: Above<'_>) -> Vec<Operation> {
        let mut operations = Vec::new();
        self.check_duration(step.delay.as_ref());
        operations.extend(step.delay.as_ref().map(|delay| Operation::Delay {
            duration: delay.text.clone(),
        }));
        let content::Fetched {
            operations: fetched,
            inside,
            inside_place,
        } = self.content(
            &step.content,
            here.settings,
            here.after,
            step.uses.is_empty(),
        );
        operations.extend(fetched);
        operations.extend(self.services(&step.services, here.settings, false));
        let prefix = format!("{reference}.");
        let setup = self.list(&step.setup, &prefix, 1, here);
        if !setup.is_empty() {
            operations.push(Operation::Steps { steps: setup });
        }
        let demand = Demand {
            after: here.after,
            owner: (!here.pure).then(|| reference.to_owned()),
        };
        let mut last = None;
        if let Some(run) = &step.run {
            let (operation, container) = self.run(run, here, &demand);
            operations.push(operation);
            last = Some(container);
        }
        if let Some(script) = &step.shell {
            let (operation, container) = self.shell(script, here.settings, &demand);
            operations.push(operation);
            last = Some(container);
        }
        operations.extend(
            step.execute
                .as_ref()
                .map(|execute| self.execute(execute, here.settings)),
        );
        if let Some(parallel) = &step.parallel {
            operations.push(self.parallel(parallel, here.settings));
        }
        let nested = self.list(&step.steps, &prefix, 1 + step.setup.len(), here);
        if !nested.is_empty() {
            operations.push(Operation::Steps { steps: nested });
        }
        files::place(&mut operations, &inside, &mut BTreeSet::new());
        operations.extend(self.artifacts(step, here, last));
        if let Some(place) = inside_place
            && is_whole(step)
            && !has_process(&operations)
        {
            let message = "files outside of /data, /testkube and /tmp are written only into containers of this step, and it starts no process";
            self.problems.push(Problem::new(&place, message));
        }
        operations
    }

    /// Artifacts are looked for in the container of the step, or in that which other steps with
    /// the same settings have used.
    fn artifacts(
        &mut self,
        step: &Step,
        here: Above<'_>,
        last: Option<usize>,
    ) -> Option<Operation> {
        let artifacts = step.artifacts.as_ref()?;
        let mut settings = here.settings.clone();
        let secrets = self.name_secrets(&mut settings, None);
        let mut environment = environment::split(&settings.env);
        environment.cluster.extend(secrets);
        let found = || self.containers.find(&settings, &environment, here.after);
        let directory = artifacts
            .working_dir
            .as_ref()
            .or(settings.working_dir.as_ref());
        Some(Operation::Artifacts(plan::Artifacts {
            container: last.or_else(found),
            working_dir: directory.map(|text| text.text.clone()),
            paths: artifacts
                .paths
                .iter()
                .map(|path| path.text.clone())
                .collect(),
            compress: artifacts.compress.as_ref().map(|name| name.text.clone()),
        }))
    }

    fn check_duration(&mut self, text: Option<&Text>) {
        let is_known = |text: &&Text| text.is_said() && !text.text.contains("{{");
        if let Some(text) = text.filter(is_known)
            && let Err(error) = duration::parse(&text.text)
        {
            self.problems
                .push(Problem::new(&text.place, error.to_string()));
        }
    }
}

/// Whether no template is missing that a step or one in it uses.
fn is_whole(step: &Step) -> bool {
    let mut nested = step.setup.iter().chain(&step.steps);
    step.uses.is_empty() && step.template.is_none() && nested.all(is_whole)
}

fn text_or(text: Option<&Text>, default: &str) -> String {
    text.map_or_else(|| default.to_owned(), |text| text.text.clone())
}

fn has_process(operations: &[Operation]) -> bool {
    operations.iter().any(|operation| match operation {
        Operation::Run(_) => true,
        Operation::Steps { steps } => steps.iter().any(|step| has_process(&step.operations)),
        Operation::Delay { .. }
        | Operation::Files { .. }
        | Operation::Git(_)
        | Operation::Tarball { .. }
        | Operation::Services { .. }
        | Operation::Parallel(_)
        | Operation::Execute(_)
        | Operation::Receive { .. }
        | Operation::Send { .. }
        | Operation::Artifacts(_) => false,
    })
}

/// A step with one operation that stands for something else than a step of the workflow.
pub(super) fn step(reference: &str, name: &str, operation: Operation) -> plan::Step {
    plan::Step {
        reference: reference.to_owned(),
        id: None,
        name: name.to_owned(),
        condition: "passed".to_owned(),
        optional: false,
        negative: false,
        paused: false,
        retry: None,
        timeout: None,
        after: false,
        operations: vec![operation],
    }
}

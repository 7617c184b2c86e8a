//! From a workflow to a plan: templates are merged, parameters checked, expressions resolved as
//! far as is possible without the pod, settings inherited, steps put into containers.

mod build;
mod builtin;
mod child;
mod common;
mod config;
mod container;
mod credential;
mod environment;
mod execution;
mod files;
mod folder;
mod global;
mod known;
mod merge;
mod name;
mod pod;
mod policy;
mod probe;
mod resolve;
mod scope;
mod secret;
mod template;
mod weight;

pub use builtin::{all as builtin_templates, template as builtin_template};
pub use child::{Child, child};
pub use common::Common;
pub use config::check as check_value;
pub use credential::MAX_CREDENTIALS;
pub use execution::target;
pub(crate) use name::slug;
pub use policy::{Concurrency, LostAgent, MAX_RETRIES, Policy};
pub use template::without_chain;

/// Begins the names of variables whose values are templates: the conductor resolves them.
pub const COMPUTED_PREFIX: &str = secret::COMPUTED;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::expression::{Budget, Value};
use crate::manifest;
use crate::plan::{EnvVar, PLAN_VERSION, Plan};
use crate::problem::{Place, Problem, Problems};
use crate::rerun::Rerun;
use crate::schema::{Spec, Template, Workflow};

/// What is compiled.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// The workflow.
    pub workflow: &'a Workflow,
    /// Templates that it may name in `use` and `template`.
    pub templates: &'a [Template],
    /// The template that is put below every workflow, as if it were the first one in `use`.
    pub global: Option<&'a Template>,
    /// Values of `spec.config` parameters, as text.
    pub config: &'a BTreeMap<String, String>,
    /// What becomes of values for parameters that the workflow does not declare.
    pub undeclared: Undeclared,
    /// What is known of the execution.
    pub execution: &'a ExecutionInfo,
}

/// What becomes of a value for a parameter that is not declared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Undeclared {
    /// It is refused: somebody has just written it.
    #[default]
    Refused,
    /// It is passed on as text, with a warning: a suite gives the same values to many workflows.
    PassedOn,
}

/// What expressions may ask of an execution.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ExecutionInfo {
    /// `execution.id`.
    pub id: String,
    /// `execution.name`.
    pub name: String,
    /// `execution.number`: counts per workflow.
    pub number: u64,
    /// `execution.scheduledAt`, RFC 3339.
    pub scheduled_at: String,
    /// `execution.tags` given with the request; they win over those of the workflow.
    pub tags: BTreeMap<String, String>,
    /// `rerun`: which execution is run again, if it is one.
    pub rerun: Rerun,
    /// More variables by their path, such as `organization.id` or `dashboard.url`.
    pub variables: BTreeMap<String, Value>,
}

impl ExecutionInfo {
    /// The first one of a workflow, for checks: none of its values is empty. `scheduled_at` is
    /// RFC 3339.
    #[must_use]
    pub fn first(workflow: &str, scheduled_at: &str) -> Self {
        Self {
            id: "00000000-0000-0000-0000-000000000000".to_owned(),
            name: format!("{workflow}-1"),
            number: 1,
            scheduled_at: scheduled_at.to_owned(),
            ..Self::default()
        }
    }
}

/// Labels that an agent must have and must not have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Target {
    /// All of these labels, each with one of the values.
    pub matches: BTreeMap<String, Vec<String>>,
    /// None of these labels with any of the values.
    pub not: BTreeMap<String, Vec<String>>,
    /// Labels for each of whose values it is run once.
    pub replicate: Vec<String>,
}

/// A compiled workflow.
#[derive(Debug, Clone, PartialEq)]
pub struct Compiled {
    /// Name of the workflow.
    pub name: String,
    /// What agent and pod need.
    pub plan: Plan,
    /// Tags of the execution: the workflow's and the request's.
    pub tags: BTreeMap<String, String>,
    /// Labels of the workflow.
    pub labels: BTreeMap<String, String>,
    /// Where it should run, when the workflow says so.
    pub target: Option<Target>,
    /// Longest time in the queue, when the workflow says so.
    pub queue: Option<Duration>,
    /// What it says of attempts that end badly, and how long stages may take.
    pub policy: Policy,
    /// With whom it shares its turn.
    pub concurrency: Option<Concurrency>,
    /// What the workflow asks for and has no effect.
    pub warnings: Vec<Problem>,
    /// Nothing of it but what expressions in the pod may ask of the execution is its own: see
    /// [`Common`].
    common: bool,
    /// The workflow as it is run, a YAML document: templates merged, parameters put in. Values of
    /// sensitive parameters are hidden; nothing when it can not be shown without them.
    pub resolved: Option<String>,
}

/// What is shown in the place of a sensitive value.
pub const HIDDEN: &str = "********";

/// Most steps of a plan.
pub const MAX_STEPS: usize = 1000;
/// Most containers of a pod, apart from the conductor's.
pub const MAX_CONTAINERS: usize = 50;
/// Largest plan, as JSON: it travels in one message.
pub const MAX_PLAN_BYTES: usize = 2 * 1024 * 1024;
/// Most that the templates of a workflow may hold together, in values; long texts count more.
pub const MAX_TEMPLATE_SIZE: usize = 100_000;
/// Deepest chain of templates that use templates.
pub const MAX_TEMPLATE_DEPTH: usize = 16;
/// Most uses of templates in a workflow, those in templates counted each time: an empty template
/// costs time too.
pub const MAX_TEMPLATE_USES: usize = 10_000;
/// What resolving all expressions of a workflow may cost, in steps.
const MAX_COST: usize = 5_000_000;
/// How often it is looked whether tags that are made of tags are known.
const MAX_TAG_ROUNDS: usize = 3;
/// Most tags of an execution, and most labels of a workflow.
pub const MAX_TAGS: usize = 64;

/// Deepest nesting of steps, those of templates and workers counted.
pub const MAX_STEP_DEPTH: usize = 30;
/// Deepest nesting of a plan, as JSON: readers refuse 128.
const MAX_PLAN_DEPTH: usize = 126;

/// Compiles a workflow.
///
/// Values of `sensitive` parameters are substituted where they are used, like all others, but
/// are not among the variables that expressions in the pod may ask for ([`Plan::context`]).
///
/// # Errors
///
/// All problems found, each with its place and cure.
pub fn compile(input: &Input<'_>) -> Result<Compiled, Problems> {
    let (mut problems, mut warnings) = (Problems::default(), Problems::default());
    let built = build(input, Mode::Run, &mut problems, &mut warnings);
    built.ok_or_else(|| in_order(problems, input.workflow))
}

/// What is wrong with a document, and what is worth a warning.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Findings {
    /// What must be mended before it can run.
    pub problems: Vec<Problem>,
    /// What has no effect, or likely another one than is meant.
    pub warnings: Vec<Problem>,
}

/// Checks a workflow as [`compile`] does, whatever values its parameters without a default get:
/// nothing is said of what depends on them.
#[must_use]
pub fn check(input: &Input<'_>) -> Findings {
    findings(input, Mode::Check)
}

/// Checks a template by itself, as [`check`] does with workflows: nothing is said of what workflows
/// that use it may add. `templates` are those that it may use; `scheduled_at` is RFC 3339.
#[must_use]
pub fn check_template(template: &Template, templates: &[Template], scheduled_at: &str) -> Findings {
    let workflow = Workflow {
        metadata: template.metadata.clone(),
        description: None,
        place: Arc::new(Place::document(&template.metadata.name)),
        uses: template.uses.clone(),
        spec: template.spec.clone(),
        unsupported: template.unsupported.clone(),
        warnings: template.warnings.clone(),
    };
    let input = Input {
        workflow: &workflow,
        templates,
        global: None,
        config: &BTreeMap::new(),
        undeclared: Undeclared::Refused,
        execution: &ExecutionInfo::first(&template.metadata.name, scheduled_at),
    };
    findings(&input, Mode::Template)
}

fn findings(input: &Input<'_>, mode: Mode) -> Findings {
    let (mut problems, mut warnings) = (Problems::default(), Problems::default());
    build(input, mode, &mut problems, &mut warnings);
    Findings {
        problems: in_order(problems, input.workflow).0,
        warnings: warnings.0,
    }
}

/// What a document is compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// To be run.
    Run,
    /// To see what is wrong with it: parameters may be without a value.
    Check,
    /// The same of a template.
    Template,
}

/// Problems in the order of the document: values that were given first, what other documents have
/// last.
fn in_order(mut problems: Problems, workflow: &Workflow) -> Problems {
    // What is wrong with the whole has the place of the whole.
    for place in problems.0.iter_mut().map(|problem| &mut problem.place) {
        let whole = place.path.is_empty() || place.path.starts_with("spec");
        if place.line == 0 && place.document.is_empty() && whole {
            let path = std::mem::take(&mut place.path);
            *place = Place::clone(&workflow.place);
            if !path.is_empty() {
                place.path = path;
            }
        }
    }
    let own = &workflow.place.document;
    problems.0.sort_by_key(|problem| {
        let place = &problem.place;
        let is_elsewhere = place.line > 0 && place.document != *own;
        let (line, column) = match is_elsewhere {
            true => (0, 0),
            false => (place.line, place.column),
        };
        (is_elsewhere, line, column)
    });
    problems
}

fn build(
    input: &Input<'_>,
    mode: Mode,
    problems: &mut Problems,
    warnings: &mut Problems,
) -> Option<Compiled> {
    problems.0.clone_from(&input.workflow.unsupported);
    warnings.0.clone_from(&input.workflow.warnings);
    let mut base = scope::Base::new(input, mode);
    let config = config::of_workflow(input, mode, &base, problems, warnings);
    let before = (problems.clone(), warnings.clone());
    let mut merged = merge_templates(input, mode, &base, &config, problems, warnings);
    // Tags may come of templates, parameters and other tags, and all texts may ask for them.
    for _ in 0..MAX_TAG_ROUNDS {
        if !base.set_tags(&execution::tags(input, &merged.spec)) {
            break;
        }
        (*problems, *warnings) = before.clone();
        merged = merge_templates(input, mode, &base, &config, problems, warnings);
    }
    let Merged {
        mut spec,
        whole,
        complete,
    } = merged;

    let mut later = Problems::default();
    if mode != Mode::Template {
        known::check(&spec, complete, &mut later, warnings);
    }
    let budget = Budget::new(MAX_COST);
    let credentials = credential::names(&mut spec, None, &budget, &mut later);
    let mut builder = build::Builder::new(&spec, whole, &mut later, warnings);
    let steps = builder.steps();
    let (containers, folders) = builder.into_containers();
    let mut pod = pod::build(&spec, &input.execution.id, &mut later);
    pod.folders = folders;
    let execution = execution::build(input, &spec, &mut later);
    let queue = policy::time(spec.timeouts.queue.as_ref(), &mut later);
    let policy = policy::policy(&spec, &mut later);
    let concurrency = policy::concurrency(&spec, &mut later);
    problems.follow(later);
    if !problems.is_empty() {
        return None;
    }

    let secret = config::secret(&input.workflow.spec.config, input.config);
    // Their names are made of the id.
    let common = base.is_common() && pod.claims.is_empty();
    let resolved = resolved(input, &base, &config, &secret, &spec);
    let plan = Plan {
        version: PLAN_VERSION,
        context: scope::Document::new(&base, &config).context(&secret),
        env: environment_of(&input.execution.rerun),
        containers,
        pod,
        credentials,
        masked: config.texts(&secret),
        service: None,
        steps,
    };
    if let Err(too_large) = check_size(&plan) {
        *problems = too_large;
        return None;
    }
    Some(Compiled {
        name: input.workflow.metadata.name.clone(),
        plan,
        tags: execution.tags,
        labels: input.workflow.metadata.labels.clone(),
        target: execution.target,
        queue,
        policy,
        concurrency,
        warnings: warnings.0.clone(),
        common,
        resolved,
    })
}

/// A spec with its parameters put in and all templates merged.
struct Merged {
    spec: Spec,
    /// All templates that the workflow itself uses are in it.
    whole: bool,
    /// All templates are in it: what it does not have is nowhere.
    complete: bool,
}

fn merge_templates(
    input: &Input<'_>,
    mode: Mode,
    base: &scope::Base,
    config: &scope::Config,
    problems: &mut Problems,
    warnings: &mut Problems,
) -> Merged {
    let scope = scope::Document::new(base, config);
    let budget = Budget::new(MAX_COST);
    let mut spec = input.workflow.spec.clone();
    let mut uses = input.workflow.uses.clone();
    let mut wrong = Problems::default();
    let mut resolver = resolve::Resolver::new(&scope, &budget, &mut wrong);
    spec.visit(&mut resolver);
    for reference in &mut uses {
        reference.visit(&mut resolver);
    }
    problems.follow(wrong);

    let mut wrong = Problems::default();
    let mut library = template::Library::new(input.templates, base, &budget, &mut wrong, warnings);
    let template::Expanded { mut spec, whole } = library.expand(spec, &uses);
    if let Some(global) = input.global {
        spec = library.over_global(spec, global);
    }
    let complete = library.is_complete();
    problems.follow(wrong);
    Merged {
        spec,
        complete,
        whole: whole && mode != Mode::Template,
    }
}

/// The workflow as it is run, for people.
fn resolved(
    input: &Input<'_>,
    base: &scope::Base,
    config: &scope::Config,
    secret: &BTreeSet<String>,
    spec: &Spec,
) -> Option<String> {
    let mut workflow = Workflow {
        spec: spec.clone(),
        uses: Vec::new(),
        ..input.workflow.clone()
    };
    if !secret.is_empty() {
        let mut hidden = config.clone();
        for (name, value) in &mut hidden.values {
            if secret.contains(name) {
                *value = Value::from(HIDDEN);
            }
        }
        let (mut problems, mut warnings) = (Problems::default(), Problems::default());
        let merged = merge_templates(
            input,
            Mode::Run,
            base,
            &hidden,
            &mut problems,
            &mut warnings,
        );
        if !problems.is_empty() {
            return None;
        }
        workflow.spec = merged.spec;
    }
    // What parameters there were, and their defaults, is in the manifest.
    workflow.spec.config.clear();
    let text = manifest::write(&workflow);
    (text.len() <= MAX_PLAN_BYTES).then_some(text)
}

/// What every step finds in its environment.
fn environment_of(rerun: &Rerun) -> Vec<EnvVar> {
    let variable = |name: &str, value: &str| EnvVar {
        name: name.to_owned(),
        value: value.to_owned(),
    };
    let mut all = vec![variable("CI", "1")];
    if !rerun.of.is_empty() {
        all.push(variable("MUSTER_RERUN_OF", &rerun.of));
    }
    all
}

fn check_size(plan: &Plan) -> Result<(), Problems> {
    let bytes = serde_json::to_vec(plan).unwrap_or_default();
    let (size, depth) = (bytes.len(), json_depth(&bytes));
    let message = if size > MAX_PLAN_BYTES {
        format!("the plan has {size} bytes, at most {MAX_PLAN_BYTES} are allowed")
    } else if depth > MAX_PLAN_DEPTH {
        format!("the plan is nested deeper than {MAX_PLAN_DEPTH} levels: it has {depth}")
    } else {
        return Ok(());
    };
    Err(Problem::new(&Place::default(), message).into())
}

/// Nesting of a JSON text.
fn json_depth(bytes: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut quoted, mut escaped) = (false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => quoted = !quoted,
            b'[' | b'{' if !quoted => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

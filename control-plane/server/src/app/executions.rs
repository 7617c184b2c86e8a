//! Executions, as their callers see them.

mod again;
mod earlier;
mod known;
mod loaded;
mod replicas;
mod tested;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use muster_core::{
    execution::Stop,
    id::ExecutionId,
    policy::{Interrupted, LostAgent, Policy},
};
use muster_spec::{
    compile::{self, Common, Compiled, ExecutionInfo, Input, Undeclared},
    plan::{Operation, Plan, Step},
    problem::Problems,
    schema::{self, Workflow},
};
use muster_storage::{
    Page, Request,
    execution::{
        Concurrency, Details, Event, Execution, Filter, Identity, NewExecution, Origin, Role,
        StepResult, StepState, Target,
    },
    project::Project,
};

use super::{Access, App, Caller, Error, children::Hold};
use crate::config::{DEFAULT_QUEUE_WAIT, MAX_PAIRS};
pub(crate) use again::Again;
pub(super) use again::ONE_LOOK;
pub(crate) use known::Known;
pub(super) use loaded::Loaded;
pub(crate) use replicas::REPLICAS;
pub(crate) use tested::test_identity;

/// What is shown in the place of a sensitive value.
const HIDDEN: &str = "********";

/// What is to be run.
#[derive(Debug)]
pub(crate) enum Source {
    /// A stored workflow, by name.
    Stored(String),
    /// Documents that travel with the request.
    Inline {
        /// The YAML text.
        text: String,
        /// Which workflow or request to run, when there are several.
        workflow: Option<String>,
    },
    /// Documents that travelled with the request of a suite.
    Member {
        /// The YAML text.
        text: String,
        /// The workflow.
        workflow: String,
    },
    /// A stored workflow in one of its revisions.
    Revision {
        /// Its name.
        name: String,
        /// The revision.
        revision: i64,
    },
    /// What an earlier execution ran, by its name or id.
    Earlier(String),
}

/// A wanted execution.
#[derive(Debug)]
pub(crate) struct NewRun {
    pub(crate) source: Source,
    pub(crate) config: BTreeMap<String, String>,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) target: Option<Target>,
    pub(crate) max_wait: Option<Duration>,
    /// What becomes of `config` that the workflow does not declare.
    pub(crate) undeclared: Undeclared,
    /// Only what failed of an earlier execution is to be run again.
    pub(crate) failed_only: bool,
    /// The earlier execution, once it is known.
    pub(crate) again: Option<Again>,
}

/// Children go before what has not begun, so that a tree ends before the next one begins.
pub(super) const GENERATION_PRIORITY: i32 = 1;

impl App {
    /// Accepts a run. When this returns, the execution is durable. There are several when the target
    /// is to be replicated.
    pub(crate) async fn create_execution(
        &self,
        caller: &Caller,
        project: &str,
        mut new: NewRun,
        request: Option<&Request>,
    ) -> Result<Vec<Details>, Error> {
        let project = self.project(caller, project, Access::Write).await?;
        let executions = self.store.executions(project.id);
        let mut earlier = Vec::new();
        if let Some(request) = request
            && let Some(found) = executions.replay(request).await?
        {
            let found = executions.details(found.id).await?;
            earlier = self.replicas_of(&project, &found).await?;
            if earlier.is_empty() {
                return Ok(vec![found]);
            }
            // Some of them may be missing.
        }
        new = self.again(project.id, new).await?;
        let loaded = self.load(project.id, &new.source).await?;
        if let Some(document) = &loaded.request {
            new.take_over(document);
        }
        for (field, pairs) in [("config", &new.config), ("tags", &new.tags)] {
            if pairs.len() > MAX_PAIRS {
                let text = format!("{} entries, at most {MAX_PAIRS} are allowed", pairs.len());
                return Err(Error::invalid(field, text));
            }
        }
        let targets = match self.replicas(&project, &new, &loaded).await {
            // The agents are gone that it was replicated over.
            Err(_) if !earlier.is_empty() => return Ok(earlier),
            targets => targets?,
        };
        if !targets.is_empty() {
            if new.failed_only {
                let text = "what failed runs once: give a target without labels to replicate over";
                return Err(Error::invalid("target.replicate", text));
            }
            return self
                .accept_replicas(&caller.name, &project, new, &loaded, targets, request)
                .await;
        }
        let details = self
            .accept(&caller.name, &project, &new, &loaded, None, request)
            .await?;
        Ok(vec![details])
    }

    /// Compiles and stores a run.
    pub(super) async fn accept(
        &self,
        creator: &str,
        project: &Project,
        new: &NewRun,
        loaded: &Loaded,
        origin: Option<Origin>,
        request: Option<&Request>,
    ) -> Result<Details, Error> {
        let executions = self.store.executions(project.id);
        let name = &loaded.workflow.metadata.name;
        let common = self.try_out(loaded, new)?;
        let (mut record, cancels) = match &common {
            Some(common) => {
                let id = ExecutionId::generate();
                let identity = Identity::unnumbered(id, name, self.clock.now());
                let compiled = common.compiled();
                let record = record(creator, new, loaded, compiled, identity);
                (record, cancels(compiled))
            }
            None => {
                let identity = executions.reserve(name).await?;
                let compiled = compile(loaded, new, &identity)?;
                let plan = serde_json::to_vec(&compiled.plan);
                let plan = plan.map_err(|error| Error::Internal(error.into()))?;
                let record = NewExecution {
                    plan: plan.into(),
                    ..record(creator, new, loaded, &compiled, identity)
                };
                (record, cancels(&compiled))
            }
        };
        if !record.target.replicate.is_empty() {
            let text =
                "a member of a suite runs once: say how often by `matrix`, with a `target` each";
            return Err(Error::invalid("target.replicate", text));
        }
        record.policy = record
            .policy
            .over(project.settings.policy)
            .over(self.config.recovery);
        if let Some(origin) = origin {
            record.priority = GENERATION_PRIORITY;
            record.origin = Some(origin);
            // The root's row has it for the whole tree.
            record.source = None;
        }
        let steps = record.steps.clone();
        let written = match common {
            Some(common) => {
                let given = info(new, &record.identity);
                let plan = move |identity: &Identity| {
                    let info = named(given.clone(), identity);
                    Ok(Bytes::from(common.plan(&info)?))
                };
                executions.create_next(record, plan, request).await?
            }
            None => executions.create(record, request).await?,
        };
        if written.replayed {
            return Ok(executions.details(written.value.id).await?);
        }
        if cancels {
            self.cancel_older(&written.value).await?;
        }
        // As it was accepted: nobody has to read what is known here.
        Ok(Details {
            execution: written.value,
            steps,
            outputs: Vec::new(),
            attempts: Vec::new(),
            children: Vec::new(),
        })
    }

    /// Compiles a run before a number is taken, so that a bad manifest takes none; what an earlier run
    /// of the same came to stands for it. Nothing when it has to be compiled for each execution. Of
    /// what holds secrets nothing is kept for a later one.
    fn try_out(&self, loaded: &Loaded, new: &NewRun) -> Result<Option<Arc<Common>>, Error> {
        // What failed tests are put into is nobody else's.
        let stored = loaded.alone().filter(|_| new.again.is_none());
        if let Some(revision) = stored
            && let Some(known) = self.known.compiled(revision, new)
        {
            return Ok(known);
        }
        let compiled = compile(loaded, new, &self.trial_identity(loaded))?;
        let common = Common::new(compiled).ok().map(Arc::new);
        if let Some(revision) = stored {
            let workflow = &loaded.workflow;
            self.known
                .keep_compiled(revision, workflow, new, common.as_ref());
        }
        Ok(common)
    }

    /// The identity of an execution that is compiled to see what comes of it.
    fn trial_identity(&self, loaded: &Loaded) -> Identity {
        Identity {
            id: ExecutionId::generate(),
            workflow: loaded.workflow.metadata.name.clone(),
            number: 1,
            display_name: format!("{}-1", loaded.workflow.metadata.name),
            create_time: self.clock.now(),
        }
    }

    /// Ends older executions of the group of a new one, the oldest first, as far as they are too
    /// many beside it.
    async fn cancel_older(&self, newest: &Execution) -> Result<(), Error> {
        let executions = self.store.executions(newest.project);
        let message = format!("{} takes its place", newest.display_name);
        for older in executions.beyond_group(newest).await? {
            let changed = executions
                .cancel(older, Stop::Orderly, &message, None)
                .await?;
            self.perform(&changed);
        }
        Ok(())
    }

    pub(crate) async fn get_execution(
        &self,
        caller: &Caller,
        project: &str,
        name: &str,
    ) -> Result<Details, Error> {
        let project = self.project(caller, project, Access::Read).await?;
        let executions = self.store.executions(project.id);
        let found = executions.find(name).await?;
        Ok(executions.details(found.id).await?)
    }

    /// The workflow that an execution ran. A worker or a service is a part of its parent's.
    pub(crate) async fn get_execution_workflow(
        &self,
        caller: &Caller,
        project: &str,
        name: &str,
    ) -> Result<String, Error> {
        let project = self.project(caller, project, Access::Read).await?;
        let executions = self.store.executions(project.id);
        let mut found = executions.find(name).await?;
        while let Some(origin) = &found.origin
            && matches!(origin.role, Role::Worker | Role::Service)
        {
            found = executions.get(origin.parent).await?;
        }
        executions.resolved(found.id).await?.ok_or_else(|| {
            let text = format!(
                "the workflow of {} was not kept: it is too large, or can not be shown without its secrets",
                found.display_name
            );
            Error::NotFound(text)
        })
    }

    pub(crate) async fn list_executions(
        &self,
        caller: &Caller,
        project: &str,
        filter: &Filter,
        after: Option<ExecutionId>,
        limit: u32,
    ) -> Result<Page<Execution, ExecutionId>, Error> {
        let project = self.project(caller, project, Access::Read).await?;
        Ok(self
            .store
            .executions(project.id)
            .list(filter, after, limit)
            .await?)
    }

    pub(crate) async fn cancel_execution(
        &self,
        caller: &Caller,
        project: &str,
        name: &str,
        stop: Stop,
        message: &str,
        request: Option<&Request>,
    ) -> Result<Details, Error> {
        let project = self.project(caller, project, Access::Write).await?;
        let executions = self.store.executions(project.id);
        let found = executions.find(name).await?;
        let message = match message {
            "" => format!("canceled by {}", caller.name),
            given => given.to_owned(),
        };
        let changed = executions.cancel(found.id, stop, &message, request).await?;
        self.perform(&changed);
        if stop == Stop::Forced {
            self.force_children(&found, &message).await?;
        }
        Ok(executions.details(found.id).await?)
    }

    pub(crate) async fn pause_execution(
        &self,
        caller: &Caller,
        project: &str,
        name: &str,
        message: &str,
        request: Option<&Request>,
    ) -> Result<Details, Error> {
        let project = self.project(caller, project, Access::Write).await?;
        let executions = self.store.executions(project.id);
        let found = executions.find(name).await?;
        let message = match message {
            "" => format!("paused by {}", caller.name),
            given => given.to_owned(),
        };
        let changed = executions.pause(found.id, &message, request).await?;
        self.perform(&changed);
        self.hold_children(&found, Hold::Pause).await?;
        Ok(executions.details(found.id).await?)
    }

    pub(crate) async fn resume_execution(
        &self,
        caller: &Caller,
        project: &str,
        name: &str,
        request: Option<&Request>,
    ) -> Result<Details, Error> {
        let project = self.project(caller, project, Access::Write).await?;
        let executions = self.store.executions(project.id);
        let found = executions.find(name).await?;
        let message = format!("resumed by {}", caller.name);
        let changed = executions.resume(found.id, &message, request).await?;
        self.perform(&changed);
        self.hold_children(&found, Hold::Resume).await?;
        Ok(executions.details(found.id).await?)
    }

    pub(crate) async fn list_execution_events(
        &self,
        caller: &Caller,
        project: &str,
        name: &str,
        after: i64,
        limit: u32,
    ) -> Result<Page<Event, i64>, Error> {
        let project = self.project(caller, project, Access::Read).await?;
        let executions = self.store.executions(project.id);
        let found = executions.find(name).await?;
        Ok(executions.events(found.id, after, limit).await?)
    }
}

/// Whether it ends older ones of its concurrency group.
fn cancels(compiled: &Compiled) -> bool {
    let concurrency = compiled.concurrency.as_ref();
    concurrency.is_some_and(|concurrency| concurrency.cancel_in_progress)
}

/// What is stored of a run, but its plan.
fn record(
    creator: &str,
    new: &NewRun,
    loaded: &Loaded,
    compiled: &Compiled,
    identity: Identity,
) -> NewExecution {
    let wait = new.max_wait.or(compiled.queue);
    let wait = wait.unwrap_or(DEFAULT_QUEUE_WAIT);
    let concurrency = compiled.concurrency.as_ref();
    NewExecution {
        origin: None,
        policy: policy(&compiled.policy),
        concurrency: concurrency.map(|said| Concurrency {
            group: said.group.clone(),
            most: said.most,
        }),
        source: loaded.source.clone(),
        resolved: compiled.resolved.clone(),
        workflow_revision: loaded.revision,
        steps: steps(&compiled.plan),
        tags: compiled.tags.clone(),
        labels: compiled.labels.clone(),
        config: shown_config(&loaded.workflow, &new.config),
        target: new
            .target
            .clone()
            .unwrap_or_else(|| target(compiled.target.as_ref())),
        warnings: warnings(new, loaded, compiled),
        rerun: new.again.as_ref().map(|again| again.link.clone()),
        priority: 0,
        creator: creator.to_owned(),
        queue_deadline: deadline(&identity, wait),
        plan: Bytes::new(),
        identity,
    }
}

/// What a workflow says, in the words of the state machine.
fn policy(said: &compile::Policy) -> Policy {
    let millis = |wait: Option<Duration>| {
        wait.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX))
    };
    Policy {
        lost_agent: said.lost_agent.map(|choice| match choice {
            compile::LostAgent::Wait => LostAgent::Wait,
            compile::LostAgent::Rerun => LostAgent::Rerun,
            compile::LostAgent::Fail => LostAgent::Fail,
        }),
        lost_agent_after_ms: millis(said.lost_agent_after),
        interrupted: said.rerun_interrupted.map(|rerun| match rerun {
            true => Interrupted::Rerun,
            false => Interrupted::Fail,
        }),
        infrastructure_retries: said.infrastructure_retries,
        test_retries: said.test_retries,
        start_timeout_ms: millis(said.start_timeout),
        run_timeout_ms: millis(said.run_timeout),
        stop_grace_ms: millis(said.stop_grace),
    }
}

/// When an execution has waited too long.
pub(super) fn deadline(identity: &Identity, wait: Duration) -> Option<jiff::Timestamp> {
    jiff::SignedDuration::try_from(wait)
        .ok()
        .and_then(|wait| identity.create_time.checked_add(wait).ok())
}

/// What expressions may ask of an execution.
fn info(new: &NewRun, identity: &Identity) -> ExecutionInfo {
    ExecutionInfo {
        id: identity.id.to_string(),
        scheduled_at: identity.create_time.to_string(),
        tags: new.tags.clone(),
        rerun: new
            .again
            .as_ref()
            .map(|again| again.told.clone())
            .unwrap_or_default(),
        ..named(ExecutionInfo::default(), identity)
    }
}

/// The same for an execution that is called so.
fn named(info: ExecutionInfo, identity: &Identity) -> ExecutionInfo {
    ExecutionInfo {
        name: identity.display_name.clone(),
        number: u64::try_from(identity.number).unwrap_or(0),
        ..info
    }
}

/// What is to be said of what was loaded, then what is to be said of the workflow, and of tests that
/// run again.
fn warnings(new: &NewRun, loaded: &Loaded, compiled: &Compiled) -> Vec<String> {
    let of_request = loaded.request.iter().flat_map(|it| &it.warnings);
    let of_loaded = loaded.warnings.iter().chain(of_request);
    let all = of_loaded.chain(&compiled.warnings);
    let of_rerun = new.again.iter().flat_map(|again| again.remarks.clone());
    all.map(ToString::to_string).chain(of_rerun).collect()
}

fn compile(loaded: &Loaded, new: &NewRun, identity: &Identity) -> Result<Compiled, Error> {
    let execution = info(new, identity);
    let input = Input {
        workflow: &loaded.workflow,
        templates: &loaded.templates,
        global: loaded.global.as_ref(),
        config: &new.config,
        undeclared: new.undeclared,
        execution: &execution,
    };
    let unsupported = loaded.request.as_ref().map(|it| it.unsupported.clone());
    if let Some(unsupported) = unsupported.filter(|problems| !problems.is_empty()) {
        return Err(Problems(unsupported).into());
    }
    compile::compile(&input).map_err(|problems| match &loaded.request {
        Some(document) => document.all_placed(problems).into(),
        None => problems.into(),
    })
}

impl NewRun {
    /// What a document asks for, below what was asked for in another way.
    fn take_over(&mut self, document: &schema::Request) {
        self.config = document.config_below(&self.config);
        let given = std::mem::replace(&mut self.tags, document.tags.clone());
        self.tags.extend(given);
        if self.target.is_none() {
            self.target = document.target().map(|it| target(Some(&it)));
        }
    }
}

pub(super) fn target(compiled: Option<&compile::Target>) -> Target {
    compiled.map_or_else(Target::default, |target| Target {
        matches: target.matches.clone(),
        not: target.not.clone(),
        replicate: target.replicate.clone(),
    })
}

fn shown_config(workflow: &Workflow, given: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let shown = |(name, value): (&String, &String)| {
        let parameter = workflow.spec.config.get(name);
        let value = match parameter {
            Some(parameter) if parameter.sensitive => HIDDEN.to_owned(),
            _ => value.clone(),
        };
        (name.clone(), value)
    };
    given.iter().map(shown).collect()
}

/// All steps of a plan in document order, not reached yet.
pub(super) fn steps(plan: &Plan) -> Vec<StepResult> {
    let mut all = Vec::new();
    add_steps(&mut all, "", &plan.steps);
    all
}

fn add_steps(all: &mut Vec<StepResult>, parent: &str, steps: &[Step]) {
    for step in steps {
        all.push(StepResult {
            reference: step.reference.clone(),
            parent: parent.to_owned(),
            id: step.id.clone().unwrap_or_default(),
            display_name: step.name.clone(),
            state: StepState::Queued,
            exit_code: None,
            reason: String::new(),
            message: String::new(),
            start_time: None,
            finish_time: None,
            tries: 0,
            optional: step.optional,
            negative: step.negative,
            paused_ms: 0,
            outputs: BTreeMap::new(),
        });
        for operation in &step.operations {
            if let Operation::Steps { steps } = operation {
                add_steps(all, &step.reference, steps);
            }
        }
    }
}

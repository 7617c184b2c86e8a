//! What executions start beside themselves: workers, services, members of a suite. They are
//! executions like all others; here they are made from the plan of their parent, found by it and
//! ended with it.

use std::collections::BTreeMap;

use bytes::Bytes;
use muster_core::{
    execution::{Lease, Stop},
    id::ExecutionId,
    policy::Policy,
};
use muster_spec::{
    compile::{self, Child as Compile},
    plan::{Given, Operation, Plan, Service},
    schema::Spec,
};
use muster_storage::{
    agent::Agent,
    artifact::ARCHIVES,
    attempt::{Attempt, Status},
    execution::{Child, Execution, Identity, NewExecution, Origin, Role, Target},
};
use serde_json::{Map, Value};

use super::{
    App, Error, NewRun, Source,
    executions::{Again, GENERATION_PRIORITY, ONE_LOOK, deadline, steps, target},
    whole::{self, WholeStream},
};
use crate::config::{DEFAULT_QUEUE_WAIT, MAX_PAIRS};

mod former;
mod hold;
mod suite;

pub(super) use hold::Hold;
pub(crate) use suite::Requirement;

/// Most instances of one call.
pub(crate) const MAX_INSTANCES: usize = 100;
/// Most children of one attempt.
const MAX_CHILDREN: usize = 20_000;
/// Most generations of one tree.
const MAX_GENERATIONS: usize = 16;
/// Longest name of a group.
const MAX_GROUP: usize = 120;
/// Label of an embedded agent's session; what belongs to it runs nowhere else.
pub(super) const SESSION_LABEL: &str = "muster.dev/session";
/// Most orphans of one sweep.
const BATCH: u32 = 500;

/// Children that an attempt wants.
#[derive(Debug)]
pub(crate) struct StartChildren {
    /// Names them together.
    pub(crate) group: String,
    /// Reference of the step.
    pub(crate) step: String,
    /// Index of the operation in the step.
    pub(crate) operation: usize,
    /// Which of its services or workflows.
    pub(crate) item: usize,
    /// Variables of all.
    pub(crate) variables: Map<String, Value>,
    /// One by one.
    pub(crate) instances: Vec<NewChild>,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct NewChild {
    /// Its index in the group.
    pub(crate) index: u32,
    /// Its own variables.
    pub(crate) variables: Map<String, Value>,
    /// What sets it apart.
    pub(crate) description: String,
    /// Archives that come and go.
    pub(crate) given: Given,
    /// Name of the workflow of a member.
    pub(crate) workflow: String,
    /// Config of a member.
    pub(crate) config: BTreeMap<String, String>,
}

/// What an operation of the parent says of its children.
enum Wanted<'a> {
    Compiled {
        spec: &'a Spec,
        service: Option<&'a Service>,
        spread: bool,
    },
    Member {
        detached: bool,
        target: Option<Target>,
    },
}

/// A parent whose lease was checked.
pub(super) struct Parent {
    pub(super) attempt: Attempt,
    pub(super) execution: Execution,
}

impl App {
    /// The live attempt of an agent that calls.
    pub(super) async fn parent(&self, agent: &Agent, lease: Lease) -> Result<Parent, Error> {
        let attempt = self.store.agent(agent.id).attempt(lease.attempt).await?;
        if attempt.epoch != lease.epoch || attempt.status != Status::Live {
            return Err(Error::LeaseLost { epoch: lease.epoch });
        }
        let executions = self.store.executions(attempt.project);
        let execution = executions.get(attempt.execution).await?;
        Ok(Parent { attempt, execution })
    }

    /// Starts children. The same call again starts nothing, and returns what the first one did.
    pub(crate) async fn start_children(
        &self,
        agent: &Agent,
        lease: Lease,
        start: StartChildren,
    ) -> Result<Vec<Child>, Error> {
        check(&start)?;
        let parent = self.parent(agent, lease).await?;
        let executions = self.store.executions(parent.execution.project);
        let there = executions.children(parent.attempt.id).await?;
        let known = |instance: &&NewChild| {
            there
                .iter()
                .any(|child| is(child, &start.group, instance.index))
        };
        let new: Vec<&NewChild> = start.instances.iter().filter(|one| !known(one)).collect();
        if there.len() + new.len() > MAX_CHILDREN {
            return Err(Error::LimitReached(format!(
                "an execution has at most {MAX_CHILDREN} children"
            )));
        }
        let plan = executions.plan(parent.execution.id).await?;
        let plan: Plan =
            serde_json::from_slice(&plan).map_err(|error| Error::Internal(error.into()))?;
        let wanted = find(&plan, &start)?;
        let formers = self.formers(&parent, &start, &new).await?;
        let given = former::Given {
            id: parent.execution.id.to_string(),
            masked: &plan.masked,
        };
        let again = parent.execution.rerun.as_ref();
        // Whatever an earlier attempt has taken over does not count for this one.
        let takes = again.is_some_and(|rerun| rerun.failed) && !new.is_empty();
        let mut made = false;
        let mut taken = Vec::new();
        for instance in new {
            let inputs = former::inputs(&start, instance, &given);
            let origin = origin(&parent, &start, instance, &wanted, inputs);
            let former = formers.of(&origin);
            if let Some(former) = former.filter(|former| former::stands_for(former, instance)) {
                taken.push((origin, former.execution.id));
                continue;
            }
            let former = former.map(|former| &former.execution);
            let started = match &wanted {
                Wanted::Compiled {
                    spec,
                    service,
                    spread,
                } => {
                    let mut variables = start.variables.clone();
                    variables.extend(instance.variables.clone());
                    let pinned = pinned(agent, &parent.execution, *spread);
                    let identity = identity(self, &parent, &origin);
                    let again = match former {
                        Some(former) => Some(self.run_again(former, true, ONE_LOOK).await?),
                        None => None,
                    };
                    let told = again.as_ref().map(|again| again.told.clone());
                    let compiled = compile::child(&Compile {
                        parent: &plan,
                        spec,
                        variables: &variables,
                        id: &identity.id.to_string(),
                        given: &instance.given,
                        rerun: &told.unwrap_or_default(),
                        service: *service,
                    })?;
                    let new = record(&parent, identity, compiled, pinned, origin, again)?;
                    executions.create(new, None).await.map(drop)
                }
                Wanted::Member { target, .. } => {
                    let target = target.clone();
                    self.start_member(&parent, instance, target, origin, former)
                        .await?
                }
            };
            match started {
                Ok(()) => made = true,
                // The same call at the same moment.
                Err(muster_storage::Error::AlreadyExists { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if takes {
            let lease = parent.attempt.lease();
            executions.take_over(lease, &taken).await?;
        }
        if !taken.is_empty() {
            self.hub.execution_changed(parent.execution.id);
        }
        if made {
            // A pause that came meanwhile has not seen all of them.
            let now = executions.get(parent.execution.id).await?;
            if now.lifecycle.pause.paused {
                self.hold_children(&now, Hold::Pause).await?;
            }
        }
        let mut all = executions.children(parent.attempt.id).await?;
        let indices: Vec<u32> = start.instances.iter().map(|one| one.index).collect();
        all.retain(|child| indices.iter().any(|index| is(child, &start.group, *index)));
        Ok(all)
    }

    /// The children of an attempt.
    pub(crate) async fn watch_children(
        &self,
        agent: &Agent,
        lease: Lease,
    ) -> Result<(ExecutionId, Vec<Child>), Error> {
        let parent = self.parent(agent, lease).await?;
        let executions = self.store.executions(parent.execution.project);
        let children = executions.children(parent.attempt.id).await?;
        Ok((parent.execution.id, children))
    }

    /// Asks for the end of children.
    pub(crate) async fn stop_children(
        &self,
        agent: &Agent,
        lease: Lease,
        group: &str,
        indices: &[u32],
        stop: Stop,
        message: &str,
    ) -> Result<(), Error> {
        let parent = self.parent(agent, lease).await?;
        let executions = self.store.executions(parent.execution.project);
        for child in executions.children(parent.attempt.id).await? {
            if is_wanted(&child, group, indices) && !child.execution.state().is_terminal() {
                let changed = executions
                    .cancel(child.execution.id, stop, message, None)
                    .await?;
                self.perform(&changed);
                if stop == Stop::Forced {
                    self.force_children(&child.execution, message).await?;
                }
            }
        }
        Ok(())
    }

    /// Lets children go on that are paused. Those that are not stay as they are.
    pub(crate) async fn resume_children(
        &self,
        agent: &Agent,
        lease: Lease,
        group: &str,
        indices: &[u32],
    ) -> Result<(), Error> {
        let parent = self.parent(agent, lease).await?;
        let executions = self.store.executions(parent.execution.project);
        for child in executions.children(parent.attempt.id).await? {
            if !is_wanted(&child, group, indices) {
                continue;
            }
            self.hold_child(&child.execution, Hold::Release, "all of them are ready")
                .await?;
        }
        Ok(())
    }

    /// Ends children whose parent's attempt has ended, of all projects.
    pub(crate) async fn stop_orphans(&self) -> Result<(), Error> {
        loop {
            let orphans = self.store.queue().orphans(BATCH).await?;
            for orphan in &orphans {
                let executions = self.store.executions(orphan.project);
                let message = "the execution that has started it is over";
                let changed = executions
                    .cancel(orphan.id, Stop::Orderly, message, None)
                    .await?;
                self.perform(&changed);
            }
            if orphans.len() < BATCH as usize {
                return Ok(());
            }
        }
    }

    /// Forces all that live below an execution to end: it is killed itself, and can not tell them.
    pub(super) async fn force_children(
        &self,
        execution: &Execution,
        message: &str,
    ) -> Result<(), Error> {
        let executions = self.store.executions(execution.project);
        let mut parents = vec![execution.clone()];
        while let Some(parent) = parents.pop() {
            let Some(lease) = parent.lifecycle.lease else {
                continue;
            };
            for child in executions.children(lease.attempt).await? {
                let origin = child.execution.origin.as_ref();
                let outlives = origin.is_some_and(|origin| origin.role == Role::Detached);
                if outlives || child.execution.state().is_terminal() {
                    continue;
                }
                let canceled = executions.cancel(child.execution.id, Stop::Forced, message, None);
                self.perform(&canceled.await?);
                parents.push(child.execution);
            }
        }
        Ok(())
    }

    /// Opens an archive of the own execution, of its parent or of a child.
    pub(crate) async fn read_archive(
        &self,
        agent: &Agent,
        lease: Lease,
        execution: ExecutionId,
        path: &str,
    ) -> Result<WholeStream, Error> {
        let reader = self.parent(agent, lease).await?.execution;
        let executions = self.store.executions(reader.project);
        let owner = executions.get(execution).await?;
        let is_parent = |child: &Execution, parent: ExecutionId| {
            child
                .origin
                .as_ref()
                .is_some_and(|origin| origin.parent == parent)
        };
        let related = owner.id == reader.id
            || is_parent(&owner, reader.id)
            || is_parent(&reader, owner.id)
            || executions.has_taken_over(reader.id, owner.id).await?;
        if !related || !path.starts_with(ARCHIVES) {
            return Err(Error::NotFound(format!(
                "there is no archive '{path}' for this execution"
            )));
        }
        let artifacts = self.store.artifacts(reader.project);
        let found = artifacts.find(owner.id, path).await?;
        let bytes = self.blobs.read(&found.blob, 0).await?;
        Ok(whole::whole(bytes, found, 0))
    }
}

fn check(start: &StartChildren) -> Result<(), Error> {
    if start.instances.len() > MAX_INSTANCES {
        let text = format!(
            "{} in one call, at most {MAX_INSTANCES} are allowed",
            start.instances.len()
        );
        return Err(Error::invalid("instances", text));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if start.group.is_empty() || start.group.len() > MAX_GROUP || !start.group.chars().all(allowed)
    {
        let text = format!("must have 1 to {MAX_GROUP} letters, digits, '-', '_' and '.'");
        return Err(Error::invalid("group", text));
    }
    for instance in &start.instances {
        if instance.config.len() > MAX_PAIRS {
            let text = format!("at most {MAX_PAIRS} entries are allowed");
            return Err(Error::invalid("instances.config", text));
        }
    }
    Ok(())
}

/// What the plan says of the wanted children.
fn find<'a>(plan: &'a Plan, start: &StartChildren) -> Result<Wanted<'a>, Error> {
    let operation = plan
        .step(&start.step)
        .and_then(|step| step.operations.get(start.operation));
    let found = match operation {
        Some(Operation::Services { services, .. }) => {
            services.get(start.item).map(|service| Wanted::Compiled {
                spec: &service.spec,
                service: Some(service),
                spread: false,
            })
        }
        Some(Operation::Parallel(parallel)) => Some(Wanted::Compiled {
            spec: &parallel.spec,
            service: None,
            spread: parallel.spread,
        }),
        Some(Operation::Execute(execute)) => {
            execute
                .workflows
                .get(start.item)
                .map(|member| Wanted::Member {
                    detached: execute.detached,
                    target: member
                        .target
                        .as_ref()
                        .map(|given| target(Some(&compile::target(given)))),
                })
        }
        _ => None,
    };
    found.ok_or_else(|| {
        let text = format!("operation {} does not start children", start.operation);
        Error::invalid("step", text)
    })
}

/// Whether it is one of these; all of the group when none is named.
fn is_wanted(child: &Child, group: &str, indices: &[u32]) -> bool {
    match indices {
        [] => of_group(child, group),
        indices => indices.iter().any(|index| is(child, group, *index)),
    }
}

fn of_group(child: &Child, group: &str) -> bool {
    let origin = child.execution.origin.as_ref();
    origin.is_some_and(|origin| origin.group == group)
}

fn is(child: &Child, group: &str, index: u32) -> bool {
    let origin = child.execution.origin.as_ref();
    origin.is_some_and(|origin| origin.group == group && origin.index == i64::from(index))
}

fn origin(
    parent: &Parent,
    start: &StartChildren,
    instance: &NewChild,
    wanted: &Wanted<'_>,
    inputs: String,
) -> Origin {
    let role = match wanted {
        Wanted::Compiled {
            service: Some(_), ..
        } => Role::Service,
        Wanted::Compiled { .. } => Role::Worker,
        Wanted::Member { detached: true, .. } => Role::Detached,
        Wanted::Member { .. } => Role::Member,
    };
    Origin {
        parent: parent.execution.id,
        attempt: parent.attempt.id,
        group: start.group.clone(),
        index: i64::from(instance.index),
        step: start.step.clone(),
        role,
        description: instance.description.clone(),
        inputs: Some(inputs),
        taken_over: false,
    }
}

/// Where a worker or service runs: with its parent, unless workers may spread.
fn pinned(agent: &Agent, parent: &Execution, spread: bool) -> Option<Target> {
    if spread && !parent.target.matches.contains_key(SESSION_LABEL) {
        return None;
    }
    let matches = [(Agent::NAME_LABEL.to_owned(), vec![agent.name.clone()])];
    Some(Target {
        matches: matches.into(),
        ..Target::default()
    })
}

fn identity(app: &App, parent: &Parent, origin: &Origin) -> Identity {
    let name = &parent.execution.display_name;
    let mut display_name = format!("{name}.{}.{}", origin.group, origin.index);
    if parent.attempt.epoch > 1 {
        // Another attempt of the parent starts its own.
        display_name.push_str(&format!(".a{}", parent.attempt.epoch));
    }
    Identity {
        id: ExecutionId::generate(),
        workflow: parent.execution.workflow.clone(),
        number: parent.execution.number,
        display_name,
        create_time: app.clock.now(),
    }
}

fn record(
    parent: &Parent,
    identity: Identity,
    compiled: compile::Compiled,
    pinned: Option<Target>,
    origin: Origin,
    again: Option<Again>,
) -> Result<NewExecution, Error> {
    let plan = serde_json::to_vec(&compiled.plan).map_err(|error| Error::Internal(error.into()))?;
    let generation = parent
        .execution
        .priority
        .saturating_add(GENERATION_PRIORITY);
    Ok(NewExecution {
        workflow_revision: parent.execution.workflow_revision,
        tags: BTreeMap::new(),
        labels: parent.execution.labels.clone(),
        config: BTreeMap::new(),
        target: pinned.unwrap_or_else(|| target(compiled.target.as_ref())),
        warnings: {
            let of_rerun = again.iter().flat_map(|again| again.remarks.clone());
            let all = compiled.warnings.iter().map(ToString::to_string);
            all.chain(of_rerun).collect()
        },
        rerun: again.map(|again| again.link),
        priority: generation,
        creator: parent.execution.creator.clone(),
        queue_deadline: deadline(&identity, compiled.queue.unwrap_or(DEFAULT_QUEUE_WAIT)),
        steps: steps(&compiled.plan),
        plan: Bytes::from(plan),
        identity,
        policy: Policy {
            // A part of a run is not tried again by itself, and ends with the whole.
            test_retries: None,
            run_timeout_ms: None,
            ..parent.execution.policy
        },
        concurrency: None,
        origin: Some(origin),
        source: None,
        resolved: None,
    })
}

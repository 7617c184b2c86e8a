//! Accepting executions: the number, then everything in one transaction. Those that come at the
//! same time are accepted together.

use std::{collections::BTreeMap, fmt, sync::Arc};

use bytes::Bytes;
use jiff::Timestamp;
use muster_core::{
    execution::{Lifecycle, State},
    id::{ExecutionId, ProjectId},
};
use sea_orm::{
    ActiveValue::Set,
    ConnectionTrait, EntityTrait, ExprTrait,
    sea_query::{Expr, OnConflict},
};

use super::{Execution, Executions, Identity, NewExecution, Rerun, lane, quota::Quotas, row};
use crate::{
    Error, Request, Store, Written,
    audit::Accepted,
    entity::{
        self, attempt as attempt_row, audit_event as audit_row, counter,
        execution as execution_row, execution_event as event_row, execution_plan as plan_row,
        execution_source as source_row, execution_steps as steps_row, execution_tag as tag_row,
        request as request_row,
    },
    error::{Kind, Source},
    gather::Gathered,
    number,
    queue::{self, Claimed, Given, Offer},
    request, text, time,
    transaction::Failure,
};

/// Most tags of one execution; the server refuses more with a better message.
const MOST_TAGS: usize = 1000;

/// A number that is wanted for an execution of a workflow.
#[derive(Debug)]
pub(crate) struct Numbered {
    project: ProjectId,
    workflow: String,
}

/// An execution that is to be accepted.
#[derive(Debug)]
pub(crate) struct Wanted {
    project: ProjectId,
    new: NewExecution,
    /// How its plan follows from its number, when it has none yet.
    plan: Option<PlanOf>,
    request: Option<Request>,
}

/// How a plan follows from what its execution is called.
pub(super) struct PlanOf(Box<Plan>);

type Plan = dyn Fn(&Identity) -> Result<Bytes, Source> + Send + Sync;

impl fmt::Debug for PlanOf {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("PlanOf")
    }
}

impl Gathered for Numbered {
    type Answer = i64;

    const OPERATION: &'static str = "reserve_executions";

    async fn all(store: &Store, calls: &[Self]) -> Result<Vec<Result<i64, Error>>, Error> {
        store
            .transaction(Self::OPERATION, |tx| async move {
                let wanted = calls.iter().map(|call| (call.project, &*call.workflow));
                let numbers = numbers(&*tx, wanted).await?;
                Ok(numbers.into_iter().map(Ok).collect())
            })
            .await
    }
}

/// Takes a number for each of these, in their order.
async fn numbers<'a, C: ConnectionTrait>(
    db: &C,
    wanted: impl Iterator<Item = (ProjectId, &'a str)> + Clone,
) -> Result<Vec<i64>, Failure> {
    let mut counts: BTreeMap<(ProjectId, &str), i64> = BTreeMap::new();
    for key in wanted.clone() {
        *counts.entry(key).or_default() += 1;
    }
    let mut next = BTreeMap::new();
    for ((project, workflow), count) in counts {
        let last = advance(db, project, workflow, count).await?;
        next.insert((project, workflow), last - count);
    }
    let numbers = wanted.map(|key| {
        let last = next.entry(key).or_default();
        *last += 1;
        *last
    });
    Ok(numbers.collect())
}

/// Takes the next numbers of a workflow; the last one of them.
async fn advance<C: ConnectionTrait>(
    db: &C,
    project: ProjectId,
    workflow: &str,
    count: i64,
) -> Result<i64, Failure> {
    let first = counter::ActiveModel {
        project_id: Set(project.as_uuid()),
        workflow: Set(workflow.to_owned()),
        value: Set(count),
    };
    let next = Expr::col((counter::Entity, counter::Column::Value)).add(count);
    let row = counter::Entity::insert(first)
        .on_conflict(
            OnConflict::columns([counter::Column::ProjectId, counter::Column::Workflow])
                .value(counter::Column::Value, next)
                .to_owned(),
        )
        .exec_with_returning(db)
        .await
        .map_err(|error| {
            Failure::from(error).on_missing_reference(|| Error::not_found(Kind::Project, project))
        })?;
    Ok(row.value)
}

impl Gathered for Wanted {
    type Answer = Written<Execution>;

    const OPERATION: &'static str = "create_executions";

    async fn all(
        store: &Store,
        calls: &[Self],
    ) -> Result<Vec<Result<Written<Execution>, Error>>, Error> {
        let giver = store.giver();
        let counted = |call: &Self| call.new.origin.is_some() || call.new.concurrency.is_some();
        let offer = match giver {
            // What has to be counted against others goes by way of the queue.
            Some(giver) if !calls.iter().any(counted) => giver.offer().await,
            _ => None,
        };
        let offered = offer.as_deref();
        let now = store.clock().now();
        let created = store
            .transaction(Self::OPERATION, |tx| async move {
                let db = &*tx;
                let requests = calls.iter().map(|call| call.request.as_ref());
                let mut replays = request::replays(requests, db).await?.into_iter();
                let mut quotas = Quotas::default();
                // Nothing stands for those that are accepted.
                let mut answers = Vec::with_capacity(calls.len());
                let mut accepted = Vec::with_capacity(calls.len());
                for call in calls {
                    let replay = match replays.next().unwrap_or(Ok(None)) {
                        Ok(replay) => replay,
                        Err(refused) => {
                            answers.push(Some(Err(refused)));
                            continue;
                        }
                    };
                    if let Some(replay) = replay {
                        let executions = store.executions(call.project);
                        let earlier = executions.load(db, replay.resource.into()).await?;
                        answers.push(Some(Ok(Written::replayed(earlier))));
                        continue;
                    }
                    if call.new.origin.is_none()
                        && let Err(refused) = quotas.admit(db, call.project, now).await?
                    {
                        answers.push(Some(Err(refused)));
                        continue;
                    }
                    answers.push(None);
                    accepted.push(call);
                }
                let (made, new) = insert(db, &accepted, offered, now).await?;
                let mut made = made.into_iter();
                let answers = answers.into_iter().map(|answer| {
                    let made = || made.next().map(|made| Ok(Written::new(made)));
                    let missing = || Error::internal(Self::OPERATION, "one was not made");
                    answer.or_else(made).unwrap_or_else(|| Err(missing()))
                });
                Ok((answers.collect(), new))
            })
            .await;
        let (answers, new) = match created {
            Ok(created) => created,
            Err(error) => {
                if let (Error::CommitUnknown { .. }, Some(offer)) = (&error, offer) {
                    offer.doubt();
                }
                return Err(error);
            }
        };
        let waiting = new.rows.len() > new.claimed.assignments.len();
        for (row, plan) in new.rows {
            store.recent().keep_new(Arc::new(row), plan);
        }
        if let Some(offer) = offer {
            offer.deliver(new.claimed);
        }
        if let Some(giver) = giver
            && waiting
        {
            giver.queued();
        }
        Ok(answers)
    }
}

/// What was inserted.
struct New {
    /// Rows of executions, each with its plan.
    rows: Vec<(execution_row::Model, Bytes)>,
    /// What agents were given of them.
    claimed: Claimed,
}

/// Inserts new executions, with numbers for those that have none yet, and gives them out as far as
/// that may be done here. Returns each as it was accepted.
async fn insert<C: ConnectionTrait>(
    db: &C,
    calls: &[&Wanted],
    offer: Option<&dyn Offer>,
    now: Timestamp,
) -> Result<(Vec<Execution>, New), Failure> {
    let unnumbered = calls.iter().filter(|call| call.plan.is_some());
    let wanted = unnumbered.map(|call| (call.project, &*call.new.identity.workflow));
    let mut numbers = numbers(db, wanted).await?.into_iter();
    let mut parts = Parts::default();
    let mut made = Vec::with_capacity(calls.len());
    for call in calls {
        let (identity, plan) = match &call.plan {
            Some(PlanOf(plan)) => {
                let failed = |source: Source| Failure::internal(Wanted::OPERATION, source);
                let number = numbers.next().ok_or_else(|| failed("no number".into()))?;
                let identity = call.new.identity.numbered(number);
                let plan = plan(&identity).map_err(failed)?;
                (identity, plan)
            }
            None => (call.new.identity.clone(), call.new.plan.clone()),
        };
        made.push(parts.add(call, &identity, plan)?);
    }
    let given = match offer {
        Some(offer) => {
            let plan = |index: usize| parts.plans[index].plan.clone().into();
            queue::give(db, offer, &mut parts.executions, plan, now).await?
        }
        None => Given::default(),
    };
    parts.events.extend(given.events);
    parts.insert(db, calls, now).await?;
    entity::insert_all::<attempt_row::Entity, _>(db, &given.attempts).await?;
    let plans = parts.plans.into_iter().map(|row| row.plan.into());
    let new = New {
        rows: parts.executions.into_iter().zip(plans).collect(),
        claimed: given.claimed,
    };
    Ok((made, new))
}

/// The rows of new executions.
#[derive(Default)]
struct Parts {
    requests: Vec<request_row::Model>,
    executions: Vec<execution_row::Model>,
    plans: Vec<plan_row::Model>,
    steps: Vec<steps_row::Model>,
    tags: Vec<tag_row::Model>,
    sources: Vec<source_row::Model>,
    events: Vec<event_row::Model>,
    noted: Accepted,
}

impl Parts {
    /// Adds the rows of one; returns how it will be read.
    fn add(
        &mut self,
        call: &Wanted,
        identity: &Identity,
        plan: Bytes,
    ) -> Result<Execution, Failure> {
        let (new, id) = (&call.new, identity.id.as_uuid());
        let now = identity.create_time;
        let request = call.request.as_ref();
        self.requests
            .extend(request.and_then(|request| request.row(id, 1, now)));
        self.plans.push(plan_row::Model {
            execution_id: id,
            plan: plan.into(),
            resolved: new.resolved.clone(),
        });
        self.steps.push(steps_row::Model {
            execution_id: id,
            steps_json: text::encode(&new.steps)?,
            outputs_json: "[]".to_owned(),
        });
        self.tags
            .extend(new.tags.iter().map(|(key, value)| tag_row::Model {
                project_id: call.project.as_uuid(),
                key: key.clone(),
                value: value.clone(),
                execution_id: id,
            }));
        self.sources
            .extend(new.source.as_ref().map(|text| source_row::Model {
                execution_id: id,
                text: text.clone(),
            }));
        self.events.push(event_row::Model {
            execution_id: id,
            sequence: 1,
            time: time::millis(now),
            kind: "QUEUED".to_owned(),
            message: accepted(new),
        });
        self.noted.add(request, call.project, new, identity)?;
        let row = new_row(call.project, new, identity)?;
        let made = row::record(&row)?;
        self.executions.push(row);
        Ok(made)
    }

    async fn insert<C: ConnectionTrait>(
        &self,
        db: &C,
        calls: &[&Wanted],
        now: Timestamp,
    ) -> Result<(), Failure> {
        // Before the change itself, so that the same request at the same moment waits here and then
        // finds what the first one did.
        entity::insert_all::<request_row::Entity, _>(db, &self.requests)
            .await
            .map_err(|error| Failure::from(error).again_on_unique())?;
        // Which one it was is known when each is tried by itself.
        let first = calls.first();
        entity::insert_all::<execution_row::Entity, _>(db, &self.executions)
            .await
            .map_err(|error| {
                Failure::from(error)
                    .on_unique(|| Error::AlreadyExists {
                        kind: Kind::Execution,
                        id: first
                            .map_or_else(String::new, |it| it.new.identity.display_name.clone()),
                    })
                    .on_missing_reference(|| {
                        let project = first.map_or_else(String::new, |it| it.project.to_string());
                        Error::not_found(Kind::Project, project)
                    })
            })?;
        entity::insert_all::<plan_row::Entity, _>(db, &self.plans).await?;
        entity::insert_all::<steps_row::Entity, _>(db, &self.steps).await?;
        entity::insert_all::<tag_row::Entity, _>(db, &self.tags).await?;
        entity::insert_all::<source_row::Entity, _>(db, &self.sources).await?;
        entity::insert_all::<event_row::Entity, _>(db, &self.events).await?;
        entity::insert_all::<audit_row::Entity, _>(db, &self.noted.rows(now)?).await?;
        Ok(())
    }
}

impl Identity {
    /// What an execution is called that gets its number when it is accepted.
    #[must_use]
    pub fn unnumbered(id: ExecutionId, workflow: &str, create_time: Timestamp) -> Self {
        Self {
            id,
            workflow: workflow.to_owned(),
            number: 0,
            display_name: String::new(),
            create_time,
        }
    }

    fn numbered(&self, number: i64) -> Self {
        Self {
            number,
            display_name: format!("{}-{number}", self.workflow),
            ..self.clone()
        }
    }
}

impl PlanOf {
    pub(super) fn new(
        plan: impl Fn(&Identity) -> Result<Bytes, Source> + Send + Sync + 'static,
    ) -> Self {
        Self(Box::new(plan))
    }
}

impl Executions<'_> {
    pub(super) async fn reserve_number(&self, workflow: &str) -> Result<Identity, Error> {
        let now = self.store.clock().now();
        let id = ExecutionId::generate();
        let call = Numbered {
            project: self.project,
            workflow: workflow.to_owned(),
        };
        let number = self.store.gathers().numbers.call(self.store, call).await?;
        let identity = Identity::unnumbered(id, workflow, now);
        Ok(identity.numbered(number))
    }

    pub(super) async fn find_replay(&self, request: &Request) -> Result<Option<Execution>, Error> {
        self.store
            .read("replay_execution", || async {
                let db = self.store.reader();
                let Some(replay) = request::replay(Some(request), db).await? else {
                    return Ok(None);
                };
                Ok(Some(self.load(db, replay.resource.into()).await?))
            })
            .await
    }

    pub(super) async fn accept(
        &self,
        new: NewExecution,
        plan: Option<PlanOf>,
        request: Option<&Request>,
    ) -> Result<Written<Execution>, Error> {
        if new.tags.len() > MOST_TAGS {
            let reason = format!("there are more than {MOST_TAGS}");
            return Err(Error::invalid("tags", reason));
        }
        self.store
            .know_labels(self.project, &new.identity.workflow, &new.labels)
            .await?;
        let call = Wanted {
            project: self.project,
            new,
            plan,
            request: request.cloned(),
        };
        self.store.gathers().creates.call(self.store, call).await
    }
}

/// The first words of an execution's history.
fn accepted(new: &NewExecution) -> String {
    let creator = text::message(&new.creator);
    match &new.rerun {
        None => format!("accepted from {creator}"),
        Some(Rerun { name, failed, .. }) => {
            let what = if *failed { "what failed of " } else { "" };
            format!("accepted from {creator}, to run {what}{name} again")
        }
    }
}

fn new_row(
    project: ProjectId,
    new: &NewExecution,
    identity: &Identity,
) -> Result<execution_row::Model, Failure> {
    let Lifecycle {
        state, last_epoch, ..
    } = Lifecycle::default();
    debug_assert_eq!(state, State::Queued);
    let origin = new.origin.as_ref();
    let mut row = execution_row::Model {
        id: identity.id.as_uuid(),
        project_id: project.as_uuid(),
        workflow: identity.workflow.clone(),
        workflow_revision: new.workflow_revision,
        number: identity.number,
        display_name: identity.display_name.clone(),
        revision: 1,
        state: state.as_str().to_owned(),
        lease_attempt_id: None,
        lease_epoch: None,
        stop: None,
        last_epoch,
        reason: String::new(),
        message: String::new(),
        tags_json: text::encode(&new.tags)?,
        labels_json: text::encode(&new.labels)?,
        config_json: text::encode(&new.config)?,
        target_json: text::encode(&new.target)?,
        warnings_json: text::encode(&new.warnings)?,
        queue_rank: -i64::from(new.priority),
        creator: text::message(&new.creator),
        create_time: time::millis(identity.create_time),
        assign_time: None,
        start_time: None,
        finish_time: None,
        queue_deadline: new.queue_deadline.map(time::millis),
        log_size: 0,
        log_sha256: None,
        log_complete: false,
        artifact_count: 0,
        artifact_bytes: 0,
        event_count: 1,
        parent_id: origin.map(|origin| origin.parent.as_uuid()),
        parent_attempt_id: origin.map(|origin| origin.attempt.as_uuid()),
        child_group: origin.map(|origin| origin.group.clone()),
        child_index: origin.map(|origin| origin.index),
        child_step: origin.map(|origin| origin.step.clone()),
        role: origin.map(|origin| origin.role.as_str().to_owned()),
        description: origin.map(|origin| text::message(&origin.description)),
        pause_sequence: 0,
        pause_wanted: false,
        lane: None,
        avoid_json: "[]".to_owned(),
        concurrency_group: new.concurrency.as_ref().map(|it| it.group.clone()),
        concurrency_most: new.concurrency.as_ref().map(|it| number::signed(it.most)),
        policy_json: text::encode(&new.policy)?,
        infrastructure_retries: 0,
        test_retries: 0,
        lost_agents: 0,
        stop_cause: None,
        stage_deadline: None,
        run_left: None,
        pinned: false,
        pin_json: None,
        logs_delete_time: None,
        artifacts_delete_time: None,
        rerun_json: new.rerun.as_ref().map(text::encode).transpose()?,
        child_inputs: origin.and_then(|origin| origin.inputs.clone()),
    };
    row.lane = Some(lane::of(&row));
    Ok(row)
}

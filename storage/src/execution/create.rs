//! Accepting executions: the number, then everything in one transaction.

use jiff::Timestamp;
use muster_core::{
    execution::{Lifecycle, State},
    id::ExecutionId,
};
use sea_orm::{
    ActiveValue::Set,
    ConnectionTrait, EntityTrait, ExprTrait,
    sea_query::{Expr, OnConflict},
};

use super::{Execution, Executions, Identity, NewExecution, lane, quota, row};
use crate::{
    Error, Request, Written,
    entity::{
        self, counter, execution as execution_row, execution_event as event_row,
        execution_plan as plan_row, execution_source as source_row, execution_steps as steps_row,
        execution_tag as tag_row,
    },
    error::Kind,
    number, request, text, time,
    transaction::Failure,
};

/// Most tags of one execution; the server refuses more with a better message.
const MOST_TAGS: usize = 1000;

impl Executions<'_> {
    pub(super) async fn reserve_number(&self, workflow: &str) -> Result<Identity, Error> {
        let now = self.store.clock().now();
        let id = ExecutionId::generate();
        let number = self
            .store
            .transaction("reserve_execution", |tx| async move {
                self.next_number(&*tx, workflow).await
            })
            .await?;
        Ok(Identity {
            id,
            workflow: workflow.to_owned(),
            number,
            display_name: format!("{workflow}-{number}"),
            create_time: now,
        })
    }

    async fn next_number<C: ConnectionTrait>(
        &self,
        db: &C,
        workflow: &str,
    ) -> Result<i64, Failure> {
        let first = counter::ActiveModel {
            project_id: Set(self.project.as_uuid()),
            workflow: Set(workflow.to_owned()),
            value: Set(1),
        };
        let next = Expr::col((counter::Entity, counter::Column::Value)).add(1);
        let row = counter::Entity::insert(first)
            .on_conflict(
                OnConflict::columns([counter::Column::ProjectId, counter::Column::Workflow])
                    .value(counter::Column::Value, next)
                    .to_owned(),
            )
            .exec_with_returning(db)
            .await
            .map_err(|error| {
                Failure::from(error)
                    .on_missing_reference(|| Error::not_found(Kind::Project, self.project))
            })?;
        Ok(row.value)
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
        new: &NewExecution,
        request: Option<&Request>,
    ) -> Result<Written<Execution>, Error> {
        if new.tags.len() > MOST_TAGS {
            let reason = format!("there are more than {MOST_TAGS}");
            return Err(Error::invalid("tags", reason));
        }
        self.store
            .transaction("create_execution", |tx| async move {
                if let Some(replay) = request::replay(request, &*tx).await? {
                    let execution = self.load(&*tx, replay.resource.into()).await?;
                    return Ok(Written::replayed(execution));
                }
                let now = new.identity.create_time;
                if new.origin.is_none() {
                    quota::admit(&*tx, self.project, self.store.clock().now()).await?;
                }
                request::record(request, &*tx, new.identity.id.as_uuid(), 1, now).await?;
                let row = self.new_row(new)?;
                entity::insert::<execution_row::Entity, _>(&*tx, row.clone())
                    .await
                    .map_err(|error| {
                        Failure::from(error)
                            .on_unique(|| Error::AlreadyExists {
                                kind: Kind::Execution,
                                id: new.identity.display_name.clone(),
                            })
                            .on_missing_reference(|| Error::not_found(Kind::Project, self.project))
                    })?;
                self.insert_parts(&*tx, new, now).await?;
                Ok(Written::new(row::record(row)?))
            })
            .await
    }

    async fn insert_parts<C: ConnectionTrait>(
        &self,
        db: &C,
        new: &NewExecution,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let id = new.identity.id.as_uuid();
        let plan = plan_row::Model {
            execution_id: id,
            plan: new.plan.to_vec(),
            resolved: new.resolved.clone(),
        };
        entity::insert::<plan_row::Entity, _>(db, plan).await?;
        let steps = steps_row::Model {
            execution_id: id,
            steps_json: text::encode(&new.steps)?,
            outputs_json: "[]".to_owned(),
        };
        entity::insert::<steps_row::Entity, _>(db, steps).await?;
        let tags = new.tags.iter().map(|(key, value)| tag_row::Model {
            project_id: self.project.as_uuid(),
            key: key.clone(),
            value: value.clone(),
            execution_id: id,
        });
        entity::insert_all::<tag_row::Entity, _>(db, tags.collect()).await?;
        if let Some(text) = &new.source {
            let source = source_row::Model {
                execution_id: id,
                text: text.clone(),
            };
            entity::insert::<source_row::Entity, _>(db, source).await?;
        }
        let event = event_row::Model {
            execution_id: id,
            sequence: 1,
            time: time::millis(now),
            kind: "QUEUED".to_owned(),
            message: format!("accepted from {}", text::message(&new.creator)),
        };
        entity::insert::<event_row::Entity, _>(db, event).await?;
        Ok(())
    }

    fn new_row(&self, new: &NewExecution) -> Result<execution_row::Model, Failure> {
        let Lifecycle {
            state, last_epoch, ..
        } = Lifecycle::default();
        debug_assert_eq!(state, State::Queued);
        let origin = new.origin.as_ref();
        let mut row = execution_row::Model {
            id: new.identity.id.as_uuid(),
            project_id: self.project.as_uuid(),
            workflow: new.identity.workflow.clone(),
            workflow_revision: new.workflow_revision,
            number: new.identity.number,
            display_name: new.identity.display_name.clone(),
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
            create_time: time::millis(new.identity.create_time),
            assign_time: None,
            start_time: None,
            finish_time: None,
            queue_deadline: new.queue_deadline.map(time::millis),
            log_size: 0,
            log_sha256: None,
            log_complete: false,
            artifact_count: 0,
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
        };
        row.lane = Some(lane::of(&row));
        Ok(row)
    }
}

//! Putting tests into quarantine and taking them out, with what the audit log is told of it.

use jiff::Timestamp;
use muster_core::quarantine::MOST;
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, PaginatorTrait,
    QueryFilter, QuerySelect,
};
use uuid::Uuid;

use super::{Quarantine, QuarantinedTest, record, row};
use crate::{
    Error, Request, Written,
    audit::{self, Done},
    entity,
    error::Kind,
    request,
    test::{Identity, Test},
    text, time,
    transaction::Failure,
};

/// A test that is to be put into quarantine.
#[derive(Debug, Clone)]
pub struct NewQuarantine {
    /// The test.
    pub identity: Identity,
    /// Only in runs of this workflow; empty for all.
    pub workflow: String,
    /// Why.
    pub reason: String,
    /// Who wants it.
    pub creator: String,
    /// Its end.
    pub expire_time: Timestamp,
}

impl Quarantine<'_> {
    /// Puts a test into quarantine; one that is there gets the new reason and end.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] for the test; [`Error::Invalid`] when the project has as many entries as it
    /// may have.
    pub async fn put(
        &self,
        new: &NewQuarantine,
        request: Option<&Request>,
    ) -> Result<Written<QuarantinedTest>, Error> {
        let now = self.store.clock().now();
        self.store
            .transaction("quarantine_test", |tx| async move {
                let tests = self.store.tests(self.project);
                let test = tests.require(&*tx, new.identity).await?;
                let old = self.find(&*tx, new.identity, &new.workflow).await?;
                if request::replay(request, &*tx).await?.is_some() {
                    let gone = || self.not_found(&test, &new.workflow);
                    return Ok(Written::replayed(record(&old.ok_or_else(gone)?, test)));
                }
                let before = old.as_ref().map(told).transpose()?.flatten();
                if old.is_none() {
                    self.make_room(&*tx, now).await?;
                }
                let row = row::Model {
                    id: old.as_ref().map_or_else(Uuid::now_v7, |old| old.id),
                    project_id: self.project.as_uuid(),
                    identity: new.identity.to_vec(),
                    workflow: new.workflow.clone(),
                    reason: text::message(&new.reason),
                    creator: text::message(&new.creator),
                    revision: old.as_ref().map_or(0, |old| old.revision) + 1,
                    create_time: old
                        .as_ref()
                        .map_or_else(|| time::millis(now), |old| old.create_time),
                    expire_time: time::millis(new.expire_time),
                };
                request::record(request, &*tx, row.id, row.revision, now).await?;
                if old.is_some() {
                    let changed = row.clone().into_active_model().reset_all();
                    changed.update(&*tx).await?;
                } else {
                    entity::insert::<row::Entity, _>(&*tx, row.clone())
                        .await
                        // Somebody else puts it there at the same moment.
                        .map_err(|error| Failure::from(error).again_on_unique())?;
                }
                let done = Done {
                    project: Some(self.project),
                    before,
                    after: told(&row)?,
                    ..Done::default()
                };
                audit::record(request, &*tx, done, now).await?;
                Ok(Written::new(record(&row, test)))
            })
            .await
    }

    /// Takes a test out of quarantine, also one that has expired.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] for the test, and when it is not in quarantine for this workflow.
    pub async fn release(
        &self,
        test: Identity,
        workflow: &str,
        request: Option<&Request>,
    ) -> Result<Written<()>, Error> {
        let now = self.store.clock().now();
        self.store
            .transaction("release_test", |tx| async move {
                if request::replay(request, &*tx).await?.is_some() {
                    return Ok(Written::replayed(()));
                }
                let tests = self.store.tests(self.project);
                let named = tests.require(&*tx, test).await?;
                let row = self.find(&*tx, test, workflow).await?;
                let row = row.ok_or_else(|| self.not_found(&named, workflow))?;
                request::record(request, &*tx, row.id, row.revision, now).await?;
                row::Entity::delete_by_id(row.id).exec(&*tx).await?;
                let done = Done {
                    project: Some(self.project),
                    before: told(&row)?,
                    ..Done::default()
                };
                audit::record(request, &*tx, done, now).await?;
                Ok(Written::new(()))
            })
            .await
    }

    async fn find<C: ConnectionTrait>(
        &self,
        db: &C,
        test: Identity,
        workflow: &str,
    ) -> Result<Option<row::Model>, Failure> {
        let found = row::Entity::find()
            .filter(row::Column::ProjectId.eq(self.project.as_uuid()))
            .filter(row::Column::Identity.eq(test.to_vec()))
            .filter(row::Column::Workflow.eq(workflow));
        Ok(found.lock_exclusive().one(db).await?)
    }

    /// Refuses an entry too many; those that have expired go before that.
    async fn make_room<C: ConnectionTrait>(&self, db: &C, now: Timestamp) -> Result<(), Failure> {
        let all = || {
            let own = row::Column::ProjectId.eq(self.project.as_uuid());
            row::Entity::find().filter(own)
        };
        if all().count(db).await? < MOST {
            return Ok(());
        }
        row::Entity::delete_many()
            .filter(row::Column::ProjectId.eq(self.project.as_uuid()))
            .filter(row::Column::ExpireTime.lte(time::millis(now)))
            .exec(db)
            .await?;
        if all().count(db).await? < MOST {
            return Ok(());
        }
        let reason = format!(
            "the project has {MOST} tests in quarantine, which is the most; mend or delete some of them \
             and take them out"
        );
        Err(Error::invalid("name", reason).into())
    }

    fn not_found(&self, test: &Test, workflow: &str) -> Error {
        let id = match workflow {
            "" => test.name.clone(),
            workflow => format!("{} in {workflow}", test.name),
        };
        Error::not_found(Kind::QuarantinedTest, id)
    }
}

/// What the audit log is told of an entry.
fn told(row: &row::Model) -> Result<Option<String>, Failure> {
    audit::json(&serde_json::json!({
        "workflow": row.workflow,
        "reason": row.reason,
        "expireTime": time::timestamp(row.expire_time),
    }))
}

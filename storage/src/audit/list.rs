//! Reading events, and removing old ones.

use jiff::{SignedDuration, Timestamp};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    Statement,
};
use uuid::Uuid;

use super::{Actor, ActorKind, Audit, AuditEvent, AuditFilter, Note, Outcome, Scope};
use crate::{
    Error, Page, Store,
    entity::{self, audit_event as row, instance},
    page, text, time,
    transaction::Failure,
};

/// The key under which it stands since when events are kept; the trigger knows it.
const KEPT_FROM: &str = "audit_kept_from";
/// How far a clock may be set while events are noted: the id has the time of the process, the event that
/// of the server's clock.
const CLOCK_STEP: SignedDuration = SignedDuration::from_hours(1);
/// Most events that are removed at once, so that nobody waits long for the transaction.
const MOST_EXPIRED: i64 = 10_000;

impl Audit<'_> {
    pub(super) async fn load_page(
        &self,
        filter: &AuditFilter,
        after: Option<Uuid>,
        limit: u32,
    ) -> Result<Page<AuditEvent, Uuid>, Error> {
        let limit = page::limit(limit);
        let mut query = row::Entity::find()
            .order_by_desc(row::Column::Id)
            .limit(u64::from(limit) + 1);
        match self.scope {
            Scope::Instance => {}
            Scope::Project(project) => {
                query = query.filter(row::Column::ProjectId.eq(project.as_uuid()));
            }
        }
        if let Some(after) = after {
            query = query.filter(row::Column::Id.lt(after));
        }
        if let Some(actor) = &filter.actor {
            let mut named = Condition::any().add(row::Column::Actor.eq(actor));
            if let Ok(id) = actor.parse::<Uuid>() {
                named = named.add(row::Column::ActorId.eq(id));
            }
            query = query.filter(named);
        }
        for (column, prefix) in [
            (row::Column::Action, &filter.action),
            (row::Column::Resource, &filter.resource),
        ] {
            if let Some(prefix) = prefix {
                query = query.filter(column.gte(prefix));
                query = query.filter(column.lt(text::after_prefix(prefix)));
            }
        }
        // Ids carry the time, so that older events are found behind newer ones without a look at those.
        if let Some(first) = filter.since.and_then(|it| earliest(it, -CLOCK_STEP)) {
            query = query.filter(row::Column::Id.gte(first));
        }
        if let Some(last) = filter.until.and_then(|it| earliest(it, CLOCK_STEP)) {
            query = query.filter(row::Column::Id.lt(last));
        }
        if let Some(since) = filter.since {
            query = query.filter(row::Column::Time.gte(time::millis(since)));
        }
        if let Some(until) = filter.until {
            query = query.filter(row::Column::Time.lt(time::millis(until)));
        }
        self.store
            .read("list_audit_events", || async {
                let rows = query.clone().all(self.store.reader()).await?;
                let items = rows.into_iter().map(record).collect::<Result<_, _>>()?;
                Ok(Page::new(items, limit, |event: &AuditEvent| event.id))
            })
            .await
    }
}

impl Store {
    pub(super) async fn expire_audit(&self, before: Timestamp) -> Result<u64, Error> {
        let before = time::millis(before);
        self.transaction("expire_audit_events", |tx| async move {
            let backend = tx.get_database_backend();
            let place = |number| entity::place(backend, number);
            // Looked for first: mostly there are none, and then nothing is written.
            let sql = format!(
                "SELECT id FROM audit_events WHERE time < {} ORDER BY time LIMIT 1",
                place(1)
            );
            let any = Statement::from_sql_and_values(backend, sql, [before.into()]);
            if tx.query_one_raw(any).await?.is_none() {
                return Ok(0);
            }
            instance::Entity::delete_by_id(KEPT_FROM).exec(&*tx).await?;
            let mark = instance::Model {
                key: KEPT_FROM.to_owned(),
                value: before.to_string(),
            };
            entity::insert::<instance::Entity, _>(&*tx, mark)
                .await
                .map_err(|error| Failure::from(error).again_on_unique())?;
            let sql = format!(
                "DELETE FROM audit_events WHERE id IN \
                 (SELECT id FROM audit_events WHERE time < {} ORDER BY time LIMIT {})",
                place(1),
                place(2)
            );
            let values = [before.into(), MOST_EXPIRED.into()];
            let old = Statement::from_sql_and_values(backend, sql, values);
            Ok(tx.execute_raw(old).await?.rows_affected())
        })
        .await
    }
}

/// The first id of a time, moved by a step; `None` where no id has such a time.
fn earliest(at: Timestamp, step: SignedDuration) -> Option<Uuid> {
    let millis = u64::try_from(at.checked_add(step).ok()?.as_millisecond()).ok()?;
    Some(time::first_id(millis))
}

fn record(row: row::Model) -> Result<AuditEvent, Failure> {
    let unknown =
        |what: &str| Failure::internal("read an audit event", format!("unknown '{what}'"));
    let kind = ActorKind::ALL.into_iter();
    let kind = kind.into_iter().find(|it| it.as_str() == row.actor_kind);
    let outcome = [Outcome::Done, Outcome::Refused].into_iter();
    let outcome = outcome.into_iter().find(|it| it.as_str() == row.outcome);
    Ok(AuditEvent {
        id: row.id,
        time: time::timestamp(row.time),
        project: row.project_id.map(Into::into),
        note: Note {
            actor: Actor {
                kind: kind.ok_or_else(|| unknown(&row.actor_kind))?,
                id: row.actor_id,
                name: row.actor,
                role: row.role,
            },
            action: row.action,
            resource: row.resource,
            peer: row.peer,
            inputs: text::decode(&row.inputs_json)?,
            request_id: row.request_id,
        },
        before: row.before_json,
        after: row.after_json,
        outcome: outcome.ok_or_else(|| unknown(&row.outcome))?,
        reason: row.reason,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_bounds_the_ids_with_room_for_a_clock_that_is_set() {
        let (id, now) = (Uuid::now_v7(), Timestamp::now());
        let at = |hours: i64| now + SignedDuration::from_hours(hours);
        let is_since = |hours| earliest(at(hours), -CLOCK_STEP).is_some_and(|first| id >= first);
        let is_until = |hours| earliest(at(hours), CLOCK_STEP).is_some_and(|last| id < last);
        assert!(is_since(-1) && is_since(0) && !is_since(2));
        assert!(is_until(1) && is_until(0) && !is_until(-2));
        assert_eq!(earliest(Timestamp::MIN, CLOCK_STEP), None);
    }
}

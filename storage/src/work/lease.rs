//! Leases of agents, renewed and looked at for many of them at a time.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;
use muster_core::{execution::Lease, id::AgentId};
use sea_orm::{
    ColumnTrait, EntityTrait, ExprTrait, QueryFilter, QueryOrder, QuerySelect, sea_query::Expr,
};
use uuid::Uuid;

use super::{
    Live,
    assignment::{CHUNK, with_executions},
};
use crate::{
    Error, Store, attempt,
    entity::{self, attempt as row},
    gather::Gathered,
    time,
};

/// Leases that an agent renews.
#[derive(Debug)]
pub(crate) struct Renewal {
    pub(super) agent: AgentId,
    pub(super) leases: Vec<Lease>,
    pub(super) until: Timestamp,
}

/// The live attempts of an agent.
#[derive(Debug)]
pub(crate) struct LiveOf(pub(super) AgentId);

impl Gathered for Renewal {
    /// Those that are lost.
    type Answer = Vec<Lease>;

    const OPERATION: &'static str = "renew_leases";

    async fn all(store: &Store, calls: &[Self]) -> Result<Vec<Result<Vec<Lease>, Error>>, Error> {
        // Nobody can renew what is another agent's.
        let wanted: BTreeSet<(Uuid, Uuid)> = calls
            .iter()
            .flat_map(|call| {
                let agent = call.agent.as_uuid();
                let leases = call.leases.iter();
                leases.map(move |lease| (lease.attempt.as_uuid(), agent))
            })
            .collect();
        let Some(until) = calls.iter().map(|call| call.until).max() else {
            return Ok(Vec::new());
        };
        let until = time::millis(until);
        // In one order for all, so that renewals can not wait for each other in a circle.
        let ids: Vec<Uuid> = wanted.iter().map(|(attempt, _)| *attempt).collect();
        let (ids, wanted) = (&ids, &wanted);
        let renewed = store
            .transaction(Self::OPERATION, |tx| async move {
                let mut renewed: HashMap<(Uuid, Uuid), i64> = HashMap::new();
                for ids in ids.chunks(CHUNK) {
                    let live: Vec<(Uuid, Uuid, i64)> = row::Entity::find()
                        .select_only()
                        .columns([row::Column::Id, row::Column::AgentId, row::Column::Epoch])
                        .filter(attempt::is_live())
                        .filter(row::Column::Id.is_in(entity::padded(ids.iter().copied())))
                        .order_by_asc(row::Column::Id)
                        .lock_exclusive()
                        .into_tuple()
                        .all(&*tx)
                        .await?;
                    let live = live.into_iter();
                    let own: Vec<(Uuid, Uuid, i64)> = live
                        .filter(|(id, agent, _)| wanted.contains(&(*id, *agent)))
                        .collect();
                    if own.is_empty() {
                        continue;
                    }
                    let ids = entity::padded(own.iter().map(|(id, ..)| *id));
                    row::Entity::update_many()
                        .col_expr(row::Column::LeaseExpireTime, Expr::value(until))
                        .col_expr(
                            row::Column::LoseTime,
                            Expr::col(row::Column::LostAfter).add(until),
                        )
                        .filter(row::Column::Id.is_in(ids))
                        .exec(&*tx)
                        .await?;
                    let own = own.into_iter();
                    renewed.extend(own.map(|(id, agent, epoch)| ((id, agent), epoch)));
                }
                Ok(renewed)
            })
            .await?;
        let lost = calls.iter().map(|call| {
            let agent = call.agent.as_uuid();
            let is_lost = |lease: &&Lease| {
                renewed.get(&(lease.attempt.as_uuid(), agent)) != Some(&lease.epoch)
            };
            Ok(call.leases.iter().filter(is_lost).copied().collect())
        });
        Ok(lost.collect())
    }
}

impl Gathered for LiveOf {
    type Answer = Vec<Live>;

    const OPERATION: &'static str = "list_live_attempts";

    async fn all(store: &Store, calls: &[Self]) -> Result<Vec<Result<Vec<Live>, Error>>, Error> {
        let agents: BTreeSet<Uuid> = calls.iter().map(|call| call.0.as_uuid()).collect();
        let agents = entity::padded(agents);
        let agents = &agents;
        let live = store
            .snapshot(Self::OPERATION, |tx| async move {
                let rows = row::Entity::find()
                    .filter(attempt::is_live())
                    .filter(row::Column::AgentId.is_in(agents.iter().copied()))
                    .order_by_asc(row::Column::Id)
                    .all(&*tx)
                    .await?;
                with_executions(&*tx, rows).await
            })
            .await?;
        let mut by_agent: BTreeMap<AgentId, Vec<Live>> = BTreeMap::new();
        for live in live {
            by_agent.entry(live.attempt.agent).or_default().push(live);
        }
        let found = calls
            .iter()
            .map(|LiveOf(agent)| Ok(by_agent.get(agent).cloned().unwrap_or_default()));
        Ok(found.collect())
    }
}

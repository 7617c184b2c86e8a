//! Agents: identity, what the administrator set, what the agent told.
//!
//! What an agent does with attempts is in `work`.

mod presence;

use std::collections::BTreeMap;

use jiff::Timestamp;
use muster_core::id::{AgentId, ProjectId, SessionId};

use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder,
    QuerySelect, sea_query::Expr,
};
use uuid::Uuid;

use crate::{
    Error, Page, Request, Store, Written, attempt,
    audit::{self, Done},
    entity::{self, agent as row},
    error::Kind,
    number::unsigned,
    page, project, request, text, time,
    transaction::Failure,
};

pub(crate) use presence::{Arrival, ByToken, PlaceOf};

/// How many processes of an agent are remembered whose place was taken.
const MOST_SUPERSEDED: usize = 32;

/// The daemon of one cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// Its id.
    pub id: AgentId,
    /// Its name, a DNS label.
    pub name: String,
    /// Labels that the administrator set.
    pub labels: BTreeMap<String, String>,
    /// Projects that it may serve; empty for all.
    pub projects: Vec<ProjectId>,
    /// What it told at its last connect.
    pub told: Told,
    /// Set when it takes no new work.
    pub cordon: Option<Cordon>,
    /// How many attempts it holds now.
    pub running: u32,
    /// When it was made.
    pub create_time: Timestamp,
    /// When it was last heard of.
    pub last_seen_time: Option<Timestamp>,
}

impl Agent {
    /// Its labels as the scheduler sees them: those of the administrator win.
    #[must_use]
    pub fn effective_labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.told.labels.clone();
        labels.extend(self.labels.clone());
        labels
    }

    /// The labels that targets are compared with: the effective ones, and [`Agent::NAME_LABEL`].
    #[must_use]
    pub fn target_labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.effective_labels();
        labels.insert(Self::NAME_LABEL.to_owned(), self.name.clone());
        labels
    }

    /// Label with the name of the agent, which no agent can set by itself.
    pub const NAME_LABEL: &str = "muster.dev/agent";
}

/// Why an agent takes no new work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cordon {
    /// Who wants it, and why; for people.
    pub message: String,
}

/// The place of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The process that has it.
    pub session: Option<SessionId>,
    /// Somebody wants the agent to take no new work.
    pub cordoned: bool,
}

/// What an agent tells when it connects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// Its process.
    pub session: Option<SessionId>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Version of its program.
    pub version: String,
    /// `kubernetes` or `process`.
    pub backend: String,
    /// How many attempts it runs at most.
    pub capacity: u32,
    /// What it can do.
    pub capabilities: Vec<String>,
}

/// An agent to be made.
#[derive(Debug, Clone)]
pub struct NewAgent {
    /// Its id, which its token names.
    pub id: AgentId,
    /// Its name, a DNS label.
    pub name: String,
    /// SHA-256 of its token.
    pub token_hash: [u8; 32],
    /// Labels that the agent itself can not change.
    pub labels: BTreeMap<String, String>,
    /// Projects that it may serve; empty for all.
    pub projects: Vec<ProjectId>,
}

/// All agents of the instance.
#[derive(Debug)]
pub struct Agents<'a> {
    pub(crate) store: &'a Store,
}

impl Agents<'_> {
    /// Makes an agent.
    ///
    /// # Errors
    ///
    /// [`Error::AlreadyExists`] when the name is taken, [`Error::NotFound`] for a project.
    pub async fn create(
        &self,
        new: &NewAgent,
        request: Option<&Request>,
    ) -> Result<Written<Agent>, Error> {
        let now = self.store.clock().now();
        let id = new.id;
        self.store
            .transaction("create_agent", |tx| async move {
                if let Some(replay) = request::replay(request, &*tx).await? {
                    return Ok(Written::replayed(load(&*tx, replay.resource.into()).await?));
                }
                request::record(request, &*tx, id.as_uuid(), 0, now).await?;
                for project in &new.projects {
                    project::load(&*tx, *project).await?;
                }
                let row = new_row(id, new, now)?;
                entity::insert::<row::Entity, _>(&*tx, row)
                    .await
                    .map_err(|error| {
                        Failure::from(error).on_unique(|| Error::AlreadyExists {
                            kind: Kind::Agent,
                            id: new.name.clone(),
                        })
                    })?;
                let agent = load(&*tx, id).await?;
                let done = Done {
                    after: told(&agent)?,
                    ..Done::default()
                };
                audit::record(request, &*tx, done, now).await?;
                Ok(Written::new(agent))
            })
            .await
    }

    /// Returns an agent.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`].
    pub async fn get(&self, id: AgentId) -> Result<Agent, Error> {
        self.store
            .read("get_agent", || load(self.store.reader(), id))
            .await
    }

    /// Returns the agent of a name.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`].
    pub async fn find(&self, name: &str) -> Result<Agent, Error> {
        self.store
            .read("find_agent", || async {
                let row = row::Entity::find()
                    .filter(row::Column::Name.eq(name))
                    .one(self.store.reader())
                    .await?
                    .ok_or_else(|| Error::not_found(Kind::Agent, name))?;
                with_running(self.store.reader(), row).await
            })
            .await
    }

    /// Returns the agent whose token has this hash.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn find_by_token_hash(&self, hash: &[u8; 32]) -> Result<Option<Agent>, Error> {
        let call = ByToken(*hash);
        self.store.gathers().agents.call(self.store, call).await
    }

    /// Lists agents by name.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn list(
        &self,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Page<Agent, String>, Error> {
        let limit = page::limit(limit);
        self.store
            .read("list_agents", || async {
                let mut query = row::Entity::find()
                    .order_by_asc(row::Column::Name)
                    .limit(u64::from(limit) + 1);
                if let Some(after) = after {
                    query = query.filter(row::Column::Name.gt(after));
                }
                let rows = query.all(self.store.reader()).await?;
                let ids = rows.iter().map(|row| row.id).collect();
                let running = running(self.store.reader(), ids).await?;
                let mut items = Vec::with_capacity(rows.len());
                for row in rows {
                    let running = running.get(&row.id).copied().unwrap_or(0);
                    items.push(record(row, running)?);
                }
                Ok(Page::new(items, limit, |agent: &Agent| agent.name.clone()))
            })
            .await
    }

    /// Replaces the token of an agent.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`].
    pub async fn rotate_token(
        &self,
        id: AgentId,
        token_hash: &[u8; 32],
        request: Option<&Request>,
    ) -> Result<Written<Agent>, Error> {
        let now = self.store.clock().now();
        self.store
            .transaction("rotate_agent_token", |tx| async move {
                if request::replay(request, &*tx).await?.is_some() {
                    return Ok(Written::replayed(load(&*tx, id).await?));
                }
                request::record(request, &*tx, id.as_uuid(), 0, now).await?;
                let row = row::ActiveModel {
                    token_hash: Set(token_hash.to_vec()),
                    ..Default::default()
                };
                change(&*tx, id, row).await?;
                audit::record(request, &*tx, Done::default(), now).await?;
                Ok(Written::new(load(&*tx, id).await?))
            })
            .await
    }

    /// Lets an agent take no new work, or take it again. What it holds goes on.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`].
    pub async fn set_cordon(
        &self,
        id: AgentId,
        cordon: Option<&Cordon>,
        request: Option<&Request>,
    ) -> Result<Written<Agent>, Error> {
        let now = self.store.clock().now();
        let message = cordon.map_or_else(String::new, |cordon| text::message(&cordon.message));
        let message = &message;
        self.store
            .transaction("cordon_agent", |tx| async move {
                if request::replay(request, &*tx).await?.is_some() {
                    return Ok(Written::replayed(load(&*tx, id).await?));
                }
                request::record(request, &*tx, id.as_uuid(), 0, now).await?;
                let before = load(&*tx, id).await?;
                let row = row::ActiveModel {
                    cordoned: Set(cordon.is_some()),
                    cordon_message: Set(message.clone()),
                    ..Default::default()
                };
                change(&*tx, id, row).await?;
                let after = load(&*tx, id).await?;
                let done = Done {
                    before: told(&before)?,
                    after: told(&after)?,
                    ..Done::default()
                };
                audit::record(request, &*tx, done, now).await?;
                Ok(Written::new(after))
            })
            .await
    }

    /// Deletes an agent. Attempts that it holds end when their leases do.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`].
    pub async fn delete(
        &self,
        id: AgentId,
        request: Option<&Request>,
    ) -> Result<Written<()>, Error> {
        let now = self.store.clock().now();
        self.store
            .transaction("delete_agent", |tx| async move {
                if request::replay(request, &*tx).await?.is_some() {
                    return Ok(Written::replayed(()));
                }
                request::record(request, &*tx, id.as_uuid(), 0, now).await?;
                let agent = load(&*tx, id).await?;
                let deleted = row::Entity::delete_by_id(id.as_uuid()).exec(&*tx).await?;
                if deleted.rows_affected == 0 {
                    return Err(Error::not_found(Kind::Agent, id).into());
                }
                let done = Done {
                    before: told(&agent)?,
                    ..Done::default()
                };
                audit::record(request, &*tx, done, now).await?;
                Ok(Written::new(()))
            })
            .await
    }

    /// Stores what an agent told at its hello; its process takes the place of an older one, for
    /// good: `None` when a later process has taken its own place before. Which one is later is
    /// known by the order in which they first came, never by a clock.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`].
    pub async fn connected(&self, id: AgentId, told: &Told) -> Result<Option<Agent>, Error> {
        let call = Arrival {
            agent: id,
            told: told.clone(),
        };
        self.store.gathers().arrivals.call(self.store, call).await
    }

    /// Returns who has the place of an agent, on whatever server.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`].
    pub async fn place(&self, id: AgentId) -> Result<Place, Error> {
        let call = PlaceOf(id);
        self.store.gathers().places.call(self.store, call).await
    }

    /// Notes that agents were heard of, in one statement for all.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn seen(&self, ids: &[AgentId]) -> Result<(), Error> {
        if ids.is_empty() {
            return Ok(());
        }
        let now = time::millis(self.store.clock().now());
        self.store
            .transaction("note_seen_agents", |tx| async move {
                for ids in ids.chunks(1000) {
                    row::Entity::update_many()
                        .col_expr(row::Column::LastSeenTime, Expr::value(now))
                        .filter(row::Column::Id.is_in(ids.iter().map(|id| id.as_uuid())))
                        .exec(&*tx)
                        .await?;
                }
                Ok(())
            })
            .await
    }
}

/// What the audit log is told of an agent: never its token.
fn told(agent: &Agent) -> Result<Option<String>, Failure> {
    let cordon = agent.cordon.as_ref();
    audit::json(&serde_json::json!({
        "uid": agent.id,
        "labels": agent.labels,
        "projects": agent.projects,
        "cordon": cordon.map(|cordon| &cordon.message),
    }))
}

pub(crate) async fn load<C: ConnectionTrait>(db: &C, id: AgentId) -> Result<Agent, Failure> {
    let row = row::Entity::find_by_id(id.as_uuid())
        .one(db)
        .await?
        .ok_or_else(|| Error::not_found(Kind::Agent, id))?;
    with_running(db, row).await
}

async fn with_running<C: ConnectionTrait>(db: &C, row: row::Model) -> Result<Agent, Failure> {
    let running = running(db, vec![row.id]).await?;
    let running = running.get(&row.id).copied().unwrap_or(0);
    record(row, running)
}

/// How many attempts each agent holds.
async fn running<C: ConnectionTrait>(
    db: &C,
    agents: Vec<Uuid>,
) -> Result<BTreeMap<Uuid, u32>, Failure> {
    let counts: Vec<(Uuid, i64)> = entity::attempt::Entity::find()
        .select_only()
        .column(entity::attempt::Column::AgentId)
        .column_as(entity::attempt::Column::Id.count(), "held")
        .filter(attempt::is_live())
        .filter(entity::attempt::Column::AgentId.is_in(agents))
        .group_by(entity::attempt::Column::AgentId)
        .into_tuple()
        .all(db)
        .await?;
    let counts = counts.into_iter();
    Ok(counts
        .map(|(id, count)| (id, u32::try_from(count).unwrap_or(u32::MAX)))
        .collect())
}

async fn change<C: ConnectionTrait>(
    db: &C,
    id: AgentId,
    change: row::ActiveModel,
) -> Result<(), Failure> {
    let changed = row::Entity::update_many()
        .set(change)
        .filter(row::Column::Id.eq(id.as_uuid()))
        .exec(db)
        .await?;
    if changed.rows_affected == 0 {
        return Err(Error::not_found(Kind::Agent, id).into());
    }
    Ok(())
}

fn new_row(id: AgentId, new: &NewAgent, now: Timestamp) -> Result<row::Model, Failure> {
    Ok(row::Model {
        id: id.as_uuid(),
        name: new.name.clone(),
        token_hash: new.token_hash.to_vec(),
        labels_json: text::encode(&new.labels)?,
        projects_json: text::encode(&new.projects)?,
        session_id: None,
        told_labels_json: "{}".to_owned(),
        version: String::new(),
        backend: String::new(),
        capacity: 0,
        capabilities_json: "[]".to_owned(),
        create_time: time::millis(now),
        last_seen_time: None,
        cordoned: false,
        cordon_message: String::new(),
        superseded_json: "[]".to_owned(),
    })
}

fn record(row: row::Model, running: u32) -> Result<Agent, Failure> {
    Ok(Agent {
        id: row.id.into(),
        name: row.name,
        labels: text::decode(&row.labels_json)?,
        projects: text::decode(&row.projects_json)?,
        told: Told {
            session: row.session_id.map(SessionId::from),
            labels: text::decode(&row.told_labels_json)?,
            version: row.version,
            backend: row.backend,
            capacity: unsigned(row.capacity),
            capabilities: text::decode(&row.capabilities_json)?,
        },
        cordon: row.cordoned.then_some(Cordon {
            message: row.cordon_message,
        }),
        running,
        create_time: time::timestamp(row.create_time),
        last_seen_time: row.last_seen_time.map(time::timestamp),
    })
}

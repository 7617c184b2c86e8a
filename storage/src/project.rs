//! Projects (tenants).

use jiff::Timestamp;
use muster_core::{id::ProjectId, policy::Policy, retention::Retention};

use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder,
    QuerySelect,
};

use crate::{
    Error, Page, Request, Store, Written,
    audit::{self, Done},
    entity::{self, project as row},
    error::Kind,
    number::{signed, unsigned},
    page, request,
    shared::{Read, Shared},
    text, time,
    transaction::Failure,
};

/// Name of the project that the first migration makes.
pub const DEFAULT: &str = "default";

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    /// Its id.
    pub id: ProjectId,
    /// Its name, a DNS label.
    pub name: String,
    /// Its name for people.
    pub display_name: String,
    /// When it was made.
    pub create_time: Timestamp,
    /// How it is served.
    pub settings: Settings,
}

/// How a project is served, and how much it may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Its part of what agents can do, against the weights of other projects; at least 1.
    pub weight: u32,
    /// How many of its executions may run at once; services and those that wait for children do
    /// not count.
    pub max_running: Option<u32>,
    /// How many of its executions may wait; children do not count.
    pub max_queued: Option<u32>,
    /// How many executions may be made in a minute; children do not count.
    pub max_per_minute: Option<u32>,
    /// How fast and how long its logs may be.
    pub logs: LogLimits,
    /// Set when nothing of it is begun: who wants it, and why.
    pub pause: Option<String>,
    /// What follows when attempts end badly, where workflows do not say.
    pub policy: Policy,
    /// How long its executions are kept, where workflows do not say.
    pub retention: Retention,
    /// Set when nothing of it is deleted for a while.
    pub hold: Option<Hold>,
}

/// A time in which nothing of a project is deleted, by nobody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// When it ends.
    pub until: Timestamp,
    /// Who wants it, and why.
    pub message: String,
}

impl Settings {
    /// The hold that is in force at this time.
    #[must_use]
    pub fn hold_at(&self, now: Timestamp) -> Option<&Hold> {
        self.hold.as_ref().filter(|hold| now < hold.until)
    }
}

/// How fast and how long the logs of a project may be; `None` leaves it to the server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogLimits {
    /// Bytes of one log; what comes behind them is not kept, and a line in the log says so.
    pub max_size: Option<i64>,
    /// Bytes a second of all logs of the project together, at each server.
    pub max_rate: Option<i64>,
    /// Bytes a second of one log.
    pub max_rate_each: Option<i64>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            weight: 1,
            max_running: None,
            max_queued: None,
            max_per_minute: None,
            logs: LogLimits::default(),
            pause: None,
            policy: Policy::default(),
            retention: Retention::default(),
            hold: None,
        }
    }
}

/// A project to be made.
#[derive(Debug, Clone)]
pub struct NewProject {
    /// Its name, a DNS label.
    pub name: String,
    /// Its name for people.
    pub display_name: String,
}

/// All projects of the instance.
#[derive(Debug)]
pub struct Projects<'a> {
    pub(crate) store: &'a Store,
}

/// A project that is looked for by its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Named(String);

impl Shared for Named {
    type Value = Project;

    const OPERATION: &'static str = "find_project";

    async fn read(&self, store: &Store) -> Result<Project, Error> {
        store
            .read(Self::OPERATION, || async {
                row::Entity::find()
                    .filter(row::Column::Name.eq(&*self.0))
                    .one(store.reader())
                    .await?
                    .map_or_else(
                        || Err(Error::not_found(Kind::Project, &self.0).into()),
                        record,
                    )
            })
            .await
    }
}

impl Projects<'_> {
    /// Makes a project.
    ///
    /// # Errors
    ///
    /// [`Error::AlreadyExists`] when the name is taken.
    pub async fn create(
        &self,
        new: &NewProject,
        request: Option<&Request>,
    ) -> Result<Written<Project>, Error> {
        let project = &Project {
            id: ProjectId::generate(),
            name: new.name.clone(),
            display_name: text::message(&new.display_name),
            create_time: self.store.clock().now(),
            settings: Settings::default(),
        };
        self.store
            .transaction("create_project", |tx| async move {
                if let Some(replay) = request::replay(request, &*tx).await? {
                    return Ok(Written::replayed(load(&*tx, replay.resource.into()).await?));
                }
                let id = project.id.as_uuid();
                request::record(request, &*tx, id, 0, project.create_time).await?;
                let row = row::Model {
                    id,
                    name: project.name.clone(),
                    display_name: project.display_name.clone(),
                    create_time: time::millis(project.create_time),
                    weight: 1,
                    max_running: None,
                    max_queued: None,
                    max_per_minute: None,
                    paused: false,
                    pause_message: String::new(),
                    policy_json: "{}".to_owned(),
                    max_log: None,
                    max_log_rate: None,
                    max_log_rate_each: None,
                    retention_json: "{}".to_owned(),
                    hold_until: None,
                    hold_message: String::new(),
                };
                entity::insert::<row::Entity, _>(&*tx, row)
                    .await
                    .map_err(|error| {
                        Failure::from(error).on_unique(|| Error::AlreadyExists {
                            kind: Kind::Project,
                            id: project.name.clone(),
                        })
                    })?;
                let done = Done {
                    project: Some(project.id),
                    after: told(project)?,
                    ..Done::default()
                };
                audit::record(request, &*tx, done, project.create_time).await?;
                Ok(Written::new(project.clone()))
            })
            .await
    }

    /// Returns a project.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`].
    pub async fn get(&self, id: ProjectId) -> Result<Project, Error> {
        self.store
            .read("get_project", || load(self.store.reader(), id))
            .await
    }

    /// Returns the project of a name.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`].
    pub async fn find(&self, name: &str) -> Result<Project, Error> {
        let call = Read(Named(name.to_owned()));
        self.store.gathers().projects.call(self.store, call).await
    }

    /// Changes how a project is served.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`].
    pub async fn set(
        &self,
        id: ProjectId,
        settings: &Settings,
        request: Option<&Request>,
    ) -> Result<Written<Project>, Error> {
        let now = self.store.clock().now();
        self.store
            .transaction("update_project", |tx| async move {
                if request::replay(request, &*tx).await?.is_some() {
                    return Ok(Written::replayed(load(&*tx, id).await?));
                }
                request::record(request, &*tx, id.as_uuid(), 0, now).await?;
                let before = load(&*tx, id).await?;
                let row = row::ActiveModel {
                    weight: Set(signed(settings.weight)),
                    max_running: Set(settings.max_running.map(signed)),
                    max_queued: Set(settings.max_queued.map(signed)),
                    max_per_minute: Set(settings.max_per_minute.map(signed)),
                    max_log: Set(settings.logs.max_size),
                    max_log_rate: Set(settings.logs.max_rate),
                    max_log_rate_each: Set(settings.logs.max_rate_each),
                    paused: Set(settings.pause.is_some()),
                    pause_message: Set(text::message(settings.pause.as_deref().unwrap_or(""))),
                    policy_json: Set(text::encode(&settings.policy)?),
                    retention_json: Set(text::encode(&settings.retention)?),
                    hold_until: Set(settings.hold.as_ref().map(|hold| time::millis(hold.until))),
                    hold_message: Set(settings
                        .hold
                        .as_ref()
                        .map_or_else(String::new, |hold| text::message(&hold.message))),
                    ..Default::default()
                };
                row::Entity::update_many()
                    .set(row)
                    .filter(row::Column::Id.eq(id.as_uuid()))
                    .exec(&*tx)
                    .await?;
                let after = load(&*tx, id).await?;
                let done = Done {
                    project: Some(id),
                    before: told(&before)?,
                    after: told(&after)?,
                    ..Done::default()
                };
                audit::record(request, &*tx, done, now).await?;
                Ok(Written::new(after))
            })
            .await
    }

    /// Lists projects by name.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn list(
        &self,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Page<Project, String>, Error> {
        let limit = page::limit(limit);
        self.store
            .read("list_projects", || async {
                let mut query = row::Entity::find()
                    .order_by_asc(row::Column::Name)
                    .limit(u64::from(limit) + 1);
                if let Some(after) = after {
                    query = query.filter(row::Column::Name.gt(after));
                }
                let rows = query.all(self.store.reader()).await?;
                let items = rows.into_iter().map(record).collect::<Result<_, _>>()?;
                Ok(Page::new(items, limit, |project: &Project| {
                    project.name.clone()
                }))
            })
            .await
    }
}

/// What the audit log is told of a project.
fn told(project: &Project) -> Result<Option<String>, Failure> {
    let settings = &project.settings;
    audit::json(&serde_json::json!({
        "display_name": project.display_name,
        "weight": settings.weight,
        "max_running": settings.max_running,
        "max_queued": settings.max_queued,
        "max_per_minute": settings.max_per_minute,
        "max_log_bytes": settings.logs.max_size,
        "max_log_rate": settings.logs.max_rate,
        "max_log_rate_each": settings.logs.max_rate_each,
        "pause": settings.pause,
        "recovery": settings.policy,
        "retention": settings.retention,
        "hold_until": settings.hold.as_ref().map(|hold| hold.until),
        "hold_message": settings.hold.as_ref().map(|hold| &hold.message),
    }))
}

pub(crate) async fn load<C: ConnectionTrait>(db: &C, id: ProjectId) -> Result<Project, Failure> {
    row::Entity::find_by_id(id.as_uuid())
        .one(db)
        .await?
        .map_or_else(|| Err(Error::not_found(Kind::Project, id).into()), record)
}

fn record(row: row::Model) -> Result<Project, Failure> {
    Ok(Project {
        id: row.id.into(),
        name: row.name,
        display_name: row.display_name,
        create_time: time::timestamp(row.create_time),
        settings: Settings {
            weight: unsigned(row.weight).max(1),
            max_running: row.max_running.map(unsigned),
            max_queued: row.max_queued.map(unsigned),
            max_per_minute: row.max_per_minute.map(unsigned),
            logs: LogLimits {
                max_size: row.max_log,
                max_rate: row.max_log_rate,
                max_rate_each: row.max_log_rate_each,
            },
            pause: row.paused.then_some(row.pause_message),
            policy: text::decode(&row.policy_json)?,
            retention: text::decode(&row.retention_json)?,
            hold: row.hold_until.map(|until| Hold {
                until: time::timestamp(until),
                message: row.hold_message,
            }),
        },
    })
}

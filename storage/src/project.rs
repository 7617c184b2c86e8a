//! Projects (tenants).

use jiff::Timestamp;
use muster_core::id::ProjectId;

use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use crate::{
    Error, Page, Request, Store, Written,
    entity::{self, project as row},
    error::Kind,
    page, request, text, time,
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
                };
                entity::insert::<row::Entity, _>(&*tx, row)
                    .await
                    .map_err(|error| {
                        Failure::from(error).on_unique(|| Error::AlreadyExists {
                            kind: Kind::Project,
                            id: project.name.clone(),
                        })
                    })?;
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
        self.store
            .read("find_project", || async {
                row::Entity::find()
                    .filter(row::Column::Name.eq(name))
                    .one(self.store.reader())
                    .await?
                    .map(record)
                    .ok_or_else(|| Error::not_found(Kind::Project, name).into())
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
                let items = rows.into_iter().map(record).collect();
                Ok(Page::new(items, limit, |project: &Project| {
                    project.name.clone()
                }))
            })
            .await
    }
}

pub(crate) async fn load<C: ConnectionTrait>(db: &C, id: ProjectId) -> Result<Project, Failure> {
    row::Entity::find_by_id(id.as_uuid())
        .one(db)
        .await?
        .map(record)
        .ok_or_else(|| Error::not_found(Kind::Project, id).into())
}

fn record(row: row::Model) -> Project {
    Project {
        id: row.id.into(),
        name: row.name,
        display_name: row.display_name,
        create_time: time::timestamp(row.create_time),
    }
}

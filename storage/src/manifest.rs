//! Workflows and templates: stored manifests with their revisions. Both kinds behave alike.

use std::collections::BTreeMap;

use jiff::Timestamp;
use muster_core::{id::ProjectId, retention::Retention};
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, ExprTrait, QueryFilter, QueryOrder, QuerySelect,
    Select, sea_query::Expr,
};
use uuid::Uuid;

use crate::{
    Error, Page, Request, Store, Written,
    audit::{self, Done},
    entity::{self, manifest as row, manifest_revision as revision_row},
    error, page,
    request::{self, Replay},
    shared::{Read, Shared},
    text, time,
    transaction::Failure,
};

/// The two kinds of manifests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A TestWorkflow.
    Workflow,
    /// A TestWorkflowTemplate.
    Template,
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Workflow => "workflow",
            Self::Template => "template",
        }
    }
}

impl From<Kind> for error::Kind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Workflow => Self::Workflow,
            Kind::Template => Self::Template,
        }
    }
}

/// One revision of a stored manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Id of the workflow or template.
    pub id: Uuid,
    /// Its project.
    pub project: ProjectId,
    /// Its name, unique in project and kind.
    pub name: String,
    /// Counts the stored changes from 1; its etag.
    pub revision: i64,
    /// The YAML document.
    pub text: String,
    /// Labels of the manifest.
    pub labels: BTreeMap<String, String>,
    /// Description of the manifest.
    pub description: String,
    /// When it was first stored.
    pub create_time: Timestamp,
    /// When this revision was stored.
    pub update_time: Timestamp,
}

/// A manifest to be stored.
#[derive(Debug, Clone)]
pub struct NewManifest {
    /// Its name.
    pub name: String,
    /// The YAML document.
    pub text: String,
    /// Labels of the manifest.
    pub labels: BTreeMap<String, String>,
    /// Description of the manifest.
    pub description: String,
    /// How long its executions are kept, as far as it says.
    pub retention: Retention,
}

/// The workflows or the templates of one project.
#[derive(Debug)]
pub struct Manifests<'a> {
    pub(crate) store: &'a Store,
    pub(crate) project: ProjectId,
    pub(crate) kind: Kind,
}

/// A manifest that is looked for by its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Named {
    project: ProjectId,
    kind: Kind,
    name: String,
    revision: Option<i64>,
}

impl Shared for Named {
    type Value = Manifest;

    const OPERATION: &'static str = "get_manifest";

    async fn read(&self, store: &Store) -> Result<Manifest, Error> {
        let manifests = Manifests {
            store,
            project: self.project,
            kind: self.kind,
        };
        store
            .read(Self::OPERATION, || async {
                let db = store.reader();
                let row = manifests.current(db, &self.name).await?;
                let revision = self.revision.unwrap_or(row.revision);
                manifests.revision(db, row, revision).await
            })
            .await
    }
}

impl Manifests<'_> {
    /// Stores a new manifest as revision 1.
    ///
    /// # Errors
    ///
    /// [`Error::AlreadyExists`] when the name is taken.
    pub async fn create(
        &self,
        new: &NewManifest,
        request: Option<&Request>,
    ) -> Result<Written<Manifest>, Error> {
        let now = self.store.clock().now();
        let id = Uuid::now_v7();
        self.store
            .transaction("create_manifest", |tx| async move {
                if let Some(replay) = request::replay(request, &*tx).await? {
                    return Ok(Written::replayed(self.replayed(&*tx, replay).await?));
                }
                request::record(request, &*tx, id, 1, now).await?;
                let row = row::Model {
                    id,
                    project_id: self.project.as_uuid(),
                    kind: self.kind.as_str().to_owned(),
                    name: new.name.clone(),
                    revision: 1,
                    create_time: time::millis(now),
                    delete_time: None,
                    retention_json: text::encode(&new.retention)?,
                };
                entity::insert::<row::Entity, _>(&*tx, row.clone())
                    .await
                    .map_err(|error| {
                        Failure::from(error)
                            .on_unique(|| Error::AlreadyExists {
                                kind: self.kind.into(),
                                id: new.name.clone(),
                            })
                            .on_missing_reference(|| {
                                Error::not_found(error::Kind::Project, self.project)
                            })
                    })?;
                let revision = add_revision(&*tx, id, 1, new, now).await?;
                let done = Done {
                    child: Some(new.name.clone()),
                    ..self.done(None, Some(1))?
                };
                audit::record(request, &*tx, done, now).await?;
                Ok(Written::new(record(row, revision)?))
            })
            .await
    }

    /// Returns a revision, or the newest.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`].
    pub async fn get(&self, name: &str, revision: Option<i64>) -> Result<Manifest, Error> {
        let call = Read(Named {
            project: self.project,
            kind: self.kind,
            name: name.to_owned(),
            revision,
        });
        self.store.gathers().manifests.call(self.store, call).await
    }

    /// Lists newest revisions by name.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn list(
        &self,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Page<Manifest, String>, Error> {
        let limit = page::limit(limit);
        self.store
            .snapshot("list_manifests", |tx| async move {
                let mut query = self
                    .rows()
                    .order_by_asc(row::Column::Name)
                    .limit(u64::from(limit) + 1);
                if let Some(after) = after {
                    query = query.filter(row::Column::Name.gt(after));
                }
                let rows = query.all(&*tx).await?;
                let keys = rows.iter().map(|row| (row.id, row.revision));
                let revisions = revision_row::Entity::find()
                    .filter(
                        Expr::tuple([
                            Expr::col(revision_row::Column::ManifestId),
                            Expr::col(revision_row::Column::Revision),
                        ])
                        .in_tuples(keys),
                    )
                    .all(&*tx)
                    .await?;
                let mut revisions: BTreeMap<Uuid, revision_row::Model> = revisions
                    .into_iter()
                    .map(|row| (row.manifest_id, row))
                    .collect();
                let mut items = Vec::with_capacity(rows.len());
                for row in rows {
                    if let Some(revision) = revisions.remove(&row.id) {
                        items.push(record(row, revision)?);
                    }
                }
                Ok(Page::new(items, limit, |item: &Manifest| item.name.clone()))
            })
            .await
    }

    /// Lists the revisions of a manifest, newest first; with `before`, those that are older.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`].
    pub async fn revisions(
        &self,
        name: &str,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Page<Manifest, i64>, Error> {
        let limit = page::limit(limit);
        self.store
            .snapshot("list_manifest_revisions", |tx| async move {
                let row = self.current(&*tx, name).await?;
                let mut query = revision_row::Entity::find()
                    .filter(revision_row::Column::ManifestId.eq(row.id))
                    .order_by_desc(revision_row::Column::Revision)
                    .limit(u64::from(limit) + 1);
                if let Some(before) = before {
                    query = query.filter(revision_row::Column::Revision.lt(before));
                }
                let revisions = query.all(&*tx).await?.into_iter();
                let items: Result<Vec<_>, _> = revisions
                    .map(|revision| record(row.clone(), revision))
                    .collect();
                Ok(Page::new(items?, limit, |item: &Manifest| item.revision))
            })
            .await
    }

    /// Stores a new revision. With `expected`, only on top of that revision.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`]; [`Error::Conflict`] when `expected` is not the newest.
    pub async fn update(
        &self,
        new: &NewManifest,
        expected: Option<i64>,
        request: Option<&Request>,
    ) -> Result<Written<Manifest>, Error> {
        let now = self.store.clock().now();
        self.store
            .transaction("update_manifest", |tx| async move {
                if let Some(replay) = request::replay(request, &*tx).await? {
                    return Ok(Written::replayed(self.replayed(&*tx, replay).await?));
                }
                let mut row = self.locked(&*tx, &new.name).await?;
                if expected.is_some_and(|expected| expected != row.revision) {
                    return Err(Error::Conflict {
                        kind: self.kind.into(),
                        id: new.name.clone(),
                    }
                    .into());
                }
                row.revision += 1;
                request::record(request, &*tx, row.id, row.revision, now).await?;
                row::Entity::update_many()
                    .col_expr(row::Column::Revision, Expr::value(row.revision))
                    .col_expr(
                        row::Column::RetentionJson,
                        Expr::value(text::encode(&new.retention)?),
                    )
                    .filter(row::Column::Id.eq(row.id))
                    .exec(&*tx)
                    .await?;
                let revision = add_revision(&*tx, row.id, row.revision, new, now).await?;
                let done = self.done(Some(row.revision - 1), Some(row.revision))?;
                audit::record(request, &*tx, done, now).await?;
                Ok(Written::new(record(row, revision)?))
            })
            .await
    }

    /// Deletes a manifest; executions of it stay.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`].
    pub async fn delete(
        &self,
        name: &str,
        request: Option<&Request>,
    ) -> Result<Written<()>, Error> {
        let now = self.store.clock().now();
        self.store
            .transaction("delete_manifest", |tx| async move {
                if request::replay(request, &*tx).await?.is_some() {
                    return Ok(Written::replayed(()));
                }
                let row = self.locked(&*tx, name).await?;
                request::record(request, &*tx, row.id, row.revision, now).await?;
                row::Entity::update_many()
                    .col_expr(row::Column::DeleteTime, Expr::value(time::millis(now)))
                    .filter(row::Column::Id.eq(row.id))
                    .exec(&*tx)
                    .await?;
                let done = self.done(Some(row.revision), None)?;
                audit::record(request, &*tx, done, now).await?;
                Ok(Written::new(()))
            })
            .await
    }

    /// What the audit log is told of a change: the revisions, whose documents are kept.
    fn done(&self, before: Option<i64>, after: Option<i64>) -> Result<Done, Failure> {
        let json = |revision: Option<i64>| match revision {
            Some(revision) => audit::json(&serde_json::json!({ "revision": revision })),
            None => Ok(None),
        };
        Ok(Done {
            project: Some(self.project),
            before: json(before)?,
            after: json(after)?,
            ..Done::default()
        })
    }

    /// The rows of this project and kind that are not deleted.
    fn rows(&self) -> Select<row::Entity> {
        row::Entity::find()
            .filter(row::Column::ProjectId.eq(self.project.as_uuid()))
            .filter(row::Column::Kind.eq(self.kind.as_str()))
            .filter(row::Column::DeleteTime.is_null())
    }

    async fn current<C: ConnectionTrait>(&self, db: &C, name: &str) -> Result<row::Model, Failure> {
        self.rows()
            .filter(row::Column::Name.eq(name))
            .one(db)
            .await?
            .ok_or_else(|| Error::not_found(self.kind.into(), name).into())
    }

    async fn locked<C: ConnectionTrait>(&self, db: &C, name: &str) -> Result<row::Model, Failure> {
        self.rows()
            .filter(row::Column::Name.eq(name))
            .lock_exclusive()
            .one(db)
            .await?
            .ok_or_else(|| Error::not_found(self.kind.into(), name).into())
    }

    async fn revision<C: ConnectionTrait>(
        &self,
        db: &C,
        row: row::Model,
        revision: i64,
    ) -> Result<Manifest, Failure> {
        let found = revision_row::Entity::find_by_id((row.id, revision))
            .one(db)
            .await?
            .ok_or_else(|| {
                Error::not_found(self.kind.into(), format!("{}@{revision}", row.name))
            })?;
        record(row, found)
    }

    /// What an earlier request stored, even if it was changed or deleted since.
    async fn replayed<C: ConnectionTrait>(
        &self,
        db: &C,
        replay: Replay,
    ) -> Result<Manifest, Failure> {
        let row = row::Entity::find_by_id(replay.resource)
            .filter(row::Column::ProjectId.eq(self.project.as_uuid()))
            .one(db)
            .await?
            .ok_or_else(|| Error::not_found(self.kind.into(), replay.resource))?;
        self.revision(db, row, replay.revision).await
    }
}

async fn add_revision<C: ConnectionTrait>(
    db: &C,
    id: Uuid,
    revision: i64,
    new: &NewManifest,
    now: Timestamp,
) -> Result<revision_row::Model, Failure> {
    let row = revision_row::Model {
        manifest_id: id,
        revision,
        text: new.text.clone(),
        labels_json: text::encode(&new.labels)?,
        description: new.description.clone(),
        create_time: time::millis(now),
    };
    entity::insert::<revision_row::Entity, _>(db, row.clone()).await?;
    Ok(row)
}

fn record(row: row::Model, revision: revision_row::Model) -> Result<Manifest, Failure> {
    Ok(Manifest {
        id: row.id,
        project: row.project_id.into(),
        name: row.name,
        revision: revision.revision,
        text: revision.text,
        labels: text::decode(&revision.labels_json)?,
        description: revision.description,
        create_time: time::timestamp(row.create_time),
        update_time: time::timestamp(revision.create_time),
    })
}

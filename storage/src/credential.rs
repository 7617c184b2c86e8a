//! Credentials: values that workflows of a project ask for while they run. They are sealed before
//! they come here, under a key that this crate never sees.

use jiff::Timestamp;
use muster_core::id::ProjectId;
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder,
    QuerySelect, Select, sea_query::Expr,
};
use uuid::Uuid;

use crate::{
    Error, Page, Request, Store, Written,
    audit::{self, Done},
    entity::{self, credential as row},
    error::Kind,
    page, request, text, time,
    transaction::Failure,
};

/// Most credentials of a project.
pub const MAX_CREDENTIALS: u64 = 1000;

/// A stored credential without its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// Its id.
    pub id: Uuid,
    /// Its project.
    pub project: ProjectId,
    /// Its name, a DNS label, unique in the project.
    pub name: String,
    /// For people.
    pub description: String,
    /// Counts the stored values from 1; its etag.
    pub revision: i64,
    /// When it was first stored.
    pub create_time: Timestamp,
    /// When its value was stored.
    pub update_time: Timestamp,
}

/// A value that only the holder of a key can read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// Which key.
    pub key: String,
    /// The value, encrypted.
    pub bytes: Vec<u8>,
}

/// A credential to be stored.
#[derive(Debug, Clone)]
pub struct NewCredential {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: Sealed,
    /// For people; absent to keep what is there.
    pub description: Option<String>,
}

/// The credentials of one project.
#[derive(Debug)]
pub struct Credentials<'a> {
    pub(crate) store: &'a Store,
    pub(crate) project: ProjectId,
}

impl Credentials<'_> {
    /// Stores a new credential.
    ///
    /// # Errors
    ///
    /// [`Error::AlreadyExists`] when the name is taken, [`Error::Invalid`] when the project has
    /// [`MAX_CREDENTIALS`].
    pub async fn create(
        &self,
        new: &NewCredential,
        request: Option<&Request>,
    ) -> Result<Written<Credential>, Error> {
        self.store
            .transaction("create_credential", |tx| async move {
                if let Some(replay) = request::replay(request, &*tx).await? {
                    return Ok(Written::replayed(self.by_id(&*tx, replay.resource).await?));
                }
                let made = self.insert(&*tx, new, request).await;
                let taken = || Error::AlreadyExists {
                    kind: Kind::Credential,
                    id: new.name.clone(),
                };
                Ok(Written::new(
                    made.map_err(|failure| failure.on_unique(taken))?,
                ))
            })
            .await
    }

    /// Returns a credential.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`].
    pub async fn get(&self, name: &str) -> Result<Credential, Error> {
        Ok(self.value(name).await?.0)
    }

    /// Returns a credential with its sealed value.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`].
    pub async fn value(&self, name: &str) -> Result<(Credential, Sealed), Error> {
        self.store
            .read("get_credential", || async {
                let found = self
                    .rows()
                    .filter(row::Column::Name.eq(name))
                    .one(self.store.reader())
                    .await?;
                let mut row = found.ok_or_else(|| Error::not_found(Kind::Credential, name))?;
                let sealed = Sealed {
                    key: std::mem::take(&mut row.key_id),
                    bytes: std::mem::take(&mut row.sealed),
                };
                Ok((record(row), sealed))
            })
            .await
    }

    /// Lists credentials by name.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn list(
        &self,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Page<Credential, String>, Error> {
        let limit = page::limit(limit);
        self.store
            .read("list_credentials", || async {
                let mut query = self
                    .rows()
                    .order_by_asc(row::Column::Name)
                    .limit(u64::from(limit) + 1);
                if let Some(after) = after {
                    query = query.filter(row::Column::Name.gt(after));
                }
                let rows = query.all(self.store.reader()).await?;
                let items = rows.into_iter().map(record).collect();
                Ok(Page::new(items, limit, |item: &Credential| {
                    item.name.clone()
                }))
            })
            .await
    }

    /// Replaces a value. With `expected`, only on top of that revision; with `allow_missing`, a
    /// credential that is not there is stored as a new one.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`]; [`Error::Conflict`] when `expected` is not the newest;
    /// [`Error::Invalid`] when it is new and the project has [`MAX_CREDENTIALS`].
    pub async fn update(
        &self,
        new: &NewCredential,
        expected: Option<i64>,
        allow_missing: bool,
        request: Option<&Request>,
    ) -> Result<Written<Credential>, Error> {
        let now = self.store.clock().now();
        self.store
            .transaction("update_credential", |tx| async move {
                if let Some(replay) = request::replay(request, &*tx).await? {
                    return Ok(Written::replayed(self.by_id(&*tx, replay.resource).await?));
                }
                let Some(mut row) = self.locked(&*tx, &new.name).await? else {
                    if !allow_missing {
                        return Err(Error::not_found(Kind::Credential, &new.name).into());
                    }
                    let made = self.insert(&*tx, new, request).await;
                    // Somebody else made it meanwhile: then it is there to be replaced.
                    return Ok(Written::new(made.map_err(Failure::again_on_unique)?));
                };
                if expected.is_some_and(|expected| expected != row.revision) {
                    return Err(Error::Conflict {
                        kind: Kind::Credential,
                        id: new.name.clone(),
                    }
                    .into());
                }
                let before = told(&row)?;
                row.revision += 1;
                row.update_time = time::millis(now);
                if let Some(description) = &new.description {
                    row.description = text::message(description);
                }
                request::record(request, &*tx, row.id, row.revision, now).await?;
                row::Entity::update_many()
                    .col_expr(row::Column::Revision, Expr::value(row.revision))
                    .col_expr(row::Column::UpdateTime, Expr::value(row.update_time))
                    .col_expr(
                        row::Column::Description,
                        Expr::value(row.description.clone()),
                    )
                    .col_expr(row::Column::KeyId, Expr::value(new.value.key.clone()))
                    .col_expr(row::Column::Sealed, Expr::value(new.value.bytes.clone()))
                    .filter(row::Column::Id.eq(row.id))
                    .exec(&*tx)
                    .await?;
                let done = Done {
                    project: Some(self.project),
                    before,
                    after: told(&row)?,
                    ..Done::default()
                };
                audit::record(request, &*tx, done, now).await?;
                Ok(Written::new(record(row)))
            })
            .await
    }

    /// Deletes a credential; nothing of its value stays.
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
            .transaction("delete_credential", |tx| async move {
                if request::replay(request, &*tx).await?.is_some() {
                    return Ok(Written::replayed(()));
                }
                let row = self.locked(&*tx, name).await?;
                let row = row.ok_or_else(|| Error::not_found(Kind::Credential, name))?;
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

    fn rows(&self) -> Select<row::Entity> {
        row::Entity::find().filter(row::Column::ProjectId.eq(self.project.as_uuid()))
    }

    async fn locked<C: ConnectionTrait>(
        &self,
        db: &C,
        name: &str,
    ) -> Result<Option<row::Model>, Failure> {
        let named = self.rows().filter(row::Column::Name.eq(name));
        Ok(named.lock_exclusive().one(db).await?)
    }

    async fn by_id<C: ConnectionTrait>(&self, db: &C, id: Uuid) -> Result<Credential, Failure> {
        let found = self.rows().filter(row::Column::Id.eq(id)).one(db).await?;
        found
            .map(record)
            .ok_or_else(|| Error::not_found(Kind::Credential, id).into())
    }

    async fn insert<C: ConnectionTrait>(
        &self,
        db: &C,
        new: &NewCredential,
        request: Option<&Request>,
    ) -> Result<Credential, Failure> {
        if self.rows().count(db).await? >= MAX_CREDENTIALS {
            let reason = format!(
                "the project has {MAX_CREDENTIALS} credentials, which is the most; delete some"
            );
            return Err(Error::invalid("credential_id", reason).into());
        }
        let now = self.store.clock().now();
        let id = Uuid::now_v7();
        request::record(request, db, id, 1, now).await?;
        let description = new.description.as_deref().unwrap_or_default();
        let row = row::Model {
            id,
            project_id: self.project.as_uuid(),
            name: new.name.clone(),
            description: text::message(description),
            revision: 1,
            key_id: new.value.key.clone(),
            sealed: new.value.bytes.clone(),
            create_time: time::millis(now),
            update_time: time::millis(now),
        };
        entity::insert::<row::Entity, _>(db, row.clone())
            .await
            .map_err(|error| {
                Failure::from(error)
                    .on_missing_reference(|| Error::not_found(Kind::Project, self.project))
            })?;
        let done = Done {
            project: Some(self.project),
            after: told(&row)?,
            ..Done::default()
        };
        audit::record(request, db, done, now).await?;
        Ok(record(row))
    }
}

/// What the audit log is told of a credential: nothing of its value, nor of the key.
fn told(row: &row::Model) -> Result<Option<String>, Failure> {
    audit::json(&serde_json::json!({
        "revision": row.revision,
        "description": row.description,
    }))
}

/// How many values of all projects are sealed with other keys than this one.
pub(crate) async fn under_other_keys(store: &Store, key: &str) -> Result<u64, Error> {
    store
        .read("count_credentials_by_key", || async {
            let others = row::Entity::find().filter(row::Column::KeyId.ne(key));
            Ok(others.count(store.reader()).await?)
        })
        .await
}

fn record(row: row::Model) -> Credential {
    Credential {
        id: row.id,
        project: row.project_id.into(),
        name: row.name,
        description: row.description,
        revision: row.revision,
        create_time: time::timestamp(row.create_time),
        update_time: time::timestamp(row.update_time),
    }
}

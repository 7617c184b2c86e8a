//! Credentials of people and programs, by the SHA-256 of their secret.

use jiff::Timestamp;
use muster_core::id::{ProjectId, TokenId};

use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use crate::{
    Error, Page, Request, Store, Written,
    audit::{self, Done},
    entity::{self, instance, token as row},
    error::Kind,
    page, request,
    shared::{Read, Shared},
    text, time,
    transaction::Failure,
};

/// The mark of a database whose first token was made.
const FIRST_TOKEN: &str = "first_token";

/// What the bearer may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Read everything in its project.
    Viewer,
    /// Also run, cancel and change workflows in its project.
    Member,
    /// Everything, in all projects; has no project.
    Admin,
}

impl Role {
    const ALL: [Self; 3] = [Self::Viewer, Self::Member, Self::Admin];

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Member => "member",
            Self::Admin => "admin",
        }
    }
}

/// A credential, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Its id.
    pub id: TokenId,
    /// Its name for people.
    pub display_name: String,
    /// What it allows.
    pub role: Role,
    /// Its project; `None` exactly for administrators.
    pub project: Option<ProjectId>,
    /// When it was made.
    pub create_time: Timestamp,
    /// When it ends by itself.
    pub expire_time: Option<Timestamp>,
}

/// A token to be made.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// SHA-256 of its secret.
    pub hash: [u8; 32],
    /// Its name for people.
    pub display_name: String,
    /// What it allows.
    pub role: Role,
    /// Its project; `None` exactly for administrators.
    pub project: Option<ProjectId>,
    /// When it ends by itself.
    pub expire_time: Option<Timestamp>,
}

/// All tokens of the instance.
#[derive(Debug)]
pub struct Tokens<'a> {
    pub(crate) store: &'a Store,
}

/// A token that is looked for by its hash.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ByHash([u8; 32]);

impl Shared for ByHash {
    type Value = Option<Token>;

    const OPERATION: &'static str = "find_token";

    async fn read(&self, store: &Store) -> Result<Option<Token>, Error> {
        let now = store.clock().now();
        store
            .read(Self::OPERATION, || async {
                let row = row::Entity::find()
                    .filter(row::Column::Hash.eq(self.0.to_vec()))
                    .one(store.reader())
                    .await?;
                let token = row.map(record).transpose()?;
                Ok(token.filter(|token| token.expire_time.is_none_or(|at| at > now)))
            })
            .await
    }
}

impl Tokens<'_> {
    /// Makes a token.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] when role and project do not fit, [`Error::NotFound`] when the project
    /// is not there.
    pub async fn create(
        &self,
        new: &NewToken,
        request: Option<&Request>,
    ) -> Result<Written<Token>, Error> {
        let token = &self.prepare(new)?;
        self.store
            .transaction("create_token", |tx| async move {
                if let Some(replay) = request::replay(request, &*tx).await? {
                    let row = row::Entity::find_by_id(replay.resource)
                        .one(&*tx)
                        .await?
                        .ok_or_else(|| Error::not_found(Kind::Token, replay.resource))?;
                    return Ok(Written::replayed(record(row)?));
                }
                request::record(request, &*tx, token.id.as_uuid(), 0, token.create_time).await?;
                insert(&*tx, token, &new.hash).await?;
                let done = Done {
                    project: token.project,
                    child: Some(token.id.to_string()),
                    after: told(token)?,
                    ..Done::default()
                };
                audit::record(request, &*tx, done, token.create_time).await?;
                Ok(Written::new(token.clone()))
            })
            .await
    }

    /// Makes the first administrator's token of this database. `None` when that was done before,
    /// even if the token is gone since.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn create_first(&self, new: &NewToken) -> Result<Option<Token>, Error> {
        let token = &self.prepare(new)?;
        self.store
            .transaction("create_first_token", |tx| async move {
                let mark = instance::Entity::find_by_id(FIRST_TOKEN).one(&*tx).await?;
                if mark.is_some() {
                    return Ok(None);
                }
                let mark = instance::Model {
                    key: FIRST_TOKEN.to_owned(),
                    value: token.id.to_string(),
                };
                entity::insert::<instance::Entity, _>(&*tx, mark)
                    .await
                    .map_err(|error| Failure::from(error).again_on_unique())?;
                insert(&*tx, token, &new.hash).await?;
                Ok(Some(token.clone()))
            })
            .await
    }

    /// Returns the token with this hash; `None` when there is none or it has expired.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn find_by_hash(&self, hash: &[u8; 32]) -> Result<Option<Token>, Error> {
        let call = Read(ByHash(*hash));
        self.store.gathers().tokens.call(self.store, call).await
    }

    /// Lists tokens, newest first.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn list(
        &self,
        after: Option<TokenId>,
        limit: u32,
    ) -> Result<Page<Token, TokenId>, Error> {
        let limit = page::limit(limit);
        self.store
            .read("list_tokens", || async {
                let mut query = row::Entity::find()
                    .order_by_desc(row::Column::Id)
                    .limit(u64::from(limit) + 1);
                if let Some(after) = after {
                    query = query.filter(row::Column::Id.lt(after.as_uuid()));
                }
                let rows = query.all(self.store.reader()).await?;
                let items = rows.into_iter().map(record).collect::<Result<_, _>>()?;
                Ok(Page::new(items, limit, |token: &Token| token.id))
            })
            .await
    }

    /// Revokes a token.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`].
    pub async fn delete(
        &self,
        id: TokenId,
        request: Option<&Request>,
    ) -> Result<Written<()>, Error> {
        let now = self.store.clock().now();
        self.store
            .transaction("delete_token", |tx| async move {
                if request::replay(request, &*tx).await?.is_some() {
                    return Ok(Written::replayed(()));
                }
                request::record(request, &*tx, id.as_uuid(), 0, now).await?;
                let row = row::Entity::find_by_id(id.as_uuid()).one(&*tx).await?;
                let deleted = row::Entity::delete_by_id(id.as_uuid()).exec(&*tx).await?;
                let row = row.filter(|_| deleted.rows_affected > 0);
                let token = record(row.ok_or_else(|| Error::not_found(Kind::Token, id))?)?;
                let done = Done {
                    project: token.project,
                    before: told(&token)?,
                    ..Done::default()
                };
                audit::record(request, &*tx, done, now).await?;
                Ok(Written::new(()))
            })
            .await
    }

    fn prepare(&self, new: &NewToken) -> Result<Token, Error> {
        if (new.role == Role::Admin) != new.project.is_none() {
            let reason = "an admin has no project, a viewer or member has one";
            return Err(Error::invalid("project", reason));
        }
        Ok(Token {
            id: TokenId::generate(),
            display_name: text::message(&new.display_name),
            role: new.role,
            project: new.project,
            create_time: self.store.clock().now(),
            expire_time: new.expire_time,
        })
    }
}

/// What the audit log is told of a token: never its hash.
fn told(token: &Token) -> Result<Option<String>, Failure> {
    audit::json(&serde_json::json!({
        "display_name": token.display_name,
        "role": token.role.as_str(),
        "project": token.project,
        "expire_time": token.expire_time.map(|time| time.to_string()),
    }))
}

async fn insert<C: ConnectionTrait>(db: &C, token: &Token, hash: &[u8; 32]) -> Result<(), Failure> {
    let row = row::Model {
        id: token.id.as_uuid(),
        hash: hash.to_vec(),
        display_name: token.display_name.clone(),
        role: token.role.as_str().to_owned(),
        project_id: token.project.map(ProjectId::as_uuid),
        create_time: time::millis(token.create_time),
        expire_time: token.expire_time.map(time::millis),
    };
    entity::insert::<row::Entity, _>(db, row)
        .await
        .map_err(|error| {
            Failure::from(error)
                .on_unique(|| Error::AlreadyExists {
                    kind: Kind::Token,
                    id: "with this secret".to_owned(),
                })
                .on_missing_reference(|| {
                    let project = token.project.map(|id| id.to_string());
                    Error::not_found(Kind::Project, project.unwrap_or_default())
                })
        })
}

fn record(row: row::Model) -> Result<Token, Failure> {
    let role = Role::ALL
        .into_iter()
        .find(|role| role.as_str() == row.role)
        .ok_or_else(|| Failure::internal("read a token", format!("unknown role '{}'", row.role)))?;
    Ok(Token {
        id: row.id.into(),
        display_name: row.display_name,
        role,
        project: row.project_id.map(ProjectId::from),
        create_time: time::timestamp(row.create_time),
        expire_time: row.expire_time.map(time::timestamp),
    })
}

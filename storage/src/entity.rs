//! Rows as sea-orm reads and writes them, one file a table. Private: what leaves this crate are
//! the records beside the operations.

pub(crate) mod agent;
pub(crate) mod artifact;
pub(crate) mod attempt;
pub(crate) mod counter;
pub(crate) mod credential;
pub(crate) mod execution;
pub(crate) mod execution_event;
pub(crate) mod execution_plan;
pub(crate) mod execution_source;
pub(crate) mod execution_steps;
pub(crate) mod execution_tag;
pub(crate) mod instance;
pub(crate) mod log_segment;
pub(crate) mod manifest;
pub(crate) mod manifest_revision;
pub(crate) mod project;
pub(crate) mod request;
pub(crate) mod token;

use sea_orm::{ActiveModelTrait, ConnectionTrait, DbErr, EntityTrait, IntoActiveModel};

/// Inserts a row as it is.
pub(crate) async fn insert<E, C>(db: &C, row: E::Model) -> Result<(), DbErr>
where
    E: EntityTrait,
    E::ActiveModel: ActiveModelTrait<Entity = E>,
    E::Model: IntoActiveModel<E::ActiveModel>,
    C: ConnectionTrait,
{
    insert_all::<E, C>(db, vec![row]).await
}

/// Inserts rows in one statement; the caller bounds their number.
pub(crate) async fn insert_all<E, C>(db: &C, rows: Vec<E::Model>) -> Result<(), DbErr>
where
    E: EntityTrait,
    E::ActiveModel: ActiveModelTrait<Entity = E>,
    E::Model: IntoActiveModel<E::ActiveModel>,
    C: ConnectionTrait,
{
    if rows.is_empty() {
        return Ok(());
    }
    let rows = rows
        .into_iter()
        .map(|row| row.into_active_model().reset_all());
    E::insert_many(rows).exec_without_returning(db).await?;
    Ok(())
}

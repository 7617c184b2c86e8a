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

use std::fmt::Write as _;

use sea_orm::{
    ActiveModelTrait, ConnectionTrait, DbErr, EntityTrait, IdenStatic, IntoActiveModel, Statement,
    Value,
};

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

/// Most values in one statement: SQLite takes 32,766, PostgreSQL 65,535.
const MOST_VALUES: usize = 30_000;

/// Updates rows, each with values of its own, in as few statements as there can be. Each item has
/// the values of `key`, then those of `columns`. Returns how many rows were updated.
pub(crate) async fn update_all<E, C>(
    db: &C,
    key: &[E::Column],
    columns: &[E::Column],
    rows: Vec<Vec<Value>>,
) -> Result<u64, DbErr>
where
    E: EntityTrait,
    C: ConnectionTrait,
{
    let width = key.len() + columns.len();
    let mut updated = 0;
    for rows in rows.chunks((MOST_VALUES / width).max(1)) {
        let sql = update::<E>(key, columns, rows.len());
        let values: Vec<Value> = rows.iter().flatten().cloned().collect();
        let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, values);
        updated += db.execute_raw(statement).await?.rows_affected();
    }
    Ok(updated)
}

/// `UPDATE … FROM (VALUES …)`, in words that both databases know: the columns of values are named
/// `column1`, `column2`, … by both.
fn update<E: EntityTrait>(key: &[E::Column], columns: &[E::Column], rows: usize) -> String {
    let entity = E::default();
    let table = entity.table_name();
    let width = key.len() + columns.len();
    let mut sql = format!("UPDATE {table} SET ");
    for (index, column) in columns.iter().enumerate() {
        let comma = if index == 0 { "" } else { ", " };
        let number = key.len() + index + 1;
        let name = column.as_str();
        // Writing to a string can not fail.
        let _ok = write!(sql, "{comma}{name} = new.column{number}");
    }
    sql.push_str(" FROM (VALUES ");
    for row in 0..rows {
        sql.push_str(if row == 0 { "(" } else { ", (" });
        for column in 0..width {
            let comma = if column == 0 { "" } else { ", " };
            let _ok = write!(sql, "{comma}${}", row * width + column + 1);
        }
        sql.push(')');
    }
    sql.push_str(") AS new WHERE ");
    for (index, column) in key.iter().enumerate() {
        let and = if index == 0 { "" } else { " AND " };
        let name = column.as_str();
        let _ok = write!(sql, "{and}{table}.{name} = new.column{}", index + 1);
    }
    sql
}

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
pub(crate) mod missing_artifact;
pub(crate) mod project;
pub(crate) mod request;
pub(crate) mod token;

use std::fmt::Write as _;

use sea_orm::{
    ConnectionTrait, DbBackend, DbErr, EntityTrait, IdenStatic, Iterable as _, ModelTrait,
    Statement, Value,
};

/// Inserts a row as it is.
pub(crate) async fn insert<E, C>(db: &C, row: E::Model) -> Result<(), DbErr>
where
    E: EntityTrait,
    C: ConnectionTrait,
{
    insert_all::<E, C>(db, vec![row]).await
}

/// How many rows a statement carries. Few sizes, so that the databases know the statements from
/// the last time: to read one with thousands of values costs more than to do it.
const SIZES: [usize; 4] = [64, 16, 4, 1];

/// Cuts rows into as few parts of these sizes as there can be.
fn parts<T>(mut rows: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let size = SIZES.into_iter().find(|size| *size <= rows.len())?;
        let (part, rest) = rows.split_at(size);
        rows = rest;
        Some(part)
    })
}

/// Ids for a condition, the last one repeated until there are as many as one of few sizes, for the
/// same reason.
pub(crate) fn padded<T: Copy>(ids: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut ids: Vec<T> = ids.into_iter().collect();
    let mut size = 1;
    while size < ids.len() {
        size *= 4;
    }
    if let Some(last) = ids.last().copied() {
        ids.resize(size, last);
    }
    ids
}

/// Inserts rows in few statements.
pub(crate) async fn insert_all<E, C>(db: &C, rows: Vec<E::Model>) -> Result<(), DbErr>
where
    E: EntityTrait,
    C: ConnectionTrait,
{
    let columns: Vec<E::Column> = E::Column::iter().collect();
    for rows in parts(&rows) {
        let values = rows
            .iter()
            .flat_map(|row| columns.iter().map(|column| row.get(*column)));
        let values: Vec<Value> = values.collect();
        let backend = db.get_database_backend();
        let sql = insert_sql::<E>(backend, &columns, rows.len());
        let statement = Statement::from_sql_and_values(backend, sql, values);
        db.execute_raw(statement).await?;
    }
    Ok(())
}

fn insert_sql<E: EntityTrait>(backend: DbBackend, columns: &[E::Column], rows: usize) -> String {
    let names: Vec<&str> = columns.iter().map(IdenStatic::as_str).collect();
    let table = E::default().table_name().to_owned();
    let mut sql = format!("INSERT INTO {table} ({}) VALUES ", names.join(", "));
    values(&mut sql, backend, columns.len(), rows);
    sql
}

/// Adds the places of values: rows of so many. SQLite would look for each number in a list of all.
fn values(sql: &mut String, backend: DbBackend, width: usize, rows: usize) {
    for row in 0..rows {
        sql.push_str(if row == 0 { "(" } else { ", (" });
        for column in 0..width {
            let comma = if column == 0 { "" } else { ", " };
            sql.push_str(comma);
            match backend {
                DbBackend::Postgres => {
                    // Writing to a string can not fail.
                    let _ok = write!(sql, "${}", row * width + column + 1);
                }
                _ => sql.push('?'),
            }
        }
        sql.push(')');
    }
}

/// Updates rows, each with values of its own, in few statements. Each item has the values of `key`,
/// then those of `columns`. Returns how many rows were updated.
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
    let mut updated = 0;
    for rows in parts(&rows) {
        let backend = db.get_database_backend();
        let sql = update::<E>(backend, key, columns, rows.len());
        let values: Vec<Value> = rows.iter().flatten().cloned().collect();
        let statement = Statement::from_sql_and_values(backend, sql, values);
        updated += db.execute_raw(statement).await?.rows_affected();
    }
    Ok(updated)
}

/// The values of a row for [`update_all`]: of its key, then of what changes.
pub(crate) fn change<M: ModelTrait>(
    row: &M,
    key: <M::Entity as EntityTrait>::Column,
    columns: &[<M::Entity as EntityTrait>::Column],
) -> Vec<Value> {
    let columns = std::iter::once(&key).chain(columns);
    columns.map(|column| row.get(*column)).collect()
}

/// `UPDATE … FROM (VALUES …)`, in words that both databases know: the columns of values are named
/// `column1`, `column2`, … by both.
fn update<E: EntityTrait>(
    backend: DbBackend,
    key: &[E::Column],
    columns: &[E::Column],
    rows: usize,
) -> String {
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
    values(&mut sql, backend, width, rows);
    sql.push_str(") AS new WHERE ");
    for (index, column) in key.iter().enumerate() {
        let and = if index == 0 { "" } else { " AND " };
        let name = column.as_str();
        let _ok = write!(sql, "{and}{table}.{name} = new.column{}", index + 1);
    }
    sql
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn rows_are_cut_into_parts_of_few_sizes() {
        let rows: Vec<u32> = (0..151).collect();
        let sizes: Vec<usize> = parts(&rows).map(<[u32]>::len).collect();
        assert_eq!(sizes, [64, 64, 16, 4, 1, 1, 1]);
        assert_eq!(parts(&rows).flatten().copied().collect::<Vec<_>>(), rows);
        assert_eq!(parts::<u32>(&[]).count(), 0);
    }

    #[test]
    fn ids_are_padded_with_the_last_one() {
        let ids: Vec<Uuid> = (1..=5).map(Uuid::from_u128).collect();
        let padded = padded(ids.clone());
        assert_eq!(padded.len(), 16);
        assert_eq!(padded[..5], ids);
        assert!(padded[5..].iter().all(|id| *id == ids[4]));
        assert_eq!(super::padded::<Uuid>([]).len(), 0);
    }

    #[test]
    fn no_part_has_more_values_than_a_statement_takes() {
        // SQLite takes 32,766, PostgreSQL 65,535.
        let widest = execution::Column::iter().count();
        assert!(widest * SIZES[0] < 32_766, "{widest} columns");
    }
}

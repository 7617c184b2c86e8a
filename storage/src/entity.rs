//! Rows as sea-orm reads and writes them, one file a table. Private: what leaves this crate are
//! the records beside the operations.

pub(crate) mod agent;
pub(crate) mod artifact;
pub(crate) mod attempt;
pub(crate) mod audit_event;
pub(crate) mod counted_execution;
pub(crate) mod counter;
pub(crate) mod credential;
pub(crate) mod doomed_blob;
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
pub(crate) mod quarantined_test;
pub(crate) mod report;
pub(crate) mod request;
pub(crate) mod sealed_log;
pub(crate) mod taken_over;
pub(crate) mod test;
pub(crate) mod test_result;
pub(crate) mod token;
pub(crate) mod workflow_label;

use std::fmt::Write as _;

use sea_orm::{
    ConnectionTrait, DbBackend, DbErr, EntityTrait, IdenStatic, Iterable as _, ModelTrait,
    Statement, Value,
};

/// The place of a value in a statement that is written by hand, from 1 on.
pub(crate) fn place(backend: DbBackend, number: usize) -> String {
    match backend {
        DbBackend::Postgres => format!("${number}"),
        _ => format!("?{number}"),
    }
}

/// Inserts a row as it is.
pub(crate) async fn insert<E, C>(db: &C, row: E::Model) -> Result<(), DbErr>
where
    E: EntityTrait,
    C: ConnectionTrait,
{
    insert_all::<E, C>(db, &[row]).await
}

/// Most rows that a statement carries.
const MOST: usize = 64;

/// Cuts rows into parts for a statement each. Those of PostgreSQL have few sizes, so that its
/// connections know them from the last time: to read one with thousands of values costs more than to
/// do it. The one of SQLite that writes knows all sizes.
fn parts<T>(backend: DbBackend, mut rows: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let most = rows.len().min(MOST);
        let size = match backend {
            _ if most == 0 => return None,
            DbBackend::Postgres => 1 << most.ilog2(),
            _ => most,
        };
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

/// Inserts rows in few statements. Columns that no row has a value for are left out: none that may be
/// NULL has another default.
pub(crate) async fn insert_all<E, C>(db: &C, rows: &[E::Model]) -> Result<(), DbErr>
where
    E: EntityTrait,
    C: ConnectionTrait,
{
    let backend = db.get_database_backend();
    for rows in parts(backend, rows) {
        let all: Vec<(E::Column, Vec<Value>)> = E::Column::iter()
            .map(|column| (column, rows.iter().map(|row| row.get(column)).collect()))
            .filter(|(_, values): &(_, Vec<Value>)| values.iter().any(|it| *it != it.as_null()))
            .collect();
        let columns: Vec<E::Column> = all.iter().map(|(column, _)| *column).collect();
        let mut all: Vec<_> = all.into_iter().map(|(_, of)| of.into_iter()).collect();
        let mut values = Vec::with_capacity(rows.len() * columns.len());
        for _ in rows {
            values.extend(all.iter_mut().filter_map(Iterator::next));
        }
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

/// A column that can change, and how to see that it has.
pub(crate) type Changing<M> = (
    <<M as ModelTrait>::Entity as EntityTrait>::Column,
    fn(&M, &M) -> bool,
);

/// The columns of a table that can change, each with its field.
macro_rules! changing {
    ($table:ident: $($column:ident $field:ident),+ $(,)?) => {
        [$((
            $table::Column::$column,
            |old: &$table::Model, new: &$table::Model| old.$field != new.$field,
        )),+]
    };
}
pub(crate) use changing;

/// The columns that have changed in one of these rows, of which each is given as it was and as it is.
pub(crate) fn changed<'a, M: ModelTrait + 'a>(
    all: &[Changing<M>],
    rows: impl Iterator<Item = (&'a M, &'a M)> + Clone,
) -> Vec<<M::Entity as EntityTrait>::Column> {
    let has_changed =
        |(_, differs): &&Changing<M>| rows.clone().any(|(old, new)| differs(old, new));
    let changed = all.iter().filter(has_changed);
    changed.map(|(column, _)| *column).collect()
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
    if columns.is_empty() {
        return Ok(0);
    }
    let backend = db.get_database_backend();
    let mut updated = 0;
    let mut rows = rows.into_iter();
    loop {
        let mut part: Vec<Vec<Value>> = rows.by_ref().take(MOST).collect();
        let Some(last) = part.last().cloned() else {
            return Ok(updated);
        };
        if backend == DbBackend::Postgres {
            // A row that is named twice is updated once.
            part.resize(part.len().next_power_of_two(), last);
        }
        let sql = update::<E>(backend, key, columns, part.len());
        let values: Vec<Value> = part.into_iter().flatten().collect();
        let statement = Statement::from_sql_and_values(backend, sql, values);
        updated += db.execute_raw(statement).await?.rows_affected();
    }
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
        for (backend, expected) in [
            (DbBackend::Postgres, &[64, 64, 16, 4, 2, 1][..]),
            (DbBackend::Sqlite, &[64, 64, 23]),
        ] {
            let sizes: Vec<usize> = parts(backend, &rows).map(<[u32]>::len).collect();
            assert_eq!(sizes, expected);
            let all = parts(backend, &rows).flatten().copied();
            assert_eq!(all.collect::<Vec<_>>(), rows);
            assert_eq!(parts::<u32>(backend, &[]).count(), 0);
        }
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
        assert!(widest * MOST < 32_766, "{widest} columns");
    }
}

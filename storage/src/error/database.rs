//! What an error of the database means for the caller: the one place that knows codes of SQLite
//! and PostgreSQL.

use sea_orm::{ConnAcquireErr, DbErr, RuntimeErr, SqlErr};
use sqlx::Error as SqlxError;

use super::{Error, Unwritable};

/// What an error says about the transaction that it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Certainty {
    /// Rolled back for the sake of another transaction: the same again may succeed at once.
    Contention,
    /// Rolled back or never begun, because the database can not work now.
    Unavailable,
    /// Rolled back, because the database takes no changes now.
    Unwritable(Unwritable),
    /// Rolled back, because a file of SQLite could not be used; it does not say why.
    Disk,
    /// The connection broke. During a commit nobody knows whether it happened.
    Unknown,
    /// The database refused the statement.
    Refused,
}

impl Certainty {
    pub(crate) fn of(error: &DbErr) -> Self {
        match error {
            DbErr::ConnectionAcquire(
                ConnAcquireErr::Timeout | ConnAcquireErr::ConnectionClosed,
            ) => Self::Unavailable,
            DbErr::Conn(RuntimeErr::SqlxError(error))
            | DbErr::Exec(RuntimeErr::SqlxError(error))
            | DbErr::Query(RuntimeErr::SqlxError(error)) => Self::of_sqlx(error),
            _ => Self::Refused,
        }
    }

    fn of_sqlx(error: &SqlxError) -> Self {
        match error {
            SqlxError::Database(error) => {
                let code = error.code().unwrap_or_default();
                if error
                    .try_downcast_ref::<sqlx::sqlite::SqliteError>()
                    .is_some()
                {
                    Self::of_sqlite(code.parse().unwrap_or(0))
                } else {
                    Self::of_postgres(&code)
                }
            }
            SqlxError::Io(_)
            | SqlxError::Tls(_)
            | SqlxError::Protocol(_)
            | SqlxError::WorkerCrashed
            // An earlier transaction of the connection has not ended the way it should.
            | SqlxError::InvalidSavePointStatement
            | SqlxError::BeginFailed => Self::Unknown,
            SqlxError::PoolTimedOut | SqlxError::PoolClosed => Self::Unavailable,
            _ => Self::Refused,
        }
    }

    /// The low byte is the code, the rest says more about it.
    fn of_sqlite(code: i32) -> Self {
        match code & 0xff {
            // BUSY, LOCKED
            5 | 6 => Self::Contention,
            // NOMEM
            7 => Self::Unavailable,
            // READONLY
            8 => Self::Unwritable(Unwritable::ReadOnly),
            // FULL
            13 => Self::Unwritable(Unwritable::Full),
            // IOERR, CANTOPEN
            10 | 14 => Self::Disk,
            _ => Self::Refused,
        }
    }

    fn of_postgres(code: &str) -> Self {
        match code {
            // serialization_failure, deadlock_detected, lock_not_available
            "40001" | "40P01" | "55P03" => Self::Contention,
            // admin_shutdown, crash_shutdown: they may come instead of a commit's answer
            "57P01" | "57P02" => Self::Unknown,
            // statement_completion_unknown
            "40003" => Self::Unknown,
            // query_canceled (a timeout), cannot_connect_now
            "57014" | "57P03" => Self::Unavailable,
            // read_only_sql_transaction
            "25006" => Self::Unwritable(Unwritable::ReadOnly),
            // disk_full
            "53100" => Self::Unwritable(Unwritable::Full),
            // connection exceptions, insufficient resources, system errors
            _ if code.starts_with("08") => Self::Unknown,
            _ if code.starts_with("53") || code.starts_with("58") => Self::Unavailable,
            _ => Self::Refused,
        }
    }
}

/// Gives an error of the database the meaning that it has for the caller of `operation`.
pub(crate) fn convert(operation: &'static str, error: DbErr) -> Error {
    match Certainty::of(&error) {
        Certainty::Contention | Certainty::Unavailable | Certainty::Disk | Certainty::Unknown => {
            Error::Unavailable {
                operation,
                source: error.into(),
            }
        }
        Certainty::Unwritable(why) => Error::Unwritable {
            operation,
            why,
            source: error.into(),
        },
        Certainty::Refused if is_unfit_text(&error) => {
            Error::invalid("text", "holds a NUL character, which can not be stored")
        }
        Certainty::Refused => Error::Internal {
            operation,
            source: error.into(),
        },
    }
}

pub(crate) fn is_unique_violation(error: &DbErr) -> bool {
    matches!(error.sql_err(), Some(SqlErr::UniqueConstraintViolation(_)))
}

pub(crate) fn is_reference_violation(error: &DbErr) -> bool {
    matches!(
        error.sql_err(),
        Some(SqlErr::ForeignKeyConstraintViolation(_))
    )
}

/// PostgreSQL holds no NUL in text.
fn is_unfit_text(error: &DbErr) -> bool {
    match error {
        DbErr::Exec(RuntimeErr::SqlxError(error)) | DbErr::Query(RuntimeErr::SqlxError(error)) => {
            matches!(&**error, SqlxError::Database(error) if error.code().as_deref() == Some("22021"))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contention_is_told_from_an_outage_and_from_a_refusal() {
        assert_eq!(Certainty::of_postgres("40001"), Certainty::Contention);
        let full = Certainty::Unwritable(Unwritable::Full);
        assert_eq!(Certainty::of_postgres("53100"), full);
        assert_eq!(Certainty::of_postgres("53200"), Certainty::Unavailable);
        assert_eq!(Certainty::of_postgres("08006"), Certainty::Unknown);
        assert_eq!(Certainty::of_postgres("23505"), Certainty::Refused);
        assert_eq!(Certainty::of_sqlite(517), Certainty::Contention);
        assert_eq!(Certainty::of_sqlite(13), full);
        assert_eq!(Certainty::of_sqlite(778), Certainty::Disk);
        assert_eq!(Certainty::of_sqlite(2067), Certainty::Refused);
    }

    #[test]
    fn a_broken_connection_outside_of_a_commit_is_worth_another_try() {
        let broken = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        let error = DbErr::Exec(RuntimeErr::SqlxError(SqlxError::Io(broken).into()));
        assert_eq!(Certainty::of(&error), Certainty::Unknown);
        assert!(convert("claim", error).is_retryable());
    }
}

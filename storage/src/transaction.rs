//! Named transactions: begun, retried, counted and committed in one place.

use std::{
    ops::Deref,
    sync::Arc,
    time::{Duration, Instant},
};

use sea_orm::{
    AccessMode, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, IsolationLevel,
    SqliteTransactionMode, TransactionOptions, TransactionTrait,
};

use crate::{
    Error, Store,
    error::{self, Certainty},
};

/// How often a transaction is tried that ended without a trace.
const TRIES: u32 = 8;

/// What goes wrong inside of an operation, before it has a name.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The database failed.
    Database(DbErr),
    /// The operation refuses or can not go on.
    Refused(Error),
    /// Somebody else did the same at the same moment: look again.
    Again(DbErr),
}

impl Failure {
    pub(crate) fn internal(operation: &'static str, source: impl Into<error::Source>) -> Self {
        Self::Refused(Error::internal(operation, source))
    }

    pub(crate) fn name(self, operation: &'static str) -> Error {
        match self {
            Self::Database(error) => error::convert(operation, error),
            Self::Again(error) => Error::Unavailable {
                operation,
                source: error.into(),
            },
            Self::Refused(error) => error,
        }
    }

    /// Nothing was committed, and the same again may succeed at once: the database ended it for
    /// the sake of another transaction, or its connection was broken.
    fn is_worth_another_try(&self) -> bool {
        match self {
            Self::Database(error) => matches!(
                Certainty::of(error),
                Certainty::Contention | Certainty::Unknown
            ),
            Self::Again(_) => true,
            Self::Refused(_) => false,
        }
    }

    /// Takes a broken unique index as the trace of somebody who did the same meanwhile.
    pub(crate) fn again_on_unique(self) -> Self {
        match self {
            Self::Database(error) if error::is_unique_violation(&error) => Self::Again(error),
            other => other,
        }
    }

    /// Gives a broken unique index the meaning that it has here.
    pub(crate) fn on_unique(self, meaning: impl FnOnce() -> Error) -> Self {
        match &self {
            Self::Database(error) if error::is_unique_violation(error) => Self::Refused(meaning()),
            Self::Database(_) | Self::Refused(_) | Self::Again(_) => self,
        }
    }

    /// Gives a broken reference the meaning that it has here.
    pub(crate) fn on_missing_reference(self, meaning: impl FnOnce() -> Error) -> Self {
        match &self {
            Self::Database(error) if error::is_reference_violation(error) => {
                Self::Refused(meaning())
            }
            Self::Database(_) | Self::Refused(_) | Self::Again(_) => self,
        }
    }
}

impl From<DbErr> for Failure {
    fn from(error: DbErr) -> Self {
        Self::Database(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

/// A transaction under way. Await nothing but the database while one is held.
#[derive(Debug)]
pub(crate) struct Tx(Arc<DatabaseTransaction>);

impl Deref for Tx {
    type Target = DatabaseTransaction;

    fn deref(&self) -> &DatabaseTransaction {
        &self.0
    }
}

impl Store {
    /// Runs `body` in a transaction that writes, and commits when it returns `Ok`. Runs it again
    /// when the database ended it for the sake of another one, or the connection broke before
    /// the commit.
    pub(crate) async fn transaction<T, F, Fut>(
        &self,
        operation: &'static str,
        body: F,
    ) -> Result<T, Error>
    where
        F: Fn(Tx) -> Fut,
        Fut: Future<Output = Result<T, Failure>>,
    {
        let started = Instant::now();
        let mut tries = 0;
        let result = loop {
            tries += 1;
            match self.once(operation, &body).await {
                Ok(value) => break Ok(value),
                Err(Ended::Again(failure)) if tries == TRIES => {
                    break Err(failure.name(operation));
                }
                Err(Ended::Again(failure)) => {
                    tracing::debug!(operation, tries, ?failure, "transaction is tried again");
                    metrics::counter!("muster_storage_transaction_retries_total", "operation" => operation)
                        .increment(1);
                    tokio::time::sleep(pause(tries)).await;
                }
                Err(Ended::Final(error)) => break Err(error),
            }
        };
        let outcome = if result.is_ok() { "ok" } else { "error" };
        metrics::histogram!("muster_storage_transaction_seconds", "operation" => operation, "outcome" => outcome)
            .record(started.elapsed().as_secs_f64());
        result
    }

    async fn once<T, F, Fut>(&self, operation: &'static str, body: &F) -> Result<T, Ended>
    where
        F: Fn(Tx) -> Fut,
        Fut: Future<Output = Result<T, Failure>>,
    {
        let sqlite = self.backend() == DbBackend::Sqlite;
        let options = TransactionOptions {
            // A transaction that begins by reading could not wait for its turn to write.
            sqlite_transaction_mode: sqlite.then_some(SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        };
        let tx = match self.begin(self.writer(), options).await {
            Ok(tx) => tx,
            Err(error) => {
                let failure = Failure::from(error);
                self.doubt(&failure);
                return Err(self.ended(operation, failure).await);
            }
        };
        let tx = Arc::new(tx);
        // Boxed: rows are large, and what is awaited here is part of every caller's future.
        let result = Box::pin(body(Tx(Arc::clone(&tx)))).await;
        let Some(tx) = Arc::into_inner(tx) else {
            return Err(Ended::Final(Error::internal(
                operation,
                "a transaction outlived its operation",
            )));
        };
        match result {
            Ok(value) => match tx.commit().await {
                Ok(()) => {
                    self.committed();
                    Ok(value)
                }
                Err(error) => {
                    let unknown = Certainty::of(&error) == Certainty::Unknown;
                    let failure = Failure::from(error);
                    self.doubt(&failure);
                    match failure {
                        Failure::Database(source) if unknown => {
                            Err(Ended::Final(Error::CommitUnknown {
                                operation,
                                source: source.into(),
                            }))
                        }
                        failure => Err(self.ended(operation, failure).await),
                    }
                }
            },
            Err(failure) => {
                // Before somebody else gets the connection.
                self.doubt(&failure);
                if let Err(error) = tx.rollback().await {
                    // The connection is gone, and the transaction with it.
                    tracing::debug!(operation, %error, "rollback failed");
                }
                Err(self.ended(operation, failure).await)
            }
        }
    }

    /// Begins a transaction. When the caller goes away meanwhile, its connection may come back into
    /// the pool within a transaction that nobody knows of: then all are tried before they are used.
    async fn begin(
        &self,
        connection: &DatabaseConnection,
        options: TransactionOptions,
    ) -> Result<DatabaseTransaction, DbErr> {
        let abandoned = Abandoned(Some(self));
        let begun = connection.begin_with_options(options).await;
        abandoned.forget();
        begun
    }

    /// What follows from a failure of a transaction.
    async fn ended(&self, operation: &'static str, failure: Failure) -> Ended {
        if failure.is_worth_another_try() {
            return Ended::Again(failure);
        }
        let disk =
            matches!(&failure, Failure::Database(error) if Certainty::of(error) == Certainty::Disk);
        let why = match disk {
            true => self.unwritable().await,
            false => None,
        };
        Ended::Final(match (failure.name(operation), why) {
            (Error::Unavailable { operation, source }, Some(why)) => Error::Unwritable {
                operation,
                why,
                source,
            },
            (error, _) => error,
        })
    }

    /// Runs reads that must all see one moment.
    pub(crate) async fn snapshot<T, F, Fut>(
        &self,
        operation: &'static str,
        body: F,
    ) -> Result<T, Error>
    where
        F: Fn(Tx) -> Fut,
        Fut: Future<Output = Result<T, Failure>>,
    {
        let body = &body;
        self.read(operation, || async move {
            let options = match self.backend() {
                DbBackend::Postgres => TransactionOptions {
                    isolation_level: Some(IsolationLevel::RepeatableRead),
                    access_mode: Some(AccessMode::ReadOnly),
                    ..TransactionOptions::default()
                },
                _ => TransactionOptions::default(),
            };
            let tx = Arc::new(self.begin(self.reader(), options).await?);
            let result = Box::pin(body(Tx(Arc::clone(&tx)))).await;
            if let Some(tx) = Arc::into_inner(tx)
                && let Err(error) = tx.rollback().await
            {
                tracing::debug!(operation, %error, "end of a read failed");
            }
            result
        })
        .await
    }

    /// Runs reads that need no transaction, once more when their connection turned out broken.
    pub(crate) async fn read<T, F, Fut>(&self, operation: &'static str, body: F) -> Result<T, Error>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<T, Failure>>,
    {
        match Box::pin(body()).await {
            Err(failure) if failure.is_worth_another_try() => {
                self.doubt(&failure);
                tracing::debug!(operation, ?failure, "read is tried again");
                tokio::time::sleep(pause(1)).await;
                Box::pin(body()).await
            }
            result => result,
        }
        .map_err(|failure| failure.name(operation))
    }

    /// Lets the pool know of a broken connection, or of one that may be.
    fn doubt(&self, failure: &Failure) {
        let Failure::Database(error) = failure else {
            return;
        };
        let certainty = Certainty::of(error);
        if certainty == Certainty::Unknown {
            self.suspicion().raise();
        }
        let usual = matches!(certainty, Certainty::Contention | Certainty::Refused);
        if !usual && self.backend() == DbBackend::Sqlite {
            self.suspicion().replace_writer();
        }
    }
}

/// Lets the pool know, unless it is forgotten.
struct Abandoned<'a>(Option<&'a Store>);

impl Abandoned<'_> {
    fn forget(mut self) {
        self.0 = None;
    }
}

impl Drop for Abandoned<'_> {
    fn drop(&mut self) {
        if let Some(store) = self.0 {
            store.suspicion().raise();
        }
    }
}

/// How one try ended without success.
enum Ended {
    /// Without a trace: again.
    Again(Failure),
    /// For good.
    Final(Error),
}

/// A pause that doubles, up to 0.3 s, of which a random half is left out.
fn pause(tries: u32) -> Duration {
    let most = 5_u64 << tries.min(6);
    // The low bits of a fresh version 4 id are random enough to spread claimers.
    let random = u64::from(uuid::Uuid::new_v4().as_bytes()[0]);
    Duration::from_millis(most / 2 + most / 2 * random / 255)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use sea_orm::ConnectionTrait;

    use super::*;
    use crate::Options;

    async fn store(folder: &tempfile::TempDir) -> Store {
        let url = format!("sqlite://{}", folder.path().join("muster.db").display());
        let store = Store::connect(&url, &Options::default()).await;
        store.expect("a database")
    }

    async fn mark(tx: &Tx, key: &str) -> Result<(), Failure> {
        let insert = format!("INSERT INTO instance (key, value) VALUES ('{key}', '')");
        tx.execute_unprepared(&insert).await?;
        Ok(())
    }

    async fn marks(store: &Store) -> usize {
        let select = sea_orm::Statement::from_string(DbBackend::Sqlite, "SELECT * FROM instance");
        let rows = store.reader().query_all_raw(select).await;
        rows.expect("a count").len()
    }

    #[tokio::test]
    async fn a_transaction_that_met_another_one_runs_again_from_nothing() {
        let folder = tempfile::tempdir().expect("a directory");
        let store = store(&folder).await;
        let (store, tries) = (&store, &AtomicU32::new(0));
        let result = store
            .transaction("test", |tx| async move {
                mark(&tx, "a").await?;
                if tries.fetch_add(1, Ordering::SeqCst) < 2 {
                    return Err(Failure::Again(DbErr::RecordNotInserted));
                }
                Ok(7)
            })
            .await;
        assert_eq!(result.expect("the third try succeeds"), 7);
        assert_eq!(tries.load(Ordering::SeqCst), 3);
        assert_eq!(marks(store).await, 1);
    }

    #[tokio::test]
    async fn endless_contention_becomes_unavailable() {
        let folder = tempfile::tempdir().expect("a directory");
        let store = store(&folder).await;
        let (store, tries) = (&store, &AtomicU32::new(0));
        let result: Result<(), Error> = store
            .transaction("test", |_| async move {
                tries.fetch_add(1, Ordering::SeqCst);
                Err(Failure::Again(DbErr::RecordNotInserted))
            })
            .await;
        assert!(result.expect_err("it gives up").is_retryable());
        assert_eq!(tries.load(Ordering::SeqCst), TRIES);
    }

    #[tokio::test]
    async fn a_refused_or_abandoned_transaction_leaves_nothing() {
        let folder = tempfile::tempdir().expect("a directory");
        let store = store(&folder).await;
        let refused: Result<(), Error> = store
            .transaction("test", |tx| async move {
                mark(&tx, "a").await?;
                Err(Error::invalid("field", "no").into())
            })
            .await;
        assert!(matches!(refused, Err(Error::Invalid { .. })));
        // A caller that goes away in the middle.
        let abandoned = store.transaction("test", |tx| async move {
            mark(&tx, "b").await?;
            std::future::pending::<Result<(), Failure>>().await
        });
        let late = tokio::time::timeout(Duration::from_millis(100), abandoned).await;
        assert!(late.is_err());
        store
            .transaction("test", |tx| async move { mark(&tx, "c").await })
            .await
            .expect("the connection is free again");
        assert_eq!(marks(&store).await, 1);
    }
}

//! Writes SQLite's log into its file, beside the commits: a commit that did it would wait for the disk,
//! and all others for that commit.

use std::{sync::Arc, time::Duration};

use sqlx::SqlitePool;
use tokio::{sync::Notify, task::JoinHandle, time::sleep};

/// How long commits are gathered.
const PAUSE: Duration = Duration::from_millis(200);

/// The task that does it; it ends with this.
#[derive(Debug)]
pub(super) struct Checkpoints {
    pool: SqlitePool,
    wanted: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Checkpoints {
    /// Starts it, with a pool of one connection of its own.
    pub(super) fn start(pool: SqlitePool) -> Self {
        let wanted = Arc::<Notify>::default();
        let task = tokio::spawn(run(pool.clone(), Arc::clone(&wanted)));
        Self { pool, wanted, task }
    }

    /// Something was committed.
    pub(super) fn want(&self) {
        self.wanted.notify_one();
    }

    /// Ends its connection.
    pub(super) async fn close(&self) {
        self.task.abort();
        self.pool.close().await;
    }
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(pool: SqlitePool, wanted: Arc<Notify>) {
    loop {
        wanted.notified().await;
        sleep(PAUSE).await;
        // It waits for nobody, and leaves for the next time what somebody still reads.
        let written = sqlx::query("PRAGMA wal_checkpoint(PASSIVE)");
        if let Err(error) = written.execute(&pool).await {
            tracing::debug!(%error, "the log of the database stays as long as it is");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use sqlx::{Connection as _, Row as _, SqliteConnection};

    use crate::{Options, Store, project::NewProject};

    #[tokio::test]
    async fn what_is_committed_comes_into_the_file_while_nobody_waits_for_it() {
        let folder = tempfile::tempdir().expect("a directory");
        let file = folder.path().join("muster.db");
        let url = format!("sqlite://{}", file.display());
        let store = Store::connect(&url, &Options::default()).await;
        let store = store.expect("a database");
        let new = NewProject {
            name: "new".to_owned(),
            display_name: "new".to_owned(),
        };
        let made = store.projects().create(&new, None).await;
        made.expect("a project");
        // Who looks at the file alone does not see the log.
        let alone = format!("sqlite://{}?immutable=true", file.display());
        let begin = Instant::now();
        loop {
            let mut db = SqliteConnection::connect(&alone).await.expect("the file");
            let count = sqlx::query("SELECT count(*) FROM projects WHERE name = 'new'");
            let count = count.fetch_one(&mut db).await;
            if count.is_ok_and(|row| row.get::<i64, _>(0) == 1) {
                break;
            }
            let waited = begin.elapsed();
            assert!(waited < super::PAUSE * 100, "it stays in the log");
            tokio::time::sleep(super::PAUSE / 10).await;
        }
        store.close().await;
    }
}

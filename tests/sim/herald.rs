//! A voice between the servers that none of them understands: who has heard it has heard all that
//! was said before. PostgreSQL tells everybody everything in one order.

use std::time::{Duration, Instant};

use sqlx::{Connection as _, Executor as _, PgConnection};
use tokio::runtime::{Builder, Runtime};

/// The mark, on the channel of the servers' words.
const MARK: &str = "NOTIFY muster_words, 'mark'";
/// How long to wait in real time until it is said again: a server that has just started may not
/// listen yet.
const AGAIN: Duration = Duration::from_millis(20);
/// After how long words count as lost, which they may be.
const PATIENCE: Duration = Duration::from_secs(2);

/// A connection to the database.
pub(crate) struct Herald {
    runtime: Runtime,
    connection: PgConnection,
}

impl Herald {
    /// Connects.
    pub(crate) fn connect(url: &str) -> anyhow::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let connection = runtime.block_on(PgConnection::connect(url))?;
        Ok(Self {
            runtime,
            connection,
        })
    }

    /// Marks this moment, and waits until it was heard.
    pub(crate) fn mark(
        &mut self,
        mut is_heard: impl FnMut() -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let began = Instant::now();
        let mut again = Duration::ZERO;
        loop {
            let waited = began.elapsed();
            if waited >= again {
                self.runtime.block_on(self.connection.execute(MARK))?;
                again = waited + AGAIN;
            }
            if is_heard()? || waited > PATIENCE {
                return Ok(());
            }
            std::thread::yield_now();
        }
    }
}

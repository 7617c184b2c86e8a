//! The database of the server goes away, is full, or takes no changes, for longer than a lease, while a
//! cluster works.

use std::ops::RangeInclusive;

use anyhow::{bail, ensure};
use muster_proto::v1::execution::State;
use muster_tests::{postgres::Server, run::Run};
use tokio::time::sleep;
use tonic::Code;

use crate::{
    ground::{Ground, SHORT_LEASE, expect_one_attempt},
    workflow::{counting, expect_every_line},
};

/// Milliseconds that it is away: longer than a lease.
const AWAY: RangeInclusive<u32> = 12_000..=18_000;
/// How long an agent may be away after its lease: longer than the outage.
const RECOVERY: &str = "lostAgent: fail, lostAgentAfter: 60s";
/// Lines of the run that ends meanwhile, two in a second.
const SHORT: u32 = 20;
/// Lines of the run that goes on after.
const LONG: u32 = 80;
/// Room for the database.
const ROOM: u64 = 64 << 20;
/// Most submissions until a full disk refuses one.
const MOST: usize = 20_000;

/// A cluster that works for a server on a database of its own: one run that ends while the database
/// is away, and one that ends after.
struct Outage {
    short: Run,
    long: Run,
    ground: Ground,
    database: Server,
}

impl Outage {
    async fn prepare() -> anyhow::Result<Option<Self>> {
        let Some(database) = Server::start(ROOM).await? else {
            return Ok(None);
        };
        let arguments = [&["--database", database.url.as_str()][..], &SHORT_LEASE].concat();
        let Some(ground) = Ground::open(&arguments).await? else {
            return Ok(None);
        };
        let short = ground.start(&counting(SHORT, RECOVERY)).await?;
        let long = ground.start(&counting(LONG, RECOVERY)).await?;
        for run in [&short, &long] {
            ground.dice.moment(run, 2..=5).await?;
        }
        ensure!(!short.printed().await?.contains(&format!("line {SHORT}\n")));
        Ok(Some(Self {
            short,
            long,
            ground,
            database,
        }))
    }

    /// Submissions are refused, with this reason where there is one; a full disk may have room for
    /// some before.
    async fn expect_refused(&self, reason: &str) -> anyhow::Result<()> {
        // No agent takes them.
        let (from, to) = (
            "execution:\n",
            "execution:\n    target: {match: {name: [nobody]}}\n",
        );
        let manifest = counting(1, "").replacen(from, to, 1);
        for _ in 0..MOST {
            if let Err(status) = self.ground.server.client.start(&manifest, None).await {
                let details = String::from_utf8_lossy(status.details());
                ensure!(status.code() == Code::Unavailable, "{status:?}");
                ensure!(details.contains(reason), "{status:?}");
                return Ok(());
            }
        }
        bail!("everything is accepted")
    }

    /// Nothing was lost and nothing was ended for it, and new work runs.
    async fn expect_unharmed(&self) -> anyhow::Result<()> {
        for (run, lines) in [(&self.short, SHORT), (&self.long, LONG)] {
            run.ends_as(State::Passed).await?;
            expect_one_attempt(run).await?;
            expect_every_line(run, lines).await?;
        }
        let next = self.ground.start(&counting(2, "")).await?;
        next.ends_as(State::Passed).await?;
        self.ground.agent.tests.expect_clean().await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_killed_and_comes_back_ends_nothing() -> anyhow::Result<()> {
    let Some(mut outage) = Outage::prepare().await? else {
        return Ok(());
    };
    outage.database.kill()?;
    sleep(outage.ground.dice.millis(AWAY)).await;
    outage.expect_refused("UNAVAILABLE").await?;
    outage.database.start_again().await?;
    outage.expect_unharmed().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_takes_no_changes_for_a_while_ends_nothing() -> anyhow::Result<()> {
    let Some(outage) = Outage::prepare().await? else {
        return Ok(());
    };
    outage.database.make_read_only(true).await?;
    sleep(outage.ground.dice.millis(AWAY)).await;
    outage.expect_refused("DATABASE_READ_ONLY").await?;
    outage.database.make_read_only(false).await?;
    outage.expect_unharmed().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_whose_disk_is_full_for_a_while_ends_nothing() -> anyhow::Result<()> {
    let Some(outage) = Outage::prepare().await? else {
        return Ok(());
    };
    outage.database.disk.fill()?;
    outage.expect_refused("DATABASE_FULL").await?;
    sleep(outage.ground.dice.millis(AWAY)).await;
    outage.expect_refused("DATABASE_FULL").await?;
    outage.database.disk.free()?;
    outage.expect_unharmed().await
}

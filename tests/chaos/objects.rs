//! The object store is away or slow while a cluster works.

use std::{
    ops::RangeInclusive,
    time::{Duration, Instant},
};

use anyhow::ensure;
use muster_proto::v1::execution::State;
use muster_tests::{
    control_plane::Options,
    given::object_store_behind_a_wire,
    proxy::{Proxy, Wire},
    run::Run,
};
use tokio::time::sleep;

use crate::{
    ground::{Ground, SHORT_LEASE, expect_one_attempt},
    workflow::{counting, expect_every_line},
};

/// Lines of the run, two in a second.
const LINES: u32 = 20;
/// Milliseconds that a run waits for the store: longer than a lease.
const AWAY: RangeInclusive<u32> = 11_000..=16_000;
/// Milliseconds that everything takes which is said to a slow store.
const SLOW: RangeInclusive<u32> = 400..=800;

/// A cluster that works for a server on an object store behind a wire.
struct Stored {
    run: Run,
    ground: Ground,
    wire: Proxy,
}

impl Stored {
    async fn prepare() -> anyhow::Result<Option<Self>> {
        let Some((wire, url)) = object_store_behind_a_wire().await? else {
            return Ok(None);
        };
        let options = Options::of(&SHORT_LEASE).with_blobs(&url);
        let Some(ground) = Ground::open_with(options).await? else {
            return Ok(None);
        };
        let recovery = "lostAgent: fail, lostAgentAfter: 1ms";
        let run = ground.start(&counting(LINES, recovery)).await?;
        ground.dice.moment(&run, 2..=12).await?;
        Ok(Some(Self { run, ground, wire }))
    }

    async fn expect_unharmed(&self) -> anyhow::Result<()> {
        self.run.ends_as(State::Passed).await?;
        expect_one_attempt(&self.run).await?;
        expect_every_line(&self.run, LINES).await?;
        self.ground.agent.tests.expect_clean().await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_store_that_is_away_keeps_a_run_open_and_loses_no_line() -> anyhow::Result<()> {
    let Some(stored) = Stored::prepare().await? else {
        return Ok(());
    };
    stored.wire.set(Wire::Cut);
    stored.run.becomes(State::Finishing).await?;
    let (began, away) = (Instant::now(), stored.ground.dice.millis(AWAY));
    while began.elapsed() < away {
        let state = stored.run.now().await?.state();
        ensure!(state == State::Finishing, "{state:?} without its log");
        sleep(Duration::from_millis(500)).await;
    }
    stored.wire.set(Wire::Whole);
    stored.expect_unharmed().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_object_store_makes_logs_late_and_loses_no_line() -> anyhow::Result<()> {
    let Some(stored) = Stored::prepare().await? else {
        return Ok(());
    };
    let slow = stored.ground.dice.millis(SLOW);
    stored.wire.set(Wire::Slow(slow));
    stored.expect_unharmed().await
}

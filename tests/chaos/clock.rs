//! Clocks that are an hour apart: the server's, and that of a cluster with its agent.

use std::ops::RangeInclusive;

use anyhow::{Context as _, ensure};
use muster_core::clock::Clock;
use muster_proto::v1::{Execution, execution::State};
use muster_tests::{control_plane::Options, program, skew};

use crate::{
    dice::Dice,
    ground::{Ground, SHORT_LEASE, expect_one_attempt},
    workflow::{counting, expect_every_line},
};

/// Lines of the run, two in a second.
const LINES: u32 = 30;
/// By how many seconds a clock is wrong: an hour and something.
const HOUR: RangeInclusive<u32> = 3600..=4500;

/// How many seconds the server says that an execution was made after now.
fn ahead(execution: &Execution) -> anyhow::Result<i64> {
    let made = execution.create_time.context("no time")?.seconds;
    Ok(made - Clock::system().now().as_second())
}

/// A server whose clock is ahead, or behind with -1.
async fn endure(sign: i64) -> anyhow::Result<()> {
    let seconds = sign * i64::from(Dice::of_this_test()?.number(HOUR));
    let folder = tempfile::tempdir()?;
    let options = Options {
        variables: skew::variables(folder.path(), seconds)?,
        program: Some(program::own()?),
        ..Options::of(&SHORT_LEASE)
    };
    let Some(ground) = Ground::open_with(options).await? else {
        return Ok(());
    };
    let recovery = "lostAgent: fail, lostAgentAfter: 1ms";
    let run = ground.start(&counting(LINES, recovery)).await?;
    let (from, to) = ("spec:\n", "spec:\n  timeouts: {run: 5s, grace: 5s}\n");
    let endless = counting(600, recovery).replacen(from, to, 1);
    let endless = ground.start(&endless).await?;
    let ahead = ahead(&run.now().await?)?;
    ensure!((ahead - seconds).abs() < 600, "it is ahead by {ahead} s");
    let execution = endless.ends_as(State::TimedOut).await?;
    let log = endless.whole_log().await?;
    ensure!(
        log.text().contains("line 3\n"),
        "it ended at once: {execution:?}"
    );
    ensure!(
        !log.text().contains("line 80\n"),
        "it ended late: {}",
        log.text()
    );
    run.ends_as(State::Passed).await?;
    expect_every_line(&run, LINES).await?;
    for run in [&run, &endless] {
        expect_one_attempt(run).await?;
    }
    ground.agent.tests.expect_clean().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_clock_is_an_hour_early_ends_nothing_wrongly() -> anyhow::Result<()> {
    endure(1).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_clock_is_an_hour_late_ends_nothing_wrongly() -> anyhow::Result<()> {
    endure(-1).await
}

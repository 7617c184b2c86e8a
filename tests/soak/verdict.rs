//! What must hold at the end, whatever was killed.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, ensure};
use futures::{StreamExt as _, stream};
use muster_proto::v1::{Execution, ListExecutionsRequest, execution::State};
use muster_tests::{
    log::Log,
    run::{Client, PROJECT, Run, describe, is_terminal},
    wait,
};

use crate::{fleet::Fleet, load::Submitted, report::Report, shape::Shape};

/// How long the log of one execution may take to be read.
const READ: Duration = Duration::from_secs(60);
/// Logs that are read at a time.
const READERS: usize = 8;

/// Rows of the database that there must be none of, and what they would say.
const NONE: [(&str, &str); 4] = [
    (
        "executions whose history does not hold exactly one end",
        "SELECT count(*) FROM (SELECT e.id FROM executions e LEFT JOIN execution_events v \
         ON v.execution_id = e.id AND v.kind IN ('PASSED', 'FAILED', 'ABORTED', 'CANCELED', 'TIMED_OUT') \
         GROUP BY e.id HAVING count(v.execution_id) <> 1) AS broken",
    ),
    (
        "executions with more results than they were tried again for",
        "SELECT count(*) FROM executions e WHERE \
         (SELECT count(*) FROM attempts a WHERE a.execution_id = e.id AND a.status = 'completed') > 1 + \
         (SELECT count(*) FROM execution_events v WHERE v.execution_id = e.id AND v.kind = 'ATTEMPT_FAILED')",
    ),
    (
        "attempts that are still live",
        "SELECT count(*) FROM attempts WHERE status = 'live'",
    ),
    (
        "attempts that lived beside a later one of the same execution",
        "SELECT count(*) FROM attempts a JOIN attempts b ON a.execution_id = b.execution_id \
         AND a.epoch < b.epoch WHERE a.finish_time IS NULL OR a.finish_time > b.create_time",
    ),
];

/// Checks everything and tells the report what does not hold.
pub(crate) async fn check(
    fleet: &Fleet,
    submitted: &Submitted,
    report: &Report,
) -> anyhow::Result<()> {
    let client = fleet.client(0);
    let listed = list(client).await?;
    sums(submitted, &listed, report);
    for (what, query) in NONE {
        let count = fleet.database.count(query).await;
        let count = count.with_context(|| what.to_owned())?;
        report.expect(count == 0, || format!("{count} {what}"));
    }
    let mut checked = stream::iter(submitted)
        .map(|(name, &shape)| async move {
            let outcome = one(client, name, shape).await;
            outcome.with_context(|| format!("{} {name}", shape.name()))
        })
        .buffer_unordered(READERS);
    while let Some(outcome) = checked.next().await {
        match outcome {
            Ok(bytes) => report.log(bytes),
            Err(error) => report.broken(&format!("{error:#}")),
        }
    }
    for site in &fleet.agents {
        if let Err(error) = site.agent.tests.expect_clean().await {
            report.broken(&format!("{error:#}"));
        }
    }
    Ok(())
}

/// What was submitted is what is listed, and all of it has ended; no more was aborted than faults
/// can have ended.
fn sums(submitted: &Submitted, listed: &BTreeMap<String, Execution>, report: &Report) {
    report.expect(listed.len() == submitted.len(), || {
        format!(
            "{} executions are listed, {} were submitted",
            listed.len(),
            submitted.len()
        )
    });
    for name in submitted.keys() {
        report.expect(listed.contains_key(name), || format!("{name} is lost"));
    }
    for execution in listed.values() {
        report.state(execution.state());
        report.expect(is_terminal(execution.state()), || {
            format!("it has not ended: {}", describe(execution))
        });
    }
    let hit: Vec<_> = listed.values().filter(|one| was_hit(one)).collect();
    let most = report.hits();
    report.expect(
        u64::try_from(hit.len()).is_ok_and(|hit| hit <= most),
        || {
            let all: Vec<_> = hit.iter().map(|one| describe(one)).collect();
            format!(
                "{} were ended by the infrastructure, but only {most} can have been hit:\n{}",
                hit.len(),
                all.join("\n")
            )
        },
    );
}

/// Whether the infrastructure ended it, by its own word.
fn was_hit(execution: &Execution) -> bool {
    execution.state() == State::Aborted || execution.reason == "STEP_BROKEN"
}

/// Checks one execution and its log, and returns the length of that.
async fn one(client: &Client, name: &str, shape: Shape) -> anyhow::Result<usize> {
    let run = Run::of(client, name.to_owned());
    let execution = run.now().await?;
    let state = execution.state();
    ensure!(
        state == shape.end() || was_hit(&execution),
        "it should have ended as {:?}: {}",
        shape.end(),
        describe(&execution)
    );
    let log = wait::within(READ, "reading its log", Log::read(client, name)).await?;
    // Without a record of a conductor nobody knows how long its log was.
    let proven = !log.end.sha256.is_empty();
    if proven {
        log.expect_whole()?;
    }
    if state == shape.end() && !was_hit(&execution) {
        ensure!(proven || state == State::Canceled, "its log is not proven");
        shape.expect_output(&execution, &log)?;
    }
    Ok(log.bytes.len())
}

/// All executions of the project, by name.
async fn list(client: &Client) -> anyhow::Result<BTreeMap<String, Execution>> {
    let mut all = BTreeMap::new();
    let mut page_token = String::new();
    loop {
        let request = ListExecutionsRequest {
            parent: PROJECT.to_owned(),
            page_size: 500,
            page_token,
            ..ListExecutionsRequest::default()
        };
        let page = client.executions().list_executions(request).await?;
        let page = page.into_inner();
        for execution in page.executions {
            all.insert(execution.name.clone(), execution);
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(all);
        }
    }
}

//! The verdict on a step whose tool says that something failed: forgiven when its reports tell of nothing
//! but tests in quarantine.

use std::{collections::HashSet, time::Duration};

use muster_core::{
    execution::Lease,
    quarantine::{Evidence, Verdict, judge, remark},
};
use muster_storage::{
    agent::Agent,
    report::{Report, State},
};
use serde::Deserialize;
use tokio::time::Instant;

use crate::app::{App, Error};

/// How long reports are waited for that are not read yet.
const PATIENCE: Duration = Duration::from_secs(90);
/// How often is looked for them, should no word of them come.
const LOOK: Duration = Duration::from_secs(1);
/// The rest between two looks.
const BETWEEN: Duration = Duration::from_millis(200);
/// Most reports of a step that can speak for it.
const MOST: usize = 5000;

/// The verdict, in the words of its conductor.
#[derive(Debug, Default)]
pub(crate) struct Judgement {
    /// The failure does not count.
    pub(crate) forgiven: bool,
    /// It depends on reports that are still to come.
    pub(crate) open: bool,
    /// What there is to say, for people.
    pub(crate) message: String,
}

/// The part of a report's summary that counts here.
#[derive(Debug, Default, Deserialize)]
struct Conditions {
    #[serde(default)]
    thresholds: Vec<Condition>,
    /// Tests that did not pass, and did where they were told again.
    #[serde(default)]
    overruled: u64,
}

#[derive(Debug, Deserialize)]
struct Condition {
    passed: bool,
}

impl App {
    /// Judges a step of a live attempt. `stale` are paths of files that its last try did not write; with
    /// `ahead` its reports are not here yet.
    pub(crate) async fn judge_step(
        &self,
        agent: &Agent,
        lease: Lease,
        step: &str,
        stale: &HashSet<String>,
        ahead: bool,
    ) -> Result<Judgement, Error> {
        let execution = self.parent(agent, lease).await?.execution;
        let quarantine = self.store.quarantine(execution.project);
        if ahead {
            return Ok(Judgement {
                open: quarantine.is_used(&execution.workflow).await?,
                ..Judgement::default()
            });
        }
        let mut changes = self.hub.watch_execution(execution.id);
        let began = Instant::now();
        loop {
            let pending = quarantine.pending_reports_of(lease.attempt, step).await?;
            if pending == 0 {
                break;
            }
            if began.elapsed() >= PATIENCE {
                return Ok(Judgement {
                    message: format!("{pending} of its reports could not be read in time"),
                    ..Judgement::default()
                });
            }
            tokio::select! {
                _ = changes.changed() => {}
                () = tokio::time::sleep(LOOK) => {}
                () = self.link.drain.cancelled() => return Err(Error::Stopping),
            }
            // Each report that is read is a change: not a look for each.
            tokio::time::sleep(BETWEEN).await;
        }
        let reports = quarantine.reports_of(lease.attempt, step, MOST).await?;
        if reports.len() > MOST {
            return Ok(Judgement {
                message: format!("it has more than {MOST} reports"),
                ..Judgement::default()
            });
        }
        let evidence: Vec<Evidence> = reports.iter().map(|it| evidence(it, stale)).collect();
        Ok(match judge(&evidence) {
            Verdict::Forgiven(count) => {
                tracing::info!(execution = %execution.id, step, count, "forgave a step");
                Judgement {
                    forgiven: true,
                    message: remark(count),
                    ..Judgement::default()
                }
            }
            Verdict::Failed(message) => Judgement {
                message,
                ..Judgement::default()
            },
        })
    }
}

fn evidence(report: &Report, stale: &HashSet<String>) -> Evidence {
    let conditions = serde_json::from_str::<Conditions>(&report.summary).unwrap_or_default();
    let crossed = conditions.thresholds.iter().filter(|it| !it.passed);
    Evidence {
        path: report.path.clone(),
        whole: report.state == State::Read,
        bad: report.counts.failed + report.counts.errors,
        quarantined: report.counts.quarantined,
        crossed: crossed.count(),
        overruled: conditions.overruled,
        stale: stale.contains(&report.path),
    }
}

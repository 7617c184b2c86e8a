//! Storing what an agent reports, and the answer to it. Reading a report is beside, in `report`.

use std::sync::Arc;

use futures::future::BoxFuture;
use muster_core::execution::Lease;
use muster_storage::work::{Progress, Report, Reported};

use super::Stage;
use crate::app::Error;

/// The first version of the protocol whose agents tell a report again that is not acknowledged.
const TELLS_AGAIN: u32 = 2;

/// A report on its way into the database.
pub(super) type Telling = BoxFuture<'static, Heard>;

/// What became of a report.
pub(super) struct Heard {
    lease: Lease,
    sequence: i64,
    /// The attempt ends with it.
    over: bool,
    result: Result<Reported, muster_storage::Error>,
}

impl Heard {
    /// Whether the report ended its attempt.
    pub(super) const fn is_ending(&self) -> bool {
        self.over
    }
}

/// Whether a report ends its attempt: its log has to be stored first.
pub(super) const fn is_ending(report: &Report) -> bool {
    matches!(report.progress, Progress::Completed(_) | Progress::Lost)
}

impl Stage {
    /// Begins to store a report. Those of an attempt are stored in the order of these calls; one that
    /// ends its attempt comes when its log is stored, and none of that attempt comes after it.
    pub(super) fn tell(&self, mut report: Report) -> Telling {
        let (lease, sequence) = (report.lease, report.sequence);
        let over = is_ending(&report);
        let heard = move |result| Heard {
            lease,
            sequence,
            over,
            result,
        };
        let (app, agent) = (Arc::clone(&self.app), self.agent.id);
        if over {
            return Box::pin(async move {
                // Under an ended lease nothing can be added any more.
                report.log = app.flush_log(lease).await;
                heard(app.store.agent(agent).report(report).await)
            });
        }
        let stored = app.store.agent(agent).report(report);
        Box::pin(async move { heard(stored.await) })
    }

    /// Tells the agent what became of a report, and does what follows from it.
    pub(super) async fn answer(&self, heard: Heard) -> Result<(), Error> {
        let Heard {
            lease,
            sequence,
            over,
            result,
        } = heard;
        let attempt = lease.attempt.to_string();
        match result {
            Ok(Reported::Applied { changed, log_ended }) => {
                self.acknowledge(&attempt, sequence).await;
                self.app.perform(&changed);
                if log_ended {
                    self.app.log_ended(lease.attempt, changed.execution.id);
                } else if over {
                    // Not here: the SHA-256 of a long log may have to be computed again, and
                    // leases must be renewed meanwhile.
                    self.app.finish_log_later(lease.attempt);
                }
            }
            Ok(Reported::Repeat { sequence: last } | Reported::AlreadyEnded { sequence: last }) => {
                self.acknowledge(&attempt, last.max(sequence)).await;
            }
            Ok(Reported::LeaseLost) => self.refuse_lease(&attempt, lease.epoch).await,
            Err(error) if error.is_not_found() => {
                self.refuse_lease(&attempt, lease.epoch).await;
                self.offend();
            }
            // Not acknowledged: the agent tells it again.
            Err(error) if error.is_retryable() => {
                tracing::warn!(attempt, %error, "a report can not be stored now");
                if self.protocol < TELLS_AGAIN {
                    // It does so on its next stream alone.
                    self.stop.cancel();
                }
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

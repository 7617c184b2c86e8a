//! Reports of an agent, and attempts that it gives back.

use jiff::Timestamp;
use muster_core::{
    execution::{Event, IllegalTransition, Lease, Outcome, Phase, State},
    policy::Ending,
};

use super::{Completion, Progress, Report, Reported, Work};
use crate::{
    Error,
    attempt::{self, Held, Status},
    execution::{self, Changed},
    text, time,
    transaction::{Failure, Tx},
};

impl Work<'_> {
    pub(super) async fn store_report(&self, report: &Report) -> Result<Reported, Error> {
        let now = self.store.clock().now();
        let result = self
            .store
            .transaction("record_report", |tx| async move {
                let mut held =
                    Held::lock(&*tx, Some(self.agent), report.lease.attempt, now).await?;
                if let Some(answer) = known(&held, report)? {
                    if let Some(completion) = late(&held, report)? {
                        keep_late(&mut held, report.sequence, completion);
                        save(&tx, held).await?;
                    }
                    return Ok(answer);
                }
                held.attempt.sequence = report.sequence;
                held.change.warn(&report.warnings)?;
                held.attempt.address = Some(text::reason(&report.address));
                held.attempt.ready = Some(report.ready);
                match &report.progress {
                    Progress::At(phase) => {
                        advance(&mut held, report, *phase, now)?;
                        held.keep_for(&*tx).await?;
                    }
                    Progress::Completed(completion) => {
                        complete(&mut held, report, completion)?;
                    }
                    Progress::Lost => {}
                }
                if !report.steps.is_empty() {
                    execution::write_steps(&*tx, held.change.id(), &report.steps).await?;
                }
                if !report.outputs.is_empty() {
                    execution::write_outputs(&*tx, held.change.id(), &report.outputs).await?;
                }
                if matches!(report.progress, Progress::Lost) {
                    let begun = held.attempt.start_time.is_some();
                    let (reason, message) = (report.reason.as_str(), report.message.as_str());
                    held.lose(&*tx, Ending::told(reason, begun), true, reason, message)
                        .await?;
                } else if held.change.lifecycle()?.state == State::Queued {
                    // It failed and is tried again: what its steps did stays with the attempt.
                    held.reset_steps(&*tx).await?;
                }
                Ok(Reported::Applied(Box::new(save(&tx, held).await?)))
            })
            .await;
        match result {
            Err(Error::IllegalTransition(IllegalTransition::LeaseLost { .. })) => {
                Ok(Reported::LeaseLost)
            }
            other => other,
        }
    }

    pub(super) async fn give_back(
        &self,
        lease: Lease,
        reason: &str,
        message: &str,
    ) -> Result<Changed, Error> {
        let now = self.store.clock().now();
        self.store
            .transaction("decline_attempt", |tx| async move {
                let mut held = Held::lock(&*tx, Some(self.agent), lease.attempt, now).await?;
                let repeat = attempt::status(&held.attempt)? == Status::Declined;
                if repeat && held.lease() == lease {
                    return held.change.unchanged();
                }
                held.change.apply(Event::Decline(lease))?;
                held.end(Status::Declined, reason, message);
                held.give_up(&*tx, "DECLINED", reason, message).await?;
                save(&tx, held).await
            })
            .await
    }
}

async fn save(tx: &Tx, held: Held) -> Result<Changed, Failure> {
    held.save(&**tx).await
}

/// The result of an attempt that was lost before, when it is told for the first time.
fn late<'a>(held: &Held, report: &'a Report) -> Result<Option<&'a Completion>, Failure> {
    let lost = held.lease() == report.lease && attempt::status(&held.attempt)? == Status::Lost;
    Ok(match &report.progress {
        Progress::Completed(completion) if lost && report.sequence > held.attempt.sequence => {
            Some(completion)
        }
        _ => None,
    })
}

/// Keeps a result that came too late for people to see. It counts for nothing.
fn keep_late(held: &mut Held, sequence: i64, completion: &Completion) {
    held.attempt.sequence = sequence;
    let text = format!(
        "attempt {} on agent {} has told afterwards that it {}, which does not count",
        held.attempt.epoch,
        held.attempt.agent_name,
        match completion.outcome {
            Outcome::Passed => "passed",
            Outcome::Failed => "failed",
            Outcome::Aborted => "was aborted",
            Outcome::Canceled => "was canceled",
            Outcome::TimedOut => "timed out",
        }
    );
    held.change.event("LATE_RESULT", &text);
    held.attempt.message = text::message(&format!("{}; {text}", held.attempt.message));
}

/// The answer to a report that says nothing new or comes too late.
fn known(held: &Held, report: &Report) -> Result<Option<Reported>, Failure> {
    if held.lease() != report.lease {
        return Ok(Some(Reported::LeaseLost));
    }
    let sequence = held.attempt.sequence.max(report.sequence);
    let lost = matches!(report.progress, Progress::Lost);
    Ok(match attempt::status(&held.attempt)? {
        Status::Live if report.sequence <= held.attempt.sequence => Some(Reported::Repeat {
            sequence: held.attempt.sequence,
        }),
        Status::Live => None,
        Status::Completed => Some(Reported::AlreadyEnded { sequence }),
        // Both sides agree that it is lost.
        Status::Lost if lost => Some(Reported::AlreadyEnded { sequence }),
        Status::Lost | Status::Declined => Some(Reported::LeaseLost),
    })
}

fn advance(held: &mut Held, report: &Report, phase: Phase, now: Timestamp) -> Result<(), Failure> {
    let moved = held.change.apply(Event::Report(report.lease, phase))?;
    held.attempt.phase = Some(attempt::phase_name(phase).to_owned());
    held.attempt.reason = text::reason(&report.reason);
    held.attempt.message = text::message(&report.message);
    let walks = matches!(phase, Phase::Running | Phase::Paused | Phase::Finishing);
    if walks && held.attempt.start_time.is_none() {
        let at = report.start_time.unwrap_or(now);
        held.attempt.start_time = Some(time::millis(at));
        held.change.started(at);
    }
    if moved {
        held.change.state_event(&report.message);
    }
    // A wish to end it stays its reason until it has ended.
    if held.change.lifecycle()?.stop.is_none() {
        held.change.explain(&report.reason, &report.message);
    }
    Ok(())
}

fn complete(held: &mut Held, report: &Report, completion: &Completion) -> Result<(), Failure> {
    let ending = match completion.outcome {
        Outcome::Failed => Some(Ending::Failed),
        Outcome::Aborted => Some(Ending::Interrupted {
            reason: &completion.reason,
            begun: true,
        }),
        Outcome::Passed | Outcome::Canceled | Outcome::TimedOut => None,
    };
    let policy = held.change.policy()?;
    let verdict = ending.map(|ending| policy.after(held.change.spent(), ending));
    held.change.apply(Event::Complete {
        lease: report.lease,
        outcome: completion.outcome,
        retry: verdict.is_some_and(|verdict| verdict.is_again()),
    })?;
    if let Some(at) = report.start_time {
        held.change.started(at);
        let at = time::millis(at);
        held.attempt.start_time.get_or_insert(at);
    }
    held.end(Status::Completed, &completion.reason, &completion.message);
    held.attempt.log_size = Some(completion.log_size);
    held.attempt.log_sha256 = Some(text::reason(&completion.log_sha256));
    let state = held.change.lifecycle()?.state;
    let message = match (state, verdict) {
        (State::Queued, Some(verdict)) => {
            held.change.spend(verdict.spent());
            held.change.event("ATTEMPT_FAILED", &completion.message);
            format!("tried again after: {}", completion.message)
        }
        _ => completion.message.clone(),
    };
    held.change.explain(&completion.reason, &message);
    held.change.log(&execution::LogSummary {
        size: held.attempt.log_offset,
        sha256: held.attempt.log_sha256.clone(),
        complete: false,
    });
    held.change.state_event(&message);
    Ok(())
}

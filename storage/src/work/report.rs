//! Reports of an agent, and attempts that it gives back.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use muster_core::{
    execution::{Effect, Event, IllegalTransition, Lease, Outcome, Phase, State},
    id::{AgentId, AttemptId},
    policy::Ending,
};
use uuid::Uuid;

use super::{Completion, Progress, Report, Reported, Work};
use crate::{
    Error, Store,
    attempt::{self, Held, Status},
    error::Kind,
    execution::{self, Changed, Saved},
    gather::Gathered,
    text, time,
    transaction::{Failure, Tx},
};

/// A report, and the agent that tells it.
#[derive(Debug)]
pub(crate) struct Told {
    agent: AgentId,
    report: Report,
}

/// What is to be answered once all is committed.
enum Answer {
    /// What is known already; nothing changes.
    Known(Reported),
    /// It counts for nothing and is kept for people.
    Kept(Reported),
    /// It changes the attempt.
    Changes {
        /// What is to be done then.
        effects: Vec<Effect>,
        /// The log is whole and ends with it.
        log_ended: bool,
    },
}

impl Gathered for Told {
    type Answer = Reported;

    const OPERATION: &'static str = "record_reports";

    async fn all(store: &Store, calls: &[Self]) -> Result<Vec<Result<Reported, Error>>, Error> {
        let now = store.clock().now();
        let ids = calls.iter().map(|told| told.report.lease.attempt.as_uuid());
        let ids: BTreeSet<Uuid> = ids.collect();
        let ids = &ids;
        store
            .transaction(Self::OPERATION, |tx| async move {
                let mut all = Held::lock_all(&*tx, store.recent(), ids, now).await?;
                let mut answers = Vec::with_capacity(calls.len());
                let mut changed = BTreeSet::new();
                for told in calls {
                    let attempt = told.report.lease.attempt;
                    let held = match all.get_mut(&attempt) {
                        Some(held) if held.is_of(told.agent) => held,
                        _ => {
                            let missing = missing(&tx, told.agent, attempt).await?;
                            answers.push((attempt, Err(missing)));
                            continue;
                        }
                    };
                    let answer = hear(&tx, held, &told.report, now).await?;
                    if !matches!(answer, Answer::Known(_)) {
                        changed.insert(attempt);
                    }
                    answers.push((attempt, Ok(answer)));
                }
                all.retain(|attempt, _| changed.contains(attempt));
                let (ids, held): (Vec<AttemptId>, Vec<Held>) = all.into_iter().unzip();
                let saved = attempt::save_all(&*tx, held).await?;
                let saved: BTreeMap<AttemptId, Saved> = ids.into_iter().zip(saved).collect();
                let answers = answers.into_iter().map(|(attempt, answer)| {
                    Ok(match (answer?, saved.get(&attempt)) {
                        (Answer::Known(known) | Answer::Kept(known), _) => known,
                        (Answer::Changes { effects, log_ended }, Some(saved)) => {
                            let execution = saved.execution.clone();
                            Reported::Applied {
                                changed: Box::new(Changed { execution, effects }),
                                log_ended,
                            }
                        }
                        (Answer::Changes { .. }, None) => return Err(unsaved(attempt)),
                    })
                });
                let answers = answers.collect();
                Ok((answers, saved))
            })
            .await
            .map(|(answers, saved)| {
                store
                    .recent()
                    .keep_all(saved.into_values().map(|saved| saved.row));
                answers
            })
    }
}

/// Hears one report.
async fn hear(
    tx: &Tx,
    held: &mut Held,
    report: &Report,
    now: Timestamp,
) -> Result<Answer, Failure> {
    if let Some(answer) = known(held, report)? {
        return Ok(match late(held, report)? {
            Some(completion) => {
                keep_late(held, report.sequence, completion);
                Answer::Kept(answer)
            }
            None => Answer::Known(answer),
        });
    }
    let mut log_ended = false;
    match &report.progress {
        Progress::At(phase) => {
            advance(held, report, *phase, now)?;
            held.keep_for()?;
        }
        Progress::Completed(completion) => log_ended = complete(held, report, completion)?,
        Progress::Lost => {}
    }
    held.attempt.sequence = report.sequence;
    held.change.warn(&report.warnings)?;
    held.attempt.address = Some(text::reason(&report.address));
    held.attempt.ready = Some(report.ready);
    if !report.steps.is_empty() {
        held.write_steps(&report.steps)?;
    }
    if !report.outputs.is_empty() {
        held.write_outputs(&report.outputs)?;
    }
    if matches!(report.progress, Progress::Lost) {
        let begun = held.attempt.start_time.is_some();
        let (reason, message) = (report.reason.as_str(), report.message.as_str());
        held.lose(&**tx, Ending::told(reason, begun), true, reason, message)
            .await?;
    } else if held.change.lifecycle()?.state == State::Queued {
        // It failed and is tried again: what its steps did stays with the attempt.
        held.reset_steps(&**tx).await?;
    }
    Ok(Answer::Changes {
        effects: held.change.take_effects(),
        log_ended,
    })
}

/// Why an attempt was not locked for this agent.
async fn missing(tx: &Tx, agent: AgentId, attempt: AttemptId) -> Result<Error, Failure> {
    match attempt::find(&**tx, Some(agent), attempt).await {
        Err(Failure::Refused(refused)) => Ok(refused),
        Err(failure) => Err(failure),
        // Another attempt of its execution was told of at once: each is heard by itself.
        Ok(_) => Err(Error::Conflict {
            kind: Kind::Attempt,
            id: attempt.to_string(),
        }
        .into()),
    }
}

fn unsaved(attempt: AttemptId) -> Error {
    Error::internal(Told::OPERATION, format!("attempt {attempt} was not saved"))
}

impl Work<'_> {
    pub(super) fn store_report(
        &self,
        report: Report,
    ) -> impl Future<Output = Result<Reported, Error>> + Send + use<> {
        let told = Told {
            agent: self.agent,
            report,
        };
        let answer = self.store.gathers().reports.call(self.store, told);
        async move {
            match answer.await {
                Err(Error::IllegalTransition(IllegalTransition::LeaseLost { .. })) => {
                    Ok(Reported::LeaseLost)
                }
                other => other,
            }
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
                held.save(&*tx).await
            })
            .await
    }
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

/// Accepts a result; whether the log is whole and ends with it.
fn complete(held: &mut Held, report: &Report, completion: &Completion) -> Result<bool, Failure> {
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
    let durable = held.attempt.log_offset;
    let whole = completion.log_size == durable
        && report
            .log
            .as_ref()
            .is_some_and(|log| log.size == durable && log.sha256 == completion.log_sha256);
    held.change.log(&execution::LogSummary {
        size: durable,
        sha256: held.attempt.log_sha256.clone(),
        complete: whole && state.is_terminal(),
    });
    held.change.state_event(&message);
    if whole {
        held.attempt.log_ended = true;
        held.attempt.log_complete = true;
        if state.is_terminal() {
            held.change.event("LOG_COMPLETE", "");
        }
    }
    Ok(whole)
}

//! What must hold at every moment, whatever happened before. Pure: it compares what is seen with
//! what was seen and said before.

use std::collections::{BTreeMap, BTreeSet};

use muster_core::execution::State;

use crate::{
    ledger::{Ledger, Spoken},
    seen::{Attempt, Execution, Sight, Status},
};

/// A promise that does not hold.
pub(crate) type Broken = String;

/// Checks moments one after the other.
#[derive(Debug, Default)]
pub(crate) struct Invariants {
    before: Sight,
    /// Lease in milliseconds.
    lease: i64,
}

impl Invariants {
    /// For leases of this many milliseconds.
    pub(crate) fn new(lease: i64) -> Self {
        Self {
            before: Sight::new(),
            lease,
        }
    }

    /// Takes in a moment.
    pub(crate) fn check(&mut self, now: &Sight, ledger: &Ledger) -> Result<(), Broken> {
        submits(now, ledger)?;
        for (id, execution) in now {
            let before = self.before.get(id);
            if before == Some(execution) {
                continue;
            }
            let about = |broken: Broken| format!("{id} ({}): {broken}", execution.submit);
            one_lease(execution).map_err(about)?;
            one_result(execution, ledger).map_err(about)?;
            history(execution).map_err(about)?;
            log(execution, ledger).map_err(about)?;
            self.lost(execution, ledger).map_err(about)?;
            if let Some(before) = before {
                onwards(before, execution).map_err(about)?;
            } else if execution.revision == 1 && execution.state != State::Queued {
                return Err(about(format!("began as {}", execution.state)));
            }
        }
        if let Some(gone) = self.before.keys().find(|id| !now.contains_key(*id)) {
            return Err(format!("{gone} has vanished"));
        }
        told(now, ledger)?;
        self.before.clone_from(now);
        Ok(())
    }

    /// A lease that was renewed, or given grace by a start, does not end early.
    fn lost(&self, execution: &Execution, ledger: &Ledger) -> Result<(), Broken> {
        for attempt in &execution.attempts {
            let (Some(at), Some(spoken)) = (attempt.finish_time, ledger.attempts.get(&attempt.id))
            else {
                continue;
            };
            if attempt.status != Status::Lost || attempt.reason != "AGENT_LOST" {
                continue;
            }
            // What was said later, or in the same moment, is no promise for then.
            let promised = [spoken.renewed, ledger.server_start]
                .into_iter()
                .filter(|promise| *promise < at)
                .max()
                .unwrap_or(i64::MIN);
            if at < promised.saturating_add(self.lease) {
                return Err(format!(
                    "attempt {} was lost {} ms after its lease was renewed",
                    attempt.id,
                    at - promised
                ));
            }
        }
        Ok(())
    }
}

/// Nothing that was accepted vanishes, nothing is made twice.
fn submits(now: &Sight, ledger: &Ledger) -> Result<(), Broken> {
    let mut made: BTreeMap<&str, &str> = BTreeMap::new();
    for (id, execution) in now {
        if !ledger.submits.contains_key(&execution.submit) {
            return Err(format!("{id} was never asked for: '{}'", execution.submit));
        }
        if let Some(other) = made.insert(&execution.submit, id) {
            return Err(format!("{} made {other} and {id}", execution.submit));
        }
    }
    for (tag, submit) in &ledger.submits {
        if let Some(answer) = &submit.answer
            && made.get(tag.as_str()) != Some(&answer.as_str())
        {
            return Err(format!("{tag} was answered with {answer}, which is gone"));
        }
    }
    Ok(())
}

/// At most one live attempt, and it is the one of the lease; epochs count the attempts.
fn one_lease(execution: &Execution) -> Result<(), Broken> {
    let live: Vec<&Attempt> = execution
        .attempts
        .iter()
        .filter(|attempt| attempt.status == Status::Live)
        .collect();
    if live.len() > 1 {
        return Err(format!("{} live attempts", live.len()));
    }
    let lease = live.first().map(|live| (live.id.clone(), live.epoch));
    if lease != execution.lease {
        return Err(format!(
            "its lease is {:?}, but the live attempt is {lease:?}",
            execution.lease
        ));
    }
    if execution.state.is_leased() != lease.is_some() {
        return Err(format!("{} with the lease {lease:?}", execution.state));
    }
    let epochs: Vec<i64> = execution.attempts.iter().map(|it| it.epoch).collect();
    let wanted: Vec<i64> = (1..=execution.last_epoch).collect();
    if epochs != wanted {
        return Err(format!(
            "epochs are {epochs:?}, the last one {}",
            execution.last_epoch
        ));
    }
    if let Some(live) = live.first()
        && live.epoch != execution.last_epoch
    {
        return Err(format!("the live epoch {} is not the last one", live.epoch));
    }
    Ok(())
}

/// At most one accepted result, which is what an agent said; green only if it said so.
fn one_result(execution: &Execution, ledger: &Ledger) -> Result<(), Broken> {
    let completed: Vec<&Attempt> = execution
        .attempts
        .iter()
        .filter(|attempt| attempt.status == Status::Completed)
        .collect();
    if completed.len() > 1 {
        return Err(format!("{} accepted results", completed.len()));
    }
    if execution.state.is_terminal() != execution.finish_time.is_some() {
        return Err(format!(
            "{} and finished at {:?}",
            execution.state, execution.finish_time
        ));
    }
    match completed.first() {
        Some(attempt) => {
            if !execution.state.is_terminal() {
                return Err(format!("has a result, but is {}", execution.state));
            }
            let said = ledger.attempts.get(&attempt.id).map(|it| &it.outcomes);
            if !said.is_some_and(|said| said.contains(&execution.state)) {
                return Err(format!("is {}, but was told {said:?}", execution.state));
            }
        }
        None => {
            let proven = [State::Passed, State::Failed, State::TimedOut];
            if proven.contains(&execution.state) {
                return Err(format!("{} without a completion record", execution.state));
            }
        }
    }
    Ok(())
}

/// Events are numbered without gaps, end once, and their last state is that of the row.
fn history(execution: &Execution) -> Result<(), Broken> {
    let numbers: Vec<i64> = execution.events.iter().map(|(number, _)| *number).collect();
    let wanted: Vec<i64> = (1..).take(numbers.len()).collect();
    if numbers != wanted {
        return Err(format!("events are numbered {numbers:?}"));
    }
    let states: Vec<State> = execution
        .events
        .iter()
        .filter_map(|(_, kind)| State::from_name(&kind.to_lowercase()))
        .collect();
    if states.last() != Some(&execution.state) {
        return Err(format!(
            "is {}, but its history says {states:?}",
            execution.state
        ));
    }
    let ends = states.iter().filter(|state| state.is_terminal()).count();
    if ends > 1 {
        return Err(format!("ended {ends} times: {states:?}"));
    }
    Ok(())
}

/// A log is complete only if it is, and what was acknowledged stays.
fn log(execution: &Execution, ledger: &Ledger) -> Result<(), Broken> {
    for attempt in &execution.attempts {
        let Some(spoken) = ledger.attempts.get(&attempt.id) else {
            continue;
        };
        let longest = spoken.printed.iter().map(Vec::len).max().unwrap_or(0);
        if usize::try_from(attempt.log_offset).is_ok_and(|offset| offset > longest) {
            return Err(format!(
                "{} bytes of the log of {} are durable, {longest} were printed",
                attempt.log_offset, attempt.id
            ));
        }
    }
    if !execution.log.complete {
        return Ok(());
    }
    let completed = execution
        .attempts
        .iter()
        .find(|attempt| attempt.status == Status::Completed);
    let Some((attempt, spoken)) =
        completed.and_then(|attempt| Some((attempt, ledger.attempts.get(&attempt.id)?)))
    else {
        return Err("its log is complete without a completion record".to_owned());
    };
    if !spoken.true_digest {
        return Err("its log is complete, but nobody told its digest".to_owned());
    }
    if execution.log.size != attempt.log_offset {
        return Err(format!(
            "its log is complete with {} bytes, {} are durable",
            execution.log.size, attempt.log_offset
        ));
    }
    Ok(())
}

/// What does not go back from one moment to a later one.
fn onwards(before: &Execution, now: &Execution) -> Result<(), Broken> {
    if now.revision < before.revision {
        return Err(format!(
            "revision {} became {}",
            before.revision, now.revision
        ));
    }
    if now.last_epoch < before.last_epoch {
        return Err(format!(
            "epoch {} became {}",
            before.last_epoch, now.last_epoch
        ));
    }
    if before.state.is_terminal() {
        let end = |it: &Execution| (it.state, it.finish_time, it.reason.clone());
        if end(before) != end(now) {
            return Err(format!(
                "was {:?} for good, became {:?}",
                end(before),
                end(now)
            ));
        }
    }
    if before.log.complete && now.log != before.log {
        return Err(format!(
            "its complete log {:?} became {:?}",
            before.log, now.log
        ));
    }
    if now.events.get(..before.events.len()) != Some(before.events.as_slice()) {
        return Err(format!(
            "its history {:?} became {:?}",
            before.events, now.events
        ));
    }
    for old in &before.attempts {
        let Some(new) = now.attempts.iter().find(|attempt| attempt.id == old.id) else {
            return Err(format!("attempt {} has vanished", old.id));
        };
        if old.status != Status::Live
            && (old.status, old.finish_time) != (new.status, new.finish_time)
        {
            return Err(format!(
                "attempt {} was {:?}, became {:?}",
                old.id, old.status, new.status
            ));
        }
        if new.log_offset < old.log_offset || new.sequence < old.sequence {
            return Err(format!("attempt {} went back: {old:?}, {new:?}", old.id));
        }
    }
    Ok(())
}

/// What callers and agents were told is so.
fn told(now: &Sight, ledger: &Ledger) -> Result<(), Broken> {
    for (id, state) in &ledger.told_terminal {
        let seen = now.get(id).map(|execution| execution.state);
        if seen != Some(*state) {
            return Err(format!("{id} was told to be {state}, but is {seen:?}"));
        }
    }
    for (id, attempts) in &ledger.canceled {
        if let Some(execution) = now.get(id) {
            canceled(execution, *attempts).map_err(|broken| format!("{id}: {broken}"))?;
        }
    }
    let attempts: BTreeMap<&str, &Attempt> = now
        .values()
        .flat_map(|execution| &execution.attempts)
        .map(|attempt| (attempt.id.as_str(), attempt))
        .collect();
    let mut leases = BTreeSet::new();
    for (id, spoken) in &ledger.attempts {
        let Some(attempt) = attempts.get(id.as_str()) else {
            return Err(format!("attempt {id} was assigned, but is not there"));
        };
        acknowledged(attempt, spoken).map_err(|broken| format!("attempt {id}: {broken}"))?;
        if !leases.insert((&spoken.execution, spoken.epoch)) {
            return Err(format!(
                "{} has two attempts of one epoch",
                spoken.execution
            ));
        }
    }
    Ok(())
}

/// After an accepted cancel nothing begins anew, and only a completion record wins against it.
fn canceled(execution: &Execution, attempts: i64) -> Result<(), Broken> {
    if execution.last_epoch > attempts {
        return Err(format!(
            "its cancel was accepted at attempt {attempts}, now it has {}",
            execution.last_epoch
        ));
    }
    let proven = execution
        .attempts
        .iter()
        .any(|attempt| attempt.status == Status::Completed);
    if execution.state == State::Queued || (execution.state == State::Aborted && !proven) {
        return Err(format!(
            "its cancel was accepted, but it is {}",
            execution.state
        ));
    }
    Ok(())
}

fn acknowledged(attempt: &Attempt, spoken: &Spoken) -> Result<(), Broken> {
    if attempt.epoch != spoken.epoch {
        return Err(format!(
            "was assigned with epoch {}, has {}",
            spoken.epoch, attempt.epoch
        ));
    }
    if spoken.completion_acknowledged && attempt.status != Status::Completed {
        return Err(format!(
            "its result was acknowledged, but it is {:?}",
            attempt.status
        ));
    }
    Ok(())
}

/// What holds of an execution at the end of a case, where everything was read again.
pub(crate) fn at_the_end(now: &Sight, ledger: &Ledger) -> Result<(), Broken> {
    for (id, execution) in now {
        if !execution.state.is_terminal() {
            return Err(format!(
                "{id} ({}) is {} for ever: {execution:?}",
                execution.submit, execution.state
            ));
        }
        for attempt in &execution.attempts {
            let Some(spoken) = ledger.attempts.get(&attempt.id) else {
                continue;
            };
            if attempt.log_offset < spoken.durable {
                return Err(format!(
                    "{} bytes of the log of {} were acknowledged, {} are there",
                    spoken.durable, attempt.id, attempt.log_offset
                ));
            }
            let whole = attempt.status == Status::Completed
                && spoken.true_digest
                && !spoken.false_digest
                && spoken.printed.len() == 1;
            if whole && !execution.log.complete {
                return Err(format!(
                    "the log of {id} came here whole, but is not complete: {:?}",
                    execution.log
                ));
            }
        }
    }
    Ok(())
}

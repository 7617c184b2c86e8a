//! Words under a lease that is not the live one.

use anyhow::ensure;
use muster_proto::v1::{
    AttemptRef, AttemptReport, Completion, DeclineAttempt, RenewLeases, attempt_report::Phase,
    execution, link_request::Message as Out, link_response::Message as In, refusal::Reason,
};
use muster_tests::digest::sha256;

use super::World;
use crate::op::{LogFault, Word};

/// Sequence of a renewal that no honest agent sends.
const STALE_RENEWAL: i64 = -1;

impl World<'_> {
    /// Says something under a lease that is not the live one: it is told so, and nothing changes.
    pub(super) fn stale(&mut self, index: usize, number: u8, word: Word) -> anyhow::Result<()> {
        self.hurry = 0;
        self.settle()?;
        self.exchange(index)?;
        let process = &self.processes[index];
        if !(process.up && process.down && process.welcomed) || process.wire.is_none() {
            return Ok(());
        }
        let foreign = word == Word::Foreign;
        let mut attempts = self.ledger.attempts.iter();
        let spoken: Vec<_> = attempts
            .by_ref()
            .filter(|(_, spoken)| foreign == (spoken.agent != process.agent))
            .collect();
        let Some(at) = usize::from(number).checked_rem(spoken.len()) else {
            return Ok(());
        };
        let (attempt, spoken) = (spoken[at].0.clone(), spoken[at].1.clone());
        let epoch = match word {
            Word::Future => spoken.epoch + 1,
            Word::Foreign => spoken.epoch,
            _ => spoken.epoch - 1,
        };
        let before = self
            .observer
            .look_closely()?
            .get(&spoken.execution)
            .cloned();
        let refused = if word == Word::Log {
            self.send_log(index, &attempt, epoch, 0, b"stale", LogFault::Nothing)?
                .map(|answer| answer.is_err())
        } else {
            self.say_stale(index, stale_word(&attempt, epoch, word))?
        };
        let Some(refused) = refused else {
            return Ok(());
        };
        ensure!(
            refused,
            "{word:?} of {attempt} with epoch {epoch} was not refused"
        );
        let after = self
            .observer
            .look_closely()?
            .get(&spoken.execution)
            .cloned();
        ensure!(
            before == after,
            "{word:?} with the stale epoch {epoch} changed {before:?} to {after:?}"
        );
        Ok(())
    }

    /// Says it and hears whether it is refused; `None` when the server died, or another process has
    /// its place.
    fn say_stale(&mut self, index: usize, word: Out) -> anyhow::Result<Option<bool>> {
        let (attempt, epoch) = match &word {
            Out::Report(report) => (report.attempt.clone(), report.epoch),
            Out::Decline(decline) => (decline.attempt.clone(), decline.epoch),
            Out::Renew(renew) => match renew.attempts.first() {
                Some(lease) => (lease.attempt.clone(), lease.epoch),
                None => return Ok(None),
            },
            Out::Hello(_) | Out::Credit(_) => return Ok(None),
        };
        if let Some(wire) = &mut self.processes[index].wire {
            wire.say(word, true);
        }
        self.settle()?;
        let mut refused = false;
        while let Some(message) = self.next(index) {
            match &message {
                In::Refusal(refusal)
                    if refusal.reason() == Reason::LeaseLost
                        && refusal.attempt == attempt
                        && refusal.epoch == epoch =>
                {
                    refused = true;
                }
                In::Renewed(renewed) if renewed.sequence == STALE_RENEWAL => {
                    let lost = |it: &AttemptRef| it.attempt == attempt && it.epoch == epoch;
                    refused = renewed.lost.iter().any(lost);
                }
                _ => self.take(index, message)?,
            }
        }
        let process = &self.processes[index];
        let heard = process.wire.is_some() && !process.superseded;
        Ok(heard.then_some(refused))
    }
}

fn stale_word(attempt: &str, epoch: i64, word: Word) -> Out {
    let report = AttemptReport {
        attempt: attempt.to_owned(),
        epoch,
        sequence: 1_000_000,
        phase: Phase::Running.into(),
        ..AttemptReport::default()
    };
    let passed = Completion {
        outcome: execution::State::Passed.into(),
        log_sha256: sha256(b""),
        ..Completion::default()
    };
    match word {
        Word::Running | Word::Log => Out::Report(report),
        Word::Passed | Word::Future | Word::Foreign => Out::Report(AttemptReport {
            phase: Phase::Completed.into(),
            completion: Some(passed),
            ..report
        }),
        Word::Lost => Out::Report(AttemptReport {
            phase: Phase::Lost.into(),
            reason: "POD_GONE".to_owned(),
            ..report
        }),
        Word::Renew => Out::Renew(RenewLeases {
            sequence: STALE_RENEWAL,
            attempts: vec![AttemptRef {
                attempt: attempt.to_owned(),
                epoch,
            }],
        }),
        Word::Decline => Out::Decline(DeclineAttempt {
            attempt: attempt.to_owned(),
            epoch,
            ..DeclineAttempt::default()
        }),
    }
}

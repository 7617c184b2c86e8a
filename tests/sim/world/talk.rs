//! What agents and the server say to each other.

use anyhow::{anyhow, ensure};
use muster_proto::v1::{
    AttemptRef, AttemptReport, Completion, DeclineAttempt, LogChunk, RenewLeases, StreamLogRequest,
    agent_link_service_client::AgentLinkServiceClient, attempt_report::Phase, execution,
    link_request::Message as Out, link_response::Message as In, refusal::Reason,
};
use tonic::Status;

use super::World;
use crate::{
    agent::{digest, size},
    client::{Authed, Bearer},
    op::{LogFault, Loss, Word},
    wire::{LogWire, Wire},
};

/// Rounds of hearing and saying after which two who speak only of each other are stopped.
const ROUNDS: u32 = 12;
/// Sequence of a renewal that no honest agent sends.
const STALE_RENEWAL: i64 = -1;
/// Bytes of one chunk of a log.
const CHUNK: usize = 700;

impl World<'_> {
    /// Opens a stream in the place of the one that a process has.
    pub(super) fn connect(&mut self, index: usize, half_open: bool) -> anyhow::Result<()> {
        if self.processes[index].superseded {
            return Ok(());
        }
        let now = self.now();
        let agent = self.processes[index].agent;
        if let Some(mut old) = self.processes[index].wire.take()
            && half_open
        {
            // What it says now is on the way when the stream breaks.
            let words =
                self.processes[index].words(&self.clusters[agent], &mut self.ledger, now);
            for word in words {
                old.say(word, false);
            }
            self.processes[index].half_open.push(old);
        }
        let (Some(life), Some(link)) = (&self.life, self.link(agent)) else {
            return Ok(());
        };
        let wire = Wire::open(life, link)?;
        self.processes[index].greet(wire, now);
        self.settle()
    }

    fn link(&self, agent: usize) -> Option<AgentLinkServiceClient<Authed>> {
        let channel = self.life.as_ref()?.channel();
        let token = self.template.agents.get(agent)?.clone();
        Some(AgentLinkServiceClient::with_interceptor(
            channel,
            Bearer(token),
        ))
    }

    /// What was said on streams that are broken arrives.
    pub(super) fn late(&mut self, index: usize) -> anyhow::Result<()> {
        let mut wires = std::mem::take(&mut self.processes[index].half_open);
        for wire in &mut wires {
            wire.arrive();
        }
        self.settle()
    }

    /// Hears and says all there is, until both sides have nothing more to say.
    pub(super) fn exchange(&mut self, index: usize) -> anyhow::Result<()> {
        for _ in 0..ROUNDS {
            let heard = self.hear(index)?;
            let said = self.say(index);
            if !heard && !said {
                return Ok(());
            }
            self.settle()?;
        }
        Ok(())
    }

    fn hear(&mut self, index: usize) -> anyhow::Result<bool> {
        let mut heard = false;
        while let Some(message) = self.next(index) {
            heard = true;
            self.take(index, message)?;
        }
        let process = &mut self.processes[index];
        if process.superseded || process.wire.as_ref().is_some_and(Wire::is_over) {
            process.wire = None;
        }
        Ok(heard)
    }

    fn next(&mut self, index: usize) -> Option<In> {
        let process = &mut self.processes[index];
        if !process.down {
            return None;
        }
        process.wire.as_mut()?.hear()
    }

    fn take(&mut self, index: usize, message: In) -> anyhow::Result<()> {
        let process = &mut self.processes[index];
        let cluster = &mut self.clusters[process.agent];
        process
            .hear(message, cluster, &mut self.ledger)
            .map_err(|broken| anyhow!(broken))
    }

    fn say(&mut self, index: usize) -> bool {
        let now = self.now();
        let process = &mut self.processes[index];
        if process.wire.is_none() {
            return false;
        }
        let words = process.words(&self.clusters[process.agent], &mut self.ledger, now);
        let (said, arrives) = (!words.is_empty(), process.up);
        if let Some(wire) = &mut process.wire {
            for word in words {
                wire.say(word, arrives);
            }
        }
        said
    }

    /// Says the last report of an attempt again.
    pub(super) fn repeat(&mut self, index: usize, pod: u8) -> anyhow::Result<()> {
        let Some(attempt) = self.attempt(index, pod) else {
            return Ok(());
        };
        let process = &mut self.processes[index];
        let up = process.up;
        if let (Some(report), Some(wire)) =
            (process.last_report(&attempt), process.wire.as_mut())
        {
            wire.say(Out::Report(report), up);
        }
        self.settle()?;
        self.exchange(index)
    }

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
        let before = self.observer.look_closely()?.get(&spoken.execution).cloned();
        let refused = if word == Word::Log {
            self.send_log(index, &attempt, epoch, 0, b"stale", LogFault::Nothing)?
                .map(|answer| answer.is_err())
        } else {
            self.say_stale(index, stale_word(&attempt, epoch, word))?
        };
        let Some(refused) = refused else {
            return Ok(());
        };
        ensure!(refused, "{word:?} of {attempt} with epoch {epoch} was not refused");
        let after = self.observer.look_closely()?.get(&spoken.execution).cloned();
        ensure!(
            before == after,
            "{word:?} with the stale epoch {epoch} changed {before:?} to {after:?}"
        );
        Ok(())
    }

    /// Says it and hears whether it is refused; `None` when the server died.
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
        Ok(self.life.is_some().then_some(refused))
    }

    /// Sends what every attempt of a process has printed.
    pub(super) fn relay_all(&mut self, index: usize) -> anyhow::Result<()> {
        for attempt in self.pods(index).into_keys() {
            let process = &self.processes[index];
            let pod = self.clusters[process.agent].get(&attempt);
            let durable = process.known.get(&attempt).map(|known| known.durable);
            if pod.map(size) > durable {
                self.relay(index, &attempt, LogFault::Nothing)?;
            }
        }
        Ok(())
    }

    /// Sends what an attempt has printed, from where the server wants it.
    pub(super) fn relay(
        &mut self,
        index: usize,
        attempt: &str,
        fault: LogFault,
    ) -> anyhow::Result<()> {
        let process = &self.processes[index];
        if !(process.up && process.down && process.welcomed) || process.superseded {
            return Ok(());
        }
        let Some(known) = process.known.get(attempt) else {
            return Ok(());
        };
        let Some(pod) = self.clusters[process.agent].get(attempt) else {
            return Ok(());
        };
        let (epoch, durable, log) = (known.epoch, known.durable, pod.log.clone());
        let Some(answer) = self.send_log(index, attempt, epoch, durable, &log, fault)? else {
            return Ok(());
        };
        let Ok(durable) = answer else {
            // Its lease may be lost, or its result committed.
            return Ok(());
        };
        let spoken = self.ledger.attempts.entry(attempt.to_owned()).or_default();
        ensure!(
            durable >= spoken.durable,
            "{} bytes of the log of {attempt} were acknowledged, now {durable}",
            spoken.durable
        );
        ensure!(
            usize::try_from(durable).is_ok_and(|durable| durable <= log.len()),
            "{durable} bytes of {attempt} were acknowledged, {} were sent",
            log.len()
        );
        spoken.durable = durable;
        if let Some(known) = self.processes[index].known.get_mut(attempt) {
            known.durable = known.durable.max(durable);
        }
        Ok(())
    }

    /// Sends what an attempt has printed on a stream that stays open.
    pub(super) fn stream(
        &mut self,
        index: usize,
        attempt: &str,
        anew: bool,
    ) -> anyhow::Result<()> {
        let process = &self.processes[index];
        let (agent, whole) = (process.agent, process.up && process.down);
        let epoch = process.known.get(attempt).map(|known| known.epoch);
        let (Some(life), Some(link), Some(epoch)) = (&self.life, self.link(agent), epoch) else {
            return Ok(());
        };
        if !whole || !process.welcomed {
            return Ok(());
        }
        let open = process.logs.iter().any(|log| log.attempt == attempt);
        if anew || !open {
            let wire = LogWire::open(life, link, attempt, epoch)?;
            self.processes[index].logs.push(wire);
            self.settle()?;
        }
        self.hear_logs(index)?;
        let process = &mut self.processes[index];
        if let Some(pod) = self.clusters[agent].get(attempt) {
            for log in process.logs.iter_mut().filter(|log| log.attempt == attempt) {
                log.send_rest(&pod.log);
            }
        }
        self.settle()
    }

    /// Hears what is durable on the open streams of logs.
    pub(super) fn hear_logs(&mut self, index: usize) -> anyhow::Result<()> {
        let process = &mut self.processes[index];
        if !process.down {
            return Ok(());
        }
        for log in &mut process.logs {
            let Some(durable) = log.hear() else {
                continue;
            };
            let attempt = &log.attempt;
            let spoken = self.ledger.attempts.entry(attempt.clone()).or_default();
            let printed = spoken.printed.iter().map(Vec::len).max().unwrap_or(0);
            ensure!(
                usize::try_from(durable).is_ok_and(|durable| durable <= printed),
                "{durable} bytes of {attempt} were acknowledged, {printed} were printed"
            );
            spoken.durable = spoken.durable.max(durable);
            if let Some(known) = process.known.get_mut(attempt) {
                known.durable = known.durable.max(durable);
            }
        }
        process.logs.retain(|log| !log.is_over());
        Ok(())
    }

    /// Sends a log; what is durable then. `None` when the answer is lost or the server died.
    fn send_log(
        &mut self,
        index: usize,
        attempt: &str,
        epoch: i64,
        known: i64,
        log: &[u8],
        fault: LogFault,
    ) -> anyhow::Result<Option<Result<i64, Status>>> {
        let agent = self.processes[index].agent;
        let Some(mut link) = self.link(agent) else {
            return Ok(None);
        };
        let first = StreamLogRequest {
            attempt: attempt.to_owned(),
            epoch,
            chunks: Vec::new(),
        };
        let bytes = log.to_vec();
        let (sender, requests) = tokio::sync::mpsc::unbounded_channel();
        let requests = tokio_stream::wrappers::UnboundedReceiverStream::new(requests);
        let call = async move {
            let gone = |_| Status::unavailable("the stream is gone");
            sender.send(first.clone()).map_err(gone)?;
            let mut answers = link.stream_log(requests).await?.into_inner();
            let mut durable = match answers.message().await? {
                Some(answer) => answer.durable_offset,
                None => return Err(Status::unavailable("no first answer")),
            };
            if durable < known {
                return Err(Status::data_loss(format!(
                    "{known} bytes were acknowledged, {durable} are wanted"
                )));
            }
            let start = usize::try_from(durable).unwrap_or(usize::MAX);
            let start = match fault {
                LogFault::Repeat => start.saturating_sub(CHUNK / 2),
                LogFault::Gap => start + 10,
                LogFault::Nothing | LogFault::Cut => start,
            };
            let mut offset = i64::try_from(start).unwrap_or(i64::MAX);
            for data in bytes.get(start..).unwrap_or_default().chunks(CHUNK) {
                let chunk = LogChunk {
                    offset,
                    data: data.to_vec().into(),
                    step: "s1".to_owned(),
                    ..LogChunk::default()
                };
                offset += i64::try_from(data.len()).unwrap_or(i64::MAX);
                let request = StreamLogRequest {
                    chunks: vec![chunk],
                    ..first.clone()
                };
                sender.send(request).map_err(gone)?;
            }
            if fault == LogFault::Cut {
                tokio::task::yield_now().await;
                return Err(Status::unavailable("cut"));
            }
            drop(sender);
            while let Some(answer) = answers.message().await? {
                durable = durable.max(answer.durable_offset);
            }
            Ok(durable)
        };
        let Some(answer) = self.call(Loss::Nothing, call)? else {
            return Ok(None);
        };
        if let Err(status) = &answer {
            ensure!(status.code() != tonic::Code::DataLoss, "{}", status.message());
        }
        if fault == LogFault::Gap && answer.is_ok() && log.len() > 10 {
            let durable = answer.as_ref().map_or(0, |durable| *durable);
            let end = i64::try_from(log.len()).unwrap_or(i64::MAX);
            ensure!(durable + 10 >= end, "a gap in the log of {attempt} was taken");
        }
        Ok(Some(answer))
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
        log_sha256: digest(b""),
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

//! Logs of attempts on their way to the server.

use anyhow::ensure;
use muster_proto::v1::{LogChunk, StreamLogRequest};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Status};

use super::World;
use crate::{
    agent::size,
    op::{LogFault, Loss},
    wire::LogWire,
};

/// Bytes of one chunk of a log.
const CHUNK: usize = 700;

impl World<'_> {
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
    pub(super) fn stream(&mut self, index: usize, attempt: &str, anew: bool) -> anyhow::Result<()> {
        let process = &self.processes[index];
        let (agent, whole) = (process.agent, process.up && process.down);
        let epoch = process.known.get(attempt).map(|known| known.epoch);
        let (Some((server, link)), Some(epoch)) = (self.link(agent, self.about), epoch) else {
            return Ok(());
        };
        if !whole || !process.welcomed {
            return Ok(());
        }
        let open = process.logs.iter().any(|log| log.attempt == attempt);
        if anew || !open {
            let wire = LogWire::open(&self.servers, server, link, attempt, epoch)?;
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
    pub(super) fn send_log(
        &mut self,
        index: usize,
        attempt: &str,
        epoch: i64,
        known: i64,
        log: &[u8],
        fault: LogFault,
    ) -> anyhow::Result<Option<Result<i64, Status>>> {
        let agent = self.processes[index].agent;
        let Some((server, mut link)) = self.link(agent, self.about) else {
            return Ok(None);
        };
        let first = StreamLogRequest {
            attempt: attempt.to_owned(),
            epoch,
            chunks: Vec::new(),
            first_offset: 0,
        };
        let bytes = log.to_vec();
        let (sender, requests) = mpsc::unbounded_channel();
        let requests = UnboundedReceiverStream::new(requests);
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
        let Some(answer) = self.call(server, Loss::Nothing, call)? else {
            return Ok(None);
        };
        if let Err(status) = &answer {
            ensure!(status.code() != Code::DataLoss, "{}", status.message());
        }
        if fault == LogFault::Gap && answer.is_ok() && log.len() > 10 {
            let durable = answer.as_ref().map_or(0, |durable| *durable);
            let end = i64::try_from(log.len()).unwrap_or(i64::MAX);
            ensure!(
                durable + 10 >= end,
                "a gap in the log of {attempt} was taken"
            );
        }
        Ok(Some(answer))
    }
}

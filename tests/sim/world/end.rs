//! The end of a case: faults are over, agents are healthy, time passes. Everything must become
//! terminal, no slot may be lost, and all readers must agree.

use anyhow::{anyhow, bail, ensure};
use muster_core::execution::State;
use muster_proto::v1::{
    GetExecutionRequest, ListExecutionsRequest, ReadLogRequest, read_log_response::Item,
};
use muster_tests::digest::sha256;
use tonic::Status;

use super::{
    World,
    call::{name, state},
};
use crate::{
    agent::{AGENTS, Process},
    invariant,
    op::{End, Loss},
    pod::Stage,
    seen::{Execution, Sight},
};

/// Seconds after which what is not terminal is stuck.
const PATIENCE: u32 = 90;

impl World<'_> {
    /// Ends the case.
    pub(crate) fn end(&mut self) -> anyhow::Result<()> {
        self.heal()?;
        self.revive()?;
        for second in 0.. {
            let sight = self.observer.look()?;
            let waiting = sight.values().any(|it| !it.state.is_terminal());
            if !waiting || second > PATIENCE {
                break;
            }
            self.help()?;
            self.tick()?;
        }
        // The rest of the logs is ended by the server itself.
        for _ in 0..2 {
            self.tick()?;
        }
        let sight = self.observer.look_closely()?.clone();
        self.check()?;
        invariant::at_the_end(&sight, &self.ledger).map_err(|broken| anyhow!(broken))?;
        for server in 0..self.servers.count() {
            self.readers_agree(server, &sight)?;
        }
        match self.fill {
            true => self.slots_are_free(),
            false => Ok(()),
        }
    }

    fn heal(&mut self) -> anyhow::Result<()> {
        self.hurry = 0;
        self.servers.disarm();
        for server in 0..self.servers.count() {
            self.start(server)?;
        }
        for agent in 0..AGENTS.len() {
            let last = self
                .processes
                .iter()
                .rposition(|it| it.agent == agent && !it.superseded);
            let mut index = 0;
            self.processes.retain(|it| {
                let keep = it.agent != agent || Some(index) == last;
                index += 1;
                keep
            });
            if last.is_none() {
                let process = Process::start(agent, &self.clusters[agent]);
                self.processes.push(process);
            }
        }
        for index in 0..self.processes.len() {
            self.processes[index].half_open.clear();
            self.processes[index].logs.clear();
            self.processes[index].declines = 0;
            self.network(index, true, true)?;
        }
        self.settle()
    }

    /// A process whose place another one took while it heard nothing learns that now, and ends; what keeps
    /// agents alive starts a new one.
    fn revive(&mut self) -> anyhow::Result<()> {
        for _ in 0..2 {
            self.tick()?;
        }
        for process in &mut self.processes {
            if process.superseded {
                *process = Process::start(process.agent, &self.clusters[process.agent]);
            }
        }
        self.settle()
    }

    /// Pods go on; what is paused is let go on.
    fn help(&mut self) -> anyhow::Result<()> {
        let paused: Vec<String> = self
            .observer
            .look()?
            .iter()
            .filter(|(_, it)| it.pause_wanted && !it.state.is_terminal())
            .map(|(id, _)| id.clone())
            .collect();
        for uid in paused {
            self.pause_execution(&uid, false)?;
        }
        for index in 0..self.processes.len() {
            let agent = self.processes[index].agent;
            for attempt in self.pods(index).into_keys() {
                if let Some(pod) = self.clusters[agent].get_mut(&attempt) {
                    pod.walk(End::Passed);
                }
            }
        }
        Ok(())
    }

    /// Those that get, list and read logs of a server see what is stored.
    fn readers_agree(&mut self, server: usize, sight: &Sight) -> anyhow::Result<()> {
        let Some(mut clients) = self.clients(server) else {
            bail!("no server runs");
        };
        ensure!(clients.server == server, "server {server} does not run");
        let list = ListExecutionsRequest {
            parent: "projects/default".to_owned(),
            page_size: 100,
            ..ListExecutionsRequest::default()
        };
        let mut lister = clients.executions.clone();
        let call = async move { lister.list_executions(list).await };
        let listed = self.call(server, Loss::Nothing, call)?;
        let listed = listed.ok_or_else(|| anyhow!("no list"))??.into_inner();
        let listed: Vec<_> = listed
            .executions
            .iter()
            .map(|it| (it.uid.clone(), state(it.state())))
            .collect();
        ensure!(listed.len() == sight.len(), "{} are listed", listed.len());
        for (uid, listed) in listed {
            let seen = sight.get(&uid).map(|it| it.state);
            ensure!(listed == seen, "{uid} is listed as {listed:?}, is {seen:?}");
        }
        for (uid, execution) in sight {
            let get = GetExecutionRequest { name: name(uid) };
            let mut getter = clients.executions.clone();
            let call = async move { getter.get_execution(get).await };
            let got = self.call(server, Loss::Nothing, call)?;
            let got = got.ok_or_else(|| anyhow!("no answer"))??.into_inner();
            self.told(got.execution)?;
            let read = ReadLogRequest {
                name: name(uid),
                ..ReadLogRequest::default()
            };
            let logs = &mut clients.logs;
            let log = self.call(server, Loss::Nothing, async move {
                let mut items = logs.read_log(read).await?.into_inner();
                let (mut log, mut complete) = (Vec::new(), false);
                while let Some(item) = items.message().await? {
                    match item.item {
                        Some(Item::Chunk(chunk)) => {
                            let at = usize::try_from(chunk.offset).unwrap_or(usize::MAX);
                            if at != log.len() {
                                return Err(Status::data_loss("the log is out of order"));
                            }
                            log.extend_from_slice(&chunk.data);
                        }
                        Some(Item::End(end)) => complete = end.complete,
                        Some(Item::Gap(_) | Item::Match(_) | Item::Skip(_)) | None => {}
                    }
                }
                Ok((log, complete))
            })?;
            let (log, complete) = log.ok_or_else(|| anyhow!("no log"))??;
            self.log_is_right(uid, execution, &log, complete)?;
        }
        Ok(())
    }

    fn log_is_right(
        &self,
        uid: &str,
        execution: &Execution,
        log: &[u8],
        complete: bool,
    ) -> anyhow::Result<()> {
        ensure!(
            complete == execution.log.complete,
            "readers of {uid} see a log that is complete: {complete}"
        );
        let Some(newest) = execution.attempts.last() else {
            ensure!(log.is_empty(), "{uid} never ran and has a log");
            return Ok(());
        };
        let durable = usize::try_from(newest.log_offset).unwrap_or(0);
        ensure!(
            log.len() == durable,
            "{} bytes of {uid} are read, {durable} are durable",
            log.len()
        );
        let Some(spoken) = self.ledger.attempts.get(&newest.id) else {
            ensure!(log.is_empty(), "{uid} was never heard of and has a log");
            return Ok(());
        };
        // An attempt that was given back has no pod.
        let mut printed = spoken.printed.iter();
        ensure!(
            log.is_empty() || printed.any(|printed| printed.starts_with(log)),
            "the log of {uid} is not what a pod printed"
        );
        ensure!(
            !complete || execution.log.sha256 == sha256(log),
            "the log of {uid} is complete and has another digest"
        );
        Ok(())
    }

    /// Agents get work up to what they can take.
    fn slots_are_free(&mut self) -> anyhow::Result<()> {
        let all: u32 = AGENTS.iter().map(|(_, capacity)| capacity).sum();
        for number in 0..all {
            let number = u8::try_from(number).unwrap_or(u8::MAX);
            self.submit(Some(200 + number), Loss::Nothing)?;
        }
        for _ in 0..3 {
            self.tick()?;
        }
        let held: Vec<(&str, usize)> = self
            .processes
            .iter()
            .filter_map(|it| Some((AGENTS.get(it.agent)?.0, it.held().count())))
            .collect();
        let working: usize = held.iter().map(|(_, count)| count).sum();
        ensure!(
            u32::try_from(working).is_ok_and(|working| working == all),
            "{all} executions wait, but agents hold {held:?}"
        );
        let queued = self.observer.look()?.values();
        let queued = queued.filter(|it| it.state == State::Queued).count();
        ensure!(
            queued == 0,
            "{queued} executions wait though all slots were free"
        );
        let begun = (0..self.processes.len()).flat_map(|index| self.pods(index).into_values());
        ensure!(
            begun.into_iter().all(|stage| stage == Stage::Preparing),
            "pods ran before they were told to"
        );
        self.check()
    }
}

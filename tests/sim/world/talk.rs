//! What agents and the server say to each other.

use anyhow::anyhow;
use muster_proto::v1::{
    agent_link_service_client::AgentLinkServiceClient, link_request::Message as Out,
    link_response::Message as In,
};

use super::World;
use crate::{
    client::{Authed, Bearer},
    wire::Wire,
};

/// Rounds of hearing and saying after which two who speak only of each other are stopped.
const ROUNDS: u32 = 12;
impl World<'_> {
    /// Opens a stream in the place of the one that a process has, to a server or another one that
    /// runs.
    pub(super) fn connect(
        &mut self,
        index: usize,
        server: usize,
        half_open: bool,
    ) -> anyhow::Result<()> {
        if self.processes[index].superseded {
            return Ok(());
        }
        let now = self.now();
        let agent = self.processes[index].agent;
        if let Some(mut old) = self.processes[index].wire.take()
            && half_open
        {
            // What it says now is on the way when the stream breaks.
            let words = self.processes[index].words(&self.clusters[agent], &mut self.ledger, now);
            for word in words {
                old.say(word, false);
            }
            self.processes[index].half_open.push(old);
        }
        let Some((server, link)) = self.link(agent, server) else {
            return Ok(());
        };
        let wire = Wire::open(&self.servers, server, link)?;
        self.processes[index].greet(wire, &self.ledger, now);
        self.settle()
    }

    /// An agent's way to a server or another one that runs, and which that is.
    pub(super) fn link(
        &self,
        agent: usize,
        server: usize,
    ) -> Option<(usize, AgentLinkServiceClient<Authed>)> {
        let server = self.servers.running(server)?;
        let channel = self.servers.channel(server)?;
        let token = self.template.agents.get(agent)?.clone();
        let link = AgentLinkServiceClient::with_interceptor(channel, Bearer(token));
        Some((server, link))
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

    pub(super) fn next(&mut self, index: usize) -> Option<In> {
        let process = &mut self.processes[index];
        if !process.down {
            return None;
        }
        process.wire.as_mut()?.hear()
    }

    pub(super) fn take(&mut self, index: usize, message: In) -> anyhow::Result<()> {
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
        if let (Some(report), Some(wire)) = (process.last_report(&attempt), process.wire.as_mut()) {
            wire.say(Out::Report(report), up);
        }
        self.settle()?;
        self.exchange(index)
    }
}

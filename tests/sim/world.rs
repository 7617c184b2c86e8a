//! The simulated world: servers on one database, agents and callers, and the faults between them.
//! It carries out operations one by one, and checks what must hold after each.

mod call;
mod end;
mod log;
mod stale;
mod talk;

use std::{collections::BTreeMap, time::Duration};

use anyhow::anyhow;
use muster_core::clock::Clock;

use crate::{
    agent::{AGENTS, LEASE, Process, RENEW, millis},
    client::Clients,
    database::{self, Database, Template},
    herald::Herald,
    invariant::Invariants,
    ledger::Ledger,
    observer::Observer,
    op::{End, Op},
    pod::{Cluster, Stage},
    seen::Sight,
    servers::Servers,
};

/// One second, the step of time.
const SECOND: Duration = Duration::from_secs(1);

/// A world.
pub(crate) struct World<'a> {
    template: &'a Template,
    database: Database,
    clock: Clock,
    servers: Servers,
    /// The server that operations are about.
    about: usize,
    observer: Observer,
    clusters: Vec<Cluster>,
    processes: Vec<Process>,
    ledger: Ledger,
    invariants: Invariants,
    /// Submits without a request id so far.
    anonymous: u32,
    /// Makes what pods print different.
    salt: u64,
    /// Operations after which it is waited again until the servers have come to rest.
    hurry: u8,
    /// Whether it is seen at the end that no slot is lost.
    fill: bool,
}

impl<'a> World<'a> {
    /// A world in which the servers run and agents have just started.
    pub(crate) fn begin(template: &'a Template) -> anyhow::Result<Self> {
        let database = template.copy()?;
        let clock = database::clock();
        let url = database.config(0).database_url();
        let observer = Observer::connect(&url)?;
        let herald = match template.servers {
            0 | 1 => None,
            _ => Some(Herald::connect(&url)?),
        };
        let clusters = vec![Cluster::new(); AGENTS.len()];
        let processes = clusters.iter().enumerate();
        let mut world = Self {
            template,
            database,
            servers: Servers::new(template.servers, herald),
            about: 0,
            observer,
            processes: processes
                .map(|(agent, cluster)| Process::start(agent, cluster))
                .collect(),
            clusters,
            ledger: Ledger::default(),
            invariants: Invariants::new(millis(LEASE)),
            anonymous: 0,
            salt: 0,
            hurry: 0,
            fill: false,
            clock,
        };
        for server in 0..template.servers {
            world.start(server)?;
        }
        Ok(world)
    }

    /// Carries out one operation, and checks what must hold.
    pub(crate) fn apply(&mut self, op: Op) -> anyhow::Result<()> {
        match op {
            Op::Submit { request, loss } => self.submit(request, loss)?,
            Op::Cancel {
                execution,
                force,
                loss,
            } => self.cancel(execution, force, loss)?,
            Op::Pause(execution) => self.pause(execution, true)?,
            Op::Resume(execution) => self.pause(execution, false)?,
            Op::Connect { agent, half_open } => {
                let index = self.process(agent);
                self.connect(index, self.about, half_open)?;
                self.exchange(index)?;
            }
            Op::Late(agent) => self.late(self.process(agent))?,
            Op::Break(agent) => {
                let index = self.process(agent);
                self.processes[index].wire = None;
                self.processes[index].logs.clear();
                self.settle()?;
            }
            Op::Exchange(agent) => self.exchange(self.process(agent))?,
            Op::Network { agent, up, down } => self.network(self.process(agent), up, down)?,
            Op::Restart { agent, forgets } => self.restart(self.process(agent), forgets)?,
            Op::Twin(agent) => self.twin(self.process(agent)),
            Op::Walk { agent, pod, end } => self.walk(self.process(agent), pod, end),
            Op::Vanish { agent, pod } => {
                let index = self.process(agent);
                if let Some(attempt) = self.attempt(index, pod) {
                    self.clusters[self.processes[index].agent].remove(&attempt);
                }
            }
            Op::Print { agent, pod, bytes } => self.print(self.process(agent), pod, bytes),
            Op::Relay { agent, pod, fault } => {
                let index = self.process(agent);
                if let Some(attempt) = self.attempt(index, pod) {
                    self.relay(index, &attempt, fault)?;
                }
            }
            Op::Stream { agent, pod, anew } => {
                let index = self.process(agent);
                if let Some(attempt) = self.attempt(index, pod) {
                    self.stream(index, &attempt, anew)?;
                }
            }
            Op::Hurry(operations) => self.hurry = operations + 1,
            Op::Repeat { agent, pod } => self.repeat(self.process(agent), pod)?,
            Op::Stale {
                agent,
                attempt,
                word,
            } => self.stale(self.process(agent), attempt, word)?,
            Op::Decline { agent, attempts } => {
                let index = self.process(agent);
                self.processes[index].declines = attempts;
            }
            Op::Time(seconds) => {
                for _ in 0..seconds {
                    self.tick()?;
                }
            }
            Op::Jump(seconds) => self.jump(seconds)?,
            Op::Skew { agent, minutes } => {
                let index = self.process(agent);
                self.processes[index].skew = i64::from(minutes) * 60_000;
            }
            Op::Server(number) => {
                self.about = self.servers.place(usize::from(number));
                self.servers.begin_with(self.about);
            }
            Op::Crash => {
                self.servers.crash(self.about);
                self.bury();
            }
            Op::CrashAfter {
                transactions,
                polls,
            } => {
                let (transactions, turns) = (u32::from(transactions), u32::from(polls));
                self.servers.arm(self.about, transactions, turns);
            }
            Op::Stop => {
                self.servers.stop(self.about)?;
                self.bury();
            }
            Op::Start => self.start(self.about)?,
            Op::Fill => self.fill = true,
        }
        self.hurry = self.hurry.saturating_sub(1);
        self.check()
    }

    /// Everything that is stored now.
    pub(crate) fn sight(&mut self) -> anyhow::Result<Sight> {
        Ok(self.observer.look_closely()?.clone())
    }

    /// URL of its database.
    pub(crate) fn url(&self) -> String {
        let url = self.database.config(0).database_url();
        url.replace("sqlite:///", "sqlite:/")
    }

    /// What was said, to plant a fault.
    pub(crate) const fn ledger_mut(&mut self) -> &mut Ledger {
        &mut self.ledger
    }

    /// Names of the transactions after which a server has died.
    pub(crate) fn deaths(&self) -> Vec<String> {
        self.servers.deaths()
    }

    /// Checks what must hold now.
    fn check(&mut self) -> anyhow::Result<()> {
        let sight = self.observer.look()?;
        self.invariants
            .check(sight, &self.ledger)
            .map_err(|broken| anyhow!(broken))
    }

    fn now(&self) -> i64 {
        self.clock.now().as_millisecond()
    }

    /// The process of a number.
    fn process(&self, number: u8) -> usize {
        usize::from(number) % self.processes.len()
    }

    /// One of the attempts that a process holds.
    fn attempt(&self, process: usize, number: u8) -> Option<String> {
        let held: Vec<&String> = self.processes[process].held().map(|(id, _)| id).collect();
        let index = usize::from(number).checked_rem(held.len())?;
        held.get(index).map(|attempt| (*attempt).clone())
    }

    /// A caller's way to a server or another one that runs.
    fn clients(&self, server: usize) -> Option<Clients> {
        let server = self.servers.running(server)?;
        let channel = self.servers.channel(server)?;
        Some(Clients::new(server, channel, &self.template.admin))
    }

    /// Starts a server, unless it runs.
    fn start(&mut self, server: usize) -> anyhow::Result<()> {
        let config = self.database.config(server);
        if self.servers.start(server, config, self.clock.clone())? {
            self.ledger.server_start = self.now();
        }
        self.settle()
    }

    /// Streams to servers that have died or stopped are gone.
    fn bury(&mut self) {
        for server in self.servers.take_fallen() {
            for process in &mut self.processes {
                process.wire.take_if(|wire| wire.server == server);
                process.half_open.retain(|wire| wire.server != server);
                process.logs.retain(|log| log.server != server);
            }
        }
    }

    /// Waits until nothing happens any more, unless there is no time for that.
    fn settle(&mut self) -> anyhow::Result<()> {
        if self.hurry == 0 {
            self.servers.settle()?;
        }
        self.bury();
        Ok(())
    }

    /// A second passes: timers of the servers, then agents, which connect, speak and send logs.
    fn tick(&mut self) -> anyhow::Result<()> {
        self.clock.advance(SECOND);
        self.pass()?;
        for index in 0..self.processes.len() {
            let now = self.now();
            let process = &mut self.processes[index];
            if process.superseded {
                continue;
            }
            if process.wire.is_some() && process.is_deaf(now) {
                process.wire = None;
            }
            if process.wire.is_none() && process.up && process.down {
                let server = process.next_server();
                self.connect(index, server, false)?;
            }
            self.exchange(index)?;
            self.hear_logs(index)?;
            self.relay_all(index)?;
            self.exchange(index)?;
        }
        self.check()
    }

    /// The clock jumps: longer than agents may be silent is an outage of the servers themselves.
    fn jump(&mut self, seconds: u8) -> anyhow::Result<()> {
        let time = SECOND * u32::from(seconds);
        self.clock.advance(time);
        if time > RENEW && self.servers.running(0).is_some() {
            self.ledger.server_start = self.now();
        }
        self.pass()
    }

    fn pass(&mut self) -> anyhow::Result<()> {
        self.servers.pass(SECOND)?;
        self.settle()
    }

    fn network(&mut self, index: usize, up: bool, down: bool) -> anyhow::Result<()> {
        let process = &mut self.processes[index];
        (process.up, process.down) = (up, down);
        if up && let Some(wire) = &mut process.wire {
            wire.arrive();
        }
        self.settle()
    }

    fn restart(&mut self, index: usize, forgets: bool) -> anyhow::Result<()> {
        let agent = self.processes[index].agent;
        if forgets {
            self.clusters[agent].clear();
        }
        self.processes[index] = Process::start(agent, &self.clusters[agent]);
        self.settle()
    }

    fn twin(&mut self, index: usize) {
        let agent = self.processes[index].agent;
        let same = self.processes.iter().filter(|it| it.agent == agent).count();
        if same < 2 {
            let twin = Process::start(agent, &self.clusters[agent]);
            self.processes.push(twin);
        }
    }

    fn walk(&mut self, index: usize, pod: u8, end: End) {
        let Some(attempt) = self.attempt(index, pod) else {
            return;
        };
        let process = &mut self.processes[index];
        if let Some(pod) = self.clusters[process.agent].get_mut(&attempt) {
            pod.walk(end);
            if matches!(pod.stage, Stage::Completed(_)) && pod.end == End::ShortLog {
                process.cut_log(&attempt);
            }
        }
    }

    fn print(&mut self, index: usize, pod: u8, bytes: u16) {
        let Some(attempt) = self.attempt(index, pod) else {
            return;
        };
        self.salt += 1;
        let cluster = &mut self.clusters[self.processes[index].agent];
        if let Some(pod) = cluster.get_mut(&attempt) {
            pod.print(self.salt, bytes);
            let spoken = self.ledger.attempts.entry(attempt).or_default();
            if let Some(printed) = spoken.printed.get_mut(pod.incarnation) {
                printed.clone_from(&pod.log);
            }
        }
    }

    /// Attempts with their pods of one process.
    fn pods(&self, index: usize) -> BTreeMap<String, Stage> {
        let process = &self.processes[index];
        let cluster = &self.clusters[process.agent];
        process
            .held()
            .filter_map(|(id, _)| Some((id.clone(), cluster.get(id)?.stage)))
            .collect()
    }
}

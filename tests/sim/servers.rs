//! The servers of one database, side by side: each has lives of its own ([`Life`]), and all that
//! live go on by turns on this thread. So one that waits for a lock of another one gets it.

use std::{
    future::Future,
    pin::pin,
    task::Poll,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow, ensure};
use muster_core::clock::Clock;
use muster_server::{Config, Server};
use tonic::transport::{Channel, Endpoint};

use crate::{crash::Crashed, herald::Herald, life::Life, measured::Measured};

/// Turns without a statement on the database after which no message is on its way any more.
const STILL: u32 = 12;
/// How long something may take in real time before a server counts as hanging.
const PATIENCE: Duration = Duration::from_secs(30);
/// How far timers move while it is waited for the end of everything.
const NAP: Duration = Duration::from_millis(1);
/// The same with others: a server gathers words for them for 5 ms.
const NAP_WITH_OTHERS: Duration = Duration::from_millis(6);
/// How far timers move at once while a server stops: its deadlines are seconds.
const STOP: Duration = Duration::from_millis(100);

/// How a piece of work ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome<T> {
    /// It is done.
    Done(T),
    /// The caller went away before it was.
    Left,
}

/// The servers.
pub(crate) struct Servers {
    seats: Vec<Seat>,
    /// Which one has the first turn.
    first: usize,
    /// Those that have died or stopped, until somebody asks.
    fallen: Vec<usize>,
    herald: Option<Herald>,
    /// How often anything was said to the others when all had heard all.
    spread: u64,
}

/// The place of a server.
#[derive(Default)]
struct Seat {
    measured: Measured,
    life: Option<Life>,
}

impl Servers {
    /// Places for servers, of which none runs yet. With more than one, `herald` knows when each has
    /// heard the others.
    pub(crate) fn new(count: usize, herald: Option<Herald>) -> Self {
        Self {
            seats: (0..count).map(|_| Seat::default()).collect(),
            first: 0,
            fallen: Vec::new(),
            herald,
            spread: 0,
        }
    }

    /// How many there can be.
    pub(crate) const fn count(&self) -> usize {
        self.seats.len()
    }

    /// The place of a number.
    pub(crate) fn place(&self, number: usize) -> usize {
        number.checked_rem(self.seats.len()).unwrap_or(0)
    }

    /// The server of a number, or when that does not run the next one that does: where a load
    /// balancer leads.
    pub(crate) fn running(&self, number: usize) -> Option<usize> {
        let places = (0..self.count()).map(|more| self.place(number + more));
        let mut running = places.filter(|place| self.is_running(*place));
        running.next()
    }

    pub(crate) fn is_running(&self, place: usize) -> bool {
        self.life(place).is_some()
    }

    /// The connection of everybody to a server.
    pub(crate) fn channel(&self, place: usize) -> Option<Channel> {
        self.life(place)?.channel.clone()
    }

    /// Those that have died or stopped since the last call.
    pub(crate) fn take_fallen(&mut self) -> Vec<usize> {
        std::mem::take(&mut self.fallen)
    }

    /// A server has the first turn from now on.
    pub(crate) const fn begin_with(&mut self, place: usize) {
        self.first = place;
    }

    /// A server dies after this many more transactions, from 1, and this many of its turns.
    pub(crate) fn arm(&self, place: usize, transactions: u32, turns: u32) {
        if let Some(seat) = self.seats.get(place) {
            seat.measured.point.arm(transactions, turns);
        }
    }

    /// All live on.
    pub(crate) fn disarm(&self) {
        for seat in &self.seats {
            seat.measured.point.disarm();
        }
    }

    /// Names of the transactions after which a server has died.
    pub(crate) fn deaths(&self) -> Vec<String> {
        let seats = self.seats.iter();
        seats
            .flat_map(|seat| seat.measured.point.deaths())
            .collect()
    }

    /// Starts a server, unless it runs. `false` when it runs, or its crash point lies in the start.
    pub(crate) fn start(
        &mut self,
        place: usize,
        config: Config,
        clock: Clock,
    ) -> anyhow::Result<bool> {
        let seat = self.seats.get_mut(place).context("no such server")?;
        if seat.life.is_some() {
            return Ok(false);
        }
        let point = std::sync::Arc::clone(&seat.measured.point);
        let life = seat.life.insert(Life::begin(&seat.measured)?);
        // On a task, so that a crash unwinds no further than to there.
        let start = life.spawn(Server::start(config, clock, None))?;
        let server = match self.run(place, None, start)? {
            Ok(Outcome::Done(Ok(server))) => server.context("the server does not start")?,
            Ok(Outcome::Done(Err(panic))) if panic.is_panic() && point.poll().is_ok() => {
                return Err(anyhow!("the start panicked: {panic}"));
            }
            Ok(_) | Err(Crashed) => {
                self.crash(place);
                return Ok(false);
            }
        };
        let url = format!("http://{}", server.address());
        let endpoint = Endpoint::from_shared(url)?.tcp_nodelay(true);
        let Some(life) = self.life_mut(place) else {
            return Ok(false);
        };
        life.server = Some(server);
        let connect = life.spawn(async move { endpoint.connect().await })?;
        let channel = match self.run(place, None, connect)? {
            Ok(Outcome::Done(channel)) => channel??,
            Ok(Outcome::Left) | Err(Crashed) => {
                self.crash(place);
                return Ok(false);
            }
        };
        if let Some(life) = self.life_mut(place) {
            life.channel = Some(channel);
        }
        Ok(self.is_running(place))
    }

    /// Stops a server in order, as for an upgrade.
    pub(crate) fn stop(&mut self, place: usize) -> anyhow::Result<()> {
        let Some(life) = self.life_mut(place) else {
            return Ok(());
        };
        let server = life.server.take().context("it has been stopped")?;
        let mut stop = pin!(server.stop());
        let began = Instant::now();
        loop {
            for _ in 0..STILL {
                match self.poll(place, stop.as_mut())? {
                    Ok(Poll::Pending) => {}
                    Ok(Poll::Ready(())) | Err(Crashed) => {
                        self.crash(place);
                        return Ok(());
                    }
                }
            }
            if let Some(life) = self.life(place) {
                let moved = life.advance(STOP)?;
                self.note(place, moved);
            }
            ensure!(began.elapsed() < PATIENCE, "the server does not stop");
        }
    }

    /// A server is dead, if it was not already.
    pub(crate) fn crash(&mut self, place: usize) {
        if let Some(seat) = self.seats.get_mut(place) {
            seat.measured.point.disarm();
            if seat.life.take().is_some() {
                self.fallen.push(place);
            }
        }
    }

    /// Puts a task of a client on the runtime of a server.
    pub(crate) fn spawn(
        &self,
        place: usize,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> anyhow::Result<()> {
        let life = self.life(place).context("it does not run")?;
        life.spawn(work).map(drop)
    }

    /// Runs a piece of work on the runtime of a server, until its end or until `leave_after` more
    /// transactions have ended there.
    pub(crate) fn run<T>(
        &mut self,
        place: usize,
        leave_after: Option<u32>,
        work: impl Future<Output = T>,
    ) -> anyhow::Result<Result<Outcome<T>, Crashed>> {
        let seat = self.seats.get(place).context("no such server")?;
        let point = std::sync::Arc::clone(&seat.measured.point);
        let leave_at = leave_after.map(|more| point.ended() + more);
        let mut work = pin!(work);
        let began = Instant::now();
        let mut still = 0;
        loop {
            match self.poll(place, work.as_mut())? {
                Err(Crashed) => return Ok(Err(Crashed)),
                Ok(Poll::Ready(done)) => return Ok(Ok(Outcome::Done(done))),
                Ok(Poll::Pending) => {}
            }
            if leave_at.is_some_and(|at| point.ended() >= at) {
                return Ok(Ok(Outcome::Left));
            }
            still = if self.are_at_rest() { still + 1 } else { 0 };
            if still == 2 * STILL && self.is_born(place) {
                // It waits for a timer: a transaction that is tried again after a pause.
                self.go_on(Some(NAP))?;
                still = 0;
            }
            ensure!(began.elapsed() < PATIENCE, "the server does not answer");
            std::thread::yield_now();
        }
    }

    /// Goes on until nothing happens any more without a timer or a message, and each server has
    /// heard the others.
    pub(crate) fn settle(&mut self) -> anyhow::Result<()> {
        self.rest()?;
        while self.hear_each_other()? {
            self.rest()?;
        }
        Ok(())
    }

    /// Moves the timers of all.
    pub(crate) fn pass(&mut self, time: Duration) -> anyhow::Result<()> {
        for place in self.order() {
            if let Some(life) = self.life(place) {
                let passed = life.advance(time)?;
                self.note(place, passed);
            }
        }
        Ok(())
    }

    fn rest(&mut self) -> anyhow::Result<()> {
        let nap = match self.count() {
            0 | 1 => NAP,
            _ => NAP_WITH_OTHERS,
        };
        let began = Instant::now();
        let mut still = 0;
        while still < 2 * STILL && self.running(0).is_some() {
            let all_wait = still % STILL == STILL - 1;
            self.go_on(all_wait.then_some(nap))?;
            if self.are_at_rest() {
                still += 1;
            } else {
                still = 0;
                std::thread::yield_now();
            }
            ensure!(
                began.elapsed() < PATIENCE,
                "the servers do not come to rest"
            );
        }
        Ok(())
    }

    /// Waits until each has heard what the others have said. `false` when that was nothing.
    fn hear_each_other(&mut self) -> anyhow::Result<bool> {
        let said = self.seats.iter().map(|seat| seat.measured.said()).sum();
        let deaf = |seat: &Seat| seat.life.is_some() && seat.measured.marks() == 0;
        let news = said != self.spread || self.seats.iter().any(deaf);
        let Some(mut herald) = self.herald.take_if(|_| news) else {
            return Ok(false);
        };
        self.spread = said;
        let before: Vec<u64> = self.seats.iter().map(|it| it.measured.marks()).collect();
        let heard = herald.mark(|| {
            self.go_on(None)?;
            let mut seats = self.seats.iter().zip(&before);
            Ok(seats.all(|(seat, before)| seat.life.is_none() || seat.measured.marks() > *before))
        });
        self.herald = Some(herald);
        heard.map(|()| true)
    }

    /// One turn of a server with a piece of work, then one of each of the others.
    fn poll<T>(
        &mut self,
        place: usize,
        work: std::pin::Pin<&mut impl Future<Output = T>>,
    ) -> anyhow::Result<Result<Poll<T>, Crashed>> {
        let Some(life) = self.life(place) else {
            return Ok(Err(Crashed));
        };
        let turn = life.poll(work)?;
        let dead = turn.is_err();
        if dead {
            self.crash(place);
        }
        if matches!(turn, Ok(Poll::Pending)) {
            for other in self.order().filter(|other| *other != place) {
                self.take_turn(other, None)?;
            }
        }
        Ok(turn)
    }

    /// One turn of each.
    fn go_on(&mut self, nap: Option<Duration>) -> anyhow::Result<()> {
        for place in self.order() {
            self.take_turn(place, nap)?;
        }
        Ok(())
    }

    fn take_turn(&mut self, place: usize, nap: Option<Duration>) -> anyhow::Result<()> {
        if let Some(life) = self.life(place) {
            let turn = match nap {
                Some(time) => life.nap(time)?,
                None => life.go_on()?,
            };
            self.note(place, turn);
        }
        Ok(())
    }

    fn note(&mut self, place: usize, turn: Result<(), Crashed>) {
        if turn.is_err() {
            self.crash(place);
        }
    }

    /// All places, in the order of turns.
    fn order(&self) -> impl Iterator<Item = usize> + use<> {
        let (first, count) = (self.first, self.count());
        (0..count).map(move |more| (first + more) % count)
    }

    fn are_at_rest(&self) -> bool {
        let mut lives = self.seats.iter().filter_map(|seat| seat.life.as_ref());
        lives.all(Life::is_at_rest)
    }

    /// Whether a server runs that has started.
    fn is_born(&self, place: usize) -> bool {
        self.life(place).is_some_and(|life| life.channel.is_some())
    }

    fn life(&self, place: usize) -> Option<&Life> {
        self.seats.get(place)?.life.as_ref()
    }

    fn life_mut(&mut self, place: usize) -> Option<&mut Life> {
        self.seats.get_mut(place)?.life.as_mut()
    }
}

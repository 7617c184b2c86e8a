//! One life of a server: a runtime of its own with the real server on it, and one connection over
//! loopback for everybody who speaks to it.
//!
//! Timers stand still but when the simulation moves them, so the server's sweeps run when they
//! are told to. A crash drops the runtime: every task ends at the await where it is, nothing is
//! flushed, connections break.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow};
use muster_core::clock::Clock;
use muster_server::{Config, Server};
use tokio::runtime::{Builder, Runtime};
use tonic::transport::{Channel, Endpoint};

use crate::crash::{CrashPoint, Crashed};

/// Polls without a statement on the database after which no message is on its way any more.
const STILL: u32 = 12;
/// How long something may take in real time before the server counts as hanging.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server that runs.
pub(crate) struct Life {
    runtime: Option<Runtime>,
    server: Option<Server>,
    channel: Channel,
    point: Arc<CrashPoint>,
}

/// How a piece of work ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome<T> {
    /// It is done.
    Done(T),
    /// The caller went away before it was.
    Left,
}

impl Life {
    /// Starts a server. [`Crashed`] when the crash point lies in the start.
    pub(crate) fn begin(
        config: Config,
        clock: Clock,
        point: &Arc<CrashPoint>,
    ) -> anyhow::Result<Result<Self, Crashed>> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()?;
        // On a task, so that a crash unwinds no further than to there.
        let start = runtime.spawn(Server::start(config, clock, None));
        let started = drive(&runtime, point, None, start)?;
        let server = match started {
            Ok(Outcome::Done(Ok(server))) => server.context("the server does not start")?,
            Ok(Outcome::Done(Err(panic))) if panic.is_panic() && point.poll().is_ok() => {
                return Err(anyhow!("the start panicked: {panic}"));
            }
            Ok(_) | Err(Crashed) => {
                runtime.shutdown_background();
                return Ok(Err(Crashed));
            }
        };
        let url = format!("http://{}", server.address());
        let endpoint = Endpoint::from_shared(url)?.tcp_nodelay(true);
        let connect = runtime.spawn(async move { endpoint.connect().await });
        let channel = match drive(&runtime, point, None, connect)? {
            Ok(Outcome::Done(channel)) => channel??,
            Ok(Outcome::Left) | Err(Crashed) => {
                drop(server);
                runtime.shutdown_background();
                return Ok(Err(Crashed));
            }
        };
        Ok(Ok(Self {
            runtime: Some(runtime),
            server: Some(server),
            channel,
            point: Arc::clone(point),
        }))
    }

    /// The connection of everybody.
    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Runs a piece of work on the runtime, until its end or until `leave_after` more transactions
    /// have ended.
    pub(crate) fn run<T>(
        &self,
        leave_after: Option<u32>,
        work: impl Future<Output = T>,
    ) -> anyhow::Result<Result<Outcome<T>, Crashed>> {
        let leave_at = leave_after.map(|more| self.point.ended() + more);
        drive(self.runtime()?, &self.point, leave_at, work)
    }

    /// Puts a task of a client on the runtime.
    pub(crate) fn spawn(
        &self,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> anyhow::Result<()> {
        self.runtime()?.spawn(work);
        Ok(())
    }

    /// Goes on until nothing happens any more without a timer or a message.
    pub(crate) fn settle(&self) -> anyhow::Result<Result<(), Crashed>> {
        let (runtime, point) = (self.runtime()?, &self.point);
        let server = self.server.as_ref().context("it has been stopped")?;
        let began = Instant::now();
        runtime.block_on(async {
            let mut still = 0;
            while still < 2 * STILL {
                if point.poll().is_err() {
                    return Ok(Err(Crashed));
                }
                if still % STILL == STILL - 1 {
                    // Fires when all tasks wait, those that write files too.
                    tokio::time::sleep(Duration::from_millis(1)).await;
                } else {
                    tokio::task::yield_now().await;
                }
                if server.is_at_rest() {
                    still += 1;
                } else {
                    still = 0;
                    std::thread::yield_now();
                }
                anyhow::ensure!(
                    began.elapsed() < PATIENCE,
                    "the server does not come to rest"
                );
            }
            Ok(Ok(()))
        })
    }

    /// Moves the timers.
    pub(crate) fn pass(&self, time: Duration) -> anyhow::Result<Result<(), Crashed>> {
        self.runtime()?.block_on(tokio::time::advance(time));
        self.settle()
    }

    /// Stops the server in order, as for an upgrade.
    pub(crate) fn stop(mut self) -> anyhow::Result<Result<(), Crashed>> {
        let server = self.server.take().context("it has been stopped")?;
        let mut stop = pin!(server.stop());
        let runtime = self.runtime()?;
        // Its deadlines are timers: they move on as it does.
        for _ in 0..200 {
            let step = poll_fn(|cx| Poll::Ready(stop.as_mut().poll(cx)));
            match drive(runtime, &self.point, None, step)? {
                Ok(Outcome::Done(Poll::Ready(()))) => return Ok(Ok(())),
                Ok(_) => {}
                Err(Crashed) => return Ok(Err(Crashed)),
            }
            for _ in 0..STILL {
                let rest = drive(runtime, &self.point, None, tokio::task::yield_now())?;
                if rest.is_err() {
                    return Ok(Err(Crashed));
                }
            }
            runtime.block_on(tokio::time::advance(Duration::from_millis(100)));
        }
        Err(anyhow!("the server does not stop"))
    }

    fn runtime(&self) -> anyhow::Result<&Runtime> {
        self.runtime.as_ref().context("it is over")
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        // The server would stop in order when it is dropped, on tasks that do not run any more.
        self.server = None;
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Runs the runtime until the work is done, the server is dead, or `leave_at` transactions have
/// ended. It is never idle meanwhile, so no timer moves by itself.
fn drive<T>(
    runtime: &Runtime,
    point: &CrashPoint,
    leave_at: Option<u32>,
    work: impl Future<Output = T>,
) -> anyhow::Result<Result<Outcome<T>, Crashed>> {
    let began = Instant::now();
    runtime.block_on(async {
        let mut work = pin!(work);
        poll_fn(|cx| {
            if point.poll().is_err() {
                return Poll::Ready(Ok(Err(Crashed)));
            }
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(Ok(Ok(Outcome::Done(done))));
            }
            if leave_at.is_some_and(|at| point.ended() >= at) {
                return Poll::Ready(Ok(Ok(Outcome::Left)));
            }
            if began.elapsed() > PATIENCE {
                return Poll::Ready(Err(anyhow!("the server does not answer")));
            }
            cx.waker().wake_by_ref();
            std::thread::yield_now();
            Poll::Pending
        })
        .await
    })
}

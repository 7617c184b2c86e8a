//! One life of a server: a runtime of its own with the real server on it, and one connection over
//! loopback for everybody who speaks to it.
//!
//! It goes on by turns and only then. Timers stand still but when the simulation moves them, so the
//! server's sweeps run when they are told to. A crash drops the runtime: every task ends at the
//! await where it is, nothing is flushed, connections break.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
    time::Duration,
};

use anyhow::Context as _;
use muster_server::Server;
use tokio::{
    runtime::{Builder, Runtime},
    task::JoinHandle,
};
use tonic::transport::Channel;

use crate::{crash::Crashed, measured::Measured};

/// A server that runs, or is about to.
pub(crate) struct Life {
    runtime: Option<Runtime>,
    measured: Measured,
    pub(crate) server: Option<Server>,
    pub(crate) channel: Option<Channel>,
}

impl Life {
    /// A runtime for a server.
    pub(crate) fn begin(measured: &Measured) -> anyhow::Result<Self> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()?;
        Ok(Self {
            runtime: Some(runtime),
            measured: measured.clone(),
            server: None,
            channel: None,
        })
    }

    /// Puts a task on the runtime.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> anyhow::Result<JoinHandle<T>> {
        Ok(self.runtime()?.spawn(work))
    }

    /// Whether nothing is read from or written to the database now.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.server.as_ref().is_none_or(Server::is_at_rest)
    }

    /// One turn: a piece of work, and every task that can go on. It is never idle, so no timer
    /// moves by itself.
    pub(crate) fn poll<T>(
        &self,
        mut work: Pin<&mut impl Future<Output = T>>,
    ) -> anyhow::Result<Result<Poll<T>, Crashed>> {
        self.turn(async move {
            let done = poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await;
            if done.is_pending() {
                tokio::task::yield_now().await;
            }
            done
        })
    }

    /// One turn without anything else.
    pub(crate) fn go_on(&self) -> anyhow::Result<Result<(), Crashed>> {
        self.turn(tokio::task::yield_now())
    }

    /// Goes on until all tasks wait, those that write files too, and until `time` has passed for
    /// timers.
    pub(crate) fn nap(&self, time: Duration) -> anyhow::Result<Result<(), Crashed>> {
        self.turn(async move { tokio::time::sleep(time).await })
    }

    /// Moves the timers.
    pub(crate) fn advance(&self, time: Duration) -> anyhow::Result<Result<(), Crashed>> {
        self.turn(tokio::time::advance(time))
    }

    fn turn<T>(&self, work: impl Future<Output = T>) -> anyhow::Result<Result<T, Crashed>> {
        let runtime = self.runtime()?;
        if self.measured.point.poll().is_err() {
            return Ok(Err(Crashed));
        }
        let done = metrics::with_local_recorder(&self.measured, || runtime.block_on(work));
        Ok(Ok(done))
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

//! Follows a run to its end: shows what comes, and turns interruptions into cancels.

use std::time::{Duration, Instant};

use futures::{
    FutureExt as _, StreamExt as _,
    future::{LocalBoxFuture, pending},
    stream::FuturesUnordered,
};
use muster_proto::v1::Execution;
use tokio::time;

use crate::{
    client::Client,
    command::cancel,
    embedded::LocalAgent,
    error::Error,
    follow::{Follower, Update, What, is_terminal},
    signal::Interruptions,
    terminal::Style,
    view::{LogProof, View},
};

use super::space::Space;

/// How often the status line is drawn.
const TICK: Duration = Duration::from_millis(250);
/// How long a forced end may take before the command leaves.
const FORCED_PATIENCE: Duration = Duration::from_secs(15);

/// How it ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// The last version.
    pub(super) execution: Execution,
    /// What is known of the log.
    pub(super) proof: LogProof,
    /// The user interrupted it.
    pub(super) interrupted: bool,
    /// Twice.
    pub(super) forced: bool,
}

/// Follows the run of `view` to its end.
pub(super) async fn watch(
    client: &Client,
    mut view: View,
    agent: &mut Option<LocalAgent>,
    mut space: Option<Space>,
    interruptions: &mut Interruptions,
    interrupted: bool,
) -> Result<Ended, Error> {
    let name = view.execution().name.clone();
    let mut follower = Follower::start(client, &name, What::StatesAndLog);
    let mut stop = Stop::new(client, &name);
    if interrupted {
        stop.ask(&mut view);
    }
    let mut ticks = time::interval(TICK);
    ticks.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            update = follower.next() => match update {
                None => break,
                Some(update) => show(&mut view, update)?,
            },
            _ = ticks.tick() => {
                let now = Instant::now();
                if let Some(text) = space.as_mut().and_then(|space| space.look(now)) {
                    view.warning(&text);
                }
                view.tick(now);
            }
            () = interruptions.next() => {
                if stop.asked >= 2 {
                    break;
                }
                stop.ask(&mut view);
            }
            failed = stop.progress() => match failed {
                Some(error) => view.remark(Style::Red, &format!("can not cancel: {error}")),
                None => break,
            },
            error = ended(agent) => return Err(error),
        }
    }
    let (execution, proof) = view.close();
    if !is_terminal(execution.state()) && stop.asked < 2 {
        return Err(Error::Corrupt("the server stopped telling".to_owned()));
    }
    Ok(Ended {
        execution,
        proof,
        interrupted: stop.asked > 0,
        forced: stop.asked >= 2,
    })
}

fn show(view: &mut View, update: Update) -> Result<(), Error> {
    match update {
        Update::Execution(execution) => view.update(*execution, Instant::now()),
        Update::Chunk(chunk) => view.chunk(chunk, Instant::now()),
        Update::Gap(gap) => view.gap(&gap),
        Update::LogEnd(end) => view.end(end),
        Update::Disconnected(cause) => view.remark(
            Style::Yellow,
            &format!("the connection is lost ({cause}); the run goes on, trying again"),
        ),
        Update::Reconnected => view.remark(Style::Yellow, "connected again"),
        Update::Failed(error) => return Err(error),
    }
    Ok(())
}

/// Returns when the agent of this process ends by itself, which is an error.
async fn ended(agent: &mut Option<LocalAgent>) -> Error {
    match agent {
        Some(agent) => agent.ended().await,
        None => std::future::pending().await,
    }
}

/// The cancels of an interrupted run.
struct Stop {
    client: Client,
    name: String,
    asked: u32,
    calls: FuturesUnordered<LocalBoxFuture<'static, Result<(), Error>>>,
    leave: Option<time::Instant>,
}

impl Stop {
    fn new(client: &Client, name: &str) -> Self {
        Self {
            client: client.clone(),
            name: name.to_owned(),
            asked: 0,
            calls: FuturesUnordered::new(),
            leave: None,
        }
    }

    /// The user interrupted once more.
    fn ask(&mut self, view: &mut View) {
        self.asked += 1;
        let force = self.asked > 1;
        if force {
            view.remark(Style::Yellow, "killing everything");
            self.leave = Some(time::Instant::now() + FORCED_PATIENCE);
        } else {
            let text = "canceling: `after` steps still run; interrupt again to kill everything";
            view.remark(Style::Yellow, text);
        }
        let (client, name) = (self.client.clone(), self.name.clone());
        let call = async move {
            cancel::cancel(&client, name, force, "interrupted by the user")
                .await
                .map(drop)
        };
        self.calls.push(call.boxed_local());
    }

    /// Returns the error of a cancel that failed, or nothing when a forced end takes too long.
    async fn progress(&mut self) -> Option<Error> {
        let leave = self.leave;
        let patience = async {
            match leave {
                Some(leave) => time::sleep_until(leave).await,
                None => pending().await,
            }
        };
        let failed = async {
            while let Some(done) = self.calls.next().await {
                if let Err(error) = done {
                    return error;
                }
            }
            pending().await
        };
        tokio::select! {
            error = failed => Some(error),
            () = patience => None,
        }
    }
}

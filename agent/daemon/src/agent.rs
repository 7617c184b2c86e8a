//! A running agent: starts its parts in order and stops them in order.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use muster_core::id::SessionId;
use tokio::{
    sync::{oneshot, watch},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Config, Error,
    attempt::{Past, supervise::supervise},
    backend::{Backend, Found},
    backoff::Backoff,
    context::Context,
    journal::{self, Entry, Journal},
    lease::Leases,
    link, relay,
};

/// How long a stop may take.
const STOP_LIMIT: Duration = Duration::from_secs(15);

/// A running agent. Dropping it stops nothing in an orderly way; call [`stop`](Self::stop).
#[derive(Debug)]
pub struct Agent {
    stop: CancellationToken,
    end: oneshot::Receiver<Result<(), Error>>,
}

impl Agent {
    /// Starts an agent in the background. It connects, and reconnects, by itself.
    ///
    /// # Errors
    ///
    /// When a setting is wrong, the backend can not be used or the door for conductors can not be
    /// opened. That the server can not be reached is no error: it may come back.
    pub async fn start(config: Config) -> Result<Self, Error> {
        config.validate()?;
        let (backend, listener) = Backend::open(&config).await?;
        // Before anything is looked for: from now on no earlier process can begin more.
        let journal = open_journal(&config).await?;
        let context = Arc::new(Context {
            config,
            session: SessionId::generate(),
            attempts: Arc::default(),
            journal: Arc::new(journal),
            leases: Leases::new(),
            backend,
            uplink: watch::Sender::new(None),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        });
        let (done, end) = oneshot::channel();
        let stop = context.stop.clone();
        let tasks = context.tasks.clone();
        tasks.spawn(async move {
            let result = tokio::select! {
                () = context.stop.cancelled() => Ok(()),
                error = serve(&context, listener) => Err(error),
            };
            context.backend.close(&context.attempts).await;
            context.stop.cancel();
            context.tasks.close();
            // The receiver may be gone: then nobody asks.
            let _unasked = done.send(result);
        });
        Ok(Self { stop, end })
    }

    /// Waits until the agent ends by itself, which it does only for an error that no retry cures.
    ///
    /// # Errors
    ///
    /// That error.
    pub async fn ended(&mut self) -> Result<(), Error> {
        (&mut self.end).await.unwrap_or(Ok(()))
    }

    /// Stops the agent. Attempts go on without it, unless the agent is embedded in a command.
    ///
    /// # Errors
    ///
    /// The error for which it had ended by itself before.
    pub async fn stop(mut self) -> Result<(), Error> {
        self.stop.cancel();
        timeout(STOP_LIMIT, self.ended())
            .await
            .unwrap_or_else(|_elapsed| {
                tracing::warn!("the agent did not stop in time");
                Ok(())
            })
    }
}

/// Runs an agent until `stop` is cancelled.
///
/// # Errors
///
/// As [`Agent::start`] and [`Agent::ended`].
pub async fn run(config: Config, stop: CancellationToken) -> Result<(), Error> {
    let mut agent = Agent::start(config).await?;
    tokio::select! {
        result = agent.ended() => return result,
        () = stop.cancelled() => {}
    }
    agent.stop().await
}

/// Serves conductors and the server until an error that no retry cures.
///
/// The attempts of an earlier process are found first, however long that takes: to the server an
/// attempt that this agent does not name is one whose pod is gone.
async fn serve(context: &Arc<Context>, listener: relay::Listener) -> Error {
    find(context).await;
    context.backend.watch(context);
    context.spawn(relay::serve(Arc::clone(context), listener));
    let error = tokio::select! {
        error = link::run(context) => error,
        error = journal::keep(context) => error,
    };
    // Whatever is about to begin does not.
    context.leases.close();
    error
}

/// Opens the journal of the place where attempts run.
async fn open_journal(config: &Config) -> Result<Journal, Error> {
    let Some(path) = config.journal()? else {
        return Ok(Journal::volatile());
    };
    let open = tokio::task::spawn_blocking(move || Journal::open(&path));
    // It does not panic, and is not cancelled.
    open.await.unwrap_or_else(|_gone| Ok(Journal::volatile()))
}

/// Finds the attempts of an earlier process.
async fn find(context: &Arc<Context>) {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(3));
    let found = loop {
        match context.backend.list().await {
            Ok(found) => break found,
            Err(error) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "cannot list attempts yet, so no work is taken"
            ),
        }
        backoff.wait().await;
    };
    let mut journal: BTreeMap<_, _> = context
        .journal
        .entries()
        .into_iter()
        .map(|entry| (entry.attempt, entry))
        .collect();
    for found in found {
        let written = journal.remove(&found.attempt);
        resume(context, found, Past::Found, written.as_ref());
    }
    for entry in journal.into_values() {
        let past = if entry.begun {
            Past::Unsure
        } else {
            Past::None
        };
        let found = Found {
            attempt: entry.attempt,
            epoch: entry.epoch,
            begun: entry.begun,
        };
        resume(context, found, past, Some(&entry));
    }
}

/// Goes on with an attempt of an earlier process.
fn resume(context: &Arc<Context>, found: Found, past: Past, written: Option<&Entry>) {
    let (attempt, new) = context.attempts.add(found.attempt, found.epoch, past);
    if !new {
        return;
    }
    if let Some(written) = written {
        attempt.recall(written);
    }
    if found.begun
        && let Err(error) = context.journal.found(attempt.entry())
    {
        // It runs; that it does is not new to the backend.
        tracing::warn!(attempt = %attempt.id, ?error, "an attempt that runs is not in the journal");
    }
    tracing::info!(attempt = %attempt.id, ?past, "found an attempt of an earlier process");
    context.spawn(supervise(Arc::clone(context), attempt));
}

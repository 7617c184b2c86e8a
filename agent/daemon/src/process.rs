//! The process backend: a conductor per attempt as a process of this machine, in a directory of
//! its own.
//!
//! How the conductor sets steps apart is its own business; here it is started, found again after
//! a restart, and its directory removed.

mod conductor;
mod directory;
mod ineffective;
mod spawner;

use std::{path::PathBuf, process::Stdio, sync::Arc, time::Duration};

use muster_core::id::{AttemptId, SessionId};
use tokio::{
    process::Command,
    time::{interval, sleep, timeout},
};

use self::{conductor::Conductor, directory::Directory, spawner::Spawner};
use crate::{
    Error,
    attempt::{Attempt, Work},
    attempts::Attempts,
    backend::{Denied, Found, Removal},
    begin::{Permit, begin},
    config,
    context::Context,
    key::AttemptKey,
    relay::Listener,
};

/// How often leftovers are looked for.
const SWEEP: Duration = Duration::from_secs(60);
/// How long a conductor that is done may take to end by itself.
const GRACE: Duration = Duration::from_secs(3);
/// How long one that is asked to end may take.
const KILL_GRACE: Duration = Duration::from_secs(2);
/// How long what a dead conductor has sent may take to be read.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// The process backend.
pub(crate) struct Process {
    settings: config::Process,
    key: AttemptKey,
    socket: PathBuf,
    spawner: Spawner,
    owner: Conductor,
}

impl Process {
    /// Makes the directory and the socket.
    pub(crate) fn open(settings: &config::Process) -> Result<(Self, Listener), Error> {
        let mut settings = settings.clone();
        settings.directory = directory::make_root(&settings.directory)?;
        let name = if settings.embedded {
            format!("agent-{}.sock", SessionId::generate())
        } else {
            "agent.sock".to_owned()
        };
        let socket = settings.directory.join(name);
        let key = key(&settings)?;
        let listener = Listener::unix(&socket)?;
        let spawner = Spawner::start().map_err(|source| Error::File {
            action: "start processes in",
            path: settings.directory.clone(),
            source,
        })?;
        let backend = Self {
            settings,
            key,
            socket,
            spawner,
            owner: Conductor::this(),
        };
        Ok((backend, listener))
    }

    /// From which the tokens of its attempts follow.
    pub(crate) const fn key(&self) -> &AttemptKey {
        &self.key
    }

    fn directory(&self, attempt: AttemptId) -> Directory {
        Directory::new(&self.settings.directory, attempt)
    }

    /// The attempts of an earlier process.
    pub(crate) fn list(&self) -> Result<Vec<Found>, Error> {
        if self.settings.embedded {
            return Ok(Vec::new());
        }
        let all = directory::all(&self.settings.directory)?;
        let found = all.iter().filter_map(|directory| {
            let mark = directory.mark()?;
            (!mark.embedded).then(|| Found {
                attempt: directory.attempt,
                epoch: mark.epoch,
                begun: directory.conductor().is_some(),
            })
        });
        Ok(found.collect())
    }

    /// Whether the conductor of an attempt runs, or is known to have run.
    pub(crate) fn has(&self, attempt: AttemptId) -> bool {
        let directory = self.directory(attempt);
        directory.conductor().is_some() || Conductor::find(&directory.path).is_some()
    }

    /// Starts the conductor of an attempt, unless it runs.
    pub(crate) async fn start(
        &self,
        context: &Arc<Context>,
        attempt: &Arc<Attempt>,
        work: &Work,
    ) -> Result<(), Denied> {
        let denied = |error: std::io::Error| Denied {
            reason: "CONDUCTOR_START",
            message: format!(
                "the conductor of {} could not be started: {error}",
                work.display_name
            ),
        };
        let directory = self.directory(attempt.id);
        if directory.conductor().is_some() {
            // It runs, or has run: its watcher says which.
            return Ok(());
        }
        if directory.mark().is_some()
            && let Some(running) = Conductor::find(&directory.path)
        {
            // An earlier process was killed between starting it and writing that down.
            directory.record(running).map_err(denied)?;
            self.watch_found(context, attempt, &directory);
            return Ok(());
        }
        attempt.warn(ineffective::settings(&work.plan));
        let address = work.plan.service.is_some().then(|| loopback(attempt.id));
        if let Some(address) = &address {
            attempt.address(address);
        }
        let mark = directory::Mark {
            epoch: attempt.epoch,
            embedded: self.settings.embedded,
            owner: self.owner,
        };
        directory.make(&mark).map_err(denied)?;
        let mut command = self.command(attempt.id, &directory).map_err(denied)?;
        if let Some(address) = address {
            command.args(["--address", &address]);
        }
        match begin(context, attempt).await? {
            Permit::Given => {}
            Permit::Over => return Ok(()),
        }
        let mut child = self.spawner.spawn(command).await.map_err(denied)?;
        if let Some(conductor) = child.id().and_then(Conductor::of) {
            directory.record(conductor).map_err(denied)?;
        }
        let watched = Arc::clone(attempt);
        context.spawn(async move {
            let how = match child.wait().await {
                Ok(status) => status.to_string(),
                Err(error) => error.to_string(),
            };
            gone(&watched, &directory, &how).await;
        });
        Ok(())
    }

    fn command(&self, attempt: AttemptId, directory: &Directory) -> std::io::Result<Command> {
        let mut words = self.settings.runner.iter();
        let program = words.next().map_or("", String::as_str);
        let output = directory.output()?;
        let mut command = Command::new(program);
        command
            .args(words)
            .args(["conductor", "--sandbox"])
            .arg(&directory.path)
            .env("MUSTER_AGENT_SOCKET", &self.socket)
            .env("MUSTER_ATTEMPT", attempt.to_string())
            .env("MUSTER_ATTEMPT_TOKEN", self.key.token(attempt))
            .current_dir(&directory.path)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            // Signals of a terminal are for the agent alone.
            .process_group(0);
        if self.settings.embedded {
            command.arg("--die-with-parent");
        }
        Ok(command)
    }

    /// Watches what an earlier process started, and sweeps what nobody knows.
    pub(crate) fn watch(&self, context: &Arc<Context>) {
        for attempt in context.attempts.all() {
            let directory = self.directory(attempt.id);
            if directory.conductor().is_some() {
                self.watch_found(context, &attempt, &directory);
            }
        }
        let root = self.settings.directory.clone();
        let embedded = self.settings.embedded;
        let keeper = Arc::clone(context);
        context.spawn(async move {
            let mut ticks = interval(SWEEP);
            loop {
                ticks.tick().await;
                sweep(&keeper, &root, embedded).await;
            }
        });
    }

    fn watch_found(&self, context: &Arc<Context>, attempt: &Arc<Attempt>, directory: &Directory) {
        let Some(conductor) = directory.conductor() else {
            return;
        };
        let attempt = Arc::clone(attempt);
        let directory = self.directory(directory.attempt);
        context.spawn(async move {
            conductor.ended().await;
            gone(&attempt, &directory, "it ended while no agent looked").await;
        });
    }

    /// Ends the conductor and removes the directory.
    pub(crate) async fn remove(&self, attempt: AttemptId, how: Removal) -> Result<(), Error> {
        let directory = self.directory(attempt);
        end(&directory, how).await;
        directory.remove().await
    }

    /// Ends everything, when attempts must not outlive this process.
    pub(crate) async fn close(&self, attempts: &Attempts) {
        if !self.settings.embedded {
            return;
        }
        let ends = attempts.all().into_iter().map(|attempt| async move {
            if let Err(error) = self.remove(attempt.id, Removal::Kill).await {
                tracing::warn!(attempt = %attempt.id, error = &error as &dyn std::error::Error, "cannot remove an attempt");
            }
        });
        futures::future::join_all(ends).await;
    }
}

/// An address for a service of this machine: one of its own in 127.64.0.0/10, where nothing else
/// is found by default. Made of random bits of the attempt's id, so that it is known again.
fn loopback(attempt: AttemptId) -> String {
    let bytes = attempt.as_uuid().into_bytes();
    let [.., a, b, c] = bytes;
    // Neither 0 nor 255 at the end, which some programs take for something else.
    format!("127.{}.{b}.{}", 64 + a % 64, c % 254 + 1)
}

/// The conductor is gone: lost, unless its record is here.
async fn gone(attempt: &Attempt, directory: &Directory, how: &str) {
    attempt.hung_up(LAST_WORDS).await;
    let words = directory.last_words();
    let colon = if words.is_empty() { "" } else { ": " };
    attempt.lost(
        "CONDUCTOR_EXITED",
        &format!("the conductor ended without a result ({how}){colon}{words}"),
    );
}

/// Ends the conductor of a directory, if it runs.
async fn end(directory: &Directory, how: Removal) {
    let Some(conductor) = directory
        .conductor()
        .or_else(|| Conductor::find(&directory.path))
    else {
        return;
    };
    if how == Removal::Done && timeout(GRACE, conductor.ended()).await.is_ok() {
        return;
    }
    conductor.terminate();
    if timeout(KILL_GRACE, conductor.ended()).await.is_err() {
        conductor.kill().await;
        // A process in the kernel's hands may take its time; the directory is swept later.
        sleep(Duration::from_millis(100)).await;
    }
}

/// Removes directories that no live agent owns.
async fn sweep(context: &Context, root: &std::path::Path, embedded: bool) {
    if !embedded && !context.attempts.is_reconciled() {
        return;
    }
    let all = match directory::all(root) {
        Ok(all) => all,
        Err(error) => {
            return tracing::warn!(
                error = &error as &dyn std::error::Error,
                "cannot look for leftovers"
            );
        }
    };
    directory::remove_dead_sockets(root);
    for directory in all {
        let orphan = context.attempts.get(directory.attempt).is_none()
            && directory
                .mark()
                .is_none_or(|mark| mark.embedded == embedded && !mark.owned_by_another());
        if !orphan {
            continue;
        }
        tracing::info!(attempt = %directory.attempt, "removing what is left of an attempt");
        end(&directory, Removal::Kill).await;
        if let Err(error) = directory.remove().await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "cannot remove leftovers"
            );
        }
    }
}

/// The key of a directory; attempts of an embedded agent end with it, and so does its key.
fn key(settings: &config::Process) -> Result<AttemptKey, Error> {
    if settings.embedded {
        return Ok(AttemptKey::generate());
    }
    let path = settings.directory.join("agent.key");
    AttemptKey::load_or_make(&path).map_err(|source| Error::File {
        action: "use the key in",
        path,
        source,
    })
}

//! Follows an execution to its end: its state and its log, through broken connections and
//! restarts of the server. What is shown of it is decided elsewhere.

use std::time::Duration;

use muster_proto::v1::{
    Execution, LogChunk, LogEnd, LogGap, ReadLogRequest, WatchExecutionRequest, execution::State,
    read_log_response::Item,
};
use tokio::{sync::mpsc, task::JoinSet, time};
use tonic::{Code, Status};

use crate::{client::Client, error::Error};

/// Updates that wait at most; a chunk of the log has at most 64 KiB.
const QUEUE: usize = 64;
/// Wait before the first reconnect, doubled up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// Longest wait between two reconnects.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// How long the log of a finished execution may be silent before it counts as lost.
const LOG_PATIENCE: Duration = Duration::from_secs(30);

/// Something new.
#[derive(Debug)]
pub(crate) enum Update {
    /// The newest version.
    Execution(Box<Execution>),
    /// Bytes of the log, in order.
    Chunk(LogChunk),
    /// Bytes of the log that are lost.
    Gap(LogGap),
    /// The log is over.
    LogEnd(LogEnd),
    /// The connection is lost and will be made again.
    Disconnected(String),
    /// The connection is there again.
    Reconnected,
    /// Following it is not possible.
    Failed(Error),
}

/// What is to be followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// States only.
    States,
    /// States and the log.
    StatesAndLog,
}

/// Follows one execution; dropping it ends that.
#[derive(Debug)]
pub(crate) struct Follower {
    updates: mpsc::Receiver<Update>,
    _tasks: JoinSet<()>,
}

impl Follower {
    /// Begins to follow the execution with this resource name.
    pub(crate) fn start(client: &Client, name: &str, what: What) -> Self {
        let (sender, updates) = mpsc::channel(QUEUE);
        let mut tasks = JoinSet::new();
        let (finished, is_finished) = tokio::sync::watch::channel(false);
        let watcher = Watcher {
            client: client.clone(),
            name: name.to_owned(),
            sender: sender.clone(),
            finished,
        };
        tasks.spawn(watcher.run());
        if what == What::StatesAndLog {
            let reader = Reader {
                client: client.clone(),
                name: name.to_owned(),
                offset: 0,
                sender,
                is_finished,
            };
            tasks.spawn(reader.run());
        }
        Self {
            updates,
            _tasks: tasks,
        }
    }

    /// Returns what is new; none when both state and log are at their end.
    pub(crate) async fn next(&mut self) -> Option<Update> {
        self.updates.recv().await
    }
}

/// Whether a state is never left again.
pub(crate) const fn is_terminal(state: State) -> bool {
    matches!(
        state,
        State::Passed | State::Failed | State::Aborted | State::Canceled | State::TimedOut
    )
}

struct Watcher {
    client: Client,
    name: String,
    sender: mpsc::Sender<Update>,
    finished: tokio::sync::watch::Sender<bool>,
}

impl Watcher {
    async fn run(self) {
        let mut wait = FIRST_WAIT;
        let mut connected = true;
        loop {
            match self.watch(&mut connected, &mut wait).await {
                Ok(Outcome::Over) => {
                    self.finished.send_replace(true);
                    return;
                }
                Ok(Outcome::Again) => {}
                Err(status) if is_final(&status) => {
                    self.send(Update::Failed(self.client.error(&status))).await;
                    return;
                }
                Err(status) => {
                    if std::mem::take(&mut connected) {
                        let cause = status.message().to_owned();
                        self.send(Update::Disconnected(cause)).await;
                    }
                }
            }
            if self.sender.is_closed() {
                return;
            }
            pause(&mut wait).await;
        }
    }

    async fn watch(&self, connected: &mut bool, wait: &mut Duration) -> Result<Outcome, Status> {
        let request = WatchExecutionRequest {
            name: self.name.clone(),
        };
        let response = self.client.executions().watch_execution(request).await?;
        let mut stream = response.into_inner();
        while let Some(message) = stream.message().await? {
            *wait = FIRST_WAIT;
            if !std::mem::replace(connected, true) {
                self.send(Update::Reconnected).await;
            }
            let Some(execution) = message.execution else {
                continue;
            };
            let over = is_terminal(execution.state());
            self.send(Update::Execution(Box::new(execution))).await;
            if over {
                return Ok(Outcome::Over);
            }
        }
        Ok(Outcome::Again)
    }

    async fn send(&self, update: Update) {
        // Nobody listens any more: the follower is gone and this task ends with it.
        drop(self.sender.send(update).await);
    }
}

struct Reader {
    client: Client,
    name: String,
    offset: i64,
    sender: mpsc::Sender<Update>,
    is_finished: tokio::sync::watch::Receiver<bool>,
}

enum Outcome {
    /// There is nothing more.
    Over,
    /// The stream ended early.
    Again,
}

impl Reader {
    async fn run(mut self) {
        let mut wait = FIRST_WAIT;
        loop {
            match self.read(&mut wait).await {
                Ok(Outcome::Over) => return,
                Ok(Outcome::Again) => {}
                Err(status) if is_final(&status) => {
                    let error = self.client.error(&status);
                    drop(self.sender.send(Update::Failed(error)).await);
                    return;
                }
                Err(status) if status.code() == Code::DataLoss => {
                    // No other try brings it; how the run ends is told all the same.
                    let gap = LogGap {
                        offset: self.offset,
                        size_bytes: 0,
                        message: status.message().to_owned(),
                    };
                    drop(self.sender.send(Update::Gap(gap)).await);
                    return;
                }
                Err(status) => tracing::info!(message = status.message(), "log stream broke"),
            }
            if self.sender.is_closed() {
                return;
            }
            pause(&mut wait).await;
        }
    }

    async fn read(&mut self, wait: &mut Duration) -> Result<Outcome, Status> {
        let request = ReadLogRequest {
            name: self.name.clone(),
            offset: self.offset,
            follow: true,
            ..ReadLogRequest::default()
        };
        let mut stream = self.client.logs().read_log(request).await?.into_inner();
        loop {
            let message = tokio::select! {
                message = stream.message() => message?,
                () = silence(&mut self.is_finished) => {
                    let message = "the log never came to its end".to_owned();
                    let gap = LogGap { offset: self.offset, size_bytes: 0, message };
                    drop(self.sender.send(Update::Gap(gap)).await);
                    return Ok(Outcome::Over);
                }
            };
            let Some(message) = message else {
                return Ok(Outcome::Again);
            };
            *wait = FIRST_WAIT;
            let (update, over) = match message.item {
                Some(Item::Chunk(chunk)) => match self.fresh(chunk) {
                    Some(chunk) => (Update::Chunk(chunk), false),
                    None => continue,
                },
                Some(Item::Gap(gap)) => {
                    self.offset = gap.offset.saturating_add(gap.size_bytes);
                    (Update::Gap(gap), false)
                }
                Some(Item::End(end)) => (Update::LogEnd(end), true),
                // Nobody has asked for them here.
                Some(Item::Match(_) | Item::Skip(_)) | None => continue,
            };
            if self.sender.send(update).await.is_err() || over {
                return Ok(Outcome::Over);
            }
        }
    }

    /// The part of a chunk that was not there yet.
    fn fresh(&mut self, mut chunk: LogChunk) -> Option<LogChunk> {
        let known = usize::try_from(self.offset.saturating_sub(chunk.offset)).unwrap_or(0);
        if known > 0 {
            chunk.data = chunk.data.split_off(known.min(chunk.data.len()));
            chunk.offset = self.offset;
        }
        if chunk.data.is_empty() {
            return None;
        }
        let length = i64::try_from(chunk.data.len()).unwrap_or(i64::MAX);
        self.offset = chunk.offset.saturating_add(length);
        Some(chunk)
    }
}

/// Returns when the execution is finished and [`LOG_PATIENCE`] has passed.
async fn silence(is_finished: &mut tokio::sync::watch::Receiver<bool>) {
    if is_finished.wait_for(|finished| *finished).await.is_err() {
        // The watcher failed, and said so: its listener decides.
        std::future::pending::<()>().await;
    }
    time::sleep(LOG_PATIENCE).await;
}

/// Whether another try would bring the same answer.
fn is_final(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::NotFound
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::InvalidArgument
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::Unimplemented
    )
}

async fn pause(wait: &mut Duration) {
    // Many clients of one server must not come back at the same moment.
    let share = f64::from(uuid::Uuid::new_v4().as_bytes()[0]) / 255.0;
    time::sleep(wait.mul_f64(0.5 + share / 2.0)).await;
    *wait = (*wait * 2).min(LONGEST_WAIT);
}

//! The control connection: brings the plan and orders, tells progress, log and the end. Made anew
//! whenever it breaks; what was not acknowledged is told again.

use std::{cell::RefCell, io, rc::Rc, sync::Arc, time::Duration};

use muster_proto::runner::v1::{
    AgentMessage, AgentWelcome, ChildrenOrder, Completed, agent_message::Message as Heard,
    conductor_hello::Purpose, conductor_message::Message as Said,
};
use tokio::sync::Notify;

use super::{
    agent::{Agent, Hearing, Speaking},
    board::Board,
    children::Children,
    halt::Halt,
    pod::Pod,
    spool::{Cursor, Spool},
};

/// Shortest time between two snapshots of progress.
const PROGRESS_PAUSE: Duration = Duration::from_millis(20);
/// Pause after which the end is told again.
const AGAIN: Duration = Duration::from_secs(10);
/// Pause after a connection that was refused or broke.
const PAUSE: Duration = Duration::from_millis(200);

/// The agent will never take this attempt again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Refused;

/// The completion record, once there is one.
#[derive(Clone, Default)]
pub(super) struct End(Rc<(RefCell<Option<Completed>>, Notify)>);

impl End {
    pub(super) fn set(&self, completed: Completed) {
        *self.0.0.borrow_mut() = Some(completed);
        self.0.1.notify_waiters();
    }

    fn get(&self) -> Option<Completed> {
        self.0.0.borrow().clone()
    }
}

/// A connection that was welcomed.
pub(super) struct Welcomed {
    hearing: Hearing,
    speaking: Speaking,
    pub(super) welcome: AgentWelcome,
}

/// What the connection is about.
pub(super) struct Parts {
    pub(super) agent: Arc<Agent>,
    pub(super) spool: Arc<Spool>,
    pub(super) board: Arc<Board>,
    pub(super) children: Arc<Children>,
    pub(super) pod: Arc<Pod>,
    pub(super) halt: Halt,
    pub(super) end: End,
}

/// Why a connection ends.
enum Over {
    /// The completion record is committed.
    Committed,
    /// The attempt is lost.
    Refused,
}

/// Makes the first connection, which brings the plan.
pub(super) async fn first(agent: &Agent, spool: &Spool) -> Result<Welcomed, Refused> {
    welcome(agent, spool, false).await
}

async fn welcome(agent: &Agent, spool: &Spool, has_plan: bool) -> Result<Welcomed, Refused> {
    loop {
        let (start, end, _) = spool.range();
        let connection = agent
            .connect(Purpose::Control, (has_plan, start, end))
            .await;
        let (mut hearing, speaking) = connection.split();
        match hearing.hear().await.map(|message| message.message) {
            Ok(Some(Heard::Welcome(welcome))) if has_plan || !welcome.plan.is_empty() => {
                agent.welcomed(&welcome);
                return Ok(Welcomed {
                    hearing,
                    speaking,
                    welcome,
                });
            }
            Ok(Some(Heard::Refused(refused))) if refused.permanent => {
                crate::fail::say(refused.message);
                return Err(Refused);
            }
            Ok(_) | Err(_) => agent.pause(PAUSE).await,
        }
    }
}

/// Keeps a connection until the completion record is committed.
pub(super) async fn keep(parts: Parts, first: Welcomed) -> Result<(), Refused> {
    let mut welcomed = first;
    loop {
        match parts.serve(welcomed).await {
            Ok(Over::Committed) => return Ok(()),
            Ok(Over::Refused) => {
                parts.halt.lose();
                return Err(Refused);
            }
            Err(_) => parts.agent.pause(PAUSE).await,
        }
        welcomed = match welcome(&parts.agent, &parts.spool, true).await {
            Ok(welcomed) => welcomed,
            Err(refused) => {
                parts.halt.lose();
                return Err(refused);
            }
        };
    }
}

impl Parts {
    async fn serve(&self, welcomed: Welcomed) -> io::Result<Over> {
        let Welcomed {
            hearing,
            speaking,
            welcome,
        } = welcomed;
        for status in welcome.containers {
            self.pod.status(status);
        }
        if let Some(cancel) = &welcome.cancel {
            self.halt.cancel(cancel);
        }
        if let Some(pause) = &welcome.pause {
            self.halt.pause.order(pause.sequence, pause.paused);
        }
        self.spool.acknowledge(welcome.log_offset);
        let from = welcome.log_offset.max(self.spool.range().0);
        tokio::select! {
            over = self.hear(hearing) => over,
            broken = self.tell(speaking, from) => Err(broken),
        }
    }

    async fn hear(&self, mut hearing: Hearing) -> io::Result<Over> {
        loop {
            let AgentMessage { message } = hearing.hear().await?;
            match message {
                Some(Heard::Acknowledge(acknowledge)) => {
                    self.spool.acknowledge(acknowledge.log_offset);
                }
                Some(Heard::Cancel(cancel)) => self.halt.cancel(&cancel),
                Some(Heard::Pause(pause)) => {
                    self.halt.pause.order(pause.sequence, pause.paused);
                }
                Some(Heard::Container(status)) => self.pod.status(status),
                Some(Heard::ChildrenAnswer(answer)) => self.children.answered(answer),
                Some(Heard::ChildrenNews(news)) => self.children.news(news.children),
                Some(Heard::CompletedAck(_)) => return Ok(Over::Committed),
                Some(Heard::Refused(refused)) => {
                    crate::fail::say(&refused.message);
                    if refused.permanent {
                        return Ok(Over::Refused);
                    }
                    return Err(io::ErrorKind::ConnectionRefused.into());
                }
                // A message of a newer version, or one that does not belong here.
                Some(
                    Heard::Welcome(_)
                    | Heard::ArtifactAck(_)
                    | Heard::DirectUpload(_)
                    | Heard::ArtifactKept(_)
                    | Heard::Archive(_)
                    | Heard::Credential(_)
                    | Heard::Durations(_)
                    | Heard::Verdict(_)
                    | Heard::MissingNoted(_),
                )
                | None => {}
            }
        }
    }

    /// Tells what is new, in this order: progress, log, the end. Ends only by an error.
    async fn tell(&self, mut speaking: Speaking, from: u64) -> io::Error {
        match self.try_tell(&mut speaking, from).await {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    async fn try_tell(
        &self,
        speaking: &mut Speaking,
        from: u64,
    ) -> io::Result<std::convert::Infallible> {
        let mut cursor = Cursor::at(from);
        let mut board = self.board.watch();
        board.mark_changed();
        let mut ended = false;
        let mut children = self.children.subscribe();
        let mut ordered = 0;
        if self.children.is_active() {
            // Without an order, to hear how they stand.
            speaking
                .say(Said::Children(ChildrenOrder::default()))
                .await?;
        }
        loop {
            let more_log = self.spool.changed.notified();
            let end_set = self.end.0.1.notified();
            tokio::pin!(more_log, end_set);
            // From here on no word is missed.
            more_log.as_mut().enable();
            end_set.as_mut().enable();

            if board.has_changed().unwrap_or(false) && self.end.get().is_none() {
                board.mark_unchanged();
                speaking.say(Said::Progress(self.board.snapshot())).await?;
            }
            children.mark_unchanged();
            for order in self.children.unanswered(ordered) {
                ordered = order.id;
                speaking.say(Said::Children(order)).await?;
            }
            if let Some(log) = self.spool.next(&mut cursor)? {
                speaking.say(Said::Log(log)).await?;
                continue;
            }
            if !ended && let Some(completed) = self.end.get() {
                speaking.say(Said::Completed(completed)).await?;
                ended = true;
            }
            tokio::select! {
                () = more_log => {}
                () = end_set => {}
                // The sender lives as long as the run.
                _ = children.changed() => {}
                () = tokio::time::sleep(AGAIN), if ended => ended = false,
                changed = board.changed(), if !ended => {
                    if changed.is_ok() {
                        board.mark_changed();
                    }
                    // Changes that follow each other closely become one snapshot.
                    tokio::time::sleep(PROGRESS_PAUSE).await;
                }
            }
        }
    }
}

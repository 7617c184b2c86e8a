//! Use cases: what the server does, in its own words. No HTTP here, and of protobuf only the log
//! chunk, which is stored in that very form.

mod agents;
mod archive;
mod artifacts;
mod audit;
mod call;
mod caller;
mod children;
mod credentials;
mod durations;
mod error;
mod executions;
mod explain;
mod hub;
mod logs;
mod manifests;
mod projects;
mod quarantine;
mod queue;
mod reports;
mod retention;
mod test_cases;
mod tokens;
mod whole;

use std::sync::Arc;

use jiff::Timestamp;
use muster_core::{
    clock::Clock,
    execution::{Effect, Stop},
    id::ExecutionId,
};
use muster_storage::{Blobs, Store, execution::Changed, word::Word};
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

pub(crate) use archive::Form;
pub(crate) use audit::agent as agent_actor;
pub(crate) use call::Call;
pub(crate) use caller::{Access, Caller};
pub(crate) use children::{MAX_INSTANCES, NewChild, Requirement, StartChildren};
pub(crate) use credentials::CredentialChange;
pub(crate) use durations::{MOST_ANSWERED, Values};
pub(crate) use error::{Error, Violation};
pub(crate) use executions::{Known, NewRun, REPLICAS, Source, test_identity};
pub(crate) use explain::{Explanation, Reason};
pub(crate) use hub::{Hub, Turns};
pub(crate) use logs::{
    LogItem, LogRange, Search as LogSearch, Window as LogWindow, count_lines, fetch as fetch_log,
    finding as log_finding, groups as log_groups, millis as log_millis,
};
pub(crate) use manifests::ManifestChange;
pub(crate) use quarantine::{Expiration, WantedQuarantine};
pub(crate) use reports::MOST_READING;
pub(crate) use retention::{Orphans, Plan as RetentionPlan, Planned, part_name};

pub(crate) use tokens::WantedToken;

use crate::{
    config::Config,
    link::{Link, direct::Direct},
    replicas::Replicas,
    vault::Vault,
};

/// All that use cases need.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) store: Store,
    pub(crate) blobs: Blobs,
    /// How artifacts go to the blobs directly, when they do.
    pub(crate) direct: Option<Direct>,
    pub(crate) clock: Clock,
    pub(crate) config: Config,
    pub(crate) vault: Vault,
    pub(crate) hub: Hub,
    pub(crate) known: Known,
    pub(crate) link: Link,
    pub(crate) replicas: Replicas,
    pub(crate) tasks: TaskTracker,
    /// Blobs are noted that are to be deleted.
    pub(crate) doomed: Notify,
    /// Places for archives that are being made.
    archives: archive::Places,
    /// How many refusals come into the audit log.
    allowances: audit::Allowances,
    /// Who was noted to read what.
    readings: Arc<audit::Readings>,
    /// What retention was noted to delete.
    noted_due: retention::NotedDue,
}

impl App {
    pub(crate) fn new(
        store: Store,
        blobs: Blobs,
        direct: Option<Direct>,
        vault: Vault,
        clock: Clock,
        config: Config,
        replicas: Replicas,
    ) -> Arc<Self> {
        Arc::new(Self {
            store,
            blobs,
            direct,
            clock,
            config,
            vault,
            hub: Hub::new(),
            known: Known::default(),
            link: Link::new(),
            replicas,
            tasks: TaskTracker::new(),
            doomed: Notify::new(),
            archives: archive::Places::default(),
            allowances: audit::Allowances::default(),
            readings: Arc::default(),
            noted_due: retention::NotedDue::default(),
        })
    }

    /// Does what follows from a committed change. Every effect may be done again without harm;
    /// one that is lost in a crash is done by a sweep or at the agent's next connect.
    pub(crate) fn perform(&self, changed: &Changed) {
        self.execution_changed(changed.execution.id);
        if let Some(origin) = &changed.execution.origin {
            self.execution_changed(origin.parent);
        }
        let state = changed.execution.state();
        if state.is_terminal() && !changed.effects.is_empty() {
            metrics::counter!(crate::metrics::FINISHED, "state" => state.as_str()).increment(1);
        }
        for effect in &changed.effects {
            match effect {
                Effect::WakeScheduler => self.wake_scheduler(),
                Effect::FreePlace => self.free_place(),
                Effect::StopAttempt(lease, stop) => {
                    self.link.stop_attempt(*lease, *stop, &changed.execution);
                    self.replicas.tell(Word::Attempt(lease.attempt));
                }
                Effect::PauseAttempt(lease, pause) => {
                    self.link.pause_attempt(*lease, *pause);
                    self.replicas.tell(Word::Attempt(lease.attempt));
                }
                Effect::CloseAttempt(lease) => {
                    self.link.close_attempt(lease.attempt);
                    self.hub.attempt_ended();
                }
                Effect::RevokeAttempt(lease) => {
                    self.link.revoke_attempt(*lease);
                    self.replicas.tell(Word::Attempt(lease.attempt));
                    self.hub.attempt_ended();
                }
            }
        }
    }

    /// When a lease ends that is given or renewed now.
    pub(crate) fn lease_end(&self) -> Timestamp {
        let now = self.clock.now();
        now.checked_add(self.config.lease_duration).unwrap_or(now)
    }

    /// Something can be placed, here or by another server.
    pub(crate) fn wake_scheduler(&self) {
        self.hub.queue_changed();
        self.replicas.tell(Word::Queue);
    }

    /// What waits may have a place now, here or at another server.
    fn free_place(&self) {
        self.hub.place_freed();
        self.replicas.tell(Word::Place);
    }

    /// An execution changed: for those who watch it, here or at another server.
    pub(crate) fn execution_changed(&self, id: ExecutionId) {
        self.hub.execution_changed(id);
        self.replicas.tell(Word::Execution(id));
    }

    /// Does what follows from a change that the server itself has decided on an attempt: what the
    /// attempt has started ends with it, and its log gets no more.
    pub(crate) async fn taken_away(self: &Arc<Self>, changed: &Changed) -> Result<(), Error> {
        self.perform(changed);
        for effect in &changed.effects {
            match effect {
                Effect::StopAttempt(_, Stop::Forced) => {
                    let message = "its parent is killed";
                    self.force_children(&changed.execution, message).await?;
                }
                Effect::RevokeAttempt(lease) => self.finish_log_later(lease.attempt),
                Effect::WakeScheduler
                | Effect::FreePlace
                | Effect::StopAttempt(..)
                | Effect::PauseAttempt(..)
                | Effect::CloseAttempt(_) => {}
            }
        }
        Ok(())
    }
}

//! An attempt as its control connections see it: which one counts, and what it has to tell.

use std::{collections::BTreeMap, time::Duration};

use muster_proto::{
    runner::v1::ContainerStatus,
    v1::{CancelAttempt, PauseAttempt},
};
use tokio::time::timeout;

use super::{Attempt, End, Stage, snapshot};

/// What a control connection has to tell its conductor.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Orders {
    pub(crate) containers: BTreeMap<String, ContainerStatus>,
    pub(crate) cancel: Option<CancelAttempt>,
    pub(crate) pause: Option<PauseAttempt>,
    pub(crate) durable: u64,
    pub(crate) progress: u64,
    pub(crate) end: Option<End>,
    /// A newer connection has taken its place, or the attempt is lost.
    pub(crate) superseded: bool,
}

impl Attempt {
    /// A control connection begins: it takes the place of an older one. Returns its number.
    pub(crate) fn connect(&self) -> u64 {
        let mut number = 0;
        self.update(|state| {
            state.connections += 1;
            state.connection = state.connections;
            number = state.connection;
            false
        });
        number
    }

    /// A control connection ended.
    pub(crate) fn disconnect(&self, number: u64) {
        {
            let mut state = self.lock();
            if state.connection == number {
                state.connection = 0;
            }
        }
        self.changed.send_replace(());
    }

    /// Whether a conductor is connected.
    pub(crate) fn is_connected(&self) -> bool {
        self.lock().connection != 0
    }

    /// Whether a conductor has ever spoken to this process.
    pub(crate) fn was_connected(&self) -> bool {
        self.lock().connections != 0
    }

    /// Waits until no conductor is connected; not longer than `limit`.
    pub(crate) async fn hung_up(&self, limit: Duration) {
        let mut changes = self.subscribe();
        let gone = async { while self.is_connected() && changes.changed().await.is_ok() {} };
        if timeout(limit, gone).await.is_err() {
            tracing::debug!(attempt = %self.id, "the conductor did not hang up");
        }
    }

    /// What a control connection has to tell now.
    pub(crate) fn orders(&self, connection: u64) -> Orders {
        let state = self.lock();
        Orders {
            containers: state.containers.clone(),
            cancel: snapshot::cancel(&state),
            pause: state.pause.clone(),
            durable: state.durable,
            progress: state.committed_progress,
            end: state.end,
            superseded: state.connection != connection || matches!(state.stage, Stage::Lost),
        }
    }
}

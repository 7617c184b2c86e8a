//! Pins: executions that are kept whatever the retention is.

use jiff::Timestamp;
use muster_core::id::ExecutionId;
use serde::{Deserialize, Serialize};

use super::{Execution, Executions, row::Change};
use crate::{
    Error, Request,
    audit::{self, Done},
    request,
};

/// Why an execution is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// Who wants that.
    pub creator: String,
    /// Why, for people.
    pub message: String,
    /// Since when.
    pub create_time: Timestamp,
}

impl Executions<'_> {
    pub(super) async fn set_pin(
        &self,
        id: ExecutionId,
        pin: Option<&Pin>,
        kind: &'static str,
        message: &str,
        request: Option<&Request>,
    ) -> Result<Execution, Error> {
        let now = self.store.clock().now();
        self.store
            .transaction("pin_execution", |tx| async move {
                let replay = request::replay(request, &*tx).await?;
                let mut change = Change::of_project(&*tx, self.project, id, now).await?;
                if replay.is_some() {
                    return Ok(change.unchanged()?.execution);
                }
                request::record(request, &*tx, id.as_uuid(), 0, now).await?;
                if pin.is_none() && !change.is_pinned() {
                    return Ok(change.unchanged()?.execution);
                }
                let before = change.told()?;
                change.pin(pin)?;
                change.event(kind, message);
                let done = Done {
                    project: Some(self.project),
                    before,
                    after: change.told()?,
                    ..Done::default()
                };
                audit::record(request, &*tx, done, now).await?;
                Ok(change.save(&*tx).await?.execution)
            })
            .await
    }
}

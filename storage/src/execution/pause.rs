//! A caller's wish to stop an execution for a while, or to let it go on.

use muster_core::{execution::Event, id::ExecutionId};

use super::{Changed, Executions, row::Change};
use crate::{
    Error, Request,
    audit::{self, Done},
    request,
};

impl Executions<'_> {
    pub(super) async fn request_pause(
        &self,
        id: ExecutionId,
        event: Event,
        message: &str,
        request: Option<&Request>,
    ) -> Result<Changed, Error> {
        let now = self.store.clock().now();
        self.store
            .transaction("pause_execution", |tx| async move {
                let replay = request::replay(request, &*tx).await?;
                let mut change = Change::of_project(&*tx, self.project, id, now).await?;
                if replay.is_some() {
                    return change.unchanged();
                }
                request::record(request, &*tx, id.as_uuid(), 0, now).await?;
                let before = change.told()?;
                if !change.apply(event)? {
                    return change.unchanged();
                }
                let done = Done {
                    project: Some(self.project),
                    before,
                    after: change.told()?,
                    ..Done::default()
                };
                audit::record(request, &*tx, done, now).await?;
                let kind = match change.lifecycle()?.pause.paused {
                    true => "PAUSE_REQUESTED",
                    false => "RESUME_REQUESTED",
                };
                change.event(kind, message);
                change.save(&*tx).await
            })
            .await
    }
}

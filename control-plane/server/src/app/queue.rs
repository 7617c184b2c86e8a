//! The queue of all projects.

use muster_storage::Request;

use super::{App, Caller, Error, agents::by};

impl App {
    /// Why nothing is given out; `None` while the queue goes on.
    pub(crate) async fn get_queue(&self) -> Result<Option<String>, Error> {
        Ok(self.store.queue().pause().await?)
    }

    /// Gives nothing out any more, or lets the queue go on.
    pub(crate) async fn hold_queue(
        &self,
        caller: &Caller,
        pause: Option<&str>,
        request: Option<&Request>,
    ) -> Result<Option<String>, Error> {
        caller.require_admin()?;
        let pause = pause.map(|message| by(caller, message));
        let queue = self.store.queue();
        queue.hold(pause.as_deref(), request).await?;
        self.wake_scheduler();
        self.get_queue().await
    }
}

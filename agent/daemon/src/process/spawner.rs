//! Starts processes on a thread that lives as long as the agent: the kernel ends a child that
//! wants to die with its parent when the *thread* that started it ends.

use std::{io, thread};

use tokio::{
    process::{Child, Command},
    runtime::Handle,
    sync::{mpsc, oneshot},
};

type Request = (Command, oneshot::Sender<io::Result<Child>>);

/// The thread.
pub(super) struct Spawner(mpsc::Sender<Request>);

impl Spawner {
    /// Starts the thread; it ends with this value.
    pub(super) fn start() -> io::Result<Self> {
        let (sender, mut requests) = mpsc::channel::<Request>(16);
        let runtime = Handle::current();
        thread::Builder::new()
            .name("muster-spawner".to_owned())
            .spawn(move || {
                let _in_runtime = runtime.enter();
                while let Some((mut command, answer)) = requests.blocking_recv() {
                    if answer.is_closed() {
                        // The attempt, or the agent, was ended meanwhile.
                        continue;
                    }
                    // Whoever asked may be gone; then the child is found by its directory.
                    let _unasked = answer.send(command.spawn());
                }
            })?;
        Ok(Self(sender))
    }

    /// Starts a process.
    pub(super) async fn spawn(&self, command: Command) -> io::Result<Child> {
        let (answer, child) = oneshot::channel();
        let gone = || io::Error::other("the thread that starts processes is gone");
        self.0
            .send((command, answer))
            .await
            .map_err(|_closed| gone())?;
        child.await.map_err(|_closed| gone())?
    }
}

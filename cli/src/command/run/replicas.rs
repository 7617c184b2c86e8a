//! A run that is replicated over labels: executions that run side by side and are shown one after the
//! other, each as a run of its own.

use muster_proto::v1::Execution;

use super::{Arguments, open_view, tell, watch};
use crate::{
    arguments::Global, client::Client, command::cancel, error::Error, exit::Exit,
    signal::Interruptions,
};

/// Follows all to their ends. An interruption cancels all that are not over; the exit code is that of
/// the first one that did not pass.
pub(super) async fn follow(
    client: &Client,
    executions: Vec<Execution>,
    arguments: &Arguments,
    global: &Global,
    interruptions: &mut Interruptions,
    mut interrupted: bool,
) -> Result<Exit, Error> {
    let mut exit = Exit::Success;
    let names: Vec<String> = executions.iter().map(|one| one.name.clone()).collect();
    for (number, execution) in executions.into_iter().enumerate() {
        let name = execution.name.clone();
        let view = open_view(execution, arguments, global, false);
        let ended = Box::pin(watch::watch(
            client,
            view,
            &mut None,
            None,
            interruptions,
            interrupted,
        ))
        .await?;
        if ended.interrupted && !interrupted {
            interrupted = true;
            for other in &names[number + 1..] {
                // One that is over meanwhile stays as it is.
                cancel::cancel(
                    client,
                    other.clone(),
                    ended.forced,
                    "interrupted by the user",
                )
                .await?;
            }
        }
        let forced = ended.forced;
        let own = Box::pin(tell(client, &name, ended, arguments, global)).await?;
        if exit == Exit::Success {
            exit = own;
        }
        if forced {
            return Ok(Exit::Interrupted);
        }
    }
    Ok(exit)
}

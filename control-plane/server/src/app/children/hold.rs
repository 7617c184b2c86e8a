//! Pausing a tree of executions: what is done to one is done to the workers and members below it.
//! Services go on: those that use them are stopped, and a database that is stopped would break what
//! is connected to it.

use muster_core::execution::State;
use muster_storage::execution::{Execution, Role};

use crate::app::{App, Error};

/// What happens to a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::app) enum Hold {
    /// It stops for a while.
    Pause,
    /// It goes on, where it was stopped with others.
    Resume,
    /// It goes on, where a step of its own has paused it.
    Release,
}

impl App {
    /// Pauses the workers and members below an execution, or lets them go on.
    pub(in crate::app) async fn hold_children(
        &self,
        execution: &Execution,
        hold: Hold,
    ) -> Result<(), Error> {
        let executions = self.store.executions(execution.project);
        let message = match hold {
            Hold::Pause => "the execution that has started it is paused",
            Hold::Resume | Hold::Release => "the execution that has started it goes on",
        };
        // Without recursion: a tree may be deep.
        let mut parents = vec![execution.clone()];
        while let Some(parent) = parents.pop() {
            let Some(lease) = parent.lifecycle.lease else {
                continue;
            };
            for child in executions.children(lease.attempt).await? {
                let origin = child.execution.origin.as_ref();
                let held = origin.is_some_and(|origin| {
                    matches!(origin.role, Role::Worker | Role::Member) && !origin.taken_over
                });
                if held {
                    self.hold_child(&child.execution, hold, message).await?;
                    parents.push(child.execution);
                }
            }
        }
        Ok(())
    }

    /// Pauses one child or lets it go on, where it can.
    pub(super) async fn hold_child(
        &self,
        child: &Execution,
        hold: Hold,
        message: &str,
    ) -> Result<(), Error> {
        let executions = self.store.executions(child.project);
        let wished = child.lifecycle.pause.paused;
        let held = child.state() == State::Paused && !wished;
        // One that a step of its own has paused waits for whoever lets that go on.
        if (hold == Hold::Pause && held) || (hold == Hold::Release && !held) {
            return Ok(());
        }
        if hold == Hold::Resume && !wished {
            return Ok(());
        }
        let changed = match hold {
            Hold::Pause => executions.pause(child.id, message, None).await,
            Hold::Resume | Hold::Release => executions.resume(child.id, message, None).await,
        };
        match changed {
            Ok(changed) => self.perform(&changed),
            // It ends, or is not paused: nothing to do.
            Err(muster_storage::Error::IllegalTransition(_)) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

//! Calls of the public interface, and what is lost of them.

use anyhow::{anyhow, bail, ensure};
use muster_core::execution::State;
use muster_proto::v1::{
    self, CancelExecutionRequest, CreateExecutionRequest, InlineWorkflow, PauseExecutionRequest,
    QueuePolicy, ResumeExecutionRequest, create_execution_request::Source,
};
use tonic::{Code, Status};

use super::World;
use crate::{crash::Crashed, op::Loss, servers::Outcome};

/// A workflow of one step, whose attempts are lost with their leases: a case does not last for
/// minutes.
const WORKFLOW: &str = "\
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflow
metadata: {name: smoke}
spec:
  execution: {recovery: {lostAgentAfter: 1ms}}
  steps:
  - name: Greet
    shell: echo hello
";
/// Seconds that an impatient caller lets its execution wait.
const IMPATIENCE: i64 = 5;
/// Most executions of a case.
const MOST: usize = 24;

impl World<'_> {
    pub(super) fn submit(&mut self, request: Option<u8>, loss: Loss) -> anyhow::Result<()> {
        let tag = match request {
            Some(number) => format!("request-{number}"),
            None => {
                self.anonymous += 1;
                format!("anonymous-{}", self.anonymous)
            }
        };
        let Some(mut clients) = self.clients(self.about) else {
            return Ok(());
        };
        let known = &mut self.ledger.submits;
        if known.len() >= MOST && !known.contains_key(&tag) {
            return Ok(());
        }
        known.entry(tag.clone()).or_default();
        // Some do not wait for long.
        let impatient = request.is_some_and(|number| number % 8 == 7);
        let id = request.map(|number| uuid::Uuid::from_u128(0xabc0 + u128::from(number)));
        let message = CreateExecutionRequest {
            parent: "projects/default".to_owned(),
            request_id: id.map_or_else(String::new, |id| id.to_string()),
            source: Some(Source::Inline(InlineWorkflow {
                manifest: WORKFLOW.to_owned(),
                workflow: String::new(),
            })),
            queue_policy: impatient.then_some(QueuePolicy {
                max_wait: Some(prost_types::Duration {
                    seconds: IMPATIENCE,
                    nanos: 0,
                }),
            }),
            tags: [("submit".to_owned(), tag.clone())].into(),
            ..CreateExecutionRequest::default()
        };
        let server = clients.server;
        let call = async move { clients.executions.create_execution(message).await };
        let Some(answer) = self.call(server, loss, call)? else {
            return Ok(());
        };
        let made = answer?.into_inner().execution;
        let uid = made.map(|made| made.uid).unwrap_or_default();
        let submit = self.ledger.submits.entry(tag.clone()).or_default();
        if let Some(before) = &submit.answer {
            ensure!(
                *before == uid,
                "{tag} was answered with {before}, its repeat with {uid}"
            );
        }
        submit.answer = Some(uid);
        Ok(())
    }

    pub(super) fn cancel(&mut self, execution: u8, force: bool, loss: Loss) -> anyhow::Result<()> {
        match self.execution(execution)? {
            Some(uid) => self.cancel_execution(&uid, force, loss),
            None => Ok(()),
        }
    }

    pub(super) fn cancel_execution(
        &mut self,
        uid: &str,
        force: bool,
        loss: Loss,
    ) -> anyhow::Result<()> {
        let Some(mut clients) = self.clients(self.about) else {
            return Ok(());
        };
        let message = CancelExecutionRequest {
            name: name(uid),
            force,
            ..CancelExecutionRequest::default()
        };
        let server = clients.server;
        let call = async move { clients.executions.cancel_execution(message).await };
        match self.call(server, loss, call)? {
            Some(answer) => self.told(answer?.into_inner().execution),
            None => Ok(()),
        }
    }

    pub(super) fn pause(&mut self, execution: u8, pause: bool) -> anyhow::Result<()> {
        match self.execution(execution)? {
            Some(uid) => self.pause_execution(&uid, pause),
            None => Ok(()),
        }
    }

    pub(super) fn pause_execution(&mut self, uid: &str, pause: bool) -> anyhow::Result<()> {
        let Some(mut clients) = self.clients(self.about) else {
            return Ok(());
        };
        let (server, name) = (clients.server, name(uid));
        let call = async move {
            let executions = &mut clients.executions;
            if pause {
                let message = PauseExecutionRequest {
                    name,
                    ..PauseExecutionRequest::default()
                };
                let answer = executions.pause_execution(message).await?;
                return Ok(answer.into_inner().execution);
            }
            let message = ResumeExecutionRequest {
                name,
                ..ResumeExecutionRequest::default()
            };
            let answer = executions.resume_execution(message).await?;
            Ok::<_, Status>(answer.into_inner().execution)
        };
        match self.call(server, Loss::Nothing, call)? {
            Some(Ok(execution)) => self.told(execution),
            Some(Err(status)) if status.code() == Code::FailedPrecondition => Ok(()),
            Some(Err(status)) => Err(status.into()),
            None => Ok(()),
        }
    }

    /// Makes a call of a server; its answer, unless that is lost.
    pub(super) fn call<T>(
        &mut self,
        server: usize,
        loss: Loss,
        call: impl Future<Output = T>,
    ) -> anyhow::Result<Option<T>> {
        let leave_after = match loss {
            Loss::HangUp(transactions) => Some(u32::from(transactions)),
            Loss::Nothing | Loss::Answer => None,
        };
        let outcome = self.servers.run(server, leave_after, call)?;
        self.settle()?;
        Ok(match outcome {
            Ok(Outcome::Done(answer)) => (loss != Loss::Answer).then_some(answer),
            Ok(Outcome::Left) | Err(Crashed) => None,
        })
    }

    /// An execution of all there are.
    fn execution(&mut self, number: u8) -> anyhow::Result<Option<String>> {
        let sight = self.observer.look()?;
        let index = usize::from(number).checked_rem(sight.len());
        Ok(index.and_then(|index| sight.keys().nth(index).cloned()))
    }

    /// A caller was told of an execution.
    pub(super) fn told(&mut self, execution: Option<v1::Execution>) -> anyhow::Result<()> {
        let execution = execution.ok_or_else(|| anyhow!("an answer without its execution"))?;
        let state = state(execution.state());
        if execution.cancel_requested {
            let attempts = i64::try_from(execution.attempts.len()).unwrap_or(i64::MAX);
            let known = self.ledger.canceled.entry(execution.uid.clone());
            known.or_insert(attempts);
        }
        if !state.is_some_and(State::is_terminal) {
            return Ok(());
        }
        let Some(state) = state else {
            bail!("an execution without a state");
        };
        let known = self.ledger.told_terminal.entry(execution.uid.clone());
        let before = *known.or_insert(state);
        ensure!(
            before == state,
            "{} was told to be {before}, then {state}",
            execution.uid
        );
        Ok(())
    }
}

/// The resource name of an execution.
pub(super) fn name(uid: &str) -> String {
    format!("projects/default/executions/{uid}")
}

/// A state on the wire.
pub(super) fn state(told: v1::execution::State) -> Option<State> {
    let name = told.as_str_name().strip_prefix("STATE_")?;
    State::from_name(&name.to_lowercase())
}

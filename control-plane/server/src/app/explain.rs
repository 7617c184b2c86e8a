//! Why an execution is where it is: what it waits for, its place in the queue, and what each agent
//! says to it.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use muster_core::{execution::State, target::Target, timer};
use muster_storage::{
    Away,
    agent::Agent,
    attempt::{Attempt, Status},
    blob::Trouble,
    execution::{Execution, MOST_COUNTED, Standing},
    project::Project,
};

use super::{Access, App, Caller, Error};

/// How long an agent of another server may be silent until it counts as away: what is heard of it
/// is noted every half minute.
const SILENCE: SignedDuration = SignedDuration::from_secs(90);

/// Why an execution is where it is.
#[derive(Debug)]
pub(crate) struct Explanation {
    /// The execution.
    pub(crate) execution: Execution,
    /// What holds it up, most important first; empty when nothing does.
    pub(crate) reasons: Vec<Reason>,
    /// How many of its project come before it in the queue; `None` when it does not wait.
    pub(crate) before: Option<u64>,
    /// What each agent of its project says, when it waits.
    pub(crate) agents: Vec<Verdict>,
}

/// One thing that holds an execution up.
#[derive(Debug)]
pub(crate) struct Reason {
    /// `UPPER_SNAKE_CASE`.
    pub(crate) code: &'static str,
    /// For people, with the cure where there is one.
    pub(crate) message: String,
}

/// What an agent says to an execution.
#[derive(Debug)]
pub(crate) struct Verdict {
    /// Name of the agent.
    pub(crate) agent: String,
    /// Why it does not take it; `None` when it would now.
    pub(crate) refused: Option<Reason>,
}

fn reason(code: &'static str, message: impl Into<String>) -> Reason {
    Reason {
        code,
        message: message.into(),
    }
}

impl App {
    /// Says why an execution is where it is.
    pub(crate) async fn explain_execution(
        &self,
        caller: &Caller,
        project: &str,
        name: &str,
    ) -> Result<Explanation, Error> {
        let project = self.project(caller, project, Access::Read).await?;
        let executions = self.store.executions(project.id);
        let found = executions.find(name).await?;
        let details = executions.details(found.id).await?;
        let execution = details.execution;
        let now = self.clock.now();
        if execution.state() != State::Queued {
            let attempt = details.attempts.last();
            let mut reasons = placed(&execution, attempt, now);
            if !execution.state().is_terminal() {
                let trouble = self.blobs.trouble();
                reasons.splice(0..0, trouble.map(away));
            }
            return Ok(Explanation {
                reasons,
                before: None,
                agents: Vec::new(),
                execution,
            });
        }
        let standing = executions.standing(&execution).await?;
        let held = self.get_queue().await?;
        let serving = self.agents_of(project.id).await?;
        let agents: Vec<Verdict> = serving
            .iter()
            .map(|agent| Verdict {
                agent: agent.name.clone(),
                refused: self.refusal(agent, &execution, now),
            })
            .collect();
        Ok(Explanation {
            reasons: waiting(held.as_deref(), &project, &execution, &standing, &agents),
            before: Some(standing.before),
            agents,
            execution,
        })
    }

    /// Why an agent does not take an execution.
    fn refusal(&self, agent: &Agent, execution: &Execution, now: Timestamp) -> Option<Reason> {
        if let Some(text) = misfit(&execution.target, &agent.target_labels()) {
            return Some(reason("LABELS", text));
        }
        let heard = agent.last_seen_time;
        let recently = heard.is_some_and(|heard| now.duration_since(heard) < SILENCE);
        if !self.link.is_connected(agent.id) && !recently {
            let since = match heard {
                Some(heard) => format!("not heard of since {heard}"),
                None => "it has never connected".to_owned(),
            };
            return Some(reason("AWAY", since));
        }
        if let Some(cordon) = &agent.cordon {
            return Some(reason("CORDONED", cordoned(&cordon.message)));
        }
        if agent.running >= agent.told.capacity {
            let text = format!("it runs {} of {}", agent.running, agent.told.capacity);
            return Some(reason("FULL", text));
        }
        None
    }
}

/// What holds up all whose logs and artifacts wait for the object store.
fn away(trouble: Trouble) -> Reason {
    let seconds = trouble.lasts.as_secs();
    let (code, cure) = match trouble.why {
        Away::Unreachable => (
            "OBJECT_STORE_AWAY",
            "nothing has to be done here when it is back",
        ),
        Away::Refusing => (
            "OBJECT_STORE_REFUSES",
            "see to the server's credentials and their rights on the bucket",
        ),
    };
    reason(
        code,
        format!(
            "{}, for {seconds} s now: its log and its artifacts wait for that, and it does not end \
             before they are stored; {cure}",
            trouble.why
        ),
    )
}

fn cordoned(message: &str) -> String {
    match message {
        "" => "it takes no new work".to_owned(),
        message => format!("it takes no new work: {message}"),
    }
}

/// Which label of a target an agent does not have, or should not have.
fn misfit(target: &Target, labels: &BTreeMap<String, String>) -> Option<String> {
    for (key, values) in &target.matches {
        let wanted = values.join(" or ");
        match labels.get(key) {
            Some(value) if values.contains(value) => {}
            Some(value) => {
                return Some(format!("its label {key} is '{value}', wanted is {wanted}"));
            }
            None => return Some(format!("it has no label {key}, wanted is {wanted}")),
        }
    }
    target.not.iter().find_map(|(key, values)| {
        let value = labels.get(key).filter(|value| values.contains(value))?;
        Some(format!("its label {key} is '{value}', which is not wanted"))
    })
}

/// What holds up an execution that waits for an agent.
fn waiting(
    held: Option<&str>,
    project: &Project,
    execution: &Execution,
    standing: &Standing,
    agents: &[Verdict],
) -> Vec<Reason> {
    let mut reasons = Vec::new();
    let settings = &project.settings;
    let why = |message: &str| match message {
        "" => String::new(),
        message => format!(" ({message})"),
    };
    if let Some(message) = held {
        let text = format!(
            "the queue of all projects is paused{}: `muster queue resume` lets it go on",
            why(message)
        );
        reasons.push(reason("QUEUE_PAUSED", text));
    }
    if let Some(message) = &settings.pause {
        let why = why(message);
        reasons.push(reason(
            "PROJECT_PAUSED",
            format!(
                "project {} is paused{why}: `muster projects resume {}` lets it go on",
                project.name, project.name
            ),
        ));
    }
    if let Some(most) = settings
        .max_running
        .filter(|most| standing.running >= *most)
    {
        reasons.push(reason(
            "QUOTA",
            format!(
                "project {} runs {} executions, its quota is {most}",
                project.name, standing.running
            ),
        ));
    }
    if let Some(concurrency) = &execution.concurrency
        && standing.group_running >= concurrency.most
    {
        reasons.push(reason(
            "CONCURRENCY",
            format!(
                "{} of its concurrency group '{}' run, {} may",
                standing.group_running, concurrency.group, concurrency.most
            ),
        ));
    }
    let fitting: Vec<&Verdict> = agents
        .iter()
        .filter(|verdict| {
            verdict
                .refused
                .as_ref()
                .is_none_or(|it| it.code != "LABELS")
        })
        .collect();
    if agents.is_empty() {
        let text = "no agent serves its project: `muster agents create NAME` makes one";
        reasons.push(reason("NO_AGENT", text));
    } else if fitting.is_empty() {
        reasons.push(reason("NO_MATCH", "no agent has the labels of its target"));
    } else if fitting.iter().all(|verdict| verdict.refused.is_some()) {
        let text = match fitting.as_slice() {
            [one] => format!("the only agent that fits is {}", one.agent),
            many => format!("none of the {} agents that fit takes it now", many.len()),
        };
        reasons.push(reason("NO_ROOM", text));
    }
    if reasons.is_empty() && standing.before > 0 {
        let many = if standing.before >= MOST_COUNTED {
            "or more "
        } else {
            ""
        };
        let text = format!("{} {many}of its project come before it", standing.before);
        reasons.push(reason("TURN", text));
    }
    reasons
}

/// What holds up one that has an agent, or had.
fn placed(execution: &Execution, attempt: Option<&Attempt>, now: Timestamp) -> Vec<Reason> {
    let mut reasons = Vec::new();
    let state = execution.state();
    if let Some(attempt) = attempt.filter(|attempt| attempt.status == Status::Live)
        && attempt.lease_expire_time < now
    {
        reasons.push(reason(
            "AGENT_AWAY",
            format!(
                "agent {} has not been heard of since before {}; it counts as lost at {}",
                attempt.agent_name, attempt.lease_expire_time, attempt.lose_time
            ),
        ));
    }
    if !execution.reason.is_empty() || !execution.message.is_empty() {
        let text = match execution.message.as_str() {
            "" => execution.reason.clone(),
            message => format!("{}: {message}", execution.reason),
        };
        let code = if state.is_terminal() { "ENDED" } else { "TOLD" };
        reasons.push(reason(code, text));
    }
    let ended = attempt.is_some_and(|attempt| attempt.log_ended);
    let deleted = execution.logs_delete_time.is_some();
    if state.is_terminal() && ended && !deleted && !execution.log.complete {
        let name = &execution.display_name;
        reasons.push(reason(
            "LOG_INCOMPLETE",
            format!(
                "its log is not complete: `muster events {name}` tells what was found, `muster logs \
                 {name}` has what is there"
            ),
        ));
    }
    if let Some(deadline) = execution.deadline
        && let Some(due) = timer::due(&execution.lifecycle)
    {
        let text = match due {
            timer::Due::Start => format!("its first step must begin before {deadline}"),
            timer::Due::Run => format!("its steps must end before {deadline}"),
            timer::Due::Grace => format!("it is told to end, and killed at {deadline}"),
            timer::Due::Force => format!("it is killed, and given up at {deadline}"),
        };
        reasons.push(reason("DEADLINE", text));
    }
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_label_that_does_not_fit_is_named_with_what_is_wanted() {
        let labels = BTreeMap::from([("zone".to_owned(), "west".to_owned())]);
        let mut target = Target::default();
        assert_eq!(misfit(&target, &labels), None);
        target.not = [("zone".to_owned(), vec!["west".to_owned()])].into();
        assert_eq!(
            misfit(&target, &labels).as_deref(),
            Some("its label zone is 'west', which is not wanted")
        );
        target.matches = [(
            "zone".to_owned(),
            vec!["east".to_owned(), "north".to_owned()],
        )]
        .into();
        assert_eq!(
            misfit(&target, &labels).as_deref(),
            Some("its label zone is 'west', wanted is east or north")
        );
        target.matches = [("gpu".to_owned(), vec!["yes".to_owned()])].into();
        assert_eq!(
            misfit(&target, &labels).as_deref(),
            Some("it has no label gpu, wanted is yes")
        );
    }
}

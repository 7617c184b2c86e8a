//! What the workflow says of attempts that end badly, of their deadlines, and of those with whom
//! it shares its turn.

use std::time::Duration;

use crate::duration;
use crate::problem::{Problem, Problems};
use crate::schema::{Spec, Text};
use crate::suggest;

/// Most further attempts of each kind.
pub const MAX_RETRIES: u32 = 100;
/// Longest name of a concurrency group, in bytes.
pub(super) const MAX_GROUP: usize = 200;
/// Most places of a concurrency group.
pub(super) const MAX_PLACES: u32 = 10_000;

/// What the workflow says of attempts that end badly, and how long stages may take. What it does
/// not say is left to the project.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Policy {
    /// After a lost agent.
    pub lost_agent: Option<LostAgent>,
    /// How long an agent may be away.
    pub lost_agent_after: Option<Duration>,
    /// Whether an interrupted attempt is followed by another one.
    pub rerun_interrupted: Option<bool>,
    /// Further attempts after those that the infrastructure ended.
    pub infrastructure_retries: Option<u32>,
    /// Further attempts after those that failed.
    pub test_retries: Option<u32>,
    /// How long an attempt may take until its first step.
    pub start_timeout: Option<Duration>,
    /// How long the steps may take.
    pub run_timeout: Option<Duration>,
    /// How long an attempt that is told to end may take.
    pub stop_grace: Option<Duration>,
}

/// What becomes of a begun attempt whose agent is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LostAgent {
    /// It is waited for.
    Wait,
    /// Another attempt follows.
    Rerun,
    /// The execution ends.
    Fail,
}

/// With whom a run shares its turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Concurrency {
    /// Name of the group in the project.
    pub group: String,
    /// How many of it may run; at least 1.
    pub most: u32,
    /// Older ones that are too many are ended.
    pub cancel_in_progress: bool,
}

/// Reads the policy of a spec.
pub(super) fn policy(spec: &Spec, problems: &mut Problems) -> Policy {
    let recovery = &spec.execution.recovery;
    let timeouts = &spec.timeouts;
    let mut wait = |text: &Option<Text>| time(text.as_ref(), problems);
    let (start_timeout, run_timeout, stop_grace) = (
        wait(&timeouts.initialization),
        wait(&timeouts.run),
        wait(&timeouts.grace),
    );
    let lost_agent_after = wait(&recovery.lost_agent_after);
    let mut retries = |text: &Option<Text>| number(text.as_ref(), 0, MAX_RETRIES, problems);
    let infrastructure_retries = retries(&recovery.infrastructure_retries);
    let test_retries = retries(&recovery.test_retries);
    Policy {
        lost_agent: choice(
            recovery.lost_agent.as_ref(),
            &[
                ("wait", LostAgent::Wait),
                ("rerun", LostAgent::Rerun),
                ("fail", LostAgent::Fail),
            ],
            problems,
        ),
        lost_agent_after,
        rerun_interrupted: choice(
            recovery.interrupted.as_ref(),
            &[("rerun", true), ("fail", false)],
            problems,
        ),
        infrastructure_retries,
        test_retries,
        start_timeout,
        run_timeout,
        stop_grace,
    }
}

/// Reads the concurrency group of a spec.
pub(super) fn concurrency(spec: &Spec, problems: &mut Problems) -> Option<Concurrency> {
    let said = &spec.concurrency;
    let most = number(said.max.as_ref(), 1, MAX_PLACES, problems);
    let group = said.group.as_ref()?;
    if group.text.len() > MAX_GROUP || group.text.chars().any(char::is_control) {
        let text = format!("expected at most {MAX_GROUP} bytes without control characters");
        problems.push(Problem::new(&group.place, text));
    }
    Some(Concurrency {
        group: group.text.clone(),
        most: most.unwrap_or(1),
        cancel_in_progress: said.cancel_in_progress.unwrap_or(false),
    })
}

/// A duration above zero.
pub(super) fn time(text: Option<&Text>, problems: &mut Problems) -> Option<Duration> {
    let text = text.filter(|text| text.is_said())?;
    let refused = match duration::parse(&text.text) {
        Ok(wait) if !wait.is_zero() => return Some(wait),
        Ok(_) => "expected more than 0s: nothing happens at once".to_owned(),
        Err(error) => error.to_string(),
    };
    problems.push(Problem::new(&text.place, refused));
    None
}

fn number(text: Option<&Text>, least: u32, most: u32, problems: &mut Problems) -> Option<u32> {
    let text = text.filter(|text| text.is_said())?;
    match text.text.trim().parse::<u32>() {
        Ok(number) if (least..=most).contains(&number) => return Some(number),
        _ => {}
    }
    let found: String = text.text.chars().take(60).collect();
    let message = format!("expected a whole number from {least} to {most}, found `{found}`");
    problems.push(Problem::new(&text.place, message));
    None
}

fn choice<T: Copy>(
    text: Option<&Text>,
    allowed: &[(&str, T)],
    problems: &mut Problems,
) -> Option<T> {
    let text = text?;
    let found = allowed.iter().find(|(name, _)| *name == text.text);
    if found.is_none() {
        let names: Vec<&str> = allowed.iter().map(|(name, _)| *name).collect();
        let shown: String = text.text.chars().take(60).collect();
        let mut problem = Problem::new(&text.place, format!("unknown value `{shown}`"));
        problem.cure = suggest::advice(&text.text, &names);
        problems.push(problem);
    }
    found.map(|(_, value)| *value)
}

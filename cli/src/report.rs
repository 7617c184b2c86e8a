//! What became of a run, for people: one line for a step, and the summary at the end.

use std::{collections::HashMap, time::Duration};

use jiff::Timestamp;
use muster_proto::v1::{Artifact, Execution, StepResult, execution::State, step_result};

use crate::{
    json,
    terminal::{Style, Terminal, columns, escape, measure},
    view::LogProof,
};

/// Artifacts that a summary names at most.
const MAX_ARTIFACTS: usize = 20;
/// How the conductor says that a condition was false.
const CONDITION: &str = "its condition is false: ";
/// Widest name of a step for which the others are indented.
const MAX_NAME: usize = 40;

/// Whether a step's state is never left again.
pub(crate) const fn is_over(state: step_result::State) -> bool {
    match state {
        step_result::State::Passed
        | step_result::State::Failed
        | step_result::State::TimedOut
        | step_result::State::Skipped
        | step_result::State::Aborted
        | step_result::State::Canceled => true,
        step_result::State::Unspecified
        | step_result::State::Queued
        | step_result::State::Running
        | step_result::State::Paused => false,
    }
}

/// The names of a step and of those that hold it: `build › compile`.
pub(crate) fn path(steps: &[StepResult], reference: &str) -> String {
    let mut names = Vec::new();
    let mut wanted = reference;
    // A chain of parents is never longer than the list.
    for _ in 0..=steps.len() {
        let Some(step) = steps.iter().find(|step| step.reference == wanted) else {
            break;
        };
        names.push(title(step));
        wanted = &step.parent;
    }
    if names.is_empty() {
        return escape::visible(reference);
    }
    names.reverse();
    names.join(" › ")
}

/// The steps that hold this one, the nearest first.
pub(crate) fn holders<'a>(steps: &'a [StepResult], reference: &'a str) -> Vec<&'a str> {
    let parents: HashMap<&str, &str> = steps
        .iter()
        .map(|step| (step.reference.as_str(), step.parent.as_str()))
        .collect();
    let mut wanted = reference;
    let mut holders = Vec::new();
    while let Some(&parent) = parents.get(wanted)
        && !parent.is_empty()
        && holders.len() < steps.len()
    {
        wanted = parent;
        holders.push(parent);
    }
    holders
}

/// How many steps hold this one.
pub(crate) fn depth(steps: &[StepResult], reference: &str) -> usize {
    holders(steps, reference).len()
}

/// The steps that hold no others.
pub(crate) fn leaves(steps: &[StepResult]) -> Vec<&StepResult> {
    let parents: std::collections::HashSet<&str> =
        steps.iter().map(|step| step.parent.as_str()).collect();
    steps
        .iter()
        .filter(|step| !parents.contains(step.reference.as_str()))
        .collect()
}

/// The result of a step in one line, under `title`.
pub(crate) fn step_line(step: &StepResult, title: &str, terminal: &Terminal) -> String {
    let (mark, style) = mark(step);
    let mark = terminal.paint(style, mark);
    let details = details(step);
    let time = step_time(step).map_or_else(String::new, |time| format!("  {time}"));
    let details = match details.as_str() {
        "" => String::new(),
        text => format!("  {text}"),
    };
    format!(
        "{mark} {title}{}",
        terminal.paint(Style::Dim, &format!("{time}{details}"))
    )
}

/// The steps as an indented list.
pub(crate) fn steps(steps: &[StepResult], terminal: &Terminal) -> String {
    let rows: Vec<_> = steps
        .iter()
        .map(|step| {
            let indent = "  ".repeat(depth(steps, &step.reference));
            (step, format!("{indent}{}", title(step)), indent.len())
        })
        .collect();
    let width = rows.iter().map(|(_, title, _)| columns(title)).max();
    let width = width.unwrap_or(0).min(MAX_NAME);
    let mut text = String::new();
    for (step, title, indent) in rows {
        let (mark, style) = mark(step);
        let mark = terminal.paint(style, mark);
        let (space, name) = title.split_at(indent);
        let fill = " ".repeat(width.saturating_sub(columns(&title)));
        let time = step_time(step).unwrap_or_default();
        let mut details = details(step);
        if is_skipped_with_parent(steps, step) {
            details.clear();
        }
        let details = terminal.paint(style_of_details(step), &details);
        let line = format!("  {space}{mark} {name}{fill}  {time:>8}  {details}");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Whether a step was skipped only because the one that holds it was.
pub(crate) fn is_skipped_with_parent(steps: &[StepResult], step: &StepResult) -> bool {
    let skipped = |step: &StepResult| step.state() == step_result::State::Skipped;
    let mut parents = steps.iter();
    skipped(step) && parents.any(|other| other.reference == step.parent && skipped(other))
}

/// The heading of a summary: state, name, duration, reason.
pub(crate) fn heading(execution: &Execution, terminal: &Terminal) -> String {
    let state = execution.state();
    let word = json::state(state).replace('_', " ");
    let mut text = terminal.paint(state_style(state), &word);
    let name = terminal.paint(Style::Bold, &escape::visible(&execution.display_name));
    text.push_str(&format!("  {name}"));
    let start = json::time(execution.start_time.as_ref());
    let finish = json::time(execution.finish_time.as_ref());
    if let Some(time) = measure::between(start, finish) {
        text.push_str(&format!("  in {}", measure::duration(time)));
    }
    text.push('\n');
    if state != State::Passed && !(execution.message.is_empty() && execution.reason.is_empty()) {
        let why = why(&execution.reason, &execution.message);
        text.push_str(&format!("  {why}\n"));
    }
    text
}

/// The summary of a finished run.
pub(crate) fn summary(
    execution: &Execution,
    artifacts: &[Artifact],
    proof: Option<&LogProof>,
    terminal: &Terminal,
) -> String {
    let mut text = heading(execution, terminal);
    if !execution.steps.is_empty() {
        text.push('\n');
        text.push_str(&steps(&execution.steps, terminal));
    }
    text.push('\n');
    text.push_str(&ending(execution, artifacts, proof, terminal));
    text
}

/// What a run left behind, and where to look.
pub(crate) fn ending(
    execution: &Execution,
    artifacts: &[Artifact],
    proof: Option<&LogProof>,
    terminal: &Terminal,
) -> String {
    let mut text = artifact_lines(artifacts, terminal);
    text.push_str(&log_line(execution, proof, terminal));
    let name = escape::visible(&execution.display_name);
    let mut look = format!("muster logs {name}");
    if !artifacts.is_empty() {
        look.push_str(&format!(" · muster artifacts {name} --download DIR"));
    }
    text.push_str(&terminal.paint(Style::Dim, &format!("  look again: {look}")));
    text.push('\n');
    text
}

fn artifact_lines(artifacts: &[Artifact], terminal: &Terminal) -> String {
    if artifacts.is_empty() {
        return String::new();
    }
    let total = artifacts.iter().fold(0_i64, |sum, artifact| {
        sum.saturating_add(artifact.size_bytes)
    });
    let count = match artifacts.len() {
        1 => "1 file".to_owned(),
        count => format!("{count} files"),
    };
    let mut text = format!("  artifacts  {count}, {}\n", measure::size(total));
    for artifact in artifacts.iter().take(MAX_ARTIFACTS) {
        let size = measure::size(artifact.size_bytes);
        let size = terminal.paint(Style::Dim, &format!("{size:>9}"));
        let path = escape::visible(&artifact.path);
        text.push_str(&format!("           {size}  {path}\n"));
    }
    if let Some(more) = artifacts.len().checked_sub(MAX_ARTIFACTS + 1) {
        text.push_str(&format!("                      and {} more\n", more + 1));
    }
    text
}

fn log_line(execution: &Execution, proof: Option<&LogProof>, terminal: &Terminal) -> String {
    let stored = execution.log.clone().unwrap_or_default();
    let end = proof.and_then(|proof| proof.end.as_ref());
    let size = end.map_or(stored.size_bytes, |end| end.size_bytes);
    let sha256 = end.map_or(&stored.sha256, |end| &end.sha256);
    let complete = end.map_or(stored.complete, |end| end.complete);
    let (style, verdict) = match (proof, complete) {
        (Some(proof), _) if proof.verified => (Style::Green, "verified"),
        (Some(_), true) => (Style::Red, "did not come here whole"),
        (None, true) => (Style::Green, "whole on the server"),
        (_, false) => (Style::Yellow, "not complete"),
    };
    let digest = match sha256.get(..12) {
        Some(short) => format!(", sha256 {short}…"),
        None => String::new(),
    };
    let verdict = terminal.paint(style, verdict);
    format!("  log        {}{digest}, {verdict}\n", measure::size(size))
}

/// The reason in words, or its code when there are none.
pub(crate) fn why(reason: &str, message: &str) -> String {
    match message {
        "" => escape::visible(reason),
        words => escape::visible(words),
    }
}

/// The colour of a state.
pub(crate) const fn state_style(state: State) -> Style {
    match state {
        State::Passed => Style::Green,
        State::Failed | State::Aborted | State::TimedOut => Style::Red,
        State::Canceled => Style::Yellow,
        State::Running | State::Finishing | State::Paused => Style::Cyan,
        State::Unspecified | State::Queued | State::Assigned | State::Preparing => Style::Plain,
    }
}

fn title(step: &StepResult) -> String {
    let name = match step.display_name.as_str() {
        "" => &step.reference,
        name => name,
    };
    escape::visible(name)
}

/// A step that does not count is never as red as one that does.
fn mark(step: &StepResult) -> (&'static str, Style) {
    let bad = match step.optional {
        true => Style::Yellow,
        false => Style::Red,
    };
    match step.state() {
        step_result::State::Passed => ("✓", Style::Green),
        step_result::State::Failed | step_result::State::TimedOut | step_result::State::Aborted => {
            ("✗", bad)
        }
        step_result::State::Canceled => ("✗", Style::Yellow),
        step_result::State::Skipped => ("–", Style::Dim),
        step_result::State::Running | step_result::State::Paused => ("▸", Style::Cyan),
        step_result::State::Queued | step_result::State::Unspecified => ("·", Style::Dim),
    }
}

fn style_of_details(step: &StepResult) -> Style {
    match mark(step) {
        (_, Style::Red) => Style::Red,
        (_, Style::Yellow) => Style::Yellow,
        _ => Style::Dim,
    }
}

fn step_time(step: &StepResult) -> Option<String> {
    let start = json::time(step.start_time.as_ref())?;
    let finish: Timestamp = json::time(step.finish_time.as_ref())?;
    let time: Duration = measure::between(Some(start), Some(finish))?;
    Some(measure::duration(time))
}

fn details(step: &StepResult) -> String {
    let mut parts = Vec::new();
    let state = step.state();
    let told = !(step.reason.is_empty() && step.message.is_empty());
    let condition = step.message.strip_prefix(CONDITION);
    if let (step_result::State::Skipped, Some(condition)) = (state, condition) {
        parts.push(format!(
            "skipped, condition: {}",
            escape::visible(condition)
        ));
    } else if state != step_result::State::Passed && told {
        parts.push(why(&step.reason, &step.message));
    } else if state == step_result::State::Passed && step.negative {
        parts.push("failed, as it should".to_owned());
    } else if let (step_result::State::Failed, Some(code)) = (state, step.exit_code) {
        parts.push(format!("exit code {code}"));
    } else if !matches!(
        state,
        step_result::State::Passed | step_result::State::Failed | step_result::State::Running
    ) {
        parts.push(json::step_state(state).replace('_', " "));
    }
    if step.tries > 1 {
        parts.push(format!("{} tries", step.tries));
    }
    let bad = !matches!(
        state,
        step_result::State::Passed | step_result::State::Skipped
    );
    if step.optional && bad && is_over(state) {
        parts.push("optional, does not count".to_owned());
    }
    parts.join(" · ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(reference: &str, parent: &str, state: step_result::State) -> StepResult {
        StepResult {
            reference: reference.into(),
            parent: parent.into(),
            display_name: format!("step {reference}"),
            state: state.into(),
            ..StepResult::default()
        }
    }

    #[test]
    fn a_path_names_all_parents() {
        let passed = step_result::State::Passed;
        let steps = [step("s1", "", passed), step("s1.1", "s1", passed)];
        assert_eq!(path(&steps, "s1.1"), "step s1 › step s1.1");
        assert_eq!(path(&steps, "s9"), "s9");
        assert_eq!(depth(&steps, "s1.1"), 1);
        assert_eq!(leaves(&steps).len(), 1);
    }

    #[test]
    fn parents_in_a_circle_end() {
        let passed = step_result::State::Passed;
        let steps = [step("a", "b", passed), step("b", "a", passed)];
        assert!(path(&steps, "a").contains("step b"));
        assert_eq!(depth(&steps, "a"), 2);
    }

    #[test]
    fn an_optional_failure_says_that_it_does_not_count() {
        let mut step = step("s1", "", step_result::State::Failed);
        step.optional = true;
        step.exit_code = Some(3);
        step.tries = 2;
        assert_eq!(
            step_line(&step, "flaky", &Terminal::plain()),
            "✗ flaky  exit code 3 · 2 tries · optional, does not count"
        );
    }

    #[test]
    fn a_summary_never_obeys_control_characters() {
        let mut step = step("s1", "", step_result::State::Failed);
        step.display_name = "a\x1b[2J".into();
        step.message = "b\x07\nc".into();
        let execution = Execution {
            display_name: "x\x1b]0;t\x07-1".into(),
            state: State::Failed.into(),
            message: "m\x1bc".into(),
            steps: vec![step],
            ..Execution::default()
        };
        let artifact = Artifact {
            path: "p\x1b[1m".into(),
            ..Artifact::default()
        };
        let text = summary(&execution, &[artifact], None, &Terminal::plain());
        assert!(
            text.chars().all(|c| c == '\n' || !c.is_control()),
            "{text:?}"
        );
    }

    #[test]
    fn only_a_log_that_came_here_whole_is_verified() {
        let execution = Execution::default();
        let line =
            |proof: Option<LogProof>| log_line(&execution, proof.as_ref(), &Terminal::plain());
        assert!(line(None).contains("not complete"));
        assert!(line(Some(LogProof::default())).contains("not complete"));
        let end = muster_proto::v1::LogEnd {
            size_bytes: 3,
            sha256: "abcdefabcdefabcdef".into(),
            complete: true,
        };
        let proof = |verified| {
            Some(LogProof {
                end: Some(end.clone()),
                verified,
            })
        };
        assert!(line(proof(false)).contains("did not come here whole"));
        assert!(line(proof(true)).contains("verified"));
    }
}

//! Steps for people: their tree, one line for each, and what became of them.

use std::{collections::HashMap, time::Duration};

use jiff::Timestamp;
use muster_proto::v1::{StepResult, step_result};

use super::why;
use crate::{
    json,
    terminal::{Style, Terminal, columns, escape, measure},
};

/// How the conductor says that a condition was false.
const CONDITION: &str = "its condition is false: ";
/// Reason of a step that passed although tests of it failed, all in quarantine.
const QUARANTINED: &str = "QUARANTINED";
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
pub(crate) fn line(step: &StepResult, title: &str, terminal: &Terminal) -> String {
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
pub(crate) fn list(steps: &[StepResult], terminal: &Terminal) -> String {
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
        step_result::State::Running => ("▸", Style::Cyan),
        step_result::State::Paused => ("‖", Style::Yellow),
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

/// How long a step was paused.
pub(crate) fn paused(step: &StepResult) -> Duration {
    let paused = step.paused_duration.as_ref();
    paused
        .and_then(|paused| Duration::try_from(*paused).ok())
        .unwrap_or_default()
}

/// How long a step was at work.
fn step_time(step: &StepResult) -> Option<String> {
    let start = json::time(step.start_time.as_ref())?;
    let finish: Timestamp = json::time(step.finish_time.as_ref())?;
    let time: Duration = measure::between(Some(start), Some(finish))?;
    Some(measure::duration(time.saturating_sub(paused(step))))
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
    } else if state == step_result::State::Passed && step.reason == QUARANTINED {
        parts.push(escape::visible(&step.message));
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
    let paused = paused(step);
    if !paused.is_zero() && is_over(state) {
        parts.push(format!("paused for {}", measure::duration(paused)));
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
            line(&step, "flaky", &Terminal::plain()),
            "✗ flaky  exit code 3 · 2 tries · optional, does not count"
        );
    }
}

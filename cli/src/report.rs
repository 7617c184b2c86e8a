//! What became of a run, for people: the summary at the end. Steps are in [`step`].

pub(crate) mod step;

use muster_proto::v1::{Artifact, Execution, execution::State};

use crate::{
    json,
    terminal::{Style, Terminal, escape, measure},
    view::LogProof,
};

/// Children that a summary names at most.
const MAX_CHILDREN: usize = 30;
/// Outputs that are shown at most, and how many characters of each.
const MAX_OUTPUTS: usize = 20;
const MAX_OUTPUT_LENGTH: usize = 100;
/// Artifacts that a summary names at most.
const MAX_ARTIFACTS: usize = 20;

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

/// The summary of a finished run; `tests` is what is said of its tests, or nothing.
pub(crate) fn summary(
    execution: &Execution,
    (artifacts, tests): (&[Artifact], &str),
    proof: Option<&LogProof>,
    terminal: &Terminal,
) -> String {
    let mut text = heading(execution, terminal);
    if !execution.steps.is_empty() {
        text.push('\n');
        text.push_str(&step::list(&execution.steps, terminal));
    }
    text.push_str(&children(execution, terminal));
    text.push('\n');
    text.push_str(tests);
    text.push_str(&ending(execution, artifacts, proof, terminal));
    text
}

/// What the steps of an execution gave out, by their names in expressions; nothing when that is
/// nothing.
pub(crate) fn outputs(execution: &Execution, terminal: &Terminal) -> String {
    let given = execution.outputs.iter();
    let given = given.map(|output| (format!("output.{}", output.name), output.json.as_str()));
    let files = execution.steps.iter().flat_map(|step| {
        let mut files: Vec<_> = step.outputs.iter().collect();
        files.sort();
        files
            .into_iter()
            .map(|(file, text)| (format!("step.{}.outputs.{file}", step.id), text.as_str()))
    });
    let all: Vec<(String, &str)> = given.chain(files).collect();
    let mut text = String::new();
    for (name, value) in all.iter().take(MAX_OUTPUTS) {
        let mut short: String = value.chars().take(MAX_OUTPUT_LENGTH).collect();
        if short.len() < value.len() {
            short.push('…');
        }
        let name = terminal.paint(Style::Dim, &escape::visible(name));
        let value = escape::visible(short.trim_end());
        text.push_str(&format!("           {name} = {value}\n"));
    }
    if let Some(more) = all.len().checked_sub(MAX_OUTPUTS + 1) {
        text.push_str(&format!("           and {} more\n", more + 1));
    }
    match text.as_str() {
        "" => text,
        lines => format!("\n  outputs\n{lines}"),
    }
}

/// What an execution has started, below a line of its own; nothing when that is nothing.
pub(crate) fn children(execution: &Execution, terminal: &Terminal) -> String {
    let all = &execution.children;
    if all.is_empty() {
        return String::new();
    }
    let passed = |child: &&Execution| child.state() == State::Passed;
    let good = all.iter().filter(passed).count();
    let mut text = format!("\n  children   {good} of {} passed\n", all.len());
    // What did not pass is worth a line before the others.
    let (good, bad): (Vec<_>, Vec<_>) = all.iter().partition(passed);
    for child in bad.iter().chain(&good).take(MAX_CHILDREN) {
        let state = child.state();
        let word = json::state(state).replace('_', " ");
        let word = terminal.paint(state_style(state), &format!("{word:>9}"));
        let name = escape::visible(&child.display_name);
        let origin = child.origin.clone().unwrap_or_default();
        let mut about = json::role(origin.role()).to_owned();
        if !origin.description.is_empty() {
            about.push_str(&format!(", {}", escape::visible(&origin.description)));
        }
        if origin.taken_over {
            about.push_str(", taken over");
        }
        let about = terminal.paint(Style::Dim, &about);
        text.push_str(&format!("           {word}  {name}  {about}\n"));
    }
    if let Some(more) = all.len().checked_sub(MAX_CHILDREN + 1) {
        text.push_str(&format!("                      and {} more\n", more + 1));
    }
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
        State::Running | State::Finishing => Style::Cyan,
        State::Paused => Style::Yellow,
        State::Unspecified | State::Queued | State::Assigned | State::Preparing => Style::Plain,
    }
}

#[cfg(test)]
mod tests {
    use muster_proto::v1::{StepResult, step_result};

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
        let text = summary(&execution, (&[artifact], ""), None, &Terminal::plain());
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

//! Shows a run as it goes: the log under a heading for each step, the result of each step behind
//! its output, and a status line on a terminal. The summary at the end is [`crate::report`]'s.

pub(crate) mod screen;

use std::{
    collections::{HashSet, VecDeque},
    time::{Duration, Instant},
};

use muster_proto::v1::{
    Execution, LogChunk, LogEnd, LogGap, StepResult, execution::State, log_chunk::Stream,
    step_result,
};
use sha2::{Digest as _, Sha256};

use crate::{
    follow::is_terminal,
    report,
    terminal::{Style, escape, measure},
};
use screen::Screen;

/// State and log travel apart: the result of a step is shown when its output was silent so long.
const SETTLE: Duration = Duration::from_millis(1500);
/// A state before the first step is worth a line only when it lasts.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long output waits for the result of the step before it.
const HOLD: Duration = Duration::from_millis(700);
/// Chunks that wait at most.
const MAX_EARLY: usize = 64;

/// What is known of the log that came here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LogProof {
    /// The server's last word; none when it never came.
    pub(crate) end: Option<LogEnd>,
    /// The bytes that came here have the length and the SHA-256 of the conductor.
    pub(crate) verified: bool,
}

/// A run on the screen.
#[derive(Debug)]
pub(crate) struct View {
    screen: Screen,
    execution: Execution,
    /// Output that came before the state that it stands behind.
    early: VecDeque<LogChunk>,
    /// Step whose output was shown last.
    current: Option<String>,
    /// Steps whose result is shown.
    settled: HashSet<String>,
    last_chunk: Instant,
    begin: Instant,
    /// What is going on, and since when.
    activity: (String, Instant),
    announced: bool,
    digest: Sha256,
    size: u64,
    broken: bool,
    end: Option<LogEnd>,
}

impl View {
    /// Shows `execution` on `screen`.
    pub(crate) fn new(screen: Screen, execution: Execution, now: Instant) -> Self {
        Self {
            screen,
            execution,
            early: VecDeque::new(),
            current: None,
            settled: HashSet::new(),
            last_chunk: now,
            begin: now,
            activity: (String::new(), now),
            announced: false,
            digest: Sha256::new(),
            size: 0,
            broken: false,
            end: None,
        }
    }

    /// The newest version of the execution.
    pub(crate) const fn execution(&self) -> &Execution {
        &self.execution
    }

    /// Tells a newer version of the execution.
    pub(crate) fn update(&mut self, execution: Execution, now: Instant) {
        let queued_again =
            execution.state() == State::Queued && self.execution.state() != State::Queued;
        if queued_again {
            self.remark(Style::Yellow, "queued again");
            self.settled.clear();
        }
        for warning in &execution.warnings {
            if !self.execution.warnings.contains(warning) {
                self.remark(Style::Yellow, &format!("warning: {warning}"));
            }
        }
        self.execution = execution;
        self.show_early(false);
        self.tick(now);
    }

    /// Shows the remarks that the execution had from its beginning.
    pub(crate) fn open(&mut self, line: &str) {
        self.screen.line(line);
        for warning in self.execution.warnings.clone() {
            self.remark(Style::Yellow, &format!("warning: {warning}"));
        }
    }

    /// Tells the next bytes of the log.
    pub(crate) fn chunk(&mut self, chunk: LogChunk, now: Instant) {
        self.broken |= i64::try_from(self.size) != Ok(chunk.offset);
        self.digest.update(&chunk.data);
        self.size += chunk.data.len() as u64;
        self.last_chunk = now;
        self.early.push_back(chunk);
        self.show_early(self.early.len() >= MAX_EARLY);
    }

    /// Tells that bytes of the log are lost.
    pub(crate) fn gap(&mut self, gap: &LogGap) {
        self.broken = true;
        self.show_early(true);
        let lost = match gap.size_bytes {
            0 => "log".to_owned(),
            bytes => format!("{} of the log are missing", measure::size(bytes)),
        };
        self.remark(Style::Red, &format!("{lost}: {}", gap.message));
    }

    /// Tells that the log is over.
    pub(crate) fn end(&mut self, end: LogEnd) {
        self.end = Some(end);
    }

    /// Shows a line of the program itself.
    pub(crate) fn remark(&mut self, style: Style, text: &str) {
        let text = escape::visible_lines(text);
        let line = self.screen.terminal().paint(style, &text);
        self.screen.line(&line);
    }

    /// Shows a remark that must be known also where nothing else is shown.
    pub(crate) fn warning(&mut self, text: &str) {
        if self.screen.is_silent() {
            use std::io::Write as _;
            // Nobody reads it: the run goes on.
            let _unread = writeln!(std::io::stderr(), "{}", escape::visible_lines(text));
        } else {
            self.remark(Style::Yellow, text);
        }
    }

    /// Shows what only needs time to pass.
    pub(crate) fn tick(&mut self, now: Instant) {
        if now.duration_since(self.last_chunk) >= HOLD {
            self.show_early(true);
        }
        if now.duration_since(self.last_chunk) >= SETTLE {
            self.settle(self.execution.steps.len());
        }
        let activity = self.describe();
        if activity != self.activity.0 {
            self.activity = (activity, now);
            self.announced = false;
        }
        let lasts = now.duration_since(self.activity.1);
        if self.screen.is_live() {
            let status = self.status(lasts, now.duration_since(self.begin));
            self.screen.status(&status);
        } else if !self.announced && lasts >= PATIENCE && self.before_first_step() {
            self.announced = true;
            let text = self.activity.0.clone();
            self.remark(Style::Dim, &text);
        }
    }

    /// Ends the show; returns what is known of the log and the newest version.
    pub(crate) fn close(mut self) -> (Execution, LogProof) {
        self.show_early(true);
        self.settle(self.execution.steps.len());
        self.screen.close();
        let digest = hexadecimal(&self.digest.finalize());
        let verified = self.end.as_ref().is_some_and(|end| {
            end.complete
                && !self.broken
                && end.sha256 == digest
                && u64::try_from(end.size_bytes) == Ok(self.size)
        });
        let proof = LogProof {
            end: self.end,
            verified,
        };
        (self.execution, proof)
    }

    /// Shows the output that came early, as far as its turn has come, or all of it.
    fn show_early(&mut self, all: bool) {
        while let Some(chunk) = self.early.pop_front() {
            if !all && !self.has_turn(&chunk.step) {
                self.early.push_front(chunk);
                return;
            }
            self.show(&chunk);
        }
    }

    /// Whether it is known how the steps before this one ended. The log is in order, so they have
    /// ended; but state and log travel apart.
    fn has_turn(&self, reference: &str) -> bool {
        if reference.is_empty() || self.current.as_deref() == Some(reference) {
            return true;
        }
        let steps = &self.execution.steps;
        let Some(index) = self.index(reference) else {
            return false;
        };
        let holders = report::step::holders(steps, reference);
        steps.iter().take(index).all(|step| {
            report::step::is_over(step.state()) || holders.contains(&step.reference.as_str())
        })
    }

    fn show(&mut self, chunk: &LogChunk) {
        let remark = chunk.stream() == Stream::System;
        if remark && self.is_told(chunk) {
            return;
        }
        if self.current.as_ref() != Some(&chunk.step) {
            let index = self.index(&chunk.step);
            self.settle(index.unwrap_or(0));
            if !chunk.step.is_empty() {
                let title = report::step::path(&self.execution.steps, &chunk.step);
                let mark = self.screen.terminal().paint(Style::Cyan, "▸");
                let title = self.screen.terminal().paint(Style::Bold, &title);
                self.screen.line(&format!("{mark} {title}"));
            }
            self.current = Some(chunk.step.clone());
        }
        if remark {
            let text = String::from_utf8_lossy(&chunk.data).into_owned();
            for line in text.lines() {
                self.remark(Style::Dim, &format!("· {line}"));
            }
        } else {
            self.screen.log(&chunk.data);
        }
    }

    /// Whether a remark of the conductor says what the result of its step says anyway.
    fn is_told(&self, remark: &LogChunk) -> bool {
        let mut steps = self.execution.steps.iter();
        steps.any(|step| {
            step.reference == remark.step
                && remark
                    .data
                    .strip_prefix(step.display_name.as_bytes())
                    .is_some_and(|rest| rest.starts_with(b": "))
        })
    }

    fn index(&self, reference: &str) -> Option<usize> {
        let mut steps = self.execution.steps.iter();
        steps.position(|step| step.reference == reference)
    }

    /// Shows the results of finished steps before position `limit`, in the order of their ends.
    fn settle(&mut self, limit: usize) {
        let mut ready: Vec<StepResult> = self
            .execution
            .steps
            .iter()
            .take(limit)
            .filter(|step| {
                report::step::is_over(step.state()) && !self.settled.contains(&step.reference)
            })
            .cloned()
            .collect();
        ready.sort_by_key(|step| {
            let finish = step.finish_time.as_ref();
            let depth = report::step::depth(&self.execution.steps, &step.reference);
            (
                finish.map_or((i64::MAX, 0), |time| (time.seconds, time.nanos)),
                std::cmp::Reverse(depth),
            )
        });
        for step in ready {
            if !report::step::is_skipped_with_parent(&self.execution.steps, &step) {
                let title = report::step::path(&self.execution.steps, &step.reference);
                let line = report::step::line(&step, &title, &self.screen.terminal());
                self.screen.line(&line);
            }
            self.settled.insert(step.reference);
            self.current = None;
        }
    }

    fn before_first_step(&self) -> bool {
        matches!(
            self.execution.state(),
            State::Queued | State::Assigned | State::Preparing
        )
    }

    /// What is going on, without times.
    fn describe(&self) -> String {
        let state = self.execution.state();
        let running = self
            .execution
            .steps
            .iter()
            .rfind(|step| step.state() == step_result::State::Running);
        if let (State::Running, Some(step)) = (state, running) {
            let title = report::step::path(&self.execution.steps, &step.reference);
            let again = match step.tries {
                ..=1 => String::new(),
                tries => format!(" (try {tries})"),
            };
            return format!("{title}{again}");
        }
        let mut text = crate::json::state(state).replace('_', " ");
        if state == State::Finishing {
            text = "bringing back log and artifacts".to_owned();
        }
        let why = [&self.execution.message, &self.execution.reason];
        if let Some(why) = why.into_iter().find(|why| !why.is_empty()) {
            text.push_str(&format!(": {}", escape::visible(why)));
        }
        text
    }

    fn status(&self, lasts: Duration, total: Duration) -> String {
        let state = self.execution.state();
        if is_terminal(state) {
            return String::new();
        }
        let leaves = report::step::leaves(&self.execution.steps);
        let over = leaves
            .iter()
            .filter(|step| report::step::is_over(step.state()))
            .count();
        let mut text = format!("{}/{} ", over, leaves.len());
        if self.execution.cancel_requested {
            text.push_str("canceling · ");
        }
        if state == State::Paused {
            text.push_str("paused, `muster resume` lets it go on · ");
        }
        text.push_str(&format!(
            "{} {} · total {}",
            self.activity.0,
            clock(lasts),
            clock(total)
        ));
        text
    }
}

/// `0:07`, `12:03`, `1:02:03`.
fn clock(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match hours {
        0 => format!("{minutes}:{seconds:02}"),
        _ => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

/// Lower-case hexadecimal.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;

//! Where readers of formats put what they find: it bounds and cleans texts, counts, and hands cases
//! out. It knows no format.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::{
    broken::{Place, Reason, Step},
    case::{Case, Output, Property},
    format::Format,
    limits::Limits,
    metric::{Metric, MetricKind, Statistic, Threshold, Unit},
    number,
    summary::{SuiteOutput, Summary},
    text::{self, Clip},
    warning::{Warning, WarningKind},
};

pub(crate) struct Collector<'a> {
    pub(crate) limits: &'a Limits,
    pub(crate) summary: Summary,
    sink: &'a mut dyn FnMut(Case),
    warnings: BTreeMap<WarningKind, (u64, Option<usize>)>,
    /// Why a visitor stops that can only tell a parser so.
    pub(crate) stopped: Option<Reason>,
}

impl<'a> Collector<'a> {
    pub(crate) fn new(format: Format, limits: &'a Limits, sink: &'a mut dyn FnMut(Case)) -> Self {
        Self {
            limits,
            summary: Summary::new(format),
            sink,
            warnings: BTreeMap::new(),
            stopped: None,
        }
    }

    /// The summary, with warnings.
    pub(crate) fn finish(mut self) -> Summary {
        let warnings = self.warnings.into_iter();
        self.summary.warnings = warnings
            .map(|(kind, (count, most))| Warning {
                kind,
                count,
                most: most.and_then(|most| u64::try_from(most).ok()),
            })
            .collect();
        self.summary
    }

    /// Hands a case out.
    pub(crate) fn case(&mut self, mut case: Case, place: Place) -> Step<()> {
        if self.summary.counts.total() >= self.limits.cases {
            let most = usize::try_from(self.limits.cases).unwrap_or(usize::MAX);
            return Err(place.limit("cases", "cases", most));
        }
        case.tries = case.tries.max(1);
        self.summary.counts.add(&case);
        (self.sink)(case);
        Ok(())
    }

    /// Counts something that is worth a warning.
    pub(crate) fn warn(&mut self, kind: WarningKind) {
        self.warn_at(kind, None);
    }

    fn warn_at(&mut self, kind: WarningKind, most: Option<usize>) {
        self.warnings.entry(kind).or_insert((0, most)).0 += 1;
    }

    /// A name: clean, without white space around it, bounded.
    pub(crate) fn name(&mut self, text: &str) -> String {
        let mut name = text::clean(text.trim().as_bytes());
        if text::cut_name(&mut name, self.limits.name) {
            self.warn_at(WarningKind::NameCut, Some(self.limits.name));
        }
        name
    }

    /// A name that may be missing.
    pub(crate) fn optional_name(&mut self, text: &str) -> Option<String> {
        Some(self.name(text)).filter(|name| !name.is_empty())
    }

    /// A path; `None` if there is none, or a longer one than anybody would open.
    pub(crate) fn path(&mut self, text: &str) -> Option<String> {
        let path = text::clean(text.trim().as_bytes());
        if path.len() > self.limits.path {
            self.warn_at(WarningKind::PathDropped, Some(self.limits.path));
            return None;
        }
        Some(path).filter(|path| !path.is_empty())
    }

    /// A message; `None` if it is blank.
    pub(crate) fn message(&mut self, text: &str) -> Option<String> {
        let mut message = text::clean(text.trim().as_bytes());
        if text::cut(&mut message, self.limits.message) {
            self.warn_at(WarningKind::MessageCut, Some(self.limits.message));
        }
        Some(message).filter(|message| !message.is_empty())
    }

    /// What collects a stack.
    pub(crate) fn clip(&self) -> Clip {
        Clip::ends(self.limits.stack)
    }

    /// What collects a message.
    pub(crate) fn message_clip(&self) -> Clip {
        // One more, so that `message` sees that something is missing.
        Clip::head(self.limits.message.saturating_add(1))
    }

    /// A stack; `None` if it is blank.
    pub(crate) fn stack(&mut self, clip: Clip) -> Option<String> {
        if clip.is_blank() {
            return None;
        }
        let (text, cut) = clip.finish();
        if cut {
            self.warn_at(WarningKind::StackCut, Some(self.limits.stack));
        }
        // Indentation of the first line is part of it, blank lines before it are not.
        let text = text.trim_end();
        let first = text.find(|c: char| !c.is_whitespace())?;
        let from = text[..first].rfind('\n').map_or(0, |end| end + 1);
        Some(text[from..].to_owned())
    }

    /// A stack of a text that is there as a whole.
    pub(crate) fn stack_of(&mut self, text: &str) -> Option<String> {
        let mut clip = self.clip();
        clip.push(text.as_bytes());
        self.stack(clip)
    }

    /// A duration in seconds, as text.
    pub(crate) fn seconds(&mut self, text: &str) -> Option<Duration> {
        let duration = number::seconds(text);
        if duration.is_none() && !text.trim().is_empty() {
            self.warn(WarningKind::DurationIgnored);
        }
        duration
    }

    /// A duration in milliseconds.
    pub(crate) fn millis(&mut self, millis: Option<f64>) -> Option<Duration> {
        let duration = number::from_millis(millis?);
        if duration.is_none() {
            self.warn(WarningKind::DurationIgnored);
        }
        duration
    }

    /// Adds an attachment to a case.
    pub(crate) fn attach(&mut self, attachments: &mut Vec<String>, path: &str) {
        let Some(path) = self.path(path) else { return };
        if attachments.contains(&path) {
            return;
        }
        if attachments.len() >= self.limits.attachments {
            self.warn_at(
                WarningKind::AttachmentDropped,
                Some(self.limits.attachments),
            );
            return;
        }
        attachments.push(path);
    }

    /// A property, bounded.
    pub(crate) fn property(&mut self, name: &str, value: &str) -> Property {
        let name = self.name(name);
        let mut value = text::clean(value.trim().as_bytes());
        if text::cut(&mut value, self.limits.property) {
            self.warn_at(WarningKind::PropertyCut, Some(self.limits.property));
        }
        Property { name, value }
    }

    /// Adds a property to a bounded list. One that is there already is not added again.
    pub(crate) fn put(&mut self, list: &mut Vec<Property>, name: &str, value: &str) {
        let property = self.property(name, value);
        if property.name.is_empty() || list.contains(&property) {
            return;
        }
        if list.len() >= self.limits.properties {
            self.warn_at(WarningKind::PropertyDropped, Some(self.limits.properties));
            return;
        }
        list.push(property);
    }

    /// Adds a property of the whole report.
    pub(crate) fn put_summary(&mut self, name: &str, value: &str) {
        let mut list = std::mem::take(&mut self.summary.properties);
        self.put(&mut list, name, value);
        self.summary.properties = list;
    }

    /// Adds where output of a case stands.
    pub(crate) fn output(&mut self, outputs: &mut Vec<Output>, output: Output) {
        if outputs.len() >= self.limits.outputs {
            self.warn_at(WarningKind::OutputDropped, Some(self.limits.outputs));
            return;
        }
        outputs.push(output);
    }

    /// Adds where output of a suite stands.
    pub(crate) fn suite_output(&mut self, suite: &str, output: Output) {
        if self.summary.outputs.len() >= self.limits.outputs {
            self.warn_at(WarningKind::OutputDropped, Some(self.limits.outputs));
            return;
        }
        let suite = self.name(suite);
        self.summary.outputs.push(SuiteOutput { suite, output });
    }

    /// Notes a time that is told of the whole or of a part.
    pub(crate) fn started(&mut self, time: Option<Timestamp>) {
        let Some(time) = time else { return };
        let earliest = self.summary.started.map_or(time, |other| other.min(time));
        self.summary.started = Some(earliest);
    }

    /// Notes a part of the whole duration.
    pub(crate) fn took(&mut self, duration: Option<Duration>) {
        let Some(duration) = duration else { return };
        let before = self.summary.duration.unwrap_or_default();
        self.summary.duration = Some(before.saturating_add(duration));
    }

    /// Adds a metric. A value that is not finite is none.
    pub(crate) fn metric(
        &mut self,
        (name, labels): (&str, &[Property]),
        (kind, unit): (MetricKind, Unit),
        statistic: Statistic,
        value: f64,
    ) {
        if !value.is_finite() {
            return;
        }
        if self.summary.metrics.len() >= self.limits.metrics {
            self.warn_at(WarningKind::MetricDropped, Some(self.limits.metrics));
            return;
        }
        let name = self.name(name);
        self.summary.metrics.push(Metric {
            name,
            labels: labels.to_vec(),
            kind,
            unit,
            statistic,
            value,
        });
    }

    /// Adds a threshold.
    pub(crate) fn threshold(&mut self, metric: &str, expression: &str, passed: bool) {
        if self.summary.thresholds.len() >= self.limits.metrics {
            self.warn_at(WarningKind::MetricDropped, Some(self.limits.metrics));
            return;
        }
        let (metric, expression) = (self.name(metric), self.name(expression));
        self.summary.thresholds.push(Threshold {
            metric,
            expression,
            passed,
        });
    }

    /// Counts an attribute that was cut.
    pub(crate) fn attributes_cut(&mut self, count: u64) {
        for _ in 0..count.min(1) {
            self.warn_at(WarningKind::AttributeCut, Some(self.limits.attribute));
        }
        if let Some((total, _)) = self.warnings.get_mut(&WarningKind::AttributeCut) {
            *total += count.saturating_sub(1);
        }
    }

    /// Counts a line that was too long.
    pub(crate) fn line_skipped(&mut self) {
        self.warn_at(WarningKind::LineSkipped, Some(self.limits.line));
    }

    /// Notes that a label had no room.
    pub(crate) fn metric_dropped(&mut self) {
        self.warn_at(WarningKind::MetricDropped, Some(self.limits.metrics));
    }
}

//! `muster metrics`: what load tests have measured, of one execution or of two side by side.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use clap::Args;
use muster_proto::v1::{Report, report};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    arguments::Global,
    client::Client,
    error::Error,
    exit::Exit,
    json,
    place::Session,
    terminal::{Style, Terminal, escape, table::Table},
};

/// How long to wait for reports that are being read, and between two looks.
const PATIENCE: Duration = Duration::from_secs(20);
const AGAIN: Duration = Duration::from_millis(200);

/// Formats of load tests.
const FORMATS: [&str; 5] = [
    "k6-summary",
    "jmeter-statistics",
    "jtl-csv",
    "jtl-xml",
    "artillery",
];

const EXAMPLES: &str = "\
Examples:
  muster metrics load-8
  muster metrics load-8 --name http_req_duration
  muster metrics load-8 --compare load-7      both values, and the change in percent
  muster metrics load-8 --compare load-7 --output json | jq '.metrics[] | select(.change > 10)'

Exit code 1 means that a threshold is crossed; with --compare, one that held in the older one, or that
the older one has not. It is 1 too when a report of a load test is broken or not read yet.";

/// Show what load tests measured: k6, JMeter, Artillery
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Name such as load-8, or id
    #[arg(value_name = "EXECUTION")]
    id: String,
    /// An older execution, to be compared with
    #[arg(long, value_name = "BASE")]
    compare: Option<String>,
    /// Only metrics with this part in their names
    #[arg(long, value_name = "PART")]
    name: Option<String>,
}

/// The part of a report's summary that is shown here.
#[derive(Debug, Default, Deserialize)]
struct Summary {
    #[serde(default)]
    metrics: Vec<Metric>,
    #[serde(default)]
    thresholds: Vec<Threshold>,
}

/// A number of a report.
#[derive(Debug, Clone, Deserialize)]
struct Metric {
    name: String,
    #[serde(default)]
    labels: Vec<Label>,
    kind: String,
    unit: String,
    /// A word, or an object of one entry.
    statistic: Value,
    value: f64,
}

#[derive(Debug, Clone, Deserialize)]
struct Label {
    name: String,
    value: String,
}

/// A condition of a report.
#[derive(Debug, Clone, Deserialize)]
struct Threshold {
    metric: String,
    expression: String,
    passed: bool,
}

/// All that the reports of an execution measured.
#[derive(Debug, Default)]
struct Measured {
    /// By report.
    parts: Vec<(String, Summary)>,
    pending: usize,
    /// Paths of reports of load tests that could not be read to their ends.
    broken: Vec<String>,
}

/// A metric as it is shown.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    report: String,
    name: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<String, String>,
    kind: String,
    unit: String,
    statistic: String,
    /// Absent when only the older execution has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<f64>,
    /// Of the older execution.
    #[serde(skip_serializing_if = "Option::is_none")]
    base: Option<f64>,
    /// In percent of the older one.
    #[serde(skip_serializing_if = "Option::is_none")]
    change: Option<f64>,
}

/// A threshold as it is shown.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Condition {
    report: String,
    metric: String,
    expression: String,
    passed: bool,
    /// In the older execution, if it has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    base_passed: Option<bool>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    metrics: Vec<Row>,
    thresholds: Vec<Condition>,
    pending_reports: usize,
    /// Of the execution itself: what they say may be not all.
    broken_reports: Vec<String>,
}

/// What makes two metrics, or two thresholds, the same: the path of the report, and words.
type Key = (String, String);

/// Runs `muster metrics`.
pub(crate) async fn execute(arguments: Arguments, global: &Global) -> Result<Exit, Error> {
    let session = Session::open(global).await?;
    let read = async {
        let new = read(&session.client, &arguments.id).await?;
        let base = match &arguments.compare {
            Some(base) => Some(read(&session.client, base).await?),
            None => None,
        };
        Ok::<_, Error>((new, base))
    };
    let found = read.await;
    session.close().await;
    let (new, base) = found?;
    let part = arguments.name.as_deref().unwrap_or_default();
    let document = document(&new, base.as_ref(), part);
    let crossed = document.thresholds.iter();
    let crossed = crossed.filter(|one| !one.passed && one.base_passed != Some(false));
    let is_known = new.pending == 0 && new.broken.is_empty();
    let exit = match crossed.count() {
        0 if is_known => Exit::Success,
        _ => Exit::Failed,
    };
    if global.json() {
        json::print(&document)?;
        return Ok(exit);
    }
    if document.metrics.is_empty() && document.thresholds.is_empty() {
        super::note(global, "no metrics in the reports of load tests");
    } else {
        let bases = arguments.compare.as_deref();
        super::print(&text(&document, bases, &global.stdout()))?;
    }
    if document.pending_reports > 0 {
        let text = format!("{} reports are not read yet", document.pending_reports);
        super::note(global, &text);
    }
    for path in &document.broken_reports {
        let text = format!(
            "{} is broken: see muster tests --reports",
            escape::visible(path)
        );
        super::note(global, &text);
    }
    Ok(exit)
}

/// What the reports of an execution have measured; those that are being read are waited for.
async fn read(client: &Client, id: &str) -> Result<Measured, Error> {
    let began = Instant::now();
    loop {
        let reports = super::test_cases::reports::list(client, id).await?;
        let measured = measured(&reports);
        if measured.pending == 0 || began.elapsed() > PATIENCE {
            return Ok(measured);
        }
        tokio::time::sleep(AGAIN).await;
    }
}

fn measured(reports: &[Report]) -> Measured {
    let mut measured = Measured::default();
    for report in reports {
        if report.state() == report::State::Pending {
            measured.pending += 1;
        }
        if report.state() == report::State::Broken && FORMATS.contains(&report.format.as_str()) {
            measured.broken.push(report.path.clone());
        }
        let summary: Summary = serde_json::from_str(&report.summary_json).unwrap_or_default();
        if !(summary.metrics.is_empty() && summary.thresholds.is_empty()) {
            measured.parts.push((report.path.clone(), summary));
        }
    }
    measured
}

fn document(new: &Measured, base: Option<&Measured>, part: &str) -> Document {
    // Where each has one report its path makes no difference.
    let alone = new.parts.len() == 1 && base.is_some_and(|base| base.parts.len() == 1);
    let metrics_of = |measured| all_of(measured, alone, |it| &it.metrics, words_of_metric);
    let (own, bases) = (metrics_of(Some(new)), metrics_of(base));
    let pairs = pairs(&bases, &own);
    let mut metrics: Vec<Row> = Vec::new();
    for (key, path, metric) in &own {
        let base = pairs.get(key).map(|base| base.value);
        metrics.push(Row {
            value: Some(metric.value),
            base,
            change: base.and_then(|base| change(base, metric.value)),
            ..row(path, metric)
        });
    }
    // What only the older one has comes behind.
    for (key, path, metric) in &bases {
        if !pairs.contains_key(key) {
            let base = Some(metric.value);
            metrics.push(Row {
                base,
                ..row(path, metric)
            });
        }
    }
    let thresholds_of = |measured| all_of(measured, alone, |it| &it.thresholds, words_of_threshold);
    let (own, bases) = (thresholds_of(Some(new)), thresholds_of(base));
    let pairs = self::pairs(&bases, &own);
    let thresholds = own.iter().map(|(key, path, threshold)| Condition {
        report: (*path).to_owned(),
        metric: threshold.metric.clone(),
        expression: threshold.expression.clone(),
        passed: threshold.passed,
        base_passed: pairs.get(key).map(|base| base.passed),
    });
    metrics.retain(|row| row.name.contains(part));
    Document {
        metrics,
        thresholds: thresholds.filter(|one| one.metric.contains(part)).collect(),
        pending_reports: new.pending + base.map_or(0, |base| base.pending),
        broken_reports: new.broken.clone(),
    }
}

/// All metrics, or all thresholds, of an execution, each with the path of its report and what makes it the
/// same in another execution.
fn all_of<T>(
    measured: Option<&Measured>,
    alone: bool,
    of: fn(&Summary) -> &Vec<T>,
    words: fn(&T) -> String,
) -> Vec<(Key, &str, &T)> {
    let parts = measured.into_iter().flat_map(|measured| &measured.parts);
    let all = parts.flat_map(|(path, summary)| {
        of(summary).iter().map(move |one| {
            let place = if alone { "" } else { path };
            ((place.to_owned(), words(one)), path.as_str(), one)
        })
    });
    all.collect()
}

fn words_of_metric(metric: &Metric) -> String {
    let (labels, statistic) = (labels(&labels_of(metric)), statistic(&metric.statistic));
    format!("{}{labels}{statistic}", metric.name)
}

fn words_of_threshold(threshold: &Threshold) -> String {
    format!("{} {}", threshold.metric, threshold.expression)
}

/// The older ones that there is one newer one for. What is there more than once has none: workers leave
/// reports of one path in the order in which they end, so nobody knows which of them belongs to which of
/// another execution.
fn pairs<'a, T>(older: &[(Key, &str, &'a T)], newer: &[(Key, &str, &T)]) -> HashMap<Key, &'a T> {
    let mut pairs = HashMap::new();
    let mut counts: HashMap<&Key, [usize; 2]> = HashMap::new();
    for (key, ..) in newer {
        counts.entry(key).or_default()[1] += 1;
    }
    for (key, _, one) in older {
        counts.entry(key).or_default()[0] += 1;
        pairs.insert(key.clone(), *one);
    }
    pairs.retain(|key, _| counts.get(key) == Some(&[1, 1]));
    pairs
}

fn row(path: &str, metric: &Metric) -> Row {
    Row {
        report: path.to_owned(),
        name: metric.name.clone(),
        labels: labels_of(metric),
        kind: metric.kind.clone(),
        unit: metric.unit.clone(),
        statistic: statistic(&metric.statistic),
        value: None,
        base: None,
        change: None,
    }
}

fn labels_of(metric: &Metric) -> BTreeMap<String, String> {
    let labels = metric.labels.iter();
    labels
        .map(|label| (label.name.clone(), label.value.clone()))
        .collect()
}

/// `p95` of a percentile, else its word.
fn statistic(statistic: &Value) -> String {
    match (statistic.as_str(), statistic["percentile"].as_f64()) {
        (Some(word), _) => word.to_owned(),
        (_, Some(percent)) => format!("p{percent}"),
        _ => String::new(),
    }
}

/// From the older value to the newer one, in percent; of nothing there is no percent.
fn change(base: f64, new: f64) -> Option<f64> {
    let change = (new - base) / base.abs() * 100.0;
    change.is_finite().then_some(change)
}

fn labels(labels: &BTreeMap<String, String>) -> String {
    match labels.is_empty() {
        true => String::new(),
        false => {
            let labels = labels.iter().map(|(name, value)| format!("{name}={value}"));
            format!("{{{}}}", labels.collect::<Vec<_>>().join(","))
        }
    }
}

fn text(document: &Document, base: Option<&str>, terminal: &Terminal) -> String {
    let first = document.metrics.first();
    let many = document
        .metrics
        .iter()
        .any(|row| first.is_some_and(|first| first.report != row.report));
    let mut heading = vec!["METRIC", "STATISTIC", "VALUE"];
    if base.is_some() {
        heading.extend(["BASE", "CHANGE"]);
    }
    if many {
        heading.push("REPORT");
    }
    let mut table = Table::new(&heading);
    for row in &document.metrics {
        let number =
            |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |it| number(it, &row.unit));
        let mut cells = vec![
            format!("{}{}", row.name, labels(&row.labels)),
            row.statistic.clone(),
            number(row.value),
        ];
        if base.is_some() {
            let change = row
                .change
                .map_or_else(|| "-".to_owned(), |it| format!("{it:+.1}%"));
            cells.extend([number(row.base), change]);
        }
        if many {
            cells.push(row.report.clone());
        }
        table.row(cells.into_iter().map(Into::into));
    }
    let mut text = match table.is_empty() {
        true => String::new(),
        false => table.render(terminal),
    };
    for one in &document.thresholds {
        let (style, word) = match (one.passed, one.base_passed) {
            (true, Some(false)) => (Style::Green, "holds again"),
            (true, _) => (Style::Green, "holds"),
            (false, Some(true)) => (Style::Red, "crossed, which held before"),
            (false, Some(false)) => (Style::Red, "crossed, as before"),
            (false, None) => (Style::Red, "crossed"),
        };
        let condition = escape::visible(&format!("{} {}", one.metric, one.expression));
        let word = terminal.paint(style, word);
        text.push_str(&format!("threshold {condition}: {word}\n"));
    }
    text
}

/// A value with its unit, no longer than it is of use.
fn number(value: f64, unit: &str) -> String {
    let (value, unit) = match unit {
        "ratio" => (value * 100.0, "%"),
        "milliseconds" => (value, " ms"),
        "bytes" => (value, " B"),
        "per-second" => (value, "/s"),
        "bytes-per-second" => (value, " B/s"),
        _ => (value, ""),
    };
    let digits = match value.abs() {
        size if size >= 100.0 => 1,
        size if size >= 1.0 => 2,
        _ => 4,
    };
    let text = format!("{value:.digits$}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    let text = match text {
        "" | "-" | "-0" => "0",
        text => text,
    };
    format!("{text}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(path: &str, summary: &str) -> Report {
        Report {
            path: path.to_owned(),
            state: report::State::Read.into(),
            summary_json: summary.to_owned(),
            ..Report::default()
        }
    }

    const OLD: &str = r#"{
        "metrics": [
            {"name": "http_reqs", "kind": "counter", "unit": "none", "statistic": "count", "value": 100.0},
            {"name": "http_req_duration", "labels": [{"name": "url", "value": "/"}], "kind": "trend",
             "unit": "milliseconds", "statistic": {"percentile": 95.0}, "value": 200.0},
            {"name": "gone", "kind": "gauge", "unit": "bytes", "statistic": "value", "value": 7.0}
        ],
        "thresholds": [{"metric": "http_req_duration", "expression": "p(95)<250", "passed": true}]
    }"#;
    const NEW: &str = r#"{
        "metrics": [
            {"name": "http_reqs", "kind": "counter", "unit": "none", "statistic": "count", "value": 50.0},
            {"name": "http_req_duration", "labels": [{"name": "url", "value": "/"}], "kind": "trend",
             "unit": "milliseconds", "statistic": {"percentile": 95.0}, "value": 300.0},
            {"name": "failed", "kind": "rate", "unit": "ratio", "statistic": "value", "value": 0.25}
        ],
        "thresholds": [{"metric": "http_req_duration", "expression": "p(95)<250", "passed": false}]
    }"#;

    #[test]
    fn two_executions_stand_side_by_side_whatever_their_only_reports_are_called() {
        let new = measured(&[report("b.json", NEW), report("junit.xml", "{}")]);
        let base = measured(&[report("a.json", OLD)]);
        let document = document(&new, Some(&base), "");
        let rows: Vec<_> = document
            .metrics
            .iter()
            .map(|row| (row.name.as_str(), row.value, row.base, row.change))
            .collect();
        assert_eq!(
            rows,
            [
                ("http_reqs", Some(50.0), Some(100.0), Some(-50.0)),
                ("http_req_duration", Some(300.0), Some(200.0), Some(50.0)),
                ("failed", Some(0.25), None, None),
                ("gone", None, Some(7.0), None),
            ]
        );
        assert_eq!(document.thresholds[0].base_passed, Some(true));
        let text = text(&document, Some("a"), &Terminal::plain());
        for told in [
            "http_req_duration{url=/}",
            "p95",
            "300 ms",
            "+50.0%",
            "25%",
            "threshold http_req_duration p(95)<250: crossed, which held before",
        ] {
            assert!(text.contains(told), "{told}: {text}");
        }
    }

    #[test]
    fn reports_of_several_workers_are_shown_and_not_compared() {
        let new = measured(&[report("k6.json", NEW), report("k6.json", OLD)]);
        let base = measured(&[report("k6.json", OLD), report("k6.json", OLD)]);
        let shown = document(&new, Some(&base), "http_reqs");
        let values: Vec<_> = shown
            .metrics
            .iter()
            .map(|row| (row.value, row.base, row.change))
            .collect();
        assert_eq!(
            values,
            [
                (Some(50.0), None, None),
                (Some(100.0), None, None),
                (None, Some(100.0), None),
                (None, Some(100.0), None),
            ]
        );
        assert_eq!(shown.thresholds, []);
        let all = document(&new, Some(&base), "");
        let told: Vec<_> = all
            .thresholds
            .iter()
            .map(|one| (one.passed, one.base_passed))
            .collect();
        assert_eq!(told, [(false, None), (true, None)]);
    }

    #[test]
    fn a_broken_report_of_a_load_test_is_told_and_others_are_not() {
        let broken = |path: &str, format: &str| Report {
            state: report::State::Broken.into(),
            format: format.to_owned(),
            ..report(path, "{}")
        };
        let new = measured(&[broken("k6.json", "k6-summary"), broken("a.xml", "junit")]);
        assert_eq!(document(&new, None, "").broken_reports, ["k6.json"]);
    }

    #[test]
    fn numbers_are_as_long_as_they_are_of_use() {
        assert_eq!(number(1234.56, "milliseconds"), "1234.6 ms");
        assert_eq!(number(0.0, "none"), "0");
        assert_eq!(number(-0.00001, "none"), "0");
        assert_eq!(number(100.0, "per-second"), "100/s");
        assert_eq!(number(0.0123, "ratio"), "1.23%");
        assert_eq!(change(0.0, 5.0), None);
        assert_eq!(change(-4.0, -5.0), Some(-25.0));
    }
}

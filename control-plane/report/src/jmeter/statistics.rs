//! `statistics.json` of JMeter's dashboard: an object for each label, and one for the total.

use serde_json::Value;

use crate::{
    broken::{Place, Reason, Step},
    collector::Collector,
    input::Input,
    json,
    metric::{MetricKind, Statistic, Unit},
};

/// The key of the total.
const TOTAL: &str = "Total";

/// A member: its name, the name of our metric, what it counts and how.
type Column = (&'static str, &'static str, MetricKind, Unit, Statistic);

/// `pct1` to `pct3` can be set to others; these are what they are when nobody does.
const COLUMNS: [Column; 13] = [
    (
        "sampleCount",
        "samples",
        MetricKind::Counter,
        Unit::None,
        Statistic::Count,
    ),
    (
        "errorCount",
        "errors",
        MetricKind::Counter,
        Unit::None,
        Statistic::Count,
    ),
    (
        "errorPct",
        "errors",
        MetricKind::Rate,
        Unit::Ratio,
        Statistic::Value,
    ),
    (
        "meanResTime",
        "elapsed",
        MetricKind::Trend,
        Unit::Milliseconds,
        Statistic::Mean,
    ),
    (
        "medianResTime",
        "elapsed",
        MetricKind::Trend,
        Unit::Milliseconds,
        Statistic::Median,
    ),
    (
        "minResTime",
        "elapsed",
        MetricKind::Trend,
        Unit::Milliseconds,
        Statistic::Min,
    ),
    (
        "maxResTime",
        "elapsed",
        MetricKind::Trend,
        Unit::Milliseconds,
        Statistic::Max,
    ),
    (
        "pct1ResTime",
        "elapsed",
        MetricKind::Trend,
        Unit::Milliseconds,
        Statistic::Percentile(90.0),
    ),
    (
        "pct2ResTime",
        "elapsed",
        MetricKind::Trend,
        Unit::Milliseconds,
        Statistic::Percentile(95.0),
    ),
    (
        "pct3ResTime",
        "elapsed",
        MetricKind::Trend,
        Unit::Milliseconds,
        Statistic::Percentile(99.0),
    ),
    (
        "throughput",
        "samples",
        MetricKind::Counter,
        Unit::PerSecond,
        Statistic::Rate,
    ),
    (
        "receivedKBytesPerSec",
        "received",
        MetricKind::Counter,
        Unit::BytesPerSecond,
        Statistic::Rate,
    ),
    (
        "sentKBytesPerSec",
        "sent",
        MetricKind::Counter,
        Unit::BytesPerSecond,
        Statistic::Rate,
    ),
];

/// Reads a document. Metrics of the total have no label.
pub(crate) fn read(input: Input<'_>, out: &mut Collector<'_>) -> Step<()> {
    out.summary.tool = Some("JMeter".to_owned());
    let document = json::document(input, out)?;
    let rows = document
        .as_object()
        .filter(|rows| rows.values().any(|row| row.get("sampleCount").is_some()));
    let Some(rows) = rows else {
        let place = Place {
            line: 1,
            offset: None,
        };
        return Err(place.fault(Reason::Unexpected {
            found: "another document stands".to_owned(),
            expected: "`sampleCount` of labels",
        }));
    };
    let mut rows: Vec<_> = rows.iter().collect();
    rows.sort_by_key(|(label, _)| (label.as_str() != TOTAL, label.as_str()));
    for (label, row) in rows {
        let labels = match label.as_str() {
            TOTAL => Vec::new(),
            _ => vec![out.property("label", label)],
        };
        for (member, name, kind, unit, statistic) in COLUMNS {
            let Some(value) = row.get(member).and_then(Value::as_f64) else {
                continue;
            };
            let value = match unit {
                Unit::BytesPerSecond => value * 1024.0,
                Unit::Ratio => value / 100.0,
                _ => value,
            };
            out.metric((name, &labels), (kind, unit), statistic, value);
        }
    }
    Ok(())
}

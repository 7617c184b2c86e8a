//! Artillery: what `--output` writes. The aggregate of the run is read; the periods in between are
//! passed over.

use serde_json::{Map, Value};

use crate::{
    broken::{Place, Reason, Step},
    collector::Collector,
    input::Input,
    json,
    metric::{MetricKind, Statistic, Unit},
    number, time,
};

/// Reads a document.
pub(crate) fn read(input: Input<'_>, out: &mut Collector<'_>) -> Step<()> {
    out.summary.tool = Some("Artillery".to_owned());
    let document = json::document(input, out)?;
    let Some(aggregate) = document.get("aggregate").and_then(Value::as_object) else {
        let place = Place {
            line: 1,
            offset: None,
        };
        return Err(place.fault(Reason::Unexpected {
            found: "another document stands".to_owned(),
            expected: "`aggregate` of Artillery",
        }));
    };
    let at = |key| aggregate.get(key).and_then(Value::as_f64);
    if let (Some(first), Some(last)) = (at("firstMetricAt"), at("lastMetricAt")) {
        out.started(time::from_epoch(first));
        out.summary.duration = number::from_millis(last - first);
    }
    for (name, value) in numbers(aggregate, "counters") {
        let unit = if name.ends_with("bytes") {
            Unit::Bytes
        } else {
            Unit::None
        };
        out.metric(
            (name, &[]),
            (MetricKind::Counter, unit),
            Statistic::Count,
            value,
        );
    }
    for (name, value) in numbers(aggregate, "rates") {
        let kind = (MetricKind::Gauge, Unit::PerSecond);
        out.metric((name, &[]), kind, Statistic::Rate, value);
    }
    if let Some(summaries) = aggregate.get("summaries").and_then(Value::as_object) {
        for (name, summary) in summaries {
            let Some(summary) = summary.as_object() else {
                continue;
            };
            for (key, value) in summary {
                if let (Some((statistic, unit)), Some(value)) = (statistic(key), value.as_f64()) {
                    out.metric((name, &[]), (MetricKind::Trend, unit), statistic, value);
                }
            }
        }
    }
    Ok(())
}

fn numbers<'d>(
    aggregate: &'d Map<String, Value>,
    key: &str,
) -> impl Iterator<Item = (&'d str, f64)> {
    let map = aggregate.get(key).and_then(Value::as_object);
    let members = map.into_iter().flatten();
    members.filter_map(|(name, value)| Some((name.as_str(), value.as_f64()?)))
}

/// `p50` is left out: it is the median.
fn statistic(key: &str) -> Option<(Statistic, Unit)> {
    let statistic = match key {
        "min" => Statistic::Min,
        "max" => Statistic::Max,
        "mean" => Statistic::Mean,
        "median" => Statistic::Median,
        "count" => return Some((Statistic::Count, Unit::None)),
        "p75" => Statistic::Percentile(75.0),
        "p90" => Statistic::Percentile(90.0),
        "p95" => Statistic::Percentile(95.0),
        "p99" => Statistic::Percentile(99.0),
        "p999" => Statistic::Percentile(99.9),
        _ => return None,
    };
    Some((statistic, Unit::Milliseconds))
}

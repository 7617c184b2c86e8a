//! k6: the summary at the end of a run, as `--summary-export` writes it and as `handleSummary` is given
//! it. They differ in where the numbers of a metric stand, and in what a threshold's flag means.

use serde_json::{Map, Value};

use crate::{
    broken::{Place, Reason, Step},
    case::Property,
    collector::Collector,
    input::Input,
    json,
    metric::{MetricKind, Statistic, Unit},
    number,
};

/// Reads a document.
pub(crate) fn read(input: Input<'_>, out: &mut Collector<'_>) -> Step<()> {
    out.summary.tool = Some("k6".to_owned());
    let document = json::document(input, out)?;
    let Some(metrics) = document.get("metrics").and_then(Value::as_object) else {
        let place = Place {
            line: 1,
            offset: None,
        };
        return Err(place.fault(Reason::Unexpected {
            found: "another document stands".to_owned(),
            expected: "`metrics` of k6",
        }));
    };
    let state = document.get("state");
    let millis = state.and_then(|state| state.get("testRunDurationMs")?.as_f64());
    out.summary.duration = millis.and_then(number::from_millis);
    // In the order of names: k6 writes another one each time.
    let mut sorted: Vec<_> = metrics.iter().collect();
    sorted.sort_by_key(|(name, _)| name.as_str());
    for (name, value) in sorted {
        if let Some(value) = value.as_object() {
            metric(out, name, value);
        }
    }
    if let Some(root) = document.get("root_group") {
        checks(out, root);
    }
    Ok(())
}

fn metric(out: &mut Collector<'_>, whole: &str, metric: &Map<String, Value>) {
    let (name, labels) = labels(out, whole);
    let values = metric.get("values").and_then(Value::as_object);
    let values = values.unwrap_or(metric);
    let kind = kind(metric, values);
    let unit = unit(metric, name, kind);
    let mut numbers: Vec<_> = values
        .iter()
        .filter_map(|(key, value)| Some((statistic(kind, key)?, value.as_f64()?)))
        .collect();
    numbers.sort_by(|(one, _), (other, _)| {
        one.partial_cmp(other).unwrap_or(std::cmp::Ordering::Equal)
    });
    for (statistic, value) in numbers {
        let unit = match (statistic, unit, kind) {
            (Statistic::Rate, Unit::Bytes, _) => Unit::BytesPerSecond,
            (Statistic::Rate, _, MetricKind::Counter) => Unit::PerSecond,
            (Statistic::Value, _, MetricKind::Rate) => Unit::Ratio,
            (Statistic::Count, Unit::Milliseconds, _)
            | (Statistic::Passes | Statistic::Fails, _, _) => Unit::None,
            (_, unit, _) => unit,
        };
        out.metric((name, &labels), (kind, unit), statistic, value);
    }
    let Some(thresholds) = metric.get("thresholds").and_then(Value::as_object) else {
        return;
    };
    let mut sorted: Vec<_> = thresholds.iter().collect();
    sorted.sort_by_key(|(expression, _)| expression.as_str());
    for (expression, value) in sorted {
        let passed = match value {
            // `--summary-export`: whether it was crossed.
            Value::Bool(crossed) => !crossed,
            other => other.get("ok").and_then(Value::as_bool).unwrap_or(false),
        };
        out.threshold(whole, expression, passed);
    }
}

/// The parts of `http_req_duration{name:cart,method:GET}`.
fn labels<'n>(out: &mut Collector<'_>, whole: &'n str) -> (&'n str, Vec<Property>) {
    let Some((name, tags)) = whole
        .strip_suffix('}')
        .and_then(|name| name.split_once('{'))
    else {
        return (whole, Vec::new());
    };
    let mut labels = Vec::new();
    for tag in tags.split(',') {
        let (tag, value) = tag.split_once(':').unwrap_or((tag, ""));
        out.put(&mut labels, tag, value);
    }
    (name, labels)
}

/// The kind; where it is not told, the numbers tell it.
fn kind(metric: &Map<String, Value>, values: &Map<String, Value>) -> MetricKind {
    match metric.get("type").and_then(Value::as_str) {
        Some("trend") => MetricKind::Trend,
        Some("rate") => MetricKind::Rate,
        Some("counter") => MetricKind::Counter,
        Some(_) => MetricKind::Gauge,
        None if values.contains_key("passes") => MetricKind::Rate,
        None if values.contains_key("rate") => MetricKind::Counter,
        None if values.contains_key("avg") || values.contains_key("med") => MetricKind::Trend,
        None => MetricKind::Gauge,
    }
}

/// The unit; where it is not told, by the names that k6 itself gives.
fn unit(metric: &Map<String, Value>, name: &str, kind: MetricKind) -> Unit {
    match metric.get("contains").and_then(Value::as_str) {
        Some("time") => Unit::Milliseconds,
        Some("data") => Unit::Bytes,
        Some(_) => Unit::None,
        None if matches!(name, "data_sent" | "data_received") => Unit::Bytes,
        None => {
            let own = [
                "http_req_",
                "iteration_",
                "group_",
                "grpc_req_",
                "ws_",
                "browser_web_vital_",
            ];
            let time = own.iter().any(|start| name.starts_with(start));
            match time && kind == MetricKind::Trend && name != "browser_web_vital_cls" {
                true => Unit::Milliseconds,
                false => Unit::None,
            }
        }
    }
}

fn statistic(kind: MetricKind, key: &str) -> Option<Statistic> {
    Some(match key {
        "avg" => Statistic::Mean,
        "min" => Statistic::Min,
        "med" => Statistic::Median,
        "max" => Statistic::Max,
        "count" => Statistic::Count,
        "rate" if kind == MetricKind::Rate => Statistic::Value,
        "rate" => Statistic::Rate,
        "value" => Statistic::Value,
        "passes" => Statistic::Passes,
        "fails" => Statistic::Fails,
        _ => {
            let number = key.strip_prefix("p(")?.strip_suffix(')')?;
            Statistic::Percentile(number.parse().ok().filter(|p| (0.0..=100.0).contains(p))?)
        }
    })
}

/// Checks of all groups: how often each held, and did not.
fn checks(out: &mut Collector<'_>, root: &Value) {
    let mut groups = vec![root];
    while let Some(group) = groups.pop() {
        for check in items(group.get("checks")) {
            let path = check
                .get("path")
                .and_then(Value::as_str)
                .unwrap_or_default();
            let label = out.property("check", path.trim_start_matches("::"));
            for (key, statistic) in [("passes", Statistic::Passes), ("fails", Statistic::Fails)] {
                if let Some(count) = check.get(key).and_then(Value::as_f64) {
                    let of = ("check", std::slice::from_ref(&label));
                    out.metric(of, (MetricKind::Rate, Unit::None), statistic, count);
                }
            }
        }
        let mut inner = items(group.get("groups"));
        inner.reverse();
        groups.extend(inner);
    }
}

/// Items of a list, or of an object by name: k6 writes either.
fn items(value: Option<&Value>) -> Vec<&Value> {
    match value {
        Some(Value::Array(items)) => items.iter().collect(),
        Some(Value::Object(map)) => map.values().collect(),
        _ => Vec::new(),
    }
}

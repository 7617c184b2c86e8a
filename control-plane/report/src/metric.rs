//! Metrics of load tests. How each tool's are read is in the tool's file.

use serde::Serialize;

use crate::case::Property;

/// One number of a load test.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Metric {
    /// Its name, as the tool writes it; of JMeter `elapsed`, `bytes` and the like.
    pub name: String,
    /// What narrows it: tags of k6, the label of JMeter's samples.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<Property>,
    /// How it is counted.
    pub kind: MetricKind,
    /// What the value is counted in.
    pub unit: Unit,
    /// Which number of the metric it is.
    pub statistic: Statistic,
    /// The value; finite.
    pub value: f64,
}

/// How a metric is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MetricKind {
    /// A sum.
    Counter,
    /// A last value.
    Gauge,
    /// A share of those that hold.
    Rate,
    /// A distribution.
    Trend,
}

/// What a value is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// Things, or what the tool does not tell.
    None,
    /// Milliseconds.
    Milliseconds,
    /// Bytes.
    Bytes,
    /// Things in a second.
    PerSecond,
    /// Bytes in a second.
    BytesPerSecond,
    /// A part of 1.
    Ratio,
}

/// Which number of a metric.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Statistic {
    /// The value of a gauge or a rate.
    Value,
    /// How many, or the sum of a counter.
    Count,
    /// How many in a second.
    Rate,
    /// How many held.
    Passes,
    /// How many did not hold.
    Fails,
    /// The least.
    Min,
    /// The greatest.
    Max,
    /// The mean.
    Mean,
    /// The median.
    Median,
    /// Below it are so many of a hundred.
    Percentile(f64),
}

/// A condition on a metric that the test sets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Threshold {
    /// The metric, with its labels, as the tool writes it.
    pub metric: String,
    /// The condition.
    pub expression: String,
    /// Whether it holds.
    pub passed: bool,
}

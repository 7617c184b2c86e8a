//! Samples of one label, added up in bounded memory.

use std::collections::BTreeMap;

use crate::{
    case::Property,
    collector::Collector,
    metric::{MetricKind, Statistic, Unit},
};

/// Bits of a time that are kept: a percentile is exact below 512 ms, and within 0.4 % above.
const BITS: u32 = 8;

/// One sample.
pub(super) struct Sample {
    /// When it began, in milliseconds since 1970.
    pub(super) at: Option<u64>,
    /// Milliseconds.
    pub(super) elapsed: u64,
    pub(super) success: bool,
    pub(super) received: u64,
    pub(super) sent: u64,
}

/// What is known of the samples of a label.
#[derive(Default)]
pub(super) struct Label {
    count: u64,
    errors: u64,
    sum: u64,
    min: Option<u64>,
    max: u64,
    received: u64,
    sent: u64,
    pub(super) first: Option<u64>,
    last: u64,
    /// Counts by time, in steps that grow with the time.
    times: BTreeMap<u64, u64>,
}

impl Label {
    pub(super) fn add(&mut self, sample: &Sample) {
        self.count += 1;
        self.errors += u64::from(!sample.success);
        self.sum = self.sum.saturating_add(sample.elapsed);
        self.min = Some(
            self.min
                .map_or(sample.elapsed, |min| min.min(sample.elapsed)),
        );
        self.max = self.max.max(sample.elapsed);
        self.received = self.received.saturating_add(sample.received);
        self.sent = self.sent.saturating_add(sample.sent);
        if let Some(at) = sample.at {
            self.first = Some(self.first.map_or(at, |first| first.min(at)));
            self.last = self.last.max(at.saturating_add(sample.elapsed));
        }
        *self.times.entry(step(sample.elapsed)).or_default() += 1;
    }

    /// How long all took, in milliseconds.
    pub(super) fn span(&self) -> Option<u64> {
        self.first.map(|first| self.last.saturating_sub(first))
    }

    /// The time below which so many of a hundred are, by the nearest rank.
    fn percentile(&self, percent: f64) -> Option<f64> {
        let rank = (percent / 100.0 * self.count as f64).ceil().max(1.0);
        let mut seen = 0_u64;
        for (time, count) in &self.times {
            seen += count;
            if seen as f64 >= rank {
                return Some((*time).min(self.max) as f64);
            }
        }
        None
    }

    pub(super) fn put(&self, labels: &[Property], out: &mut Collector<'_>) {
        if self.count == 0 {
            return;
        }
        let count = self.count as f64;
        let counter = (MetricKind::Counter, Unit::None);
        let trend = (MetricKind::Trend, Unit::Milliseconds);
        out.metric(("samples", labels), counter, Statistic::Count, count);
        out.metric(
            ("errors", labels),
            counter,
            Statistic::Count,
            self.errors as f64,
        );
        let rate = (MetricKind::Rate, Unit::Ratio);
        out.metric(
            ("errors", labels),
            rate,
            Statistic::Value,
            self.errors as f64 / count,
        );
        let elapsed = ("elapsed", labels);
        out.metric(elapsed, trend, Statistic::Mean, self.sum as f64 / count);
        out.metric(elapsed, trend, Statistic::Min, self.min.unwrap_or(0) as f64);
        out.metric(elapsed, trend, Statistic::Max, self.max as f64);
        for percent in [50.0, 90.0, 95.0, 99.0] {
            let statistic = match percent {
                50.0 => Statistic::Median,
                percent => Statistic::Percentile(percent),
            };
            if let Some(value) = self.percentile(percent) {
                out.metric(elapsed, trend, statistic, value);
            }
        }
        let Some(seconds) = self
            .span()
            .filter(|span| *span > 0)
            .map(|span| span as f64 / 1000.0)
        else {
            return;
        };
        let rate = (MetricKind::Counter, Unit::PerSecond);
        out.metric(("samples", labels), rate, Statistic::Rate, count / seconds);
        let rate = (MetricKind::Counter, Unit::BytesPerSecond);
        for (name, bytes) in [("received", self.received), ("sent", self.sent)] {
            out.metric(
                (name, labels),
                rate,
                Statistic::Rate,
                bytes as f64 / seconds,
            );
        }
    }
}

/// A time without its lowest bits, if it has more than are kept.
fn step(time: u64) -> u64 {
    let bits = u64::BITS - time.leading_zeros();
    let lost = bits.saturating_sub(BITS + 1);
    (time >> lost) << lost
}

#[cfg(test)]
mod tests {
    use super::{Label, Sample};

    fn label(times: impl Iterator<Item = u64>) -> Label {
        let mut label = Label::default();
        for (at, elapsed) in times.enumerate() {
            label.add(&Sample {
                at: u64::try_from(at).ok(),
                elapsed,
                success: true,
                received: 0,
                sent: 0,
            });
        }
        label
    }

    #[test]
    fn percentiles_are_exact_for_short_times_and_close_for_long_ones() {
        let short = label(1..=500);
        assert_eq!(short.percentile(50.0), Some(250.0));
        assert_eq!(short.percentile(99.0), Some(495.0));
        let long = label((1..=10_000).map(|n| n * 1000));
        let found = long.percentile(95.0).unwrap();
        assert!((found / 9_500_000.0 - 1.0).abs() < 0.004, "{found}");
        assert!(long.times.len() < 2000);
        assert_eq!(
            label([u64::MAX, u64::MAX].into_iter())
                .percentile(99.0)
                .map(|t| t > 1e19),
            Some(true)
        );
    }
}

//! JMeter: the statistics of its dashboard, and its samples, of which the statistics are made here.

mod label;
pub(crate) mod samples;
pub(crate) mod statistics;

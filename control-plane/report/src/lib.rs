//! Reports that test tools write, as rows: what a report is ([`recognise()`]), what stands in it
//! ([`parse()`]), and which test is the same one in two runs ([`Identity`]). Pure: it reads what the
//! caller's reader gives, takes no time from a clock, opens no file and follows no reference.
//!
//! A report is untrusted: a test writes it. Everything taken from it is bounded by [`Limits`], and a
//! report that is broken gives the cases before the place where it breaks, and says why it does.
//! Where reports are kept, and which rows of a store they become, is the caller's business.
//!
//! # Examples
//! ```
//! use muster_report::{Limits, State, parse, recognise};
//!
//! let file = br#"<testsuite name="cart"><testcase classname="Cart" name="sums"/></testsuite>"#;
//! let format = recognise(file, "junit.xml").ok_or("not a report")?;
//! let mut cases = Vec::new();
//! let outcome = parse(format, &file[..], &Limits::default(), &mut |case| cases.push(case))?;
//! assert!(outcome.broken.is_none());
//! assert_eq!(cases[0].state, State::Passed);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod artillery;
mod broken;
mod case;
mod collector;
mod ctrf;
mod cucumber;
mod fold;
mod format;
mod gotest;
mod identity;
mod input;
mod jmeter;
mod json;
mod junit;
mod k6;
mod limits;
mod lines;
mod metric;
mod number;
mod nunit;
mod parameters;
mod parse;
mod recognise;
mod summary;
mod tap;
mod text;
mod time;
mod warning;
mod xml;
mod xunit;

pub use broken::{Broken, Place, Reason};
pub use case::{Case, Output, Property, State, Stream};
pub use fold::{Folded, Folder, fold};
pub use format::Format;
pub use identity::Identity;
pub use limits::Limits;
pub use metric::{Metric, MetricKind, Statistic, Threshold, Unit};
pub use parse::{Outcome, parse};
pub use recognise::{HEAD, recognise};
pub use summary::{Counts, SuiteOutput, Summary};
pub use warning::{Warning, WarningKind};
pub use xml::output::output_text;

//! What was cut, left out or found odd in a report that could be read.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Something that was cut, left out or found odd, and how often.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// What.
    pub kind: WarningKind,
    /// How often; at least 1.
    pub count: u64,
    /// The bound, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub most: Option<u64>,
}

/// What was cut, left out or found odd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WarningKind {
    /// Names were cut at `name`.
    NameCut,
    /// Paths were left out, being longer than `path`.
    PathDropped,
    /// Messages were cut at `message`.
    MessageCut,
    /// Stacks were cut at `stack`.
    StackCut,
    /// Messages and stacks were left out, as all of them were longer than `texts`.
    TextDropped,
    /// Values of properties were cut at `property`.
    PropertyCut,
    /// Attributes of XML were cut at `attribute`.
    AttributeCut,
    /// There were more attachments of a case than `attachments`.
    AttachmentDropped,
    /// There were more properties than `properties`.
    PropertyDropped,
    /// There were more outputs than `outputs`.
    OutputDropped,
    /// There were more metrics, or labels of samples, than `metrics`.
    MetricDropped,
    /// Durations were no numbers from 0 on.
    DurationIgnored,
    /// Lines were longer than `line`.
    LineSkipped,
    /// Lines were not of the format.
    LineForeign,
    /// Samples could not be read.
    SampleSkipped,
    /// Tests were begun and never ended, in a package that ended well.
    TestUnfinished,
    /// A DOCTYPE was passed over; its entities are not expanded.
    DoctypeIgnored,
    /// The encoding that the file declares is not known; it was read as UTF-8.
    EncodingUnknown,
    /// Several reports stand one after another.
    SeveralReports,
    /// Text after the report was ignored.
    TextAfter,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.count;
        let text = match self.kind {
            WarningKind::NameCut => "names were cut",
            WarningKind::PathDropped => "paths were left out, longer than",
            WarningKind::MessageCut => "messages were cut",
            WarningKind::StackCut => "stacks were cut",
            WarningKind::TextDropped => {
                "messages and stacks were left out, all together longer than"
            }
            WarningKind::PropertyCut => "properties were cut",
            WarningKind::AttributeCut => "attributes were cut",
            WarningKind::AttachmentDropped => "attachments were left out",
            WarningKind::PropertyDropped => "properties were left out",
            WarningKind::OutputDropped => "outputs were left out",
            WarningKind::MetricDropped => "metrics were left out",
            WarningKind::DurationIgnored => "durations were ignored, being no numbers from 0 on",
            WarningKind::LineSkipped => "lines were skipped, longer than",
            WarningKind::LineForeign => "lines were ignored, being not of the format",
            WarningKind::SampleSkipped => "samples were ignored, as they can not be read",
            WarningKind::TestUnfinished => "tests were ignored, as they never ended",
            WarningKind::DoctypeIgnored => "DOCTYPE was passed over, its entities are not expanded",
            WarningKind::EncodingUnknown => "unknown encoding was read as UTF-8",
            WarningKind::SeveralReports => {
                "time another report followed in the same file, and was read as well"
            }
            WarningKind::TextAfter => "text after the report was ignored",
        };
        write!(f, "{count} {text}")?;
        let Some(most) = self.most else {
            return Ok(());
        };
        match self.kind {
            WarningKind::NameCut
            | WarningKind::MessageCut
            | WarningKind::StackCut
            | WarningKind::PropertyCut
            | WarningKind::AttributeCut => write!(f, " at {most} bytes"),
            WarningKind::PathDropped | WarningKind::LineSkipped | WarningKind::TextDropped => {
                write!(f, " {most} bytes")
            }
            _ => write!(f, ", more than {most}"),
        }
    }
}

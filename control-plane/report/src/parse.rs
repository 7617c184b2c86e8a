//! From a format and a reader to rows: which reader of a format is asked. What each reads is in its own
//! file.

use std::io::{self, Read};

use crate::{
    artillery,
    broken::{Broken, Fault, Step},
    case::Case,
    collector::Collector,
    ctrf, cucumber,
    format::Format,
    gotest,
    input::Input,
    jmeter, junit, k6,
    limits::Limits,
    lines::Lines,
    nunit,
    summary::Summary,
    tap,
    warning::WarningKind,
    xml::{Bounds, Reader},
    xunit,
};

/// What became of a report.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub struct Outcome {
    /// What it says, as far as it was read.
    pub summary: Summary,
    /// Why it was not read to its end. What came before was handed out, and counts in the summary.
    pub broken: Option<Broken>,
}

/// Reads a report, and hands out its cases in the order of the file.
///
/// Memory does not grow with the report: of JUnit, NUnit, xUnit, TAP and Go one case is held, and
/// what is open around it; of CTRF one test as it is written, of Cucumber the cases of one feature; of
/// load tests the metrics.
///
/// # Errors
///
/// Returns what the reader fails with. That says nothing of the report: read it again. A report that is
/// broken is no error, but an [`Outcome`] that says so.
pub fn parse(
    format: Format,
    mut reader: impl Read,
    limits: &Limits,
    sink: &mut dyn FnMut(Case),
) -> io::Result<Outcome> {
    let mut out = Collector::new(format, limits, sink);
    let result = read(format, &mut reader, &mut out);
    let summary = out.finish();
    match result {
        Ok(()) => Ok(Outcome {
            summary,
            broken: None,
        }),
        Err(Fault::Broken(broken)) => Ok(Outcome {
            summary,
            broken: Some(broken),
        }),
        Err(Fault::Io(error)) => Err(error),
    }
}

fn read(format: Format, reader: &mut dyn Read, out: &mut Collector<'_>) -> Step<()> {
    let limits = out.limits;
    let input = Input::open(reader, limits.bytes)?;
    match format {
        Format::Junit => xml(input, out, junit::read),
        Format::Nunit => xml(input, out, nunit::read),
        Format::Xunit => xml(input, out, xunit::read),
        Format::JtlXml => xml(input, out, jmeter::samples::read_xml),
        Format::Tap => tap::read(Lines::new(input, limits.line), out),
        Format::GoTest => gotest::read(Lines::new(input, limits.line), out),
        Format::Cucumber => cucumber::read(input, out),
        Format::Ctrf => ctrf::read(input, out),
        Format::K6Summary => k6::read(input, out),
        Format::JmeterStatistics => jmeter::statistics::read(input, out),
        Format::JtlCsv => jmeter::samples::read_csv(input, out),
        Format::Artillery => artillery::read(input, out),
    }
}

fn xml(
    input: Input<'_>,
    out: &mut Collector<'_>,
    read: fn(&mut Reader<'_>, &mut Collector<'_>) -> Step<()>,
) -> Step<()> {
    let bounds = Bounds {
        depth: out.limits.depth,
        attributes: out.limits.attributes,
        attribute: out.limits.attribute,
    };
    let mut xml = Reader::new(input, bounds);
    let result = read(&mut xml, out);
    out.attributes_cut(xml.cut);
    let odd = [
        (WarningKind::DoctypeIgnored, xml.doctypes > 0),
        (WarningKind::EncodingUnknown, xml.encoding_unknown()),
        (WarningKind::SeveralReports, xml.roots() > 1),
        (WarningKind::TextAfter, xml.text_after),
    ];
    for (kind, _) in odd.into_iter().filter(|(_, is)| *is) {
        out.warn(kind);
    }
    result
}

//! What a file of lines is: TAP, events of Go behind other lines, samples of JMeter as CSV.

use crate::{
    format::Format,
    gotest::event::Event,
    tap::line::{Said, parse},
};

/// The format of lines.
pub(super) fn format(text: &[u8], name: &str) -> Option<Format> {
    // The last line may be cut.
    let whole = text
        .iter()
        .rposition(|byte| *byte == b'\n')
        .unwrap_or(text.len());
    let lines = || {
        text[..whole]
            .split(|byte| *byte == b'\n')
            .map(<[u8]>::trim_ascii_end)
    };
    if lines().next().is_some_and(is_samples) {
        return Some(Format::JtlCsv);
    }
    if is_go(lines()) {
        return Some(Format::GoTest);
    }
    is_tap(lines(), name).then_some(Format::Tap)
}

/// Whether at least half of the lines are events of Go. What the `go` command says of itself, on
/// standard error most often, does not count.
fn is_go<'l>(lines: impl Iterator<Item = &'l [u8]>) -> bool {
    let (mut events, mut others) = (0_u64, 0_u64);
    for line in lines {
        if line.starts_with(b"{") && Event::parse(line).is_some() {
            events += 1;
        } else if !line.is_empty() && !line.starts_with(b"go: ") {
            others += 1;
        }
    }
    events > 0 && events >= others
}

/// A head line of JMeter.
fn is_samples(line: &[u8]) -> bool {
    let line = String::from_utf8_lossy(line);
    let columns: Vec<&str> = line
        .split([',', ';', '\t', '|'])
        .map(|column| column.trim_matches('"'))
        .collect();
    let wanted = ["timeStamp", "elapsed", "label"];
    wanted.iter().all(|column| columns.contains(column))
}

/// Lines that may stand before TAP: what npm says of a script that it runs.
const BEFORE: usize = 10;

/// Whether lines are TAP: a version and then something of the protocol; or a plan and then a numbered
/// test; or numbered tests from the first line on, with a plan behind them, or in a file that is called
/// so. It begins within the first lines, unlike an example of it in a text.
fn is_tap<'l>(lines: impl Iterator<Item = &'l [u8]>, name: &str) -> bool {
    let (mut version, mut plan, mut tests) = (false, false, 0_u64);
    let mut first = None;
    let lines = lines.filter_map(|line| std::str::from_utf8(line).ok());
    for (at, line) in lines.filter(|line| !line.trim().is_empty()).enumerate() {
        if at >= BEFORE && !version && !plan && tests == 0 {
            return false;
        }
        match parse(line) {
            Said::Version => version = true,
            Said::Plan(..) if tests == 0 && version => return true,
            Said::Plan(..) => plan = true,
            Said::Test(test) => {
                first.get_or_insert_with(|| test.number == Some(1));
                tests += u64::from(test.number == Some(tests + 1));
            }
            Said::Subtest(_) | Said::Comment(_) | Said::BailOut(_) => {
                if version {
                    return true;
                }
            }
            Said::Block => {}
            // The name of a script that npm says first is no test.
            Said::Nothing if line.starts_with(' ') => {}
            Said::Nothing => {
                first.get_or_insert(false);
            }
        }
        if tests > 0 && (version || plan) {
            return true;
        }
    }
    let named = name.ends_with(".tap") || name.ends_with(".t");
    version || (named && tests > 0 && first == Some(true))
}

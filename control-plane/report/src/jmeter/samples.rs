//! JMeter's samples (JTL), as CSV with a head line and as XML. Of XML those at the top count: what is in
//! them are parts of a transaction, and requests of a page.

use std::collections::BTreeMap;

use csv::{ByteRecord, ReaderBuilder};

use super::label::{Label, Sample};
use crate::{
    broken::{Fault, Place, Reason, Step},
    collector::Collector,
    input::Input,
    number, time,
    warning::WarningKind,
    xml::{Event, Reader},
};

/// Bytes of a head line that are looked at for its delimiter.
const HEAD: usize = 1024;

#[derive(Default)]
struct Labels {
    total: Label,
    by_name: BTreeMap<String, Label>,
}

impl Labels {
    fn add(&mut self, name: &str, sample: &Sample, out: &mut Collector<'_>) {
        self.total.add(sample);
        let name = out.name(name);
        if self.by_name.len() < out.limits.metrics || self.by_name.contains_key(&name) {
            self.by_name.entry(name).or_default().add(sample);
        } else {
            // It counts in the total.
            out.metric_dropped();
        }
    }

    fn put(self, out: &mut Collector<'_>) {
        out.summary.tool = Some("JMeter".to_owned());
        let first = self.total.first.map(|first| first as f64);
        out.started(first.and_then(time::from_epoch));
        let span = self.total.span().map(|span| span as f64);
        out.summary.duration = span.and_then(number::from_millis);
        self.total.put(&[], out);
        for (name, label) in &self.by_name {
            let labels = [out.property("label", name)];
            label.put(&labels, out);
        }
    }
}

/// Reads CSV.
pub(crate) fn read_csv(mut input: Input<'_>, out: &mut Collector<'_>) -> Step<()> {
    let head = input.look(HEAD)?;
    let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let delimiter = delimiter(line);
    let mut reader = ReaderBuilder::new()
        .delimiter(delimiter)
        .flexible(true)
        .from_reader(input);
    let mut labels = Labels::default();
    let result = rows(&mut reader, &mut labels, out);
    labels.put(out);
    result
}

/// What stands behind the first name of a head line.
fn delimiter(line: &[u8]) -> u8 {
    let first = line
        .iter()
        .find(|byte| !byte.is_ascii_alphanumeric() && **byte != b'"');
    *first
        .filter(|byte| b",;\t|".contains(byte))
        .unwrap_or(&b',')
}

fn rows(
    reader: &mut csv::Reader<Input<'_>>,
    labels: &mut Labels,
    out: &mut Collector<'_>,
) -> Step<()> {
    let head = reader
        .byte_headers()
        .map_err(|error| fault(error, 1))?
        .clone();
    let column = |name: &str| head.iter().position(|column| column == name.as_bytes());
    let (Some(elapsed), Some(label)) = (column("elapsed"), column("label")) else {
        let reason = match head.is_empty() {
            true => Reason::Empty,
            false => Reason::Unexpected {
                found: "another head line stands".to_owned(),
                expected: "`timeStamp,elapsed,label`",
            },
        };
        return Err(line(1).fault(reason));
    };
    let (at, success) = (column("timeStamp"), column("success"));
    let (received, sent) = (column("bytes"), column("sentBytes"));
    let mut row = ByteRecord::new();
    loop {
        let at_line = reader.position().line();
        let more = reader.read_byte_record(&mut row);
        if !more.map_err(|error| fault(error, at_line))? {
            return Ok(());
        }
        let text = |column: Option<usize>| {
            let field = column.and_then(|column| row.get(column));
            String::from_utf8_lossy(field.unwrap_or_default())
        };
        let number = |column| text(column).trim().parse::<u64>().ok();
        let Some(elapsed) = number(Some(elapsed)) else {
            out.warn(WarningKind::SampleSkipped);
            continue;
        };
        let sample = Sample {
            at: number(at),
            elapsed,
            success: success.is_none() || text(success) == "true",
            received: number(received).unwrap_or_default(),
            sent: number(sent).unwrap_or_default(),
        };
        labels.add(&text(Some(label)), &sample, out);
    }
}

/// Reads XML.
pub(crate) fn read_xml(xml: &mut Reader<'_>, out: &mut Collector<'_>) -> Step<()> {
    let mut labels = Labels::default();
    let result = elements(xml, &mut labels, out);
    labels.put(out);
    result
}

fn elements(xml: &mut Reader<'_>, labels: &mut Labels, out: &mut Collector<'_>) -> Step<()> {
    loop {
        let tag = match xml.next()? {
            Event::Start(tag) => tag,
            Event::Text(_) | Event::End => continue,
            Event::Eof => return Ok(()),
        };
        if tag.name == "testResults" && xml.depth() == 1 {
            continue;
        }
        if xml.depth() == 1 {
            return Err(xml.place().fault(Reason::Unexpected {
                found: format!("the element `<{}>` stands", tag.name),
                expected: "`<testResults>`",
            }));
        }
        let number = |name| tag.get(name).trim().parse::<u64>().ok();
        match number("t") {
            Some(elapsed) => {
                let sample = Sample {
                    at: number("ts"),
                    elapsed,
                    success: tag.get("s") != "false",
                    received: number("by").unwrap_or_default(),
                    sent: number("sby").unwrap_or_default(),
                };
                labels.add(tag.get("lb"), &sample, out);
            }
            None => out.warn(WarningKind::SampleSkipped),
        }
        xml.skip()?;
    }
}

fn line(line: u64) -> Place {
    Place { line, offset: None }
}

/// What the reader of CSV says. Rows of any length are taken, so that it is the file behind it.
fn fault(error: csv::Error, at: u64) -> Fault {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => match error.downcast::<crate::broken::Broken>() {
            Ok(broken) => Fault::Broken(broken),
            Err(error) => Fault::Io(error),
        },
        _ => line(at).malformed("a row can not be read"),
    }
}

//! NUnit 3: `test-run`, with suites by assembly, namespace and class.

use crate::{
    broken::{Reason, Step},
    case::{Case, State, Stream},
    collector::Collector,
    junit::trouble::Trouble,
    parameters, time,
    xml::{Event, Reader, Tag},
};

/// Reads a run.
pub(crate) fn read(xml: &mut Reader<'_>, out: &mut Collector<'_>) -> Step<()> {
    // Depths at which suites are open, with their names.
    let mut suites: Vec<(usize, String)> = Vec::new();
    loop {
        let tag = match xml.next()? {
            Event::Start(tag) => tag,
            Event::Text(_) => continue,
            Event::Eof => return Ok(()),
            Event::End => {
                suites.retain(|(depth, _)| *depth <= xml.depth());
                continue;
            }
        };
        match tag.name.as_str() {
            "test-run" if xml.depth() == 1 => {
                out.summary.tool = Some("NUnit".to_owned());
                out.started(time::parse(tag.get("start-time")));
                let duration = out.seconds(tag.get("duration"));
                out.took(duration);
            }
            _ if xml.depth() == 1 => {
                return Err(xml.place().fault(Reason::Unexpected {
                    found: format!("the element `<{}>` stands", tag.name),
                    expected: "`<test-run>`",
                }));
            }
            "test-suite" => {
                // An assembly is named by its file, sometimes with its folder.
                let name = match tag.get("type") {
                    "Assembly" => tag.get("name").rsplit(['/', '\\']).next(),
                    "TestSuite" | "TestFixture" | "SetUpFixture" => Some(tag.get("name")),
                    _ => None,
                };
                if let Some(name) = name {
                    suites.push((xml.depth(), out.name(name)));
                }
            }
            "test-case" => {
                let path: Vec<&str> = suites.iter().map(|(_, name)| name.as_str()).collect();
                let suite = out.name(&path.join(" > "));
                let case = case(xml, out, &tag, suite)?;
                out.case(case, xml.place())?;
            }
            _ => xml.skip()?,
        }
    }
}

fn case(xml: &mut Reader<'_>, out: &mut Collector<'_>, tag: &Tag, suite: String) -> Step<Case> {
    let name = out.name(tag.get("name"));
    let mut case = Case {
        suite,
        class: out.name(tag.get("classname")),
        parameters: parameters::parenthesised(&name).map(str::to_owned),
        state: state(tag.get("result"), tag.get("label")),
        duration: out.seconds(tag.get("duration")),
        started: time::parse(tag.get("start-time")),
        name,
        ..Case::default()
    };
    let depth = xml.depth();
    while xml.depth() >= depth {
        let tag = match xml.next()? {
            Event::Start(tag) => tag,
            Event::Eof => break,
            Event::Text(_) | Event::End => continue,
        };
        match tag.name.as_str() {
            "failure" | "reason" => {
                let trouble = Trouble::read(xml, out, "", "")?;
                if case.message.is_none() {
                    trouble.put(&mut case, out);
                }
            }
            "property" => {
                out.put(&mut case.properties, tag.get("name"), tag.get("value"));
                xml.skip()?;
            }
            "filePath" => {
                let mut clip = out.message_clip();
                xml.text_within(|bytes| clip.push(bytes))?;
                out.attach(&mut case.attachments, &clip.finish().0);
            }
            "output" => {
                if let Some(output) = xml.output(Stream::Out, |_| {})? {
                    out.output(&mut case.outputs, output);
                }
            }
            "properties" | "attachments" | "attachment" => {}
            _ => xml.skip()?,
        }
    }
    Ok(case)
}

/// A warning passes, and an inconclusive test is one whose assumptions do not hold here.
fn state(result: &str, label: &str) -> State {
    match (result, label) {
        ("Passed" | "Warning", _) => State::Passed,
        ("Skipped" | "Inconclusive", _) => State::Skipped,
        ("Failed", "" | "Failed") => State::Failed,
        _ => State::Error,
    }
}

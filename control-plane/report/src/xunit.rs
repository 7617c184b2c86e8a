//! xUnit.net v2 (and v3, which writes the same): `assemblies`, with collections of tests.

use crate::{
    broken::{Reason, Step},
    case::{Case, State, Stream},
    collector::Collector,
    junit::trouble::Trouble,
    parameters, time,
    xml::{Event, Reader, Tag},
};

/// Reads assemblies.
pub(crate) fn read(xml: &mut Reader<'_>, out: &mut Collector<'_>) -> Step<()> {
    let mut assembly = String::new();
    loop {
        let tag = match xml.next()? {
            Event::Start(tag) => tag,
            Event::Text(_) | Event::End => continue,
            Event::Eof => return Ok(()),
        };
        match tag.name.as_str() {
            "assemblies" => out.started(time::parse(tag.get("timestamp"))),
            "assembly" => {
                let file = tag.get("name").rsplit(['/', '\\']).next();
                assembly = out.name(file.unwrap_or_default());
                out.summary.tool = out.optional_name(tag.get("test-framework"));
                let (date, clock) = (tag.get("run-date"), tag.get("run-time"));
                out.started(time::parse(&format!("{date} {clock}")));
                let duration = out.seconds(tag.get("time"));
                out.took(duration);
            }
            _ if xml.depth() == 1 => {
                return Err(xml.place().fault(Reason::Unexpected {
                    found: format!("the element `<{}>` stands", tag.name),
                    expected: "`<assemblies>` or `<assembly>`",
                }));
            }
            "collection" | "errors" => {}
            "test" => {
                let case = case(xml, out, &tag, &assembly)?;
                out.case(case, xml.place())?;
            }
            // Of an assembly: a clean-up that failed, most often.
            "error" => {
                let name = match tag.get("name") {
                    "" => tag.get("type"),
                    name => name,
                };
                let mut case = Case {
                    suite: assembly.clone(),
                    name: out.name(&format!("({name})")),
                    state: State::Error,
                    ..Case::default()
                };
                inside(xml, out, &mut case)?;
                out.case(case, xml.place())?;
            }
            _ => xml.skip()?,
        }
    }
}

fn case(xml: &mut Reader<'_>, out: &mut Collector<'_>, tag: &Tag, assembly: &str) -> Step<Case> {
    let class = out.name(tag.get("type"));
    let name = out.name(tag.get("name"));
    // The whole name repeats the class, unless the test has a name of its own.
    let within = name
        .strip_prefix(&class)
        .and_then(|rest| rest.strip_prefix('.'));
    let name = within.unwrap_or(&name).to_owned();
    let mut case = Case {
        suite: assembly.to_owned(),
        parameters: parameters::parenthesised(&name).map(str::to_owned),
        file: tag.find("source-file").and_then(|file| out.path(file)),
        line: tag.get("source-line").parse().ok(),
        state: match tag.get("result") {
            "Pass" => State::Passed,
            "Skip" | "NotRun" => State::Skipped,
            "Fail" => State::Failed,
            _ => State::Error,
        },
        duration: out.seconds(tag.get("time")),
        started: time::parse(tag.get("start-rtf")),
        class,
        name,
        ..Case::default()
    };
    inside(xml, out, &mut case)?;
    Ok(case)
}

fn inside(xml: &mut Reader<'_>, out: &mut Collector<'_>, case: &mut Case) -> Step<()> {
    let depth = xml.depth();
    while xml.depth() >= depth {
        let tag = match xml.next()? {
            Event::Start(tag) => tag,
            Event::Eof => break,
            Event::Text(_) | Event::End => continue,
        };
        match tag.name.as_str() {
            "failure" | "reason" => {
                let trouble = Trouble::read(xml, out, "", tag.get("exception-type"))?;
                trouble.put(case, out);
            }
            "trait" => {
                out.put(&mut case.properties, tag.get("name"), tag.get("value"));
                xml.skip()?;
            }
            "output" => {
                if let Some(output) = xml.output(Stream::Out, |_| {})? {
                    out.output(&mut case.outputs, output);
                }
            }
            "traits" => {}
            _ => xml.skip()?,
        }
    }
    Ok(())
}

//! JUnit XML, as the tools write it that agree on little more than its name. Suites are here; a case is
//! in `junit::case`. Nothing is held but the suites around, so that memory does not grow with the
//! report.

use std::time::Duration;

use crate::{
    broken::{Reason, Step},
    case::Stream,
    collector::Collector,
    time,
    xml::{Event, Reader, Tag},
};

mod attachments;
mod case;
pub(crate) mod trouble;

/// A suite that is open.
#[derive(Debug, Default)]
struct Suite {
    /// Its own name.
    name: String,
    /// The names of all around it, and its own.
    path: String,
    /// The host that it tells; Playwright tells its project.
    host: String,
    file: Option<String>,
    /// How long it took, as it tells.
    time: Option<Duration>,
    /// How long what is in it took.
    inner: Option<Duration>,
}

/// What the root tells of the tool.
#[derive(Debug, Default)]
struct Root {
    /// It has no attributes: Node.js writes it so.
    bare: bool,
    /// It has an `id`: Playwright writes it so.
    has_id: bool,
}

/// Reads all suites; several roots as if they stood in one.
pub(crate) fn read(xml: &mut Reader<'_>, out: &mut Collector<'_>) -> Step<()> {
    let mut suites: Vec<Suite> = Vec::new();
    let mut root = Root::default();
    loop {
        let tag = match xml.next()? {
            Event::Start(tag) => tag,
            Event::Text(_) => continue,
            Event::Eof => return Ok(()),
            Event::End => {
                let ended = suites.pop().unwrap_or_default();
                let took = ended.time.or(ended.inner);
                match suites.last_mut() {
                    Some(around) => add(&mut around.inner, took),
                    None => out.took(took),
                }
                continue;
            }
        };
        match (tag.name.as_str(), suites.last_mut()) {
            ("testsuites" | "testsuite", around) => {
                if around.is_none() {
                    root = Root {
                        bare: tag.is_bare(),
                        has_id: tag.find("id").is_some(),
                    };
                }
                let suite = begin(&tag, suites.last(), out);
                suites.push(suite);
            }
            (_, None) => {
                return Err(xml.place().fault(Reason::Unexpected {
                    found: format!("the element `<{}>` stands", tag.name),
                    expected: "`<testsuites>` or `<testsuite>`",
                }));
            }
            ("testcase", Some(suite)) => {
                let case = case::read(xml, out, &tag, suite, &root)?;
                add(&mut suite.inner, case.duration);
                out.case(case, xml.place())?;
            }
            ("properties", Some(_)) => properties(xml, out)?,
            ("system-out", Some(suite)) => output(xml, out, &suite.path, Stream::Out)?,
            ("system-err", Some(suite)) => output(xml, out, &suite.path, Stream::Err)?,
            (_, Some(_)) => xml.skip()?,
        }
    }
}

fn begin(tag: &Tag, around: Option<&Suite>, out: &mut Collector<'_>) -> Suite {
    let name = match tag.name.as_str() {
        "testsuite" => out.name(tag.get("name")),
        // The name of a whole run is that of the tool, or of what was typed.
        _ => {
            out.summary.tool = out.optional_name(tag.get("name"));
            String::new()
        }
    };
    out.started(time::parse(tag.get("timestamp")));
    let path = match around {
        Some(around) if name.is_empty() || name == around.name => around.path.clone(),
        Some(around) if !around.path.is_empty() => out.name(&format!("{} > {name}", around.path)),
        _ => name.clone(),
    };
    let file = tag.find("file").or_else(|| tag.find("filepath"));
    let file = file.and_then(|file| out.path(file));
    Suite {
        path,
        host: out.name(tag.get("hostname")),
        file: file.or_else(|| around.and_then(|around| around.file.clone())),
        time: out.seconds(tag.get("time")),
        inner: None,
        name,
    }
}

/// Properties of a suite: those that say something of the run, and do not look like a secret. A Java
/// virtual machine writes down all of its own.
fn properties(xml: &mut Reader<'_>, out: &mut Collector<'_>) -> Step<()> {
    const NOISE: [&str; 18] = [
        "java.",
        "sun.",
        "jdk.",
        "user.",
        "file.",
        "line.",
        "path.",
        "awt.",
        "os.",
        "surefire.",
        "env.",
        "native.",
        "stdout.",
        "stderr.",
        "java",
        "basedir",
        "localRepository",
        "idea.",
    ];
    const KEPT: [&str; 4] = ["java.version", "java.vendor", "os.name", "os.arch"];
    const SECRET: [&str; 6] = [
        "secret",
        "token",
        "passw",
        "credential",
        "apikey",
        "api_key",
    ];
    let depth = xml.depth();
    while xml.depth() >= depth {
        match xml.next()? {
            Event::Start(tag) => {
                let name = tag.get("name");
                let lower = name.to_ascii_lowercase();
                let noise = NOISE.iter().any(|noise| name.starts_with(noise));
                let secret = SECRET.iter().any(|secret| lower.contains(secret));
                if tag.name == "property" && !secret && (!noise || KEPT.contains(&name)) {
                    out.put_summary(name, tag.get("value"));
                }
            }
            Event::Eof => return Ok(()),
            Event::Text(_) | Event::End => {}
        }
    }
    Ok(())
}

fn output(xml: &mut Reader<'_>, out: &mut Collector<'_>, suite: &str, stream: Stream) -> Step<()> {
    if let Some(output) = xml.output(stream, |_| {})? {
        out.suite_output(suite, output);
    }
    Ok(())
}

fn add(sum: &mut Option<Duration>, part: Option<Duration>) {
    if let Some(part) = part {
        *sum = Some(sum.unwrap_or_default().saturating_add(part));
    }
}

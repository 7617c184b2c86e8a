//! A case of JUnit XML. What is around it is in `junit`.

use super::{Root, Suite, attachments::Attachments, trouble::Trouble};
use crate::{
    broken::Step,
    case::{Case, Property, State, Stream},
    collector::Collector,
    parameters, time,
    xml::{Event, Reader, Tag},
};

/// Endings of files that Playwright runs.
const SCRIPTS: [&str; 8] = [".js", ".ts", ".mjs", ".cjs", ".mts", ".cts", ".jsx", ".tsx"];

/// Reads the case that began last.
pub(super) fn read(
    xml: &mut Reader<'_>,
    out: &mut Collector<'_>,
    tag: &Tag,
    suite: &Suite,
    root: &Root,
) -> Step<Case> {
    let mut case = begin(out, tag, suite, root);
    let mut told = Told::default();
    let depth = xml.depth();
    while xml.depth() >= depth {
        let tag = match xml.next()? {
            Event::Start(tag) => tag,
            Event::Eof => break,
            Event::Text(_) | Event::End => continue,
        };
        match tag.name.as_str() {
            "failure" | "error" => {
                let fails = tag.name == "failure";
                let (message, kind) = (tag.get("message"), tag.get("type"));
                let trouble = Trouble::read(xml, out, message, kind)?;
                told.add(trouble, fails);
            }
            "skipped" => {
                told.skipped = true;
                told.todo |= tag.get("type") == "todo";
                let (message, kind) = (tag.get("message"), tag.get("type"));
                told.reason = Some(Trouble::read(xml, out, message, kind)?);
            }
            // Surefire, nextest, Playwright: tries before the last one.
            "rerunFailure" | "rerunError" => {
                told.tries = told.tries.saturating_add(1);
                xml.skip()?;
            }
            "flakyFailure" | "flakyError" => {
                told.tries = told.tries.saturating_add(1);
                let (message, kind) = (tag.get("message"), tag.get("type"));
                let trouble = Trouble::read(xml, out, message, kind)?;
                told.flaky.get_or_insert(trouble);
            }
            "system-out" => output(xml, out, &mut case, Stream::Out)?,
            "system-err" => output(xml, out, &mut case, Stream::Err)?,
            // Their elements come next.
            "properties" => {}
            "property" => property(xml, out, &mut case, &tag)?,
            _ => xml.skip()?,
        }
    }
    told.decide(&mut case, out);
    Ok(case)
}

fn begin(out: &mut Collector<'_>, tag: &Tag, suite: &Suite, root: &Root) -> Case {
    let name = out.name(tag.get("name"));
    let mut class = out.name(tag.get("classname"));
    if root.bare && class == "test" {
        // What Node.js writes for all of them.
        class.clear();
    }
    let script = SCRIPTS.iter().any(|ending| class.ends_with(ending));
    let mut variants = Vec::new();
    if root.has_id && script && class == suite.name && !suite.host.is_empty() {
        variants.push(Property {
            name: "project".to_owned(),
            value: suite.host.clone(),
        });
    }
    let file = tag.find("file").or_else(|| tag.find("filepath"));
    let line = tag.find("line").or_else(|| tag.find("lineno"));
    Case {
        suite: suite.path.clone(),
        parameters: parameters::bracketed(&name).map(str::to_owned),
        file: file
            .and_then(|file| out.path(file))
            .or_else(|| suite.file.clone()),
        line: line.and_then(|line| line.trim().parse().ok()),
        duration: out.seconds(tag.find("time").unwrap_or_else(|| tag.get("duration"))),
        started: time::parse(tag.get("timestamp")),
        class,
        name,
        variants,
        ..Case::default()
    }
}

fn output(
    xml: &mut Reader<'_>,
    out: &mut Collector<'_>,
    case: &mut Case,
    stream: Stream,
) -> Step<()> {
    let mut attachments = Attachments::new(out.limits.path, out.limits.attachments);
    let span = xml.output(stream, |bytes| attachments.push(bytes))?;
    attachments.end();
    for path in &attachments.found {
        out.attach(&mut case.attachments, path);
    }
    if let Some(span) = span {
        out.output(&mut case.outputs, span);
    }
    Ok(())
}

/// A property, whose value may stand in the element instead.
fn property(xml: &mut Reader<'_>, out: &mut Collector<'_>, case: &mut Case, tag: &Tag) -> Step<()> {
    let mut inside = out.message_clip();
    xml.text_within(|bytes| inside.push(bytes))?;
    let inside = inside.finish().0;
    let (name, value) = (tag.get("name"), tag.find("value").unwrap_or(&inside));
    if name == "attachment" {
        out.attach(&mut case.attachments, value);
    } else {
        out.put(&mut case.properties, name, value);
    }
    Ok(())
}

/// What the elements of a case say.
#[derive(Default)]
struct Told {
    /// The first failure, or the first error if there is none; and whether it is a failure.
    first: Option<(Trouble, bool)>,
    skipped: bool,
    todo: bool,
    reason: Option<Trouble>,
    /// Tries before the last one.
    tries: u32,
    flaky: Option<Trouble>,
}

impl Told {
    /// Adds a failure or an error. The first failure gives message and kind, else the first error;
    /// the accounts of all are put together.
    fn add(&mut self, trouble: Trouble, fails: bool) {
        let other = match &mut self.first {
            None => {
                self.first = Some((trouble, fails));
                return;
            }
            Some((first, was)) if fails && !*was => {
                *was = true;
                std::mem::replace(first, trouble)
            }
            Some(_) => trouble,
        };
        let Some((first, _)) = &mut self.first else {
            return;
        };
        let (text, _) = other.stack.finish();
        first.stack.push(b"\n\n");
        if !text.contains(other.message.trim()) {
            first.stack.push(other.message.trim().as_bytes());
            first.stack.push(b"\n");
        }
        first.stack.push(text.as_bytes());
    }

    /// The state, and what belongs to it. A test that is to be written may fail; otherwise a failure
    /// counts more than an error beside it, as it is what the test is about, and both more than a skip.
    fn decide(self, case: &mut Case, out: &mut Collector<'_>) {
        case.tries = self.tries.saturating_add(1);
        if self.skipped && (self.todo || self.first.is_none()) {
            case.state = State::Skipped;
            if let Some(reason) = self.reason {
                reason.put(case, out);
            }
            return;
        }
        if let Some((first, fails)) = self.first {
            case.state = if fails { State::Failed } else { State::Error };
            first.put(case, out);
        } else if let Some(trouble) = self.flaky {
            case.flaky = true;
            trouble.put(case, out);
        }
    }
}

//! JSON documents of reports. Lists of cases are handed out as they are read; only the metrics of load
//! tests, which are few, are held as a document. What a member means is the business of a format.

use std::{cell::RefCell, io::BufReader, rc::Rc};

use serde::de::Error as _;
use serde_json::{Deserializer, Value, de::IoRead, error::Category};

use crate::{
    broken::{Fault, Place, Reason, Step},
    collector::Collector,
    input::Input,
    warning::WarningKind,
};

pub(crate) mod few;
mod guard;
pub(crate) mod loose;
mod object;

use guard::{Bounds, Guard};
pub(crate) use object::object;

/// What formats read from.
pub(crate) type Source<'i> = Deserializer<IoRead<BufReader<Guard<'i>>>>;

/// Reads one document by `run`, which deserialises it. A fault that is put aside by [`stop`] comes
/// before what the parser says.
pub(crate) fn read<'o, T>(
    input: Input<'_>,
    out: &mut Collector<'o>,
    held: bool,
    run: impl FnOnce(&mut Collector<'o>, &mut Source<'_>) -> serde_json::Result<T>,
) -> Step<T> {
    let fault = Rc::new(RefCell::new(None));
    let bounds = Bounds {
        depth: out.limits.depth,
        values: held.then_some(out.limits.values),
    };
    let guard = Guard::new(input, bounds, Rc::clone(&fault));
    let mut source = Deserializer::from_reader(BufReader::new(guard));
    let result = run(out, &mut source);
    let result = result.map_err(|error| said(&error));
    let stopped = out.stopped.take();
    match result {
        Err((reason, place)) => Err(match (fault.take(), stopped) {
            (Some(fault), _) => fault,
            (None, Some(reason)) => place.fault(reason),
            (None, None) => place.fault(reason),
        }),
        Ok(value) => {
            if source.end().is_err() {
                if let Some(fault) = fault.take() {
                    return Err(fault);
                }
                out.warn(WarningKind::TextAfter);
            }
            Ok(value)
        }
    }
}

/// A document that is held as a whole.
pub(crate) fn document(input: Input<'_>, out: &mut Collector<'_>) -> Step<Value> {
    read(input, out, true, |_, source| {
        serde::Deserialize::deserialize(source)
    })
}

/// Puts a fault of the collector aside, and gives the parser something that it can carry.
pub(crate) fn stop<E: serde::de::Error>(out: &mut Collector<'_>, fault: Fault) -> E {
    if let Fault::Broken(broken) = fault {
        out.stopped = Some(broken.reason);
    }
    E::custom("stopped")
}

/// It is JSON, and not what it was taken for.
pub(crate) fn unexpected(out: &mut Collector<'_>, expected: &'static str) -> serde_json::Error {
    out.stopped = Some(Reason::Unexpected {
        found: "another document stands".to_owned(),
        expected,
    });
    serde_json::Error::custom("unexpected")
}

/// What the parser says, in our words.
fn said(error: &serde_json::Error) -> (Reason, Place) {
    let place = Place {
        line: u64::try_from(error.line().max(1)).unwrap_or(u64::MAX),
        offset: None,
    };
    let column = error.column();
    let reason = match error.classify() {
        Category::Eof if error.line() <= 1 && column == 0 => Reason::Empty,
        Category::Eof => Reason::Truncated(format!("in the middle of a value, at column {column}")),
        _ => {
            let text = error.to_string();
            let text = text.split(" at line ").next().unwrap_or_default();
            // It may repeat a whole text of the document.
            let text: String = text.chars().take(200).collect();
            Reason::Malformed(format!("the JSON breaks at column {column}: {text}"))
        }
    };
    (reason, place)
}

//! What a JSON document is, by the keys in the beginning of it. The document may break off anywhere.

use std::collections::BTreeSet;

use crate::format::Format;

/// Levels of keys that are looked at.
const DEPTH: usize = 5;

/// The format of a document.
pub(super) fn format(text: &[u8]) -> Option<Format> {
    let keys = keys(text);
    let has = |path: &str| keys.contains(path);
    let has_any = |paths: &[&str]| paths.iter().any(|path| has(path));
    let below = |key: &str| {
        keys.iter().any(|path| match path.split_once('.') {
            Some((_, rest)) => rest == key && !path.starts_with('['),
            None => false,
        })
    };
    if has("results") && has_any(&["results.tool", "results.summary", "results.tests"]) {
        return Some(Format::Ctrf);
    }
    if has_any(&["root_group.path", "root_group.groups", "root_group.checks"]) || k6(&keys) {
        return Some(Format::K6Summary);
    }
    if has_any(&["aggregate.counters", "aggregate.scenariosCreated"]) {
        return Some(Format::Artillery);
    }
    if below("transaction") && below("sampleCount") && below("errorCount") {
        return Some(Format::JmeterStatistics);
    }
    let scenario = has_any(&["[].elements.[].steps", "[].elements.[].keyword"]);
    // Behave has a location instead of a file, and counts in seconds.
    if !has("[].location")
        && (scenario || (has("[].uri") && has_any(&["[].elements", "[].keyword"])))
    {
        return Some(Format::Cucumber);
    }
    None
}

/// Whether metrics are k6's, where the groups stand too far behind.
fn k6(keys: &BTreeSet<String>) -> bool {
    let own = [
        "iterations",
        "iteration_duration",
        "data_sent",
        "data_received",
        "http_reqs",
        "vus",
    ];
    let shape = [".avg", ".med", ".max", ".values", ".thresholds", ".rate"];
    let named = own
        .iter()
        .any(|name| keys.contains(&format!("metrics.{name}")));
    let shaped = keys.iter().any(|path| {
        path.starts_with("metrics.") && shape.iter().any(|ending| path.ends_with(ending))
    });
    named && shaped
}

/// What is around a place in a document.
struct Level {
    /// Its key in what is around it; `[]` in a list.
    key: String,
    is_list: bool,
}

/// Keys of objects with the keys around them, put together by dots; `[]` stands for a list. Dots in
/// keys are `_`.
fn keys(text: &[u8]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut around: Vec<Level> = Vec::new();
    let mut deep = 0_usize;
    let mut key = String::new();
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        at += 1;
        match byte {
            b'{' | b'[' if around.len() >= DEPTH => deep += 1,
            b'{' | b'[' => {
                let in_list = around.last().is_some_and(|level| level.is_list);
                let key = std::mem::take(&mut key);
                around.push(Level {
                    key: if in_list { "[]".to_owned() } else { key },
                    is_list: *byte == b'[',
                });
            }
            b'}' | b']' if deep > 0 => deep -= 1,
            b'}' | b']' => {
                around.pop();
            }
            b'"' => {
                let Some(end) = end_of_string(text, at) else {
                    break;
                };
                let string = &text[at..end];
                at = end + 1;
                let mut rest = text[at..].iter();
                let is_key = rest.find(|b| !b.is_ascii_whitespace()) == Some(&b':');
                if is_key && deep == 0 {
                    key = String::from_utf8_lossy(string).replace('.', "_");
                    let path = around.iter().skip(1).map(|level| level.key.as_str());
                    let path: Vec<&str> = path.chain([key.as_str()]).collect();
                    found.insert(path.join("."));
                }
            }
            // Numbers, `true`, `false`, `null`, and what some tools write for no number.
            b',' | b':' | b'+' | b'-' | b'.' | b'0'..=b'9' => {}
            byte if byte.is_ascii_whitespace() || b"truefalsnENaIity".contains(byte) => {}
            _ => return BTreeSet::new(),
        }
    }
    found
}

/// Where a string that begins here ends.
fn end_of_string(text: &[u8], from: usize) -> Option<usize> {
    let mut escaped = false;
    let end = text.get(from..)?.iter().position(|byte| {
        let ends = *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        ends
    });
    end.map(|end| from + end)
}

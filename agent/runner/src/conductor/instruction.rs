//! Instructions in the output of a process: values that it gives out by lines of its own, which
//! are no part of the log.
//!
//! `\\n 01 05 REF 03 NAME 04 JSON 03 \\n`, in hexadecimal: REF is for the program's own use. What
//! is not exactly that stays in the log.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
};

use muster_spec::expression::Value;
use serde_json::Map;

const BEGIN: [u8; 2] = [0x01, 0x05];
const NAME: u8 = 0x03;
const VALUE: u8 = 0x04;
const END: u8 = 0x03;

/// Largest value, as JSON in bytes.
const LARGEST: usize = 64 << 10;
/// Longest reference and longest name, in bytes.
const LONGEST: usize = 200;
/// Longest line.
const LINE: usize = LARGEST + 2 * LONGEST + 8;
/// Most names of an execution.
const MOST: usize = 1000;
/// Most bytes of all values of an execution together: they are kept in memory.
const ALL: usize = 4 << 20;

/// A value that a process gave out.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Instruction {
    pub(super) name: String,
    pub(super) value: Value,
    /// As it was written.
    pub(super) json: String,
}

/// Takes instructions out of a stream.
#[derive(Debug)]
pub(super) struct Filter {
    /// What may become an instruction.
    held: Vec<u8>,
    /// The last byte that was let through ended a line, or there was none.
    at_line: bool,
}

impl Filter {
    pub(super) fn new() -> Self {
        Self {
            held: Vec::new(),
            at_line: true,
        }
    }

    /// Takes the next bytes; gives what belongs to the log. `found` gets the instructions, and says
    /// whether they are taken: others stay.
    pub(super) fn pass(
        &mut self,
        data: &[u8],
        found: &mut dyn FnMut(Instruction) -> bool,
    ) -> Vec<u8> {
        self.held.extend_from_slice(data);
        let mut out = Vec::with_capacity(self.held.len());
        while let Some(start) = self.candidate() {
            self.let_through(start, &mut out);
            // The empty line before an instruction is part of it.
            let line = usize::from(self.held.first() == Some(&b'\n'));
            let Some(length) = self.held[line..].iter().position(|&c| c == b'\n') else {
                if self.held.len() <= LINE && BEGIN.starts_with(head(&self.held[line..])) {
                    return out;
                }
                self.let_through((line + 1).min(self.held.len()), &mut out);
                continue;
            };
            let end = line + length + 1;
            let taken = parse(&self.held[line..end - 1]).is_some_and(&mut *found);
            if taken {
                self.held.drain(..end);
            } else {
                self.let_through(end, &mut out);
            }
        }
        self.let_through(self.held.len(), &mut out);
        out
    }

    /// What is left when nothing more comes.
    pub(super) fn end(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }

    /// Where something begins that is an instruction or may become one.
    fn candidate(&self) -> Option<usize> {
        let mut start = if self.at_line {
            0
        } else {
            memchr::memchr(b'\n', &self.held)? + 1
        };
        loop {
            let rest = self.held.get(start..).filter(|rest| !rest.is_empty())?;
            if begins(rest) || (rest[0] == b'\n' && begins(&rest[1..])) {
                return Some(start);
            }
            start += memchr::memchr(b'\n', rest)? + 1;
        }
    }

    fn let_through(&mut self, length: usize, out: &mut Vec<u8>) {
        out.extend(self.held.drain(..length));
        if let Some(last) = out.last() {
            self.at_line = *last == b'\n';
        }
    }
}

fn head(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.len().min(BEGIN.len())]
}

/// Whether bytes begin an instruction, or are too few to tell.
fn begins(bytes: &[u8]) -> bool {
    BEGIN.starts_with(head(bytes))
}

/// The instruction of a line, without its end.
fn parse(line: &[u8]) -> Option<Instruction> {
    let line = line.strip_prefix(&BEGIN)?.strip_suffix(&[END])?;
    let name_at = line.iter().position(|&c| c == NAME)?;
    let (reference, rest) = (&line[..name_at], &line[name_at + 1..]);
    let value_at = rest.iter().position(|&c| c == VALUE)?;
    let (name, json) = (&rest[..value_at], &rest[value_at + 1..]);
    let name = std::str::from_utf8(name).ok()?;
    let json = std::str::from_utf8(json).ok()?;
    let good = reference.len() <= LONGEST
        && (1..=LONGEST).contains(&name.len())
        && !name.contains(|c: char| c.is_control())
        && json.len() <= LARGEST;
    Some(Instruction {
        name: name.to_owned(),
        value: serde_json::from_str(json).ok().filter(|_| good)?,
        json: json.to_owned(),
    })
}

/// The values of an execution, for `output.<name>`.
#[derive(Debug, Default)]
pub(super) struct Outputs {
    values: RefCell<BTreeMap<String, (Value, usize)>>,
    size: Cell<usize>,
}

impl Outputs {
    /// Keeps a value in place of an older one; whether there is room for it.
    pub(super) fn set(&self, instruction: &Instruction) -> bool {
        let mut values = self.values.borrow_mut();
        let (name, size) = (&instruction.name, instruction.json.len());
        let older = values.get(name).map(|(_, size)| *size);
        let all = self.size.get() - older.unwrap_or(0) + size;
        if all > ALL || (older.is_none() && values.len() >= MOST) {
            return false;
        }
        self.size.set(all);
        values.insert(name.clone(), (instruction.value.clone(), size));
        true
    }

    /// The value of a path behind `output.`; what is not there is `null`.
    pub(super) fn get(&self, path: &str) -> Option<Value> {
        let values = self.values.borrow();
        match values.get(path) {
            Some((value, _)) => Some(value.clone()),
            // The beginning of a longer path is asked for next.
            None if path.contains('.') => None,
            None => Some(Value::Null),
        }
    }

    /// All of them.
    pub(super) fn all(&self) -> Value {
        let values = self.values.borrow();
        let all = values.iter();
        let all: Map<String, Value> = all
            .map(|(name, (value, _))| (name.clone(), value.clone()))
            .collect();
        Value::Object(all)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What stays, and what was found, however the text is cut into two.
    fn filtered(text: &str) -> (String, Vec<(String, Value)>) {
        let mut results = Vec::new();
        for cut in 0..=text.len() {
            let mut filter = Filter::new();
            let mut found = Vec::new();
            let mut keep = |one: Instruction| {
                found.push((one.name, one.value));
                true
            };
            let mut out = filter.pass(&text.as_bytes()[..cut], &mut keep);
            out.extend(filter.pass(&text.as_bytes()[cut..], &mut keep));
            out.extend(filter.end());
            results.push((String::from_utf8(out).unwrap(), found));
        }
        let first = results.remove(0);
        for (cut, other) in results.into_iter().enumerate() {
            assert_eq!(other, first, "cut at {}", cut + 1);
        }
        first
    }

    #[test]
    fn instructions_are_taken_out_wherever_the_stream_is_cut() {
        let one = "\n\x01\x05ref\x03name\x04{\"a\": 1}\x03\n";
        let value = vec![("name".to_owned(), json!({"a": 1}))];
        for (text, log) in [
            (one.to_owned(), ""),
            (format!("before{one}after"), "before\nafter"),
            (format!("before\n{one}after\n"), "before\nafter\n"),
            (one[1..].to_owned(), ""),
            (format!("a\n{}b", &one[1..]), "a\nb"),
        ] {
            assert_eq!(filtered(&text), (log.to_owned(), value.clone()), "{text:?}");
        }
        let (log, found) = filtered(&format!("x{one}{one}\n\ny"));
        assert_eq!((log.as_str(), found.len()), ("x\n\n\ny", 2));
    }

    #[test]
    fn what_is_no_instruction_stays_in_the_log() {
        for text in [
            "",
            "\n\n\n",
            "plain\ntext",
            "in\x01\x05r\x03n\x041\x03\n",
            "\n\x01\x05r\x03n\x04not json\x03\n",
            "\n\x01\x05r\x03n\x041\n",
            "\n\x01\x05r\x03\x041\x03\n",
            "\n\x01\x05r\x03n\x041\x03",
            "\n\x01\x06r\x03n\x041\x03\n",
            "\n\x01",
            "\n\x01\x05",
        ] {
            assert_eq!(filtered(text), (text.to_owned(), Vec::new()), "{text:?}");
        }
    }

    #[test]
    fn too_large_ones_stay_and_are_not_held_for_ever() {
        let begin = "\n\x01\x05r\x03n\x04";
        let mut filter = Filter::new();
        let mut none = |_| panic!("it is too large");
        let mut out = filter.pass(begin.as_bytes(), &mut none);
        assert!(out.is_empty());
        for _ in 0..LINE / 1000 + 1 {
            out.extend(filter.pass(&[b'1'; 1000], &mut none));
        }
        assert!(out.len() > LINE, "{}", out.len());
        assert!(filter.held.len() < 1000);
    }

    #[test]
    fn names_and_bytes_of_an_execution_are_limited() {
        let outputs = Outputs::default();
        let one = |name: usize, size: usize| Instruction {
            name: format!("n{name}"),
            value: Value::from(1),
            json: "1".repeat(size),
        };
        assert!(outputs.set(&one(0, ALL)));
        assert!(!outputs.set(&one(1, 1)));
        assert!(outputs.set(&one(0, 1)));
        for name in 1..MOST {
            assert!(outputs.set(&one(name, 1)));
        }
        assert!(!outputs.set(&one(MOST, 1)));
        assert!(outputs.set(&one(5, 2)));
        assert_eq!(outputs.get("none"), Some(Value::Null));
        assert_eq!(outputs.get("n5.a"), None);
    }
}

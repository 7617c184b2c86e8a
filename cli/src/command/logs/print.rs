//! What stands on the screen, or in a pipe. What a line is for a program is in [`Lines`].

use muster_proto::v1::{LogChunk, LogMatch, read_log_response::Item};

use super::lines::{Line, Lines};
use crate::{error::Error, json, terminal::escape::Filter};

/// Prints items as they come.
pub(super) struct Printer<W> {
    /// Takes what is printed.
    pub(super) out: W,
    /// One JSON object for each line, put together here.
    pub(super) json: Option<Lines>,
    /// Makes text harmless for a terminal.
    pub(super) filter: Option<Filter>,
    /// Put the time before each line.
    pub(super) timestamps: bool,
    /// A line begins.
    pub(super) at_start: bool,
    /// The last line that was searched for: its number, and the byte behind it.
    pub(super) last: Option<(i64, i64)>,
    /// Something was printed.
    pub(super) found: bool,
}

impl<W: FnMut(&[u8]) -> Result<(), Error>> Printer<W> {
    pub(super) fn item(&mut self, item: &Item) -> Result<(), Error> {
        if self.json.is_some() {
            return self.item_as_json(item);
        }
        match item {
            Item::Chunk(chunk) => self.chunk(chunk),
            Item::Match(line) => self.line(line),
            Item::Gap(_) | Item::Skip(_) | Item::End(_) => Ok(()),
        }
    }

    /// Prints what was held back: nothing more comes.
    pub(super) fn finish(&mut self) -> Result<(), Error> {
        if let Some(lines) = &mut self.json {
            let mut last = Vec::new();
            lines.end(&mut last);
            return self.lines(&last);
        }
        if self.last.is_some() && !self.at_start {
            self.print("\n")?;
        }
        let Some(filter) = &mut self.filter else {
            return Ok(());
        };
        let mut text = String::new();
        filter.finish(&mut text);
        text.push_str("\x1b[0m");
        self.print(&text)
    }

    fn chunk(&mut self, chunk: &LogChunk) -> Result<(), Error> {
        self.found |= !chunk.data.is_empty();
        if !self.timestamps {
            return self.write(&chunk.data);
        }
        let time = json::time(chunk.time.as_ref()).unwrap_or_default();
        for line in chunk.data.split_inclusive(|byte| *byte == b'\n') {
            if self.at_start {
                self.print(&format!("{time:.3} "))?;
            }
            self.write(line)?;
            self.at_start = line.ends_with(b"\n");
        }
        Ok(())
    }

    /// A line that was searched for, with its number; `--` stands where lines were left out. A long
    /// one comes in parts, of which those that follow each other are printed as one.
    fn line(&mut self, line: &LogMatch) -> Result<(), Error> {
        self.found |= !line.context;
        let size = i64::try_from(line.data.len()).unwrap_or(i64::MAX);
        let end = line.offset.saturating_add(size);
        let last = self.last.replace((line.line, end));
        if self.at_start || last != Some((line.line, line.offset)) {
            if !self.at_start {
                self.print("\n")?;
            }
            if last.is_some_and(|(last, _)| line.line > last + 1) {
                self.print("--\n")?;
            }
            let mark = if line.context { '-' } else { ':' };
            self.print(&format!("{}{mark}", line.line))?;
            if self.timestamps {
                let time = json::time(line.time.as_ref()).unwrap_or_default();
                self.print(&format!("{time:.3} "))?;
            }
        }
        self.at_start = line.data.ends_with(b"\n");
        self.write(&line.data)
    }

    fn item_as_json(&mut self, item: &Item) -> Result<(), Error> {
        let Some(all) = &mut self.json else {
            return Ok(());
        };
        let mut lines = Vec::new();
        match item {
            Item::Chunk(chunk) => {
                self.found |= !chunk.data.is_empty();
                all.chunk(chunk, &mut lines);
            }
            Item::Match(line) => {
                self.found |= !line.context;
                all.found(line, &mut lines);
            }
            // What follows is another line.
            Item::Gap(_) | Item::Skip(_) | Item::End(_) => all.end(&mut lines),
        }
        self.lines(&lines)
    }

    fn lines(&mut self, lines: &[Line]) -> Result<(), Error> {
        let mut text = String::new();
        for line in lines {
            let line = serde_json::to_string(line);
            text.push_str(&line.map_err(|error| Error::Corrupt(error.to_string()))?);
            text.push('\n');
        }
        match text.is_empty() {
            true => Ok(()),
            false => self.print(&text),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let Some(filter) = &mut self.filter else {
            return (self.out)(bytes);
        };
        let mut text = String::new();
        filter.push(bytes, &mut text);
        self.print(&text)
    }

    fn print(&mut self, text: &str) -> Result<(), Error> {
        (self.out)(text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use muster_proto::v1::{LogEnd, LogGap};

    use super::*;

    /// How it is printed.
    #[derive(Default)]
    struct How {
        json: bool,
        terminal: bool,
        timestamps: bool,
    }

    /// What is printed of these items, and whether something was found.
    fn printed(how: &How, items: &[Item]) -> (String, bool) {
        let mut bytes = Vec::new();
        let mut printer = Printer {
            out: |more: &[u8]| {
                bytes.extend_from_slice(more);
                Ok(())
            },
            json: how.json.then(Lines::default),
            filter: how.terminal.then(Filter::default),
            timestamps: how.timestamps,
            at_start: true,
            last: None,
            found: false,
        };
        for item in items {
            printer.item(item).unwrap();
        }
        printer.finish().unwrap();
        let found = printer.found;
        (String::from_utf8(bytes).unwrap(), found)
    }

    fn chunk(offset: i64, data: &[u8]) -> Item {
        Item::Chunk(LogChunk {
            offset,
            data: data.to_vec().into(),
            stream: 1,
            step: "s1".to_owned(),
            time: Some(prost_types::Timestamp {
                seconds: 1_000_000_000 + offset,
                nanos: 0,
            }),
        })
    }

    fn line(line: i64, offset: i64, data: &str, context: bool) -> Item {
        Item::Match(LogMatch {
            line,
            offset,
            data: data.as_bytes().to_vec().into(),
            context,
            ..LogMatch::default()
        })
    }

    #[test]
    fn a_time_stands_before_each_line_and_not_in_it() {
        let how = How {
            timestamps: true,
            ..How::default()
        };
        let items = [chunk(0, b"one\ntw"), chunk(6, b"o\n"), chunk(8, b"end")];
        let (text, found) = printed(&how, &items);
        let lines: Vec<&str> = text.lines().collect();
        let expected = [
            "2001-09-09T01:46:40.000Z one",
            "2001-09-09T01:46:40.000Z two",
            "2001-09-09T01:46:48.000Z end",
        ];
        assert_eq!(lines, expected);
        assert!(found);
    }

    #[test]
    fn matches_have_numbers_and_long_ones_stay_in_one_line() {
        let items = [
            line(3, 10, "before\n", true),
            line(4, 17, "a long ", false),
            line(4, 24, "match", false),
            // Nothing was found in the part before it.
            line(4, 90, "another part\n", false),
            line(9, 200, "last", false),
        ];
        let (text, found) = printed(&How::default(), &items);
        assert_eq!(
            text,
            "3-before\n4:a long match\n4:another part\n--\n9:last\n"
        );
        assert!(found);
        let (_, found) = printed(&How::default(), &[line(3, 0, "context\n", true)]);
        assert!(!found);
    }

    #[test]
    fn a_terminal_gets_no_escapes_and_its_colours_back() {
        let how = How {
            terminal: true,
            ..How::default()
        };
        let (text, _) = printed(&how, &[chunk(0, b"\x1b[31mred\x1b[2"), chunk(10, b"J!\n")]);
        assert_eq!(text, "\x1b[31mred!\n\x1b[0m");
    }

    #[test]
    fn an_object_is_printed_for_each_line_whatever_is_between() {
        let how = How {
            json: true,
            ..How::default()
        };
        let gap = Item::Gap(LogGap {
            offset: 9,
            size_bytes: 11,
            message: String::new(),
        });
        let items = [
            chunk(0, b"one \xc3"),
            chunk(5, b"\xa9\nt"),
            chunk(8, b"w"),
            gap,
            chunk(20, b"o\n"),
            Item::End(LogEnd::default()),
        ];
        let (text, _) = printed(&how, &items);
        let lines: Vec<&str> = text.lines().collect();
        let start = r#"{"offset":0,"time":"2001-09-09T01:46:40Z","step":"s1","stream":"stdout","text":"one é\n"}"#;
        assert_eq!(lines[0], start);
        assert!(lines[1].contains(r#""offset":7,"#) && lines[1].ends_with(r#""text":"tw"}"#));
        assert!(lines[2].contains(r#""offset":20,"#), "{}", lines[2]);
        assert_eq!(lines.len(), 3);
    }
}

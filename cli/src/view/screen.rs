//! Where a run is shown. A pipe gets plain lines and the log's bytes as they are; a terminal gets
//! filtered lines above one status line, which is drawn again and again.

use std::io::Write;

use crate::terminal::{Style, Terminal, columns, cut, escape::Filter};

/// A line without an end is broken here.
const MAX_LINE: usize = 16 << 10;
/// Colour sequences that are carried to the next line at most, in bytes.
const MAX_COLORS: usize = 256;

/// Where a run is shown.
pub(crate) struct Screen {
    out: Box<dyn Write + Send>,
    terminal: Terminal,
    live: bool,
    /// Nothing is shown: it was asked for, or nobody is there any more.
    silent: bool,
    filter: Filter,
    /// The line of the log that has no end yet; on a live screen it stands in the status line.
    partial: String,
    /// Colours that are on at the end of the last whole line.
    colors: String,
    at_start: bool,
    status: String,
    drawn: bool,
}

impl std::fmt::Debug for Screen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Screen").finish_non_exhaustive()
    }
}

impl Screen {
    /// Shows on `out`; `raw` leaves the log as it is even on a terminal.
    pub(crate) fn new(out: Box<dyn Write + Send>, terminal: Terminal, raw: bool) -> Self {
        Self {
            out,
            terminal,
            live: terminal.interactive && !raw,
            silent: false,
            filter: Filter::default(),
            partial: String::new(),
            colors: String::new(),
            at_start: true,
            status: String::new(),
            drawn: false,
        }
    }

    /// Shows nothing.
    pub(crate) fn silent(terminal: Terminal) -> Self {
        let mut screen = Self::new(Box::new(std::io::sink()), terminal, true);
        screen.silent = true;
        screen
    }

    /// Whether it has a status line.
    pub(crate) const fn is_live(&self) -> bool {
        self.live && !self.silent
    }

    /// Whether nothing is shown.
    pub(crate) const fn is_silent(&self) -> bool {
        self.silent
    }

    /// What it writes to.
    pub(crate) const fn terminal(&self) -> Terminal {
        self.terminal
    }

    /// Shows a line of the program itself.
    pub(crate) fn line(&mut self, text: &str) {
        let mut output = self.erased();
        if self.live {
            self.flush_partial(&mut output);
        } else if !self.at_start {
            output.push('\n');
            self.at_start = true;
        }
        output.push_str(text);
        output.push('\n');
        self.draw(&mut output);
        self.write(output.as_bytes());
    }

    /// Shows bytes of the log.
    pub(crate) fn log(&mut self, data: &[u8]) {
        let Some(last) = data.last() else {
            return;
        };
        if !self.live {
            self.at_start = *last == b'\n';
            self.write(data);
            return;
        }
        let mut output = self.erased();
        let mut partial = std::mem::take(&mut self.partial);
        self.filter.push(data, &mut partial);
        self.partial = partial;
        while let Some(end) = self.partial.find('\n') {
            let rest = self.partial.split_off(end + 1);
            let line = std::mem::replace(&mut self.partial, rest);
            self.log_line(&line, &mut output);
        }
        if self.partial.len() > MAX_LINE {
            let line = std::mem::take(&mut self.partial);
            self.log_line(&line, &mut output);
        }
        self.draw(&mut output);
        self.write(output.as_bytes());
    }

    /// Sets the status line; an empty one removes it.
    pub(crate) fn status(&mut self, text: &str) {
        if !self.live || (self.drawn && self.status == text) {
            return;
        }
        let mut output = self.erased();
        text.clone_into(&mut self.status);
        self.draw(&mut output);
        self.write(output.as_bytes());
    }

    /// Ends the show: the last line gets its end, the status line goes.
    pub(crate) fn close(&mut self) {
        let mut output = self.erased();
        self.status.clear();
        if self.live {
            let mut partial = std::mem::take(&mut self.partial);
            self.filter.finish(&mut partial);
            self.partial = partial;
            self.flush_partial(&mut output);
        } else if !self.at_start {
            output.push('\n');
        }
        self.write(output.as_bytes());
    }

    fn flush_partial(&mut self, output: &mut String) {
        if !self.partial.is_empty() {
            let line = std::mem::take(&mut self.partial);
            self.log_line(&line, output);
        }
        self.colors.clear();
    }

    /// One line of the log, with the colours that were on before it. Of a line that wrote over
    /// itself the last version is kept, as a terminal would show it.
    fn log_line(&mut self, line: &str, output: &mut String) {
        let line = line.trim_end_matches(['\n', '\r']);
        let before = self.colors.clone();
        self.remember_colors(line);
        let shown = line.rsplit('\r').next().unwrap_or(line);
        output.push_str(&before);
        output.push_str(shown);
        if !before.is_empty() || shown.contains('\x1b') {
            output.push_str("\x1b[0m");
        }
        output.push('\n');
    }

    fn remember_colors(&mut self, line: &str) {
        for part in line.split('\x1b').skip(1) {
            let Some((sequence, _)) = part.split_once('m') else {
                continue;
            };
            let reset = sequence.trim_start_matches('[').trim_start_matches('0');
            if reset.is_empty() {
                self.colors.clear();
            } else if self.colors.len() < MAX_COLORS {
                self.colors.push_str(&format!("\x1b{sequence}m"));
            }
        }
    }

    /// The beginning of an output that stands where the status line was.
    fn erased(&mut self) -> String {
        if std::mem::take(&mut self.drawn) {
            "\r\x1b[K".to_owned()
        } else {
            String::new()
        }
    }

    /// Draws the status line at the end of an output.
    fn draw(&mut self, output: &mut String) {
        if !self.live || self.status.is_empty() {
            return;
        }
        let width = self.terminal.width().unwrap_or(80).saturating_sub(1);
        let mut text = cut(&self.status, width);
        let partial = plain(self.partial.rsplit('\r').next().unwrap_or_default());
        let room = width.saturating_sub(columns(&text) + 3);
        text = self.terminal.paint(Style::Cyan, &text);
        if !partial.is_empty() && room > 10 {
            let partial = cut(&partial, room);
            text.push_str(&self.terminal.paint(Style::Dim, &format!(" · {partial}")));
        }
        output.push_str(&text);
        self.drawn = true;
    }

    fn write(&mut self, bytes: &[u8]) {
        if self.silent || bytes.is_empty() {
            return;
        }
        let written = self.out.write_all(bytes).and_then(|()| self.out.flush());
        // Nobody reads any more: the run goes on without a show.
        self.silent = written.is_err();
    }
}

/// A filtered text without its colours.
fn plain(text: &str) -> String {
    let mut parts = text.split('\x1b');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        plain.push_str(part.split_once('m').map_or("", |(_, rest)| rest));
    }
    plain.replace('\t', " ")
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Shared {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    fn screen(live: bool) -> (Screen, Shared) {
        let out = Shared::default();
        let mut screen = Screen::new(Box::new(out.clone()), Terminal::plain(), false);
        screen.live = live;
        (screen, out)
    }

    #[test]
    fn a_pipe_gets_the_bytes_as_they_are() {
        let (mut screen, out) = screen(false);
        screen.log(b"a\x1b[2Jb");
        screen.line("own");
        screen.log(b"c\n");
        screen.line("own");
        screen.log(b"d");
        screen.close();
        assert_eq!(out.text(), "a\x1b[2Jb\nown\nc\nown\nd\n");
    }

    #[test]
    fn a_live_screen_keeps_unfinished_lines_out_of_the_log() {
        let (mut screen, out) = screen(true);
        screen.status("busy");
        screen.log(b"10%\r20%");
        screen.log(b"\r30%\nnext");
        screen.close();
        assert_eq!(
            out.text(),
            "busy\r\x1b[Kbusy · 20%\r\x1b[K30%\nbusy · next\r\x1b[Knext\n".to_owned()
        );
    }

    #[test]
    fn colours_of_the_log_never_reach_the_status_line() {
        let (mut screen, out) = screen(true);
        screen.status("busy");
        screen.log(b"\x1b[31mred\nstill\x1b[0m\nplain\n");
        screen.close();
        let expected = "\r\x1b[K\x1b[31mred\x1b[0m\n\x1b[31mstill\x1b[0m\x1b[0m\nplain\nbusy";
        assert_eq!(out.text(), format!("busy{expected}\r\x1b[K"));
    }

    #[test]
    fn nothing_is_written_when_nobody_reads() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(std::io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let mut screen = Screen::new(Box::new(Closed), Terminal::plain(), false);
        screen.line("a");
        assert!(screen.silent);
    }
}

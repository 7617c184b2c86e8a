//! What is known of the terminal: whether there is one, its width, and whether to use colours.
//! What is written there is decided elsewhere.

pub(crate) mod escape;
pub(crate) mod measure;
pub(crate) mod table;

use std::io::IsTerminal as _;

use clap::ValueEnum;
use unicode_width::UnicodeWidthChar as _;

/// A word for a shell, in quotation marks where it needs them.
pub(crate) fn shell_word(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
    match !text.is_empty() && text.bytes().all(plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum ColorChoice {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Also into files and pipes.
    Always,
    /// Never.
    Never,
}

/// A colour or weight of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// As it is.
    Plain,
    /// What matters.
    Bold,
    /// What matters less.
    Dim,
    /// Good.
    Green,
    /// Bad.
    Red,
    /// Worth a look.
    Yellow,
    /// In work.
    Cyan,
}

/// One output stream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terminal {
    /// Somebody looks at it.
    pub(crate) interactive: bool,
    /// Colours are wanted.
    pub(crate) color: bool,
    width: Option<usize>,
}

impl Terminal {
    /// Standard output.
    pub(crate) fn stdout(choice: ColorChoice) -> Self {
        let stream = std::io::stdout();
        let width = rustix::termios::tcgetwinsize(&stream);
        Self::new(choice, stream.is_terminal(), width)
    }

    /// Standard error.
    pub(crate) fn stderr(choice: ColorChoice) -> Self {
        let stream = std::io::stderr();
        let width = rustix::termios::tcgetwinsize(&stream);
        Self::new(choice, stream.is_terminal(), width)
    }

    fn new(
        choice: ColorChoice,
        terminal: bool,
        size: rustix::io::Result<rustix::termios::Winsize>,
    ) -> Self {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let color = match choice {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => terminal && !dumb && !set("NO_COLOR"),
        };
        let width = size.ok().map(|size| usize::from(size.ws_col));
        Self {
            interactive: terminal && !dumb,
            color,
            width: width.filter(|&width| terminal && width > 0),
        }
    }

    /// A stream that is neither a terminal nor coloured.
    #[cfg(test)]
    pub(crate) const fn plain() -> Self {
        Self {
            interactive: false,
            color: false,
            width: None,
        }
    }

    /// Columns; absent when it is no terminal, so nothing must be cut.
    pub(crate) const fn width(&self) -> Option<usize> {
        self.width
    }

    /// Returns `text` in a style, when colours are wanted.
    pub(crate) fn paint(&self, style: Style, text: &str) -> String {
        let code = match style {
            Style::Plain => return text.to_owned(),
            Style::Bold => "1",
            Style::Dim => "2",
            Style::Green => "32",
            Style::Red => "31",
            Style::Yellow => "33",
            Style::Cyan => "36",
        };
        if !self.color || text.is_empty() {
            return text.to_owned();
        }
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// Columns that `text` takes.
pub(crate) fn columns(text: &str) -> usize {
    text.chars()
        .map(|character| character.width().unwrap_or(0))
        .sum()
}

/// Cuts `text` to at most `limit` columns; a cut one ends with `…`.
pub(crate) fn cut(text: &str, limit: usize) -> String {
    if columns(text) <= limit {
        return text.to_owned();
    }
    let mut used = 1;
    let mut kept = String::new();
    for character in text.chars() {
        used += character.width().unwrap_or(0);
        if used > limit {
            break;
        }
        kept.push(character);
    }
    if limit > 0 {
        kept.push('…');
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_by_columns_not_by_bytes() {
        assert_eq!(cut("abcdef", 6), "abcdef");
        assert_eq!(cut("abcdef", 4), "abc…");
        assert_eq!(cut("漢字漢字", 5), "漢字…");
        assert_eq!(cut("漢字漢字", 4), "漢…");
        assert_eq!(cut("abc", 0), "");
    }

    #[test]
    fn a_plain_stream_gets_no_colours() {
        assert_eq!(Terminal::plain().paint(Style::Red, "no"), "no");
    }
}

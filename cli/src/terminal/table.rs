//! Tables of text in columns, cut to the width of a terminal.

use super::{Style, Terminal, columns, cut};

/// Space between two columns.
const GAP: usize = 2;
/// No column is cut below this.
const NARROWEST: usize = 6;

/// A cell: its text and how it is painted.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    text: String,
    style: Style,
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self {
            text: text.into(),
            style: Style::Plain,
        }
    }
}

impl Cell {
    /// A painted cell.
    pub(crate) fn styled(text: impl Into<String>, style: Style) -> Self {
        Self {
            text: text.into(),
            style,
        }
    }
}

/// Rows under a heading.
#[derive(Debug)]
pub(crate) struct Table {
    heading: Vec<Cell>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// An empty table.
    pub(crate) fn new(heading: &[&str]) -> Self {
        Self {
            heading: heading
                .iter()
                .map(|text| Cell::styled(*text, Style::Dim))
                .collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row; control characters in it are shown, never obeyed.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        let visible = |cell: Cell| Cell {
            text: super::escape::visible(&cell.text),
            style: cell.style,
        };
        self.rows.push(cells.into_iter().map(visible).collect());
    }

    /// Whether there are no rows.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The text, a line for each row. On a terminal the widest columns are cut until it fits.
    pub(crate) fn render(&self, terminal: &Terminal) -> String {
        let all = || std::iter::once(&self.heading).chain(&self.rows);
        let count = all().map(Vec::len).max().unwrap_or(0);
        let mut widths = vec![0; count];
        for row in all() {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = columns(&cell.text).max(*width);
            }
        }
        if let Some(limit) = terminal.width() {
            shrink(&mut widths, limit);
        }
        let mut text = String::new();
        for row in all() {
            text.push_str(&line(row, &widths, terminal));
            text.push('\n');
        }
        text
    }
}

fn line(row: &[Cell], widths: &[usize], terminal: &Terminal) -> String {
    let mut line = String::new();
    for (index, (cell, &width)) in row.iter().zip(widths).enumerate() {
        let text = cut(&cell.text, width);
        line.push_str(&terminal.paint(cell.style, &text));
        if index + 1 < row.len() {
            let fill = width.saturating_sub(columns(&text)) + GAP;
            line.extend(std::iter::repeat_n(' ', fill));
        }
    }
    line.trim_end().to_owned()
}

fn shrink(widths: &mut [usize], limit: usize) {
    let gaps = GAP * widths.len().saturating_sub(1);
    while widths.iter().sum::<usize>() + gaps > limit {
        let Some(widest) = widths.iter_mut().max().filter(|width| **width > NARROWEST) else {
            return;
        };
        *widest -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&["NAME", "STATE"]);
        table.row(["a".into(), "passed".into()]);
        table.row(["longer".into(), "failed".into()]);
        assert_eq!(
            table.render(&Terminal::plain()),
            "NAME    STATE\na       passed\nlonger  failed\n"
        );
    }

    #[test]
    fn the_widest_column_gives_way_first() {
        let mut widths = [4, 40, 10];
        shrink(&mut widths, 30);
        assert_eq!(widths, [4, 12, 10]);
    }

    #[test]
    fn a_narrow_terminal_never_loops_for_ever() {
        let mut widths = [40, 40];
        shrink(&mut widths, 3);
        assert_eq!(widths, [NARROWEST, NARROWEST]);
    }

    #[test]
    fn control_characters_are_shown() {
        let mut table = Table::new(&["NAME"]);
        table.row(["a\u{1b}]0;x\u{7}b\nc".into()]);
        assert!(!table.render(&Terminal::plain()).contains('\u{1b}'));
        assert_eq!(table.render(&Terminal::plain()).lines().count(), 2);
    }
}

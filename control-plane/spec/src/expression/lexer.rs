//! Tokens of an expression.

use super::error::Error;
use super::literal;
use super::tree::{Operator, Path, Segment};
use super::value::Value;

/// A token.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    Literal(Value),
    /// `a.b.*.c`.
    Name(Path),
    /// `.b` after something that is not a name.
    Property(Segment),
    Operator(Operator),
    Not,
    Question,
    Colon,
    Open,
    Close,
    Comma,
    Spread,
    /// `}}`, the end inside a template.
    TemplateEnd,
    /// End of the text.
    End,
}

impl Token {
    /// The token for an error message.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Literal(value) => {
                let cure = if value.is_array() { ITEMS } else { "" };
                format!("the value {}{cure}", super::value::describe(value))
            }
            Self::Name(path) => format!("the name `{path}`"),
            Self::Property(segment) => format!("`.{segment}`"),
            Self::Operator(operator) => format!("`{}`", operator.symbol()),
            Self::Not => "`!`".to_owned(),
            Self::Question => "`?`".to_owned(),
            Self::Colon => "`:`".to_owned(),
            Self::Open => "`(`".to_owned(),
            Self::Close => "`)`".to_owned(),
            Self::Comma => "`,`".to_owned(),
            Self::Spread => "`...`".to_owned(),
            Self::TemplateEnd => "`}}`".to_owned(),
            Self::End => "the end".to_owned(),
        }
    }
}

/// Advice for those who write `list[0]`.
const ITEMS: &str = " (items are read as `list.0` or `at(list, 0)`)";

/// Longest first, so that `**` is not two `*`.
static SYMBOLS: [(&str, Token); 23] = [
    ("...", Token::Spread),
    ("}}", Token::TemplateEnd),
    ("!=", Token::Operator(Operator::NotEqual)),
    ("<>", Token::Operator(Operator::NotEqual)),
    ("==", Token::Operator(Operator::Equal)),
    (">=", Token::Operator(Operator::GreaterOrEqual)),
    ("<=", Token::Operator(Operator::LessOrEqual)),
    ("&&", Token::Operator(Operator::And)),
    ("||", Token::Operator(Operator::Or)),
    ("**", Token::Operator(Operator::Power)),
    ("=", Token::Operator(Operator::Equal)),
    (">", Token::Operator(Operator::Greater)),
    ("<", Token::Operator(Operator::Less)),
    ("+", Token::Operator(Operator::Add)),
    ("-", Token::Operator(Operator::Subtract)),
    ("*", Token::Operator(Operator::Multiply)),
    ("/", Token::Operator(Operator::Divide)),
    ("%", Token::Operator(Operator::Remainder)),
    ("!", Token::Not),
    ("?", Token::Question),
    (":", Token::Colon),
    ("(", Token::Open),
    (")", Token::Close),
];

/// Reads the token at or after `at`; gives it with its offset and the offset after it.
pub(super) fn next(text: &str, at: usize) -> Result<(Token, usize, usize), Error> {
    let mut at = at;
    while let Some(c) = text.get(at..).and_then(|rest| rest.chars().next()) {
        if !c.is_whitespace() {
            break;
        }
        at += c.len_utf8();
    }
    let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) else {
        return Ok((Token::End, at, at));
    };
    if rest.starts_with(',') {
        return Ok((Token::Comma, at, at + 1));
    }
    for (symbol, token) in &SYMBOLS {
        if rest.starts_with(symbol) {
            return Ok((token.clone(), at, at + symbol.len()));
        }
    }
    if let Some((value, end)) = literal::read(text, at)? {
        return Ok((Token::Literal(value), at, end));
    }
    if let Some((path, length)) = name(rest) {
        return Ok((Token::Name(path), at, at + length));
    }
    if let Some((segment, length)) = property(rest) {
        return Ok((Token::Property(segment), at, at + length));
    }
    let c = rest.chars().next().unwrap_or(' ');
    let cure = match c {
        '[' | ']' => ITEMS,
        '&' | '|' => " (and, or are `&&`, `||`)",
        _ => "",
    };
    Err(Error::syntax(
        text,
        at,
        format!("unexpected character `{}`{cure}", c.escape_debug()),
    ))
}

/// A name with its properties, and how many bytes it takes.
fn name(rest: &str) -> Option<(Path, usize)> {
    let first = word(rest)?;
    let mut segments = vec![Segment::Name(first.to_owned())];
    let mut length = first.len();
    while let Some((segment, more)) = property(&rest[length..]) {
        segments.push(segment);
        length += more;
    }
    Some((Path(segments), length))
}

/// `.name` or `.*`, with spaces around the dot, and how many bytes it takes.
fn property(rest: &str) -> Option<(Segment, usize)> {
    let after = rest.trim_start().strip_prefix('.')?;
    let inner = after.trim_start();
    let before = rest.len() - inner.len();
    if inner.starts_with('*') {
        return Some((Segment::Each, before + 1));
    }
    let word = word(inner)?;
    Some((Segment::Name(word.to_owned()), before + word.len()))
}

fn word(rest: &str) -> Option<&str> {
    let end = rest
        .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .unwrap_or(rest.len());
    rest.get(..end).filter(|word| !word.is_empty())
}

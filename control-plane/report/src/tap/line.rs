//! What a line of TAP says, its indentation taken away.

/// What a line says.
#[derive(Debug, PartialEq)]
pub(crate) enum Said<'l> {
    /// The version of the protocol.
    Version,
    /// How many tests there are, and why there are none.
    Plan(u64, &'l str),
    /// How a test ended.
    Test(Test<'l>),
    /// The name of the subtests that follow.
    Subtest(&'l str),
    /// Nothing more is run, and why.
    BailOut(&'l str),
    /// A block of diagnostics begins.
    Block,
    /// Another comment.
    Comment(&'l str),
    /// Nothing of the protocol.
    Nothing,
}

/// How a test ended.
#[derive(Debug, PartialEq)]
pub(crate) struct Test<'l> {
    pub(crate) ok: bool,
    pub(crate) number: Option<u64>,
    /// The description; `\#` and `\\` are resolved.
    pub(crate) name: String,
    /// A directive and its reason.
    pub(crate) directive: Option<(Directive, &'l str)>,
    /// What node-tap adds as `# time=`.
    pub(crate) millis: Option<f64>,
    /// Its subtests follow in braces.
    pub(crate) opens: bool,
}

/// What stands behind a description.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Directive {
    Skip,
    Todo,
}

impl Directive {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::Todo => "todo",
        }
    }
}

/// Reads a line.
pub(crate) fn parse(text: &str) -> Said<'_> {
    let text = text.trim_end();
    if text == "---" {
        return Said::Block;
    }
    if let Some(comment) = text.strip_prefix('#') {
        let comment = comment.trim_start();
        return match comment.strip_prefix("Subtest:") {
            Some(name) => Said::Subtest(name.trim()),
            None => Said::Comment(comment),
        };
    }
    if let Some(reason) = text.strip_prefix("Bail out!") {
        return Said::BailOut(reason.trim());
    }
    if let Some(version) = text.strip_prefix("TAP version ") {
        let known = version
            .parse()
            .is_ok_and(|version: u32| (12..=14).contains(&version));
        return if known { Said::Version } else { Said::Nothing };
    }
    if let Some(rest) = text.strip_prefix("1..") {
        return plan(rest).unwrap_or(Said::Nothing);
    }
    let (ok, rest) = match text.strip_prefix("not ok") {
        Some(rest) => (false, rest),
        None => match text.strip_prefix("ok") {
            Some(rest) => (true, rest),
            None => return Said::Nothing,
        },
    };
    if !rest.is_empty() && !rest.starts_with([' ', '\t']) {
        return Said::Nothing;
    }
    Said::Test(test(ok, rest.trim_start()))
}

fn plan(rest: &str) -> Option<Said<'_>> {
    let end = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    let count = rest[..end].parse().ok()?;
    let rest = rest[end..].trim_start();
    if rest.is_empty() {
        return Some(Said::Plan(count, ""));
    }
    let reason = rest.strip_prefix('#')?.trim_start();
    let word = reason.split(' ').next().unwrap_or_default();
    let told = word.to_ascii_lowercase().starts_with("skip");
    let reason = if told {
        reason[word.len()..].trim()
    } else {
        ""
    };
    Some(Said::Plan(count, reason))
}

fn test(ok: bool, text: &str) -> Test<'_> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let alone = text[end..].is_empty() || text[end..].starts_with([' ', '\t']);
    let number = text[..end].parse().ok().filter(|_| alone);
    let mut rest = if number.is_some() {
        text[end..].trim_start()
    } else {
        text
    };
    rest = rest.strip_prefix("- ").unwrap_or(rest);
    if rest == "-" {
        rest = "";
    }
    let opens = rest == "{" || rest.ends_with(" {");
    if opens {
        rest = rest[..rest.len() - 1].trim_end();
    }
    let mut test = Test {
        ok,
        number,
        name: String::new(),
        directive: None,
        millis: None,
        opens,
    };
    let mut name = rest;
    for at in hashes(rest) {
        let comment = rest[at + 1..].trim_start();
        let word = comment
            .split(|c: char| !c.is_ascii_alphabetic())
            .next()
            .unwrap_or_default();
        let lower = word.to_ascii_lowercase();
        let directive = match lower.as_str() {
            "skip" | "skipped" => Some(Directive::Skip),
            "todo" => Some(Directive::Todo),
            _ => None,
        };
        if let Some(directive) = directive {
            let reason = comment[word.len()..].trim_start_matches([':', ' ', '-']);
            test.directive = Some((directive, reason));
        } else if let Some(time) = comment.strip_prefix("time=") {
            test.millis = time.strip_suffix("ms").and_then(|time| time.parse().ok());
        } else {
            continue;
        }
        name = rest[..at].trim_end();
        break;
    }
    test.name = unescaped(name);
    test
}

/// Where hashes stand that may begin a directive: behind white space, or first.
fn hashes(text: &str) -> impl Iterator<Item = usize> {
    text.match_indices('#').filter_map(|(at, _)| {
        let free = at == 0 || text[..at].ends_with([' ', '\t']);
        free.then_some(at)
    })
}

fn unescaped(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut chars = name.chars().peekable();
    while let Some(char) = chars.next() {
        match (char, chars.peek()) {
            ('\\', Some(next @ ('#' | '\\'))) => {
                out.push(*next);
                chars.next();
            }
            _ => out.push(char),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{Directive, Said, parse};

    #[test]
    fn tests_have_a_number_a_description_and_a_directive_or_not() {
        let read = |text| match parse(text) {
            Said::Test(test) => {
                let directive = test.directive.map(|(d, reason)| (d.as_str(), reason));
                (test.ok, test.number, test.name, directive)
            }
            other => panic!("{other:?}"),
        };
        let plain = |ok, number, name: &str| (ok, number, name.to_owned(), None);
        assert_eq!(read("ok"), plain(true, None, ""));
        assert_eq!(
            read("not ok 2 - adds # two"),
            plain(false, Some(2), "adds # two")
        );
        assert_eq!(
            read("ok 3 adds \\# \\\\ two"),
            plain(true, Some(3), "adds # \\ two")
        );
        assert_eq!(
            read("ok 99999999999999999999 - x"),
            plain(true, None, "99999999999999999999 - x")
        );
        assert_eq!(
            read("ok 1 - a # SKIP no display"),
            (true, Some(1), "a".to_owned(), Some(("skip", "no display")))
        );
        assert_eq!(
            read("not ok 1 # todo: later"),
            (false, Some(1), String::new(), Some(("todo", "later")))
        );
    }

    #[test]
    fn times_and_braces_of_node_tap_are_known() {
        let Said::Test(test) = parse("ok 1 - parent # time=1.5ms {") else {
            panic!("no test");
        };
        assert_eq!(
            (test.name.as_str(), test.millis, test.opens),
            ("parent", Some(1.5), true)
        );
        assert_eq!(Directive::Skip.as_str(), "skip");
    }

    #[test]
    fn prose_is_nothing() {
        for text in [
            "okay",
            "okay 1",
            "not okay",
            "1..x",
            "1..",
            "1..2 3",
            "",
            "TAP version 99",
            "{",
        ] {
            assert_eq!(parse(text), Said::Nothing, "{text}");
        }
    }
}

//! Parameters that stand in the name of a test by a convention of its tool. Names stay whole: this
//! only finds the part.

/// Parameters in square brackets: `1-2` of pytest's `sum[1-2]`, `1` of `each(int)[1]` as Surefire and
/// Gradle write an invocation of JUnit 5, `2, "b"` of `[1] 2, "b"`.
///
/// Before the bracket stands an identifier, so that prose as in `reads arrays [1]` has none.
pub(crate) fn bracketed(name: &str) -> Option<&str> {
    if let Some(rest) = name.strip_prefix('[') {
        let (number, rest) = rest.split_once("] ")?;
        let told = number.bytes().all(|byte| byte.is_ascii_digit()) && !number.is_empty();
        return (told && !rest.is_empty()).then_some(rest);
    }
    let inside = name.strip_suffix(']')?;
    let (base, parameters) = inside.split_once('[')?;
    let base = match base.find(['(', '{']) {
        Some(at) if base.ends_with([')', '}']) => &base[..at],
        _ => base,
    };
    (is_identifier(base) && !parameters.is_empty()).then_some(parameters)
}

/// Parameters in parentheses: `1,2` of `Add(1,2)` as NUnit and xUnit write it.
pub(crate) fn parenthesised(name: &str) -> Option<&str> {
    let (base, parameters) = name.strip_suffix(')')?.split_once('(')?;
    (is_identifier(base) && !parameters.is_empty()).then_some(parameters)
}

fn is_identifier(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next().is_some_and(|c| c.is_alphabetic() || c == '_')
        && chars.all(|c| c.is_alphanumeric() || matches!(c, '_' | '$' | '.' | ':' | '<' | '>'))
}

#[cfg(test)]
mod tests {
    use super::{bracketed, parenthesised};

    #[test]
    fn each_convention_is_known() {
        assert_eq!(bracketed("test_pair[x-y-[z]]"), Some("x-y-[z]"));
        assert_eq!(bracketed("each(int)[1]"), Some("1"));
        assert_eq!(bracketed("each{int}[2]"), Some("2"));
        assert_eq!(bracketed("[1] 2, \"b\""), Some("2, \"b\""));
        assert_eq!(parenthesised("Add(1,\"(b)\")"), Some("1,\"(b)\""));
        assert_eq!(parenthesised("Add(x: 1)"), Some("x: 1"));
    }

    #[test]
    fn prose_has_none() {
        for name in [
            "",
            "reads arrays [1]",
            "a[]",
            "[1]",
            "[x] y",
            "[build failed]",
            "][",
        ] {
            assert_eq!(bracketed(name), None, "{name}");
        }
        for name in ["", "Add()", "adds (in time)", ")("] {
            assert_eq!(parenthesised(name), None, "{name}");
        }
    }
}

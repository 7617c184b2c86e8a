//! Names that people give: DNS labels and subdomains as Kubernetes has them (RFC 1123).

/// Why a name is refused; the text says what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{name}' is not a name: up to {limit} {letters}, digits, '-'{also}, beginning and ending with a letter or digit"
)]
pub struct NameError {
    name: String,
    limit: usize,
    letters: &'static str,
    also: String,
}

/// What a kind of name may have, besides digits and inner hyphens.
struct Rule {
    limit: usize,
    letter: fn(&u8) -> bool,
    letters: &'static str,
    /// One more character that may be inside.
    also: Option<u8>,
}

const LABEL: Rule = Rule {
    limit: 63,
    letter: u8::is_ascii_lowercase,
    letters: "lower-case letters",
    also: None,
};
const SUBDOMAIN: Rule = Rule {
    limit: 253,
    also: Some(b'.'),
    ..LABEL
};
const CREDENTIAL: Rule = Rule {
    letter: u8::is_ascii_alphabetic,
    letters: "letters",
    also: Some(b'_'),
    ..LABEL
};

/// Checks a DNS label: the name of a project or an agent.
///
/// # Errors
///
/// [`NameError`] when it is empty, longer than 63 characters or has other characters.
pub fn check_label(name: &str) -> Result<(), NameError> {
    check(name, &LABEL)
}

/// Checks a DNS subdomain: the name of a workflow or a template (`metadata.name`).
///
/// # Errors
///
/// [`NameError`] when it is empty, longer than 253 characters or has other characters.
pub fn check_subdomain(name: &str) -> Result<(), NameError> {
    check(name, &SUBDOMAIN)
}

/// Checks the name of a credential: as a label, or as people name variables.
///
/// # Errors
///
/// [`NameError`] when it is empty, longer than 63 characters or has other characters.
pub fn check_credential(name: &str) -> Result<(), NameError> {
    check(name, &CREDENTIAL)
}

fn check(name: &str, rule: &Rule) -> Result<(), NameError> {
    let alphanumeric = |c: u8| (rule.letter)(&c) || c.is_ascii_digit();
    let bytes = name.as_bytes();
    let good = !bytes.is_empty()
        && bytes.len() <= rule.limit
        && bytes
            .iter()
            .all(|&c| alphanumeric(c) || c == b'-' || Some(c) == rule.also)
        && bytes.first().is_some_and(|&c| alphanumeric(c))
        && bytes.last().is_some_and(|&c| alphanumeric(c));
    if good {
        return Ok(());
    }
    Err(NameError {
        name: name.chars().take(80).collect(),
        limit: rule.limit,
        letters: rule.letters,
        also: match rule.also {
            Some(c) => format!(", '{}'", char::from(c)),
            None => String::new(),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_follow_rfc_1123() {
        for good in ["a", "a-b", "0", &"a".repeat(63)] {
            assert!(check_label(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "ä", &"a".repeat(64)] {
            assert!(check_label(bad).is_err(), "{bad}");
        }
        assert!(check_subdomain("a.b").is_ok());
    }

    #[test]
    fn credentials_may_be_named_as_variables_are() {
        for good in ["token", "OPENAI_API_KEY", "a-b", "0"] {
            assert!(check_credential(good).is_ok(), "{good}");
        }
        for bad in ["", "_A", "A_", "a.b", "a b", "ä", "a/b"] {
            assert!(check_credential(bad).is_err(), "{bad}");
        }
    }
}

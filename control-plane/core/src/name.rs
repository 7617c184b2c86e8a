//! Names that people give: DNS labels and subdomains as Kubernetes has them (RFC 1123).

/// Why a name is refused; the text says what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{name}' is not a name: up to {limit} lower-case letters, digits, '-'{dot}, beginning and ending with a letter or digit"
)]
pub struct NameError {
    name: String,
    limit: usize,
    dot: &'static str,
}

/// Checks a DNS label: the name of a project or an agent.
///
/// # Errors
///
/// [`NameError`] when it is empty, longer than 63 characters or has other characters.
pub fn check_label(name: &str) -> Result<(), NameError> {
    check(name, 63, false)
}

/// Checks a DNS subdomain: the name of a workflow or a template (`metadata.name`).
///
/// # Errors
///
/// [`NameError`] when it is empty, longer than 253 characters or has other characters.
pub fn check_subdomain(name: &str) -> Result<(), NameError> {
    check(name, 253, true)
}

fn check(name: &str, limit: usize, dots: bool) -> Result<(), NameError> {
    let alphanumeric = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let bytes = name.as_bytes();
    let good = !bytes.is_empty()
        && bytes.len() <= limit
        && bytes
            .iter()
            .all(|&c| alphanumeric(c) || c == b'-' || (dots && c == b'.'))
        && bytes.first().is_some_and(|&c| alphanumeric(c))
        && bytes.last().is_some_and(|&c| alphanumeric(c));
    if good {
        return Ok(());
    }
    Err(NameError {
        name: name.chars().take(80).collect(),
        limit,
        dot: if dots { ", '.'" } else { "" },
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
}

//! `$(NAME)` in values of variables, commands and arguments, as Kubernetes resolves it.

/// Resolves `$(NAME)` with what `get` knows; `$$` is a dollar, an unknown name stays as it is.
pub(crate) fn expand<'a>(text: &str, get: impl Fn(&str) -> Option<&'a str>) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, after) = rest.split_at(at);
        expanded.push_str(before);
        rest = after;
        if let Some(after) = rest.strip_prefix("$$") {
            expanded.push('$');
            rest = after;
            continue;
        }
        let reference = rest
            .strip_prefix("$(")
            .and_then(|inner| inner.split_once(')'));
        let Some((name, after)) = reference else {
            expanded.push('$');
            rest = rest.get(1..).unwrap_or_default();
            continue;
        };
        match get(name) {
            Some(value) => expanded.push_str(value),
            None => expanded.push_str(&format!("$({name})")),
        }
        rest = after;
    }
    expanded.push_str(rest);
    expanded
}

/// A text that [`expand`] makes this one of.
pub(crate) fn escape(text: &str) -> String {
    text.replace('$', "$$")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_resolved_as_kubernetes_does() {
        let get = |name: &str| match name {
            "A" => Some("3"),
            "B" => Some("12"),
            _ => None,
        };
        for (text, expected) in [
            ("$(A)-$(B)", "3-12"),
            ("$$(A) $$$(A) $A ${A} $(X) $", "$(A) $3 $A ${A} $(X) $"),
            ("$(A", "$(A"),
        ] {
            assert_eq!(expand(text, get), expected, "{text}");
            assert_eq!(expand(&escape(text), get), text);
        }
    }
}

//! Ids and names of steps that have none.

use crate::schema::Step;

/// An id made of a name: lower-case letters and digits, all else as `_`. Nothing when the name
/// is not known yet or has no letter or digit.
pub(crate) fn slug(name: &str) -> Option<String> {
    if name.contains("{{") {
        return None;
    }
    let mut slug = String::new();
    for c in name.chars() {
        if c.is_ascii_alphanumeric() {
            slug.push(c.to_ascii_lowercase());
        } else if !slug.is_empty() && !slug.ends_with('_') {
            slug.push('_');
        }
        if slug.len() >= 63 {
            break;
        }
    }
    let slug = slug.trim_end_matches('_');
    (!slug.is_empty()).then(|| slug.to_owned())
}

/// What a step without a name is called.
pub(super) fn default_name(step: &Step) -> &'static str {
    if step.shell.is_some() || step.run.as_ref().is_some_and(|run| run.shell.is_some()) {
        "Run shell command"
    } else if step.run.is_some() {
        "Run program"
    } else if step.parallel.is_some() {
        "Run in parallel"
    } else if step.execute.is_some() {
        "Run workflows"
    } else if !step.setup.is_empty() || !step.steps.is_empty() {
        "Run steps"
    } else if !step.services.is_empty() {
        "Start services"
    } else if step.delay.is_some() {
        "Wait"
    } else if step.content.git.is_some() || !step.content.tarballs.is_empty() {
        "Fetch content"
    } else if !step.content.files.is_empty() {
        "Write files"
    } else if step.artifacts.is_some() {
        "Collect artifacts"
    } else {
        "Do nothing"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs_have_only_what_an_id_allows() {
        assert_eq!(slug("Build & test (1)").as_deref(), Some("build_test_1"));
        assert_eq!(slug("  Ünïcode "), Some("n_code".to_owned()));
        assert_eq!(slug("{{ env.X }}"), None);
        assert_eq!(slug("---"), None);
        assert_eq!(slug(&"a".repeat(200)).map(|slug| slug.len()), Some(63));
    }
}

//! Resource names (AIP-122): `projects/{project}/executions/{execution}`.

use crate::app::Error;

/// The variable parts of a name of this form, in which `*` stands for one.
///
/// # Errors
///
/// [`Error::Invalid`] names the field and the form.
pub(super) fn parts<'a, const N: usize>(
    field: &str,
    name: &'a str,
    form: &str,
) -> Result<[&'a str; N], Error> {
    let refused = || {
        let shown: String = name.chars().take(200).collect();
        Error::invalid(field, format!("'{shown}' is not a name of the form {form}"))
    };
    let mut found = [""; N];
    let mut count = 0;
    let mut given = name.split('/');
    for wanted in form.split('/') {
        let part = given.next().ok_or_else(refused)?;
        if wanted.starts_with('{') {
            if part.is_empty() || count == N {
                return Err(refused());
            }
            found[count] = part;
            count += 1;
        } else if part != wanted {
            return Err(refused());
        }
    }
    if given.next().is_some() || count != N {
        return Err(refused());
    }
    Ok(found)
}

/// The project of `projects/{project}`.
pub(super) fn project<'a>(field: &str, name: &'a str) -> Result<&'a str, Error> {
    parts::<1>(field, name, "projects/{project}").map(|[project]| project)
}

/// Project and execution of a name.
pub(super) fn execution<'a>(field: &str, name: &'a str) -> Result<[&'a str; 2], Error> {
    parts(field, name, "projects/{project}/executions/{execution}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_another_form_is_refused_with_the_right_one() {
        assert_eq!(
            execution("name", "projects/p/executions/e").expect("it is good"),
            ["p", "e"]
        );
        for bad in [
            "",
            "projects/p",
            "projects//executions/e",
            "projects/p/executions/e/x",
        ] {
            let error = execution("name", bad).expect_err(bad).to_string();
            assert!(error.contains("{execution}"), "{error}");
        }
    }
}

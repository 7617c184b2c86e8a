//! Tests that executions are looked for by.

use muster_storage::test::Identity;

use crate::app::{Access, App, Caller, Error};

/// Most tests that executions are looked for by: each is a walk of its own.
const MOST_TESTS: usize = 16;

impl App {
    /// The tests of an identity, or of a part of a class or name; none when there is no such test.
    pub(crate) async fn tests_named(
        &self,
        caller: &Caller,
        project: &str,
        words: &str,
    ) -> Result<Vec<Identity>, Error> {
        let project = self.project(caller, project, Access::Read).await?;
        if let Some(identity) = test_identity(words) {
            return Ok(vec![identity]);
        }
        let found = self.store.tests(project.id).find(words).await?;
        if found.len() > MOST_TESTS {
            let text = format!(
                "more than {MOST_TESTS} tests have '{words}' in class or name: say more of it, or give \
                 an identity of `muster history {words}`"
            );
            return Err(Error::invalid("test", text));
        }
        Ok(found.into_iter().map(|test| test.identity).collect())
    }
}

/// An identity of 32 hexadecimal digits.
pub(crate) fn test_identity(words: &str) -> Option<Identity> {
    let is_digits = words.len() == 32 && words.bytes().all(|byte| byte.is_ascii_hexdigit());
    let digits = u128::from_str_radix(words, 16).ok();
    digits.filter(|_| is_digits).map(u128::to_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_has_its_digits_and_nothing_else() {
        assert_eq!(
            test_identity("000102030405060708090a0b0c0d0e0F").map(|it| it[15]),
            Some(15)
        );
        assert_eq!(test_identity("+00102030405060708090a0b0c0d0e0f"), None);
        assert_eq!(test_identity("test_login"), None);
    }
}

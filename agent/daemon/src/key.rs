//! The key from which the tokens of attempts follow, so that nothing has to be remembered over a
//! restart. It belongs to the place where attempts run, not to the agent's own token: a new
//! token of the agent must not lock running conductors out.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use muster_core::id::AttemptId;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// The key. Never shown.
#[derive(Clone)]
pub(crate) struct AttemptKey([u8; 32]);

impl AttemptKey {
    /// A new one, for attempts that do not outlive this process.
    pub(crate) fn generate() -> Self {
        Self(rand::random())
    }

    /// The key that follows from another secret of the same place.
    pub(crate) fn derive(secret: &[u8]) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"muster attempt tokens\0");
        hash.update(secret);
        Self(hash.finalize().into())
    }

    /// Reads the key in a file that only its owner can read, or makes it.
    pub(crate) fn load_or_make(path: &Path) -> io::Result<Self> {
        match fs::read(path) {
            Ok(bytes) => bytes.try_into().map(Self).map_err(|_bytes| {
                let text = "it does not hold a key of 32 bytes; delete it when nothing runs";
                io::Error::new(io::ErrorKind::InvalidData, text)
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::make(path),
            Err(error) => Err(error),
        }
    }

    fn make(path: &Path) -> io::Result<Self> {
        let made = Self::generate();
        // A file that was cut short is never seen under the name.
        let draft = path.with_extension("draft");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&draft)?;
        file.write_all(&made.0)?;
        file.sync_all()?;
        fs::rename(&draft, path)?;
        Ok(made)
    }

    /// The token of an attempt: an HMAC of its id.
    pub(crate) fn token(&self, attempt: AttemptId) -> String {
        // A key of 32 bytes always fits; an empty answer would match no token.
        Hmac::<Sha256>::new_from_slice(&self.0).map_or_else(
            |_too_long| String::new(),
            |mut mac| {
                mac.update(attempt.to_string().as_bytes());
                URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
            },
        )
    }

    /// Whether `given` is the token of `attempt`, in a time that tells nothing.
    pub(crate) fn admits(&self, attempt: AttemptId, given: &str) -> bool {
        let right = self.token(attempt);
        !right.is_empty() && bool::from(right.as_bytes().ct_eq(given.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_token_of_one_attempt_does_not_open_another() {
        let key = AttemptKey::generate();
        let (one, other) = (AttemptId::generate(), AttemptId::generate());
        let given = key.token(one);
        assert!(key.admits(one, &given));
        assert!(!key.admits(other, &given));
        assert!(!key.admits(one, ""));
        assert!(!AttemptKey::generate().admits(one, &given));
    }

    #[test]
    fn a_key_in_a_file_stays_and_is_its_owners_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("agent.key");
        let attempt = AttemptId::generate();
        let token = AttemptKey::load_or_make(&path)
            .expect("a key")
            .token(attempt);
        let again = AttemptKey::load_or_make(&path).expect("the same key");
        assert!(again.admits(attempt, &token));
        let mode = fs::metadata(&path).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::write(&path, "short").expect("it can be written");
        assert!(AttemptKey::load_or_make(&path).is_err());
    }
}

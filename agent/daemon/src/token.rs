//! Tokens: the agent's own, and those of attempts, which follow from it so that nothing has to be
//! remembered over a restart.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use muster_core::id::AttemptId;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// The credential of an agent. Never shown.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// Takes the token as it was given, without the white space around it.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.trim().to_owned())
    }

    /// The text, for the header of a call.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    /// The token of an attempt: an HMAC of its id under the hash of this token.
    pub(crate) fn attempt(&self, attempt: AttemptId) -> String {
        let key = Sha256::digest(self.0.as_bytes());
        // A key of 32 bytes always fits; an empty answer would match no token.
        Hmac::<Sha256>::new_from_slice(&key).map_or_else(
            |_too_long| String::new(),
            |mut mac| {
                mac.update(attempt.to_string().as_bytes());
                URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
            },
        )
    }

    /// Whether `given` is the token of `attempt`, in a time that tells nothing.
    pub(crate) fn admits(&self, attempt: AttemptId, given: &str) -> bool {
        let right = self.attempt(attempt);
        !right.is_empty() && bool::from(right.as_bytes().ct_eq(given.as_bytes()))
    }

    /// A short name for the agent that owns this token, which does not give the token away: for
    /// labels of its objects in a cluster.
    pub(crate) fn identity(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(b"muster agent identity\0");
        hash.update(Sha256::digest(self.0.as_bytes()));
        crate::convert::hex(&hash.finalize()[..8])
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_of_one_attempt_does_not_open_another() {
        let token = Token::new("msa_secret\n");
        let (one, other) = (AttemptId::generate(), AttemptId::generate());
        let given = token.attempt(one);
        assert!(token.admits(one, &given));
        assert!(!token.admits(other, &given));
        assert!(!token.admits(one, ""));
        assert!(!Token::new("msa_other").admits(one, &given));
    }

    #[test]
    fn debug_does_not_show_a_token() {
        assert!(!format!("{:?}", Token::new("msa_secret")).contains("secret"));
    }
}

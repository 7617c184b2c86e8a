//! Secrets of people, programs and agents: 32 random bytes behind a prefix that says what they
//! are. Only their SHA-256 is stored; since they are random, no slow hash is needed.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};

/// Who a secret is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// A person or a program.
    Person,
    /// An agent.
    Agent,
}

impl Holder {
    /// The prefix of its secrets.
    #[must_use]
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Person => "mst_",
            Self::Agent => "msa_",
        }
    }
}

/// Makes a new secret.
#[must_use]
pub fn generate(holder: Holder) -> String {
    let bytes: [u8; 32] = rand::random();
    format!("{}{}", holder.prefix(), URL_SAFE_NO_PAD.encode(bytes))
}

/// The hash by which a secret is stored and found.
#[must_use]
pub fn hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_differ_and_say_what_they_are() {
        let (one, two) = (generate(Holder::Agent), generate(Holder::Agent));
        assert_ne!(one, two);
        assert!(one.starts_with("msa_") && one.len() > 40);
        assert_ne!(hash(&one), hash(&two));
    }
}

//! Secrets of people, programs and agents: 32 random bytes behind a prefix that says what they
//! are, and whose, if they are an agent's. Only their SHA-256 is stored; since they are random, no
//! slow hash is needed.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use muster_core::id::AgentId;
use sha2::{Digest as _, Sha256};

/// Who a secret is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// A person or a program.
    Person,
    /// An agent; the secret names it, so that the agent knows itself under every token.
    Agent(AgentId),
}

impl Holder {
    /// What its secrets begin with.
    fn prefix(self) -> String {
        match self {
            Self::Person => "mst_".to_owned(),
            Self::Agent(id) => format!("msa_{}_", id.as_uuid().simple()),
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
        let id = AgentId::generate();
        let (one, two) = (generate(Holder::Agent(id)), generate(Holder::Agent(id)));
        assert_ne!(one, two);
        let prefix = format!("msa_{}_", id.as_uuid().simple());
        assert!(one.starts_with(&prefix) && one.len() == prefix.len() + 43);
        assert!(generate(Holder::Person).starts_with("mst_"));
        assert_ne!(hash(&one), hash(&two));
    }
}

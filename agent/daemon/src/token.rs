//! The agent's own token.

use std::fmt;

use muster_core::id::AgentId;

/// What the token of every agent begins with; behind it come the agent's id, `_` and the secret.
const PREFIX: &str = "msa_";

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

    /// The agent that it belongs to; stays when the token is replaced. Nothing when this is not
    /// the token of an agent.
    pub(crate) fn agent(&self) -> Option<AgentId> {
        let (id, secret) = self.0.strip_prefix(PREFIX)?.split_once('_')?;
        let id = id.parse().ok()?;
        (!secret.is_empty()).then_some(id)
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
    fn a_token_names_its_agent() {
        let id = AgentId::generate();
        let token = Token::new(&format!("msa_{}_a_b\n", id.as_uuid().simple()));
        assert_eq!(token.agent(), Some(id));
        for foreign in ["", "mst_secret", "msa_secret", &format!("msa_{id}_")] {
            assert_eq!(Token::new(foreign).agent(), None, "{foreign}");
        }
    }

    #[test]
    fn debug_does_not_show_a_token() {
        assert!(!format!("{:?}", Token::new("msa_secret")).contains("secret"));
    }
}

//! Those who are to work in a crew, each with all that it needs, within a limit of memory.

use std::collections::HashMap;

use bytes::Bytes;
use serde_json::{Map, Value};

use super::transfer::Fetch;
use crate::conductor::operation::Failure;

/// Most bytes of all hands of one crew: the conductor keeps them until they have begun.
const MAX_BYTES: usize = 16 << 20;

/// One of a crew.
pub(super) struct Hand {
    pub(super) index: u32,
    /// Which of the operation's items it is.
    pub(super) item: u32,
    /// What sets it apart.
    pub(super) label: String,
    /// As JSON.
    pub(super) variables: Bytes,
    /// As JSON.
    pub(super) given: Bytes,
    pub(super) workflow: String,
    pub(super) config: HashMap<String, String>,
    /// Files that come back.
    pub(super) fetch: Vec<Fetch>,
    /// The server has made it, whether or not anything was heard of it.
    pub(super) started: bool,
    /// It was told to go on.
    pub(super) resumed: bool,
}

impl Hand {
    /// Bytes that it adds to an order, roughly.
    pub(super) fn size(&self) -> usize {
        let config = self.config.iter();
        let config: usize = config.map(|(name, value)| name.len() + value.len()).sum();
        self.variables.len()
            + self.given.len()
            + self.label.len()
            + self.workflow.len()
            + config
            + 64
    }
}

/// Variables of an instance as an order has them.
pub(super) fn json(variables: Map<String, Value>) -> Bytes {
    Value::Object(variables).to_string().into()
}

/// All hands of a crew that is not at work yet.
#[derive(Default)]
pub(super) struct Hands {
    pub(super) all: Vec<Hand>,
    bytes: usize,
}

impl Hands {
    /// Adds one.
    ///
    /// # Errors
    ///
    /// When all of them would need more memory than [`MAX_BYTES`].
    pub(super) fn push(&mut self, hand: Hand) -> Result<(), Failure> {
        self.bytes = self.bytes.saturating_add(hand.size());
        if self.bytes > MAX_BYTES {
            let text = format!(
                "the values of the first {} instances are more than {} MiB together: let each have less, or fewer of them",
                self.all.len() + 1,
                MAX_BYTES >> 20
            );
            return Err(Failure::new("STRATEGY", text));
        }
        self.all.push(hand);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hand(bytes: usize) -> Hand {
        Hand {
            index: 0,
            item: 0,
            label: String::new(),
            variables: Bytes::new(),
            given: vec![0; bytes].into(),
            workflow: String::new(),
            config: HashMap::new(),
            fetch: Vec::new(),
            started: false,
            resumed: false,
        }
    }

    #[test]
    fn hands_that_need_too_much_together_are_refused() {
        let mut hands = Hands::default();
        for _ in 0..15 {
            assert!(hands.push(hand(1 << 20)).is_ok());
        }
        let refused = hands.push(hand(1 << 20)).map_err(|failure| failure.message);
        let refused = refused.expect_err("more than the limit");
        assert!(refused.contains("first 16 instances"), "{refused}");
    }
}

//! Pages (AIP-158): sizes are coerced, tokens are opaque and good only for the list that gave
//! them.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};

use crate::app::Error;

const DEFAULT: i32 = 50;
const MOST: i32 = 1000;
const VERSION: u8 = 1;

#[derive(Serialize, Deserialize)]
struct Token<K> {
    version: u8,
    list: String,
    after: K,
}

/// A list as its caller asked for it: method, parent and filters.
#[derive(Debug)]
pub(super) struct List(String);

impl List {
    pub(super) fn new(parts: &[&str]) -> Self {
        let mut digest = Sha256::new();
        for part in parts {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part.as_bytes());
        }
        Self(URL_SAFE_NO_PAD.encode(&digest.finalize()[..12]))
    }

    /// Where a page begins; `None` for the first.
    pub(super) fn after<K: DeserializeOwned>(&self, token: &str) -> Result<Option<K>, Error> {
        if token.is_empty() {
            return Ok(None);
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).unwrap_or_default();
        match serde_json::from_slice::<Token<K>>(&bytes) {
            Ok(token) if token.version == VERSION && token.list == self.0 => Ok(Some(token.after)),
            Ok(token) if token.version == VERSION => Err(Error::invalid(
                "page_token",
                "belongs to a list with other arguments: begin again without it",
            )),
            _ => Err(Error::invalid(
                "page_token",
                "is not a page token of this server",
            )),
        }
    }

    /// The token of the next page; empty at the end.
    pub(super) fn token<K: Serialize>(&self, next: Option<K>) -> String {
        next.and_then(|after| {
            let token = Token {
                version: VERSION,
                list: self.0.clone(),
                after,
            };
            serde_json::to_vec(&token).ok()
        })
        .map_or_else(String::new, |bytes| URL_SAFE_NO_PAD.encode(bytes))
    }
}

/// The size of a page.
pub(super) fn size(wanted: i32) -> Result<u32, Error> {
    if wanted < 0 {
        return Err(Error::invalid("page_size", "must not be negative"));
    }
    let size = if wanted == 0 {
        DEFAULT
    } else {
        wanted.min(MOST)
    };
    Ok(size.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_its_own_list_alone() {
        let list = List::new(&["ListExecutions", "p", "w"]);
        let token = list.token(Some("key".to_owned()));
        assert_eq!(
            list.after::<String>(&token).expect("its own"),
            Some("key".to_owned())
        );
        let other = List::new(&["ListExecutions", "pw", ""]);
        assert!(other.after::<String>(&token).is_err());
        assert!(list.after::<String>("!!").is_err());
    }

    #[test]
    fn sizes_are_coerced() {
        assert_eq!(size(0).expect("fine"), 50);
        assert_eq!(size(5000).expect("fine"), 1000);
        assert!(size(-1).is_err());
    }
}

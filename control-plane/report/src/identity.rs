//! Which test is the same one in another run, on another machine, in another shard. Not here: what
//! becomes of several tellings of one test, see `fold`.

use std::fmt;

use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::case::Case;

/// The rule by which identities are made. A change of it makes all tests new, so it is part of what
/// is hashed.
const RULE: &[u8] = b"muster-report-identity-1";

/// The identity of a test: 16 bytes of SHA-256, written as 32 hexadecimal digits.
///
/// It is made from, in this order:
///
/// 1. the scope: the class; if there is none the suites around it; if there are none the file;
/// 2. the name, with parameters, as it is written;
/// 3. the parameters, which stand in the name or not (a row of a scenario outline);
/// 4. the variants, sorted by name.
///
/// Each is hashed behind its length, so that no two lists of texts are the same bytes. Host name,
/// times, durations, order, line and number of a shard take no part.
///
/// Of a scope the parts between ` > ` are made independent of where the sources lie. Of an absolute
/// path to a file (it begins with `/`, a drive as in `C:\`, or `file://`, and its last part has a dot)
/// only the last part stays: where sources lie on a machine is not told, so that two files of one
/// name in different folders are one scope if they are told by absolute paths. A relative path is
/// kept, with `\` as `/` and without a `./` in front.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity([u8; 16]);

impl Identity {
    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({self})")
    }
}

impl Serialize for Identity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Case {
    /// Its identity; see [`Identity`] for the rule.
    #[must_use]
    pub fn identity(&self) -> Identity {
        let file = self.file.as_deref().unwrap_or_default();
        let scope = [self.class.as_str(), self.suite.as_str(), file]
            .into_iter()
            .find(|text| !text.is_empty())
            .unwrap_or_default();
        let mut variants: Vec<_> = self.variants.iter().collect();
        variants.sort();
        let mut hash = Sha256::new();
        put(&mut hash, RULE);
        put(&mut hash, placeless(scope).as_bytes());
        put(&mut hash, self.name.as_bytes());
        put(
            &mut hash,
            self.parameters.as_deref().unwrap_or_default().as_bytes(),
        );
        for variant in variants {
            put(&mut hash, variant.name.as_bytes());
            put(&mut hash, variant.value.as_bytes());
        }
        let mut bytes = [0; 16];
        for (to, from) in bytes.iter_mut().zip(hash.finalize()) {
            *to = from;
        }
        Identity(bytes)
    }
}

fn put(hash: &mut Sha256, field: &[u8]) {
    hash.update(u64::try_from(field.len()).unwrap_or(u64::MAX).to_be_bytes());
    hash.update(field);
}

/// A scope without where the sources lie.
fn placeless(scope: &str) -> String {
    let parts = scope.split(" > ").map(|part| {
        let path = part
            .strip_prefix("file://")
            .unwrap_or(part)
            .replace('\\', "/");
        let bytes = path.as_bytes();
        let drive = bytes.first().is_some_and(u8::is_ascii_alphabetic)
            && bytes.get(1) == Some(&b':')
            && bytes.get(2) == Some(&b'/');
        let last = path.rsplit('/').next().unwrap_or_default();
        if (drive || path.starts_with('/')) && last.contains('.') {
            return last.to_owned();
        }
        if part.contains(' ') {
            // Prose.
            return part.to_owned();
        }
        path.strip_prefix("./").unwrap_or(&path).to_owned()
    });
    parts.collect::<Vec<_>>().join(" > ")
}

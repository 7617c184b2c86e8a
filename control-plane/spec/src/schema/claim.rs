//! `pvcs`: claims of volumes that are made for each execution.

use indexmap::IndexMap;

use super::container::checked;
use super::field::{Json, Object, Reader};

/// Fields of a Kubernetes `PersistentVolumeClaimSpec`.
pub(crate) const FIELDS: [&str; 9] = [
    "accessModes",
    "dataSource",
    "dataSourceRef",
    "resources",
    "selector",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
    "volumeName",
];
/// Most claims of a workflow: each is a volume that somebody pays for.
const MAX_CLAIMS: usize = 20;
/// Longest name of a claim, in bytes; it becomes a part of a longer one.
const LONGEST_NAME: usize = 63;

/// Reads the field `pvcs`.
pub(super) fn read(reader: &mut Reader, spec: &mut Object<'_>) -> IndexMap<String, Json> {
    let mut claims = IndexMap::new();
    let Some(found) = spec.take("pvcs") else {
        return claims;
    };
    let entries = found.entries(reader);
    if entries.len() > MAX_CLAIMS {
        let message = format!("{} claims, at most {MAX_CLAIMS} are allowed", entries.len());
        reader.problem(found.node.mark, &found.path, message);
        return claims;
    }
    for (entry, found) in entries {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        let name = &entry.key;
        if name.is_empty() || name.len() > LONGEST_NAME || !name.chars().all(allowed) {
            let message = "the name of a claim has 1 to 63 letters, digits, `-` and `_`";
            reader.problem(entry.mark, &found.path, message);
        }
        if let Some(claim) = checked(reader, &found, &FIELDS) {
            claims.insert(name.clone(), claim);
        }
    }
    claims
}

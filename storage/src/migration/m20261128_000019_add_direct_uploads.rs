//! Keys of blobs that were given out for a direct upload: doomed, unless the upload ends in time.

use super::Sql;

pub(super) const MIGRATION: Sql = Sql {
    name: "m20261128_000019_add_direct_uploads",
    up: UP,
    down: DOWN,
};

const UP: &str = "
-- The attempt that may put it; null for one whose rows are gone.
ALTER TABLE doomed_blobs ADD COLUMN attempt_id @UUID@;
-- How many bytes may be put.
ALTER TABLE doomed_blobs ADD COLUMN size @LONG@ NOT NULL DEFAULT 0;
CREATE INDEX doomed_blobs_given ON doomed_blobs (attempt_id, size) WHERE attempt_id IS NOT NULL;
";

const DOWN: &str = "
DROP INDEX doomed_blobs_given;
ALTER TABLE doomed_blobs DROP COLUMN size;
ALTER TABLE doomed_blobs DROP COLUMN attempt_id;
";

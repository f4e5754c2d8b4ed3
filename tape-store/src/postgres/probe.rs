//! Whether the database would take a commit.

use super::links::Links;
use crate::error::StoreError;

/// Makes a file that is larger than what a commit mostly adds, and takes it away again: refused by a database that is read-only
/// or full. It is a commit like others, so it also waits for the log to be on disk.
const PROBE: &str = "CREATE TEMPORARY TABLE tape_probe ON COMMIT DROP AS \
         SELECT repeat('x', 1900) AS filler FROM generate_series(1, 256)";

pub(super) async fn probe(links: &Links) -> Result<(), StoreError> {
    links
        .query("asks for room to write", || sqlx::query(PROBE))
        .await
        .map(drop)
}

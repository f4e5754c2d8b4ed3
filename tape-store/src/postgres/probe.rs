//! Whether the database would take a commit, and what time it is there.

use super::links::Links;
use super::read::get;
use crate::contract::StoreTime;
use crate::error::StoreError;
use tape_core::time::Timestamp;

/// Makes a table that is larger than what a commit mostly adds, and drops it again. A database that is read-only or full refuses this. It
/// is a commit like others, so it also waits for the log to be on disk.
const PROBE: &str = "CREATE TEMPORARY TABLE tape_probe ON COMMIT DROP AS \
         SELECT repeat('x', 1900) AS filler FROM generate_series(1, 256)";

pub(super) async fn probe(links: &Links) -> Result<(), StoreError> {
    links
        .query("asks for room to write", || sqlx::query(PROBE))
        .await
        .map(drop)
}

/// The clock of the database's machine now, not as of the beginning of a transaction.
const TIME: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";

pub(super) async fn time(links: &Links) -> Result<StoreTime, StoreError> {
    const DOING: &str = "tells the time";
    let rows = links.query(DOING, || sqlx::query(TIME)).await?;
    let row = rows
        .first()
        .ok_or_else(|| StoreError::unavailable(DOING, "the database answered nothing"))?;
    Ok(Timestamp::from_micros(get(row, 0)?).into())
}

//! Whether the database would take a commit, and what time it is there.

use super::append::{StreamKey, not_void};
use super::link::{Link, Question};
use super::read::get;
use crate::contract::{BatchId, StoreTime};
use crate::error::StoreError;
use google_cloud_spanner::statement::Statement;
use tape_core::time::Timestamp;

/// Adds a row and takes it away in one commit, which is one like others but leaves nothing behind.
pub(super) async fn probe(link: &Link, batch: BatchId) -> Result<(), StoreError> {
    let unused = StreamKey {
        name: String::new(),
        id: vec![0; 16],
        shard: 0,
    };
    let written = link.write(not_void(&unused, batch).into()).await;
    written.map_err(|failure| failure.store_error("asks for room to write"))
}

/// The clock of Spanner, which is the same for all its servers.
pub(super) async fn time(link: &Link) -> Result<StoreTime, StoreError> {
    const DOING: &str = "tells the time";
    let statement = Statement::builder("SELECT UNIX_MICROS(CURRENT_TIMESTAMP())").build();
    let told = link
        .ask(DOING, Question::Query(statement), |row| get::<i64>(row, 0))
        .await?;
    let micros = told
        .first()
        .ok_or_else(|| StoreError::unavailable(DOING, "Spanner answered nothing"))?;
    Ok(Timestamp::from_micros(*micros).into())
}

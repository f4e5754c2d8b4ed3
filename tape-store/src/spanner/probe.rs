//! Whether the database would take a commit.

use super::append::{Stream, not_void};
use super::link::Link;
use crate::contract::BatchId;
use crate::error::StoreError;

/// Adds a row and takes it away in one commit, which is one like others but leaves nothing behind.
pub(super) async fn probe(link: &Link) -> Result<(), StoreError> {
    let nobody = Stream {
        name: String::new(),
        id: vec![0; 16],
        shard: 0,
    };
    let written = link.write(not_void(&nobody, BatchId::fresh()).into()).await;
    written.map_err(|failure| failure.store_error("asks for room to write"))
}

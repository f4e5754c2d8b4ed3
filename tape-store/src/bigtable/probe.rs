//! Whether the table would take a commit.

use super::hint::HINTS;
use super::table::{self, Change};
use super::{Ground, keys};
use crate::error::StoreError;
use bytes::Bytes;

/// Writes a row and takes it away again, in one change.
pub(super) async fn probe(ground: &Ground) -> Result<(), StoreError> {
    let cell = table::set(HINTS, Bytes::from_static(b"probe"), Bytes::from_static(b"1"));
    let change = Change {
        key: keys::probe(),
        mutations: vec![cell, table::unset_row()],
    };
    ground.change_all("asks whether it may write", vec![change]).await
}

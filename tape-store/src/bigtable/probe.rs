//! Whether the table would take a commit, and what time it is there.

use super::hint::HINTS;
use super::table::{self, Change, Rows};
use super::{TableContext, keys};
use crate::contract::StoreTime;
use crate::error::StoreError;
use bytes::Bytes;

/// Writes a row and deletes it again, in one change.
pub(super) async fn probe(context: &TableContext) -> Result<(), StoreError> {
    let cell = table::set(HINTS, Bytes::from_static(b"probe"), Bytes::from_static(b"1"));
    let change = Change {
        key: keys::probe(context.environment.uuid()),
        mutations: vec![cell, table::unset_row()],
    };
    context
        .change_all("asks whether it may write", vec![change])
        .await
}

/// The clock of the service, which only shows in the timestamps of writes. So this writes a row of its own and deletes it again.
pub(super) async fn time(context: &TableContext) -> Result<StoreTime, StoreError> {
    const DOING: &str = "tells the time";
    let key = keys::probe(context.environment.uuid());
    let set = |mutation| Change {
        key: key.clone(),
        mutations: vec![mutation],
    };
    let cell = table::set_now(HINTS, Bytes::from_static(b"time"), Bytes::from_static(b"1"));
    context.change_all(DOING, vec![set(cell)]).await?;
    let read = context
        .table
        .read(
            Rows::Keys(vec![key.clone()]),
            table::any_of([table::family(HINTS)]),
            1,
        )
        .await;
    // A row that stays behind does no harm.
    let _ = context.change_all(DOING, vec![set(table::unset_row())]).await;
    let rows = read.map_err(|failure| failure.store_error(DOING))?;
    let cell = rows.first().and_then(|row| row.cells.first());
    let cell = cell.ok_or_else(|| StoreError::unavailable(DOING, "what was written is not there"))?;
    Ok(table::time_of(cell).into())
}

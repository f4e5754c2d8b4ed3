//! Reservations: each row is written at most once, also where it may have been deleted since.
//!
//! "If there is no such row" is no sufficient condition where rows are deleted again: a process that looks, pauses, and writes after the
//! row was written and deleted writes it a second time. So a process first puts a reservation of its own into the row, then makes sure that
//! the row is still wanted, and writes on condition that its reservation is still there. Writing the row deletes all reservations, and so
//! does deleting the row. Where the reservation is found, the row was neither written nor deleted since the check.
//!
//! A reservation is sent once. If it arrives after its maker has given up, no process uses it: it stays in the row and does no harm.

use super::error::Failure;
use super::hint::HINTS;
use super::table::{self, Change, Check, Mutation, RowFilter, Table};
use bytes::Bytes;
use uuid::Uuid;

/// The family of reservations. Reserved rows are no hints.
pub(super) const RESERVATIONS: &str = HINTS;

/// The right to write a row.
pub(super) struct RowReservation {
    key: Bytes,
    name: Bytes,
}

impl RowReservation {
    /// Reserves a row, unless the row has been written.
    pub(super) async fn put(
        table: &dyn Table,
        key: Bytes,
        written: RowFilter,
        name: Uuid,
    ) -> Result<Option<Self>, Failure> {
        let name = Bytes::copy_from_slice(name.as_bytes());
        let check = Check {
            key: key.clone(),
            predicate: written,
            then: Vec::new(),
            otherwise: vec![table::set(RESERVATIONS, name.clone(), Bytes::new())],
        };
        let is_written = table.check_and_mutate(check).await?;
        Ok((!is_written).then_some(Self { key, name }))
    }

    /// Writes the row, if the reservation is still there. Returns whether it was.
    pub(super) async fn write(self, table: &dyn Table, cells: Vec<Mutation>) -> Result<bool, Failure> {
        let mut then = vec![table::unset_family(RESERVATIONS)];
        then.extend(cells);
        let check = Check {
            key: self.key,
            predicate: table::columns(RESERVATIONS, self.name.clone(), self.name),
            then,
            otherwise: Vec::new(),
        };
        table.check_and_mutate(check).await
    }

    /// Withdraws the reservation. Where that fails it stays behind.
    pub(super) async fn withdraw(self, table: &dyn Table) {
        let change = Change {
            key: self.key,
            mutations: vec![table::unset(RESERVATIONS, self.name)],
        };
        for failure in table
            .mutate(vec![change])
            .await
            .into_iter()
            .filter_map(Result::err)
        {
            tracing::debug!(error = %failure, "a reservation was left behind");
        }
    }
}

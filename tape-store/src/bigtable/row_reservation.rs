//! Reservations: writing a row that is written once, also where it may have been taken away since.
//!
//! "If there is no such row" is no condition where rows are taken away again: who looks, pauses, and writes when the row has come and
//! gone writes it a second time. So whoever wants to write a row puts a reservation of its own there, then makes sure that the row is still
//! wanted, and writes on condition that its reservation is still there. Writing the row takes all reservations away, and so does taking the row away.
//! Where the reservation is found, the row was neither written nor taken away since it was made sure of.
//!
//! A reservation is sent once. If it arrives after its maker has given up, nobody asks for it: it stands in the row, and in nobody's way.

use super::error::Failure;
use super::hint::HINTS;
use super::table::{self, Change, Check, Mutation, RowFilter, Table};
use bytes::Bytes;
use uuid::Uuid;

/// The family of reservations. Rows that are reserved are no hints.
pub(super) const RESERVATIONS: &str = HINTS;

/// The right to write a row.
pub(super) struct RowReservation {
    key: Bytes,
    name: Bytes,
}

impl RowReservation {
    /// Reserves a row under a name that no other reservation has, unless the row has cells that only a written one has.
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

    /// Writes the row. Whether the reservation was still there, and so it was written.
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

    /// Gives the reservation up. Where that fails it is left behind.
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

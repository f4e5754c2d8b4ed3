//! The store over a wire that dies, loses answers, holds up calls and counts them.

mod claims;
mod costs;
mod crashes;
mod late;
mod logbook;
mod overtaken;
mod pushed;
mod service;
mod wire;
mod writers;

#[path = "../../tests/bigtable_emulator/mod.rs"]
mod bigtable_emulator;
#[path = "../../tests/pen/mod.rs"]
mod pen;

use super::links::{Access, Links};
use super::table::{Row, RowFilter, Rows, Table};
use super::{BigtableStore, Target, migrate};
use crate::contract::JournalStore;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

/// Writers are not given up by stores that are asked to wait so long.
const NEVER: Duration = Duration::from_secs(3_600);
const AT_ONCE: Duration = Duration::ZERO;
const SHARDS: u16 = 2;

/// An empty table of its own; none where the emulator is not installed, which is said.
async fn table() -> Option<Arc<dyn Table>> {
    let target: Target = bigtable_emulator::Table::new()?.url().parse().unwrap();
    migrate(&target, false).await.unwrap();
    let access = Access::new(&target).unwrap();
    Some(Arc::new(Links::new(&target, &access).unwrap()))
}

/// A store of another process on the same table.
fn store(table: &Arc<dyn Table>, given_up_after: Duration) -> BigtableStore {
    BigtableStore::over(Arc::clone(table), SHARDS, given_up_after)
}

fn shared(table: &Arc<dyn Table>) -> Arc<dyn JournalStore> {
    Arc::new(store(table, NEVER))
}

/// All rows whose keys begin with a byte.
async fn rows_of(table: &dyn Table, kind: u8, cells: RowFilter) -> Vec<Row> {
    let range = Rows::Range(Bytes::from(vec![kind]), Bytes::from(vec![kind + 1]));
    table.read(range, cells, usize::MAX).await.unwrap()
}

//! Records of readers of the feed: a row for each, in a range of keys of their own.
//!
//! A swap is one conditional change of one row, and one round trip. Its predicate tests the cell of the version, and the row's two cells are
//! changed together. A change whose answer is lost is not repeated: the second one would find the version that the first one wrote.
//!
//! Both cells have no time, so writing one replaces it, and a row that changes often has no older cells for the service to delete.

use super::error::corrupt;
use super::keys;
use super::table::{self, Check, Mutation, Row, RowFilter, Rows};
use super::{BigtableStore, end::ABOUT};
use crate::cursors::{CursorStore, Record, Swap, list_range};
use crate::error::StoreError;
use crate::group::page;
use async_trait::async_trait;
use bytes::Bytes;

/// Columns of [`ABOUT`]: the version, as a number with its greatest byte first, and the contents.
const VERSION: &[u8] = b"cv";
const BYTES: &[u8] = b"cb";

#[async_trait]
impl CursorStore for BigtableStore {
    async fn record(&self, name: &str) -> Result<Option<Record>, StoreError> {
        let key = Rows::Keys(vec![keys::record(name)]);
        let read = self.context.table.read(key, cells(), 1).await;
        let rows = read.map_err(|failure| failure.store_error("reads a record"))?;
        let record = rows.first().map(parse).transpose()?;
        Ok(record.map(|(_, record)| record))
    }

    async fn swap_record(&self, name: &str, swap: &Swap) -> Result<bool, StoreError> {
        swap.check(name)?;
        let check = check(name, swap);
        let changed = self.context.table.check_and_mutate(check).await;
        let matched = changed.map_err(|failure| failure.store_error("changes a record"))?;
        Ok(matched == swap.expected().is_some())
    }

    async fn records(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<(String, Record)>, StoreError> {
        let (from, before) = list_range(prefix, after);
        if from >= before {
            return Ok(Vec::new());
        }
        let (from, before) = keys::records(&from, &before);
        let limit = page(limit) as usize;
        let read = self
            .context
            .table
            .read(Rows::Range(from, before), cells(), limit)
            .await;
        let rows = read.map_err(|failure| failure.store_error("lists records"))?;
        rows.iter().map(parse).collect()
    }
}

fn cells() -> RowFilter {
    table::any_of([table::columns(ABOUT, BYTES, VERSION)])
}

/// The predicate passes a cell where there is a record to be left alone, or where the version is the one that is expected.
fn check(name: &str, swap: &Swap) -> Check {
    let (predicate, then, otherwise) = match swap {
        Swap::Make(next) => (table::columns(ABOUT, VERSION, VERSION), Vec::new(), written(next)),
        Swap::Replace { expected, next } => (has(*expected), written(next), Vec::new()),
        Swap::Remove { expected } => (has(*expected), vec![table::unset_row()], Vec::new()),
    };
    Check {
        key: keys::record(name),
        predicate,
        then,
        otherwise,
    }
}

fn has(version: u64) -> RowFilter {
    table::exactly(ABOUT, VERSION, number(version))
}

fn written(next: &Record) -> Vec<Mutation> {
    vec![
        table::set(ABOUT, VERSION, number(next.version)),
        table::set(ABOUT, BYTES, next.bytes.clone()),
    ]
}

fn number(version: u64) -> Bytes {
    Bytes::copy_from_slice(&version.to_be_bytes())
}

fn parse(row: &Row) -> Result<(String, Record), StoreError> {
    let damaged = |what: &str| corrupt(format!("the record {:?}", row.key), what);
    let cell = |qualifier| row.cell(ABOUT, qualifier).map(|cell| &cell.value);
    let name = keys::read_record(&row.key).ok_or_else(|| damaged("its key has an unknown form"))?;
    let version = cell(VERSION).and_then(|value| value.as_ref().try_into().ok());
    let version = version.ok_or_else(|| damaged("it has no version"))?;
    let bytes = cell(BYTES).ok_or_else(|| damaged("it has no contents"))?;
    let record = Record {
        version: u64::from_be_bytes(version),
        bytes: bytes.clone(),
    };
    Ok((name.to_owned(), record))
}

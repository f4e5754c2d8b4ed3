//! Records of readers of the feed.
//!
//! A swap is one request, without a read before: one round trip. As with the end of a stream (`append.rs`), its condition is in the
//! mutations themselves. A record has one row in `tape_record_version`, whose key has the record's version. To replace or remove the record,
//! a commit updates the row of the expected version, and fails as a whole where there is none. To make it, a commit inserts the record, and
//! fails where there is one. All rows of a record lie together. The store reads the record only where the commit failed.
//!
//! A request whose answer is lost is not repeated: the second one would find the version changed by the first.

use super::SpannerStore;
use super::append::signed;
use super::link::Question;
use super::read::get;
use crate::cursors::{CursorStore, Record, Swap, list_range};
use crate::error::StoreError;
use crate::group::page;
use async_trait::async_trait;
use google_cloud_spanner::builder::WriteBuilder;
use google_cloud_spanner::key;
use google_cloud_spanner::key::{KeyRange, KeySet};
use google_cloud_spanner::mutation::Mutation;
use google_cloud_spanner::read::ReadRequest;
use google_cloud_spanner::result::Row;

const RECORD: &str = "tape_record";
const VERSION: &str = "tape_record_version";
const COLUMNS: [&str; 3] = ["name", "version", "bytes"];

#[async_trait]
impl CursorStore for SpannerStore {
    async fn record(&self, name: &str) -> Result<Option<Record>, StoreError> {
        let request = ReadRequest::builder(RECORD, COLUMNS).with_keys(one(name));
        let question = Question::Keys(request.build());
        let mut read = self.link.ask("reads a record", question, named).await?;
        Ok(read.pop().map(|(_, record)| record))
    }

    async fn swap_record(&self, name: &str, swap: &Swap) -> Result<bool, StoreError> {
        swap.check(name)?;
        let Err(failure) = self.link.write(mutations(name, swap)).await else {
            return Ok(true);
        };
        let refused = match swap.expected() {
            None => failure.is_already_there(),
            // A missing database gives the same error as a missing row.
            Some(version) => failure.is_not_there() && !self.has_version(name, version).await?,
        };
        if refused {
            return Ok(false);
        }
        Err(failure.store_error("changes a record"))
    }

    async fn records(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<(String, Record)>, StoreError> {
        let (from, before) = list_range(prefix, after);
        let range = KeyRange::closed_open(key![from], key![before]);
        let keys = KeySet::builder().add_range(range).build();
        let request = ReadRequest::builder(RECORD, COLUMNS)
            .with_keys(keys)
            .set_limit(page(limit).into());
        let question = Question::Keys(request.build());
        self.link.ask("lists records", question, named).await
    }
}

impl SpannerStore {
    async fn has_version(&self, name: &str, version: u64) -> Result<bool, StoreError> {
        let found = self.record(name).await?;
        Ok(found.is_some_and(|found| found.version == version))
    }
}

/// The mutations of a swap, in their order.
fn mutations(name: &str, swap: &Swap) -> Vec<Mutation> {
    match swap {
        Swap::Make(next) => vec![
            row(Mutation::new_insert_builder(RECORD), name, next),
            has_version(name, next.version),
        ],
        Swap::Replace { expected, next } => vec![
            still_has(name, *expected),
            Mutation::delete(VERSION, of_version(name, *expected)),
            has_version(name, next.version),
            row(Mutation::new_update_builder(RECORD), name, next),
        ],
        // The version goes with its record.
        Swap::Remove { expected } => vec![still_has(name, *expected), Mutation::delete(RECORD, one(name))],
    }
}

fn row(write: WriteBuilder, name: &str, next: &Record) -> Mutation {
    let row = write.set("name").to(name.to_owned());
    let row = row.set("version").to(signed(next.version));
    row.set("bytes").to(next.bytes.clone()).build()
}

fn has_version(name: &str, version: u64) -> Mutation {
    let row = Mutation::new_insert_builder(VERSION)
        .set("name")
        .to(name.to_owned());
    row.set("version").to(signed(version)).build()
}

/// Fails where the record has another version, or does not exist.
fn still_has(name: &str, version: u64) -> Mutation {
    let row = Mutation::new_update_builder(VERSION)
        .set("name")
        .to(name.to_owned());
    let row = row.set("version").to(signed(version));
    // An update must set some column.
    row.set("gone").to(false).build()
}

fn one(name: &str) -> KeySet {
    KeySet::builder().add_key(key![name.to_owned()]).build()
}

fn of_version(name: &str, version: u64) -> KeySet {
    let key = key![name.to_owned(), signed(version)];
    KeySet::builder().add_key(key).build()
}

fn named(row: &Row) -> Result<(String, Record), StoreError> {
    let (version, bytes): (i64, Vec<u8>) = (get(row, 1)?, get(row, 2)?);
    let record = Record {
        version: version.unsigned_abs(),
        bytes: bytes.into(),
    };
    Ok((get(row, 0)?, record))
}

//! The feed: entries in the order of the times of their commits.
//!
//! A read of Spanner is as of a time, and shows every commit of that time or before; a later commit has a later time, whichever began
//! first. So no gap can fill afterwards, and a reader that continues from the last place it saw skips nothing. Commits on one stream wait
//! for each other, so its entries are in order. Independent commits may share a time; they are ordered by stream and sequence number.

use super::append::signed;
use super::error::corrupt;
use super::link::{Link, Question};
use super::read::{Unnamed, get};
use crate::anchor::Found;
use crate::contract::{Cursor, DamagedEntry, FeedEntry, Shard, TailPage};
use crate::error::StoreError;
use bytes::Bytes;
use google_cloud_spanner::builder::KeySetBuilder;
use google_cloud_spanner::key;
use google_cloud_spanner::key::{KeyRange, KeySet};
use google_cloud_spanner::read::ReadRequest;
use google_cloud_spanner::result::Row;
use google_cloud_spanner::value::Timestamp;
use std::collections::{BTreeSet, HashMap};
use tape_core::payload::Digest;

/// The key of a stream.
type Id = [u8; 16];

/// The place of an entry in the feed.
#[derive(Clone, Debug, PartialEq)]
struct Place {
    at: Timestamp,
    id: Id,
    seq: i64,
}

impl Default for Place {
    fn default() -> Self {
        Self {
            at: Timestamp::clamp(0, 0),
            id: [0; 16],
            seq: 0,
        }
    }
}

impl Place {
    fn read(cursor: &Cursor) -> Result<Self, StoreError> {
        if cursor.0.is_empty() {
            return Ok(Self::default());
        }
        Self::parse(&cursor.0).ok_or_else(|| StoreError::Invalid {
            what: "cursor",
            problem: "it was not made by this store".to_owned(),
        })
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (seconds, rest) = bytes.split_first_chunk()?;
        let (nanos, rest) = rest.split_first_chunk()?;
        let (id, rest) = rest.split_first_chunk()?;
        let at = Timestamp::new(i64::from_be_bytes(*seconds), i32::from_be_bytes(*nanos)).ok()?;
        let seq = i64::from_be_bytes(rest.try_into().ok()?);
        Some(Self { at, id: *id, seq })
    }

    fn cursor(&self) -> Cursor {
        let mut bytes = Vec::with_capacity(36);
        bytes.extend(self.at.seconds().to_be_bytes());
        bytes.extend(self.at.nanos().to_be_bytes());
        bytes.extend(self.id);
        bytes.extend(self.seq.to_be_bytes());
        Cursor(Bytes::from(bytes))
    }
}

/// Entries after a place: first their places, which are an index of the entries, then the entries and the names of their streams at the
/// same time. Where there is nothing new, only the first request is sent.
pub(super) async fn page(
    link: &Link,
    shard: Shard,
    cursor: &Cursor,
    limit: u32,
) -> Result<TailPage, StoreError> {
    let mut cursor = cursor.clone();
    loop {
        let places = places(link, shard, &Place::read(&cursor)?, limit).await?;
        let page = fed(link, &places).await?;
        let is_end = places.is_empty();
        if let Some(last) = places.last() {
            cursor = last.cursor();
        }
        // Where all entries of a page were dropped before they were read, the page is not the end.
        if is_end || !page.is_end() {
            return Ok(TailPage { cursor, ..page });
        }
    }
}

/// The entry at the place of a cursor.
pub(super) async fn found(link: &Link, cursor: &Cursor) -> Result<Found, StoreError> {
    let place = Place::read(cursor)?;
    let keys = KeySet::builder()
        .add_key(key![place.id.to_vec(), place.seq])
        .build();
    let request = ReadRequest::builder("tape_entry", ["digest", "committed_at"]).with_keys(keys);
    let rows = link.ask("reads", Question::Keys(request.build()), |row| {
        Ok((get::<Vec<u8>>(row, 0)?, get::<Timestamp>(row, 1)?))
    });
    let rows = rows.await?;
    if let Some((digest, at)) = rows.into_iter().next() {
        let digest = digest.try_into().ok().filter(|_| at == place.at);
        return Ok(digest.map_or(Found::Beyond, |digest| Found::Entry(Digest(digest))));
    }
    // An entry that was dropped has others of its stream after it: the last one is always kept.
    let range = KeyRange::open_closed(key![place.id.to_vec(), place.seq], key![place.id.to_vec()]);
    let keys = KeySet::builder().add_range(range).build();
    let request = ReadRequest::builder("tape_entry", ["seq"])
        .with_keys(keys)
        .set_limit(1);
    let later = link.ask("reads", Question::Keys(request.build()), |row| get::<i64>(row, 0));
    Ok(if later.await?.is_empty() {
        Found::Beyond
    } else {
        Found::Dropped
    })
}

/// The entries at places. A missing entry was dropped since its place was read: an entry and its place are deleted together.
async fn fed(link: &Link, places: &[Place]) -> Result<TailPage, StoreError> {
    let mut page = TailPage::end(Cursor::default());
    if places.is_empty() {
        return Ok(page);
    }
    let (names, mut entries) = tokio::try_join!(names(link, places), entries(link, places))?;
    for place in places {
        let Some(entry) = entries.remove(&(place.id, place.seq)) else {
            continue;
        };
        let name = names.get(&place.id).map(String::as_str);
        match one(place, name, entry) {
            Ok(entry) => page.entries.push(entry),
            Err(error @ StoreError::Corrupt { .. }) => {
                let stream = name.and_then(|name| name.parse().ok());
                page.damaged.push(DamagedEntry::new(stream, &error));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(page)
}

fn one(place: &Place, name: Option<&str>, entry: Unnamed) -> Result<FeedEntry, StoreError> {
    let name = name.ok_or_else(|| damaged(place, "its stream is not there"))?;
    let stream = name.parse().map_err(|error| damaged(place, format!("{error}")))?;
    let entry = entry.entry(name)?;
    Ok(FeedEntry { stream, entry })
}

/// Places after a place, up to a bound on the bytes of their entries.
async fn places(link: &Link, shard: Shard, after: &Place, limit: u32) -> Result<Vec<Place>, StoreError> {
    let shard = i64::from(shard.0);
    let range = KeyRange::open_closed(key![shard, after.at, after.id.to_vec(), after.seq], key![shard]);
    let request = ReadRequest::builder("tape_entry", ["committed_at", "id", "seq", "size"])
        .with_index("tape_feed", KeySet::builder().add_range(range).build())
        .set_limit(limit.into());
    let size = |(_, size): &(Place, i64)| usize::try_from(*size).unwrap_or_default();
    let places = link.page("reads", Question::Keys(request.build()), size, |row| {
        let place = Place {
            at: get(row, 0)?,
            id: id(row, 1)?,
            seq: get(row, 2)?,
        };
        Ok((place, get(row, 3)?))
    });
    Ok(places.await?.into_iter().map(|(place, _)| place).collect())
}

async fn entries(link: &Link, places: &[Place]) -> Result<HashMap<(Id, i64), Unnamed>, StoreError> {
    let keys = |keys: KeySetBuilder, place: &Place| keys.add_key(key![place.id.to_vec(), place.seq]);
    let keys = places.iter().fold(KeySet::builder(), keys).build();
    let columns = ["id", "seq", "digest", "envelope", "payload", "erased"];
    let request = ReadRequest::builder("tape_entry", columns).with_keys(keys);
    let rows = link.ask("reads", Question::Keys(request.build()), |row| {
        let entry = Unnamed::read(row, 1)?;
        Ok(((id(row, 0)?, entry.seq), entry))
    });
    Ok(rows.await?.into_iter().collect())
}

async fn names(link: &Link, places: &[Place]) -> Result<HashMap<Id, String>, StoreError> {
    let ids: BTreeSet<Id> = places.iter().map(|place| place.id).collect();
    let keys = ids
        .iter()
        .fold(KeySet::builder(), |keys, id| keys.add_key(key![id.to_vec()]));
    let request = ReadRequest::builder("tape_stream", ["id", "name"]).with_keys(keys.build());
    let rows = link.ask("reads", Question::Keys(request.build()), |row| {
        Ok((id(row, 0)?, get(row, 1)?))
    });
    Ok(rows.await?.into_iter().collect())
}

fn id(row: &Row, column: usize) -> Result<Id, StoreError> {
    let bytes: Vec<u8> = get(row, column)?;
    let key = hex::encode(&bytes);
    bytes
        .try_into()
        .map_err(|_| StoreError::corrupt(format!("stream {key}"), "that is not a key"))
}

fn damaged(place: &Place, problem: impl Into<String>) -> StoreError {
    corrupt(
        "tape_entry",
        format!("{} of {}", place.seq, hex::encode(place.id)),
        problem,
    )
}

/// The place after everything that is durable.
pub(super) async fn end(link: &Link) -> Result<Cursor, StoreError> {
    let place = Place {
        at: link.now("reads").await?,
        id: [u8::MAX; 16],
        seq: signed(u64::MAX),
    };
    Ok(place.cursor())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_as_the_place_it_was_made_of() {
        let place = Place {
            at: Timestamp::clamp(1_700_000_000, 123_456_789),
            id: [7; 16],
            seq: 9,
        };
        assert_eq!(Place::read(&place.cursor()).unwrap(), place);
        assert_eq!(Place::read(&Cursor::default()).unwrap(), Place::default());
        for garbage in [&b"x"[..], &[1; 35], &[1; 37], &[0xff; 36]] {
            assert!(Place::read(&Cursor(Bytes::copy_from_slice(garbage))).is_err());
        }
    }
}

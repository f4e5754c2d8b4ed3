//! The keys of rows.
//!
//! The first byte is the kind of a row. Next comes a part that spreads the load: digits of a hash, or the shard. Names in keys end with a
//! zero byte, which no name has, and numbers are of fixed length with the greatest byte first, so that keys have the order of their
//! contents and no key is a prefix of another. The longest key has some 3,700 bytes; Bigtable takes 4,096.

use super::end::Listed;
use crate::contract::Shard;
use bytes::Bytes;
use tape_core::agenda::{Item, Queue};
use tape_core::id::{RunId, Seq, StreamId, Tenant};
use tape_core::payload::Digest;
use tape_core::status::RunStatus;
use tape_core::time::Timestamp;
use uuid::Uuid;

/// The row with the version of the table.
pub(super) const META: &[u8] = b"m";

/// The row with the version of the computation that the indexes agree with.
pub(super) const INDEX: &[u8] = b"mi";

const SEPARATOR: u8 = 0;

/// A range of keys: from the first on and before the second.
pub(super) type Range = (Bytes, Bytes);

/// A key being put together.
struct Key(Vec<u8>);

impl Key {
    fn of_shard(kind: u8, shard: Shard) -> Self {
        let mut key = vec![kind];
        key.extend_from_slice(format!("{:02x}", shard.0).as_bytes());
        Self(key)
    }

    fn byte(mut self, byte: u8) -> Self {
        self.0.push(byte);
        self
    }

    fn text(mut self, text: impl AsRef<[u8]>) -> Self {
        self.0.extend_from_slice(text.as_ref());
        self
    }

    fn name(self, name: impl AsRef<[u8]>) -> Self {
        self.text(name).byte(SEPARATOR)
    }

    fn number(self, number: u64) -> Self {
        self.text(number.to_be_bytes())
    }

    /// The first key after all that begin with this one.
    fn after(mut self) -> Bytes {
        while self.0.last() == Some(&u8::MAX) {
            self.0.pop();
        }
        if let Some(last) = self.0.last_mut() {
            *last += 1;
        }
        self.done()
    }

    fn done(self) -> Bytes {
        Bytes::from(self.0)
    }

    fn copy(&self) -> Self {
        Self(self.0.clone())
    }
}

/// A time as a number; numbers have the order of the times.
const fn ordered(time: Timestamp) -> u64 {
    time.as_micros().cast_unsigned() ^ (1 << 63)
}

const fn time(ordered: u64) -> Timestamp {
    Timestamp::from_micros((ordered ^ (1 << 63)).cast_signed())
}

fn of_stream(stream: &StreamId) -> Key {
    let name = stream.to_string();
    let digest = Digest::of(name.as_bytes()).0;
    Key(vec![b's'])
        .text(format!("{:02x}{:02x}", digest[2], digest[3]))
        .byte(b'/')
        .text(name)
}

/// The row of a stream.
pub(super) fn stream(stream: &StreamId) -> Bytes {
    of_stream(stream).done()
}

/// The rows of all streams, with those of their segments.
pub(super) fn all_streams() -> Range {
    let all = Key(vec![b's']);
    (all.copy().done(), all.after())
}

/// The stream whose row has this key.
pub(super) fn read_stream(key: &[u8]) -> Option<StreamId> {
    let stream = std::str::from_utf8(key.get(6..)?).ok()?.parse().ok()?;
    (self::stream(&stream) == key).then_some(stream)
}

/// The row of the entries of a stream up to `last` that are not in the segment before.
pub(super) fn segment(stream: &StreamId, last: Seq) -> Bytes {
    of_stream(stream).byte(SEPARATOR).number(last.0).done()
}

/// The segments of a stream from the one that has entry `seq`.
pub(super) fn segments(stream: &StreamId, seq: Seq) -> Range {
    (segment(stream, seq), of_stream(stream).byte(SEPARATOR).after())
}

fn of_queue(shard: Shard, queue: Queue) -> Key {
    Key::of_shard(b'a', shard).byte(queue.number())
}

/// The hint that an item of a stream is due.
pub(super) fn due(shard: Shard, queue: Queue, due: Timestamp, stream: &StreamId, item: &Item) -> Bytes {
    of_queue(shard, queue)
        .number(ordered(due))
        .name(stream.to_string())
        .text(item.to_string())
        .done()
}

/// Hints of what is due at `until` or before.
pub(super) fn due_until(shard: Shard, queue: Queue, until: Timestamp) -> Range {
    let queue = of_queue(shard, queue);
    (queue.copy().done(), queue.number(ordered(until)).after())
}

/// The content of a hint.
pub(super) fn read_due(key: &[u8]) -> Option<(Timestamp, StreamId, Item)> {
    let rest = key.get(4..)?;
    let (due, rest) = rest.split_first_chunk::<8>()?;
    let at = rest.iter().position(|byte| *byte == SEPARATOR)?;
    let stream = std::str::from_utf8(&rest[..at]).ok()?.parse().ok()?;
    let item = std::str::from_utf8(&rest[at + 1..]).ok()?.parse().ok()?;
    Some((time(u64::from_be_bytes(*due)), stream, item))
}

/// The hint that a stream has entries that the log lacks.
pub(super) fn pending_stream(shard: Shard, stream: &StreamId) -> Bytes {
    Key::of_shard(b'n', shard).text(stream.to_string()).done()
}

/// All such hints of a shard.
pub(super) fn all_news(shard: Shard) -> Range {
    let shard = Key::of_shard(b'n', shard);
    (shard.copy().done(), shard.after())
}

/// The stream of a hint of a pending stream.
pub(super) fn read_news(key: &[u8]) -> Option<StreamId> {
    std::str::from_utf8(key.get(3..)?).ok()?.parse().ok()
}

/// The hint that a stream is listed by its name.
pub(super) fn named(shard: Shard, stream: &StreamId) -> Bytes {
    Key::of_shard(b'd', shard).text(stream.to_string()).done()
}

/// Such hints of a shard whose names are from one text on and before another.
pub(super) fn all_named(shard: Shard, from: &str, before: &str) -> Range {
    let key = |text: &str| Key::of_shard(b'd', shard).text(text).done();
    (key(from), key(before))
}

/// The stream of such a hint.
pub(super) fn read_named(key: &[u8]) -> Option<StreamId> {
    std::str::from_utf8(key.get(3..)?).ok()?.parse().ok()
}

/// The row of a record. Records are few, so one range has them all: the service splits it where its load needs that.
pub(super) fn record(name: &str) -> Bytes {
    Key(vec![b'c']).text(name).done()
}

/// The rows of records whose names are from one text on and before another.
pub(super) fn records(from: &str, before: &str) -> Range {
    (record(from), record(before))
}

/// The name of the record whose row has this key.
pub(super) fn read_record(key: &[u8]) -> Option<&str> {
    std::str::from_utf8(key.strip_prefix(b"c")?).ok()
}

/// A row of a shard's log.
pub(super) fn log(shard: Shard, number: u64) -> Bytes {
    Key::of_shard(b'l', shard).number(number).done()
}

/// The log of a shard from a row on.
pub(super) fn log_from(shard: Shard, number: u64) -> Range {
    (log(shard, number), Key::of_shard(b'l', shard).after())
}

/// The number of a row of the log.
pub(super) fn read_log(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.get(3..)?.try_into().ok()?))
}

/// The row with the approximate end of the log of a shard.
pub(super) fn log_end(shard: Shard) -> Bytes {
    Key::of_shard(b'z', shard).done()
}

/// A row that nothing else uses, by a name that no other probe has.
pub(super) fn probe(name: Uuid) -> Bytes {
    Key(vec![b'p']).text(name.simple().to_string()).done()
}

/// A list of runs of a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum List<'a> {
    Tenant,
    Status(RunStatus),
    App(&'a str),
    AppStatus(&'a str, RunStatus),
    Label(&'a str, &'a str),
}

impl List<'_> {
    fn key(&self, shard: Shard, tenant: &Tenant) -> Key {
        let of = |kind: u8| Key::of_shard(b'r', shard).byte(kind).name(tenant.as_str());
        match self {
            Self::Tenant => of(b't'),
            Self::Status(status) => of(b's').name(status.as_str()),
            Self::App(app) => of(b'a').name(app),
            Self::AppStatus(app, status) => of(b'b').name(app).name(status.as_str()),
            // Values may have any character and any length.
            Self::Label(key, value) => of(b'l').text(Digest::of(format!("{key}\0{value}").as_bytes()).0),
        }
    }

    /// The part of the list after `after`, from `from` on and before `before`.
    pub(super) fn part(
        &self,
        shard: Shard,
        tenant: &Tenant,
        (from, before): (Option<Timestamp>, Option<Timestamp>),
        after: Option<&Place>,
    ) -> Range {
        let key = self.key(shard, tenant);
        let last = from.map(|from| key.copy().number(!ordered(from)).after());
        // The latest come first, so the list begins after everything that began at `before`.
        let first = before.map(|before| key.copy().number(!ordered(before)).after());
        let after = after.map(|place| place.append_to(key.copy()).byte(SEPARATOR).done());
        let begin = first.max(after).unwrap_or_else(|| key.copy().done());
        let end = last.unwrap_or_else(|| key.after());
        let empty = begin > end;
        (begin.clone(), if empty { begin } else { end })
    }
}

/// The place of a run in its lists. Runs are ordered by when they began, then by when they were stored, the latest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) begun_at: Timestamp,
    pub(super) stored_at: Timestamp,
    pub(super) name: String,
}

impl Place {
    pub(super) fn of(run: &RunId, listed: &Listed) -> Self {
        Self {
            begun_at: listed.summary.begun_at,
            stored_at: listed.stored_at,
            name: StreamId::Run(run.clone()).to_string(),
        }
    }

    fn append_to(&self, key: Key) -> Key {
        key.number(!ordered(self.begun_at))
            .number(!ordered(self.stored_at))
            .text(&self.name)
    }

    /// The run at the end of a key of a list, found by the length of the part before it.
    pub(super) fn read(rest: &[u8]) -> Option<Self> {
        let (begun_at, rest) = rest.split_first_chunk::<8>()?;
        let (stored_at, rest) = rest.split_first_chunk::<8>()?;
        Some(Self {
            begun_at: time(!u64::from_be_bytes(*begun_at)),
            stored_at: time(!u64::from_be_bytes(*stored_at)),
            name: std::str::from_utf8(rest).ok()?.to_owned(),
        })
    }

    /// The sort key of the list.
    pub(super) fn order(&self) -> (std::cmp::Reverse<(Timestamp, Timestamp)>, &str) {
        (std::cmp::Reverse((self.begun_at, self.stored_at)), &self.name)
    }
}

/// The length of the part before the place in keys of a list.
pub(super) fn before_place(list: &List<'_>, shard: Shard, tenant: &Tenant) -> usize {
    list.key(shard, tenant).0.len()
}

/// The keys of a run in all its lists.
pub(super) fn listings(shard: Shard, run: &RunId, listed: &Listed) -> Vec<Bytes> {
    let summary = &listed.summary;
    let (app, status) = (run.app.as_str(), summary.status);
    let mut lists = vec![
        List::Tenant,
        List::Status(status),
        List::App(app),
        List::AppStatus(app, status),
    ];
    lists.extend(
        summary
            .labels
            .iter()
            .map(|(key, value)| List::Label(key.as_str(), value)),
    );
    let place = Place::of(run, listed);
    lists
        .iter()
        .map(|list| place.append_to(list.key(shard, &run.tenant)).done())
        .collect()
}

/// The first key after this one.
pub(super) fn right_after(key: &[u8]) -> Bytes {
    Key(key.to_vec()).byte(0).done()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cursors::{RECORD_NAME_BYTES_MAX, list_range};
    use std::collections::{BTreeMap, BTreeSet};
    use tape_core::id::{App, EffectId, Key as Name, Position, Scope, TimerName};
    use tape_core::limits::NAME_BYTES_MAX;
    use tape_core::status::Summary;

    /// The limit of Bigtable.
    const KEY_BYTES_MAX: usize = 4_096;

    fn run(tenant: &str, app: &str) -> RunId {
        RunId::new(tenant, app, "u", "s", "i").unwrap()
    }

    fn listed(begun_at: i64, stored_at: i64, status: RunStatus) -> Listed {
        let begun_at = Timestamp::from_micros(begun_at);
        Listed {
            stored_at: Timestamp::from_micros(stored_at),
            summary: Summary {
                status,
                labels: BTreeMap::from([(Name::new("k").unwrap(), "v".to_owned())]),
                begun_at,
                changed_at: begun_at,
            },
        }
    }

    #[test]
    fn hints_are_in_the_order_of_their_times() {
        let (shard, stream) = (Shard(3), StreamId::Run(run("t", "a")));
        let times = [i64::MIN, -5, -1, 0, 1, 255, 256, i64::MAX];
        let key = |time| {
            let due_at = Timestamp::from_micros(time);
            due(shard, Queue::Timers, due_at, &stream, &Item::Merge)
        };
        let keys = times.map(key);
        assert!(keys.is_sorted());
        for (time, key) in times.into_iter().zip(&keys) {
            let until = Timestamp::from_micros(time);
            let (from, before) = due_until(shard, Queue::Timers, until);
            let within = keys.iter().filter(|key| (&from..&before).contains(key));
            assert_eq!(within.count(), times.iter().filter(|at| **at <= time).count());
            assert_eq!(read_due(key), Some((until, stream.clone(), Item::Merge)));
        }
    }

    #[test]
    fn the_longest_names_fit() {
        let long = "/".repeat(NAME_BYTES_MAX);
        let run = RunId::new(&long, &long, &long, &long, &long).unwrap();
        let stream = StreamId::Run(run.clone());
        let scope = Scope::root();
        let items = [
            Item::Timer(TimerName::new(&long).unwrap()),
            Item::Effect(EffectId {
                position: Position { scope, k: u32::MAX },
                call: u16::MAX,
            }),
        ];
        let mut keys: Vec<Bytes> = items
            .iter()
            .map(|item| due(Shard(0), Queue::Timers, Timestamp::MAX, &stream, item))
            .collect();
        keys.extend(listings(Shard(0), &run, &listed(1, 1, RunStatus::Compensating)));
        keys.extend([segment(&stream, Seq(u64::MAX)), pending_stream(Shard(0), &stream)]);
        let longest = "x".repeat(RECORD_NAME_BYTES_MAX);
        let (_, end) = list_range(&longest, None);
        keys.extend([record(&longest), records("", &end).1]);
        for key in keys {
            // A path of scopes is at most 512 bytes longer.
            assert!(key.len() + 512 < KEY_BYTES_MAX, "{} bytes", key.len());
        }
    }

    #[test]
    fn segments_are_found_by_any_of_their_entries() {
        let (stream, other) = (StreamId::Run(run("t", "a")), StreamId::Run(run("t", "aa")));
        let rows: BTreeSet<Bytes> = [256, 300, 812]
            .into_iter()
            .flat_map(|last| [segment(&stream, Seq(last)), segment(&other, Seq(last))])
            .chain([super::stream(&stream), super::stream(&other)])
            .collect();
        for (seq, last) in [
            (1, Some(256)),
            (256, Some(256)),
            (257, Some(300)),
            (812, Some(812)),
            (813, None),
        ] {
            let (from, before) = segments(&stream, Seq(seq));
            let found = rows.range(from..before).next().cloned();
            assert_eq!(found, last.map(|last| segment(&stream, Seq(last))), "entry {seq}");
        }
    }

    #[test]
    fn lists_are_apart_and_the_latest_come_first() {
        let tenant = Tenant::new("t").unwrap();
        let runs = [(1, 9), (5, 1), (5, 2), (7, 0)];
        let of = |(begun_at, stored_at)| {
            listings(
                Shard(0),
                &run("t", "a"),
                &listed(begun_at, stored_at, RunStatus::Running),
            )
        };
        let mut keys: Vec<Bytes> = runs.into_iter().flat_map(of).collect();
        for (tenant, app) in [("t", "aa"), ("tt", "a"), ("T", "a"), ("t/a", "a")] {
            keys.extend(listings(
                Shard(0),
                &run(tenant, app),
                &listed(5, 1, RunStatus::Running),
            ));
        }
        keys.extend(listings(
            Shard(1),
            &run("t", "a"),
            &listed(5, 1, RunStatus::Running),
        ));
        keys.sort();
        let lists = [
            (List::Tenant, 5),
            (List::Status(RunStatus::Running), 5),
            (List::Status(RunStatus::Stuck), 0),
            (List::App(App::new("a").unwrap().as_str()), 4),
            (List::AppStatus("a", RunStatus::Running), 4),
            (List::Label("k", "v"), 5),
            (List::Label("k", "w"), 0),
        ]
        .map(|(list, many)| {
            (
                format!("{list:?}"),
                list.part(Shard(0), &tenant, (None, None), None),
                many,
            )
        });
        for (list, (from, before), many) in lists {
            let within: Vec<&Bytes> = keys.iter().filter(|key| (&from..&before).contains(key)).collect();
            assert_eq!(within.len(), many, "{list}");
        }
        let at = |micros| Some(Timestamp::from_micros(micros));
        let list = List::App("a");
        let prefix = before_place(&list, Shard(0), &tenant);
        let places = |range: (Option<Timestamp>, Option<Timestamp>), after: Option<&Place>| {
            let (from, before) = list.part(Shard(0), &tenant, range, after);
            let within = keys.iter().filter(move |key| (&from..&before).contains(key));
            let places = within.map(|key| Place::read(&key[prefix..]).unwrap());
            places
                .map(|place| (place.begun_at.as_micros(), place.stored_at.as_micros()))
                .collect::<Vec<_>>()
        };
        assert_eq!(places((None, None), None), [(7, 0), (5, 2), (5, 1), (1, 9)]);
        assert_eq!(places((at(5), at(7)), None), [(5, 2), (5, 1)]);
        assert_eq!(places((at(7), at(5)), None), []);
        assert_eq!(places((at(i64::MIN), at(i64::MAX)), None).len(), 4);
        let after = Place::of(&run("t", "a"), &listed(5, 2, RunStatus::Running));
        assert_eq!(places((None, None), Some(&after)), [(5, 1), (1, 9)]);
    }
}

//! Where relays are: one process carries a part at a time, and a place is where it was put.

use super::agent::{Driven, holder, run_id, tenant};
use crate::query::Tail;
use crate::relays::{ClaimAnswer, Control, Lag, MoveAnswer, PartStatus, PlacePage, PlaceQuery};
use crate::{Journal, JournalError};
use bytes::Bytes;
use futures::StreamExt as _;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tape_core::id::{Epoch, RelayId, RelayName, RelayPart};
use tape_core::limits::{
    CURSOR_BYTES_MAX, LEASE_MS_MIN, NAME_BYTES_MAX, RELAY_LEASE_MS_MAX, RELAY_STATE_BYTES_MAX,
};
use tape_core::relay::{Held, NotMoved, Place, Progress};
use tape_core::time::Timestamp;

/// Longer than any test.
const LEASE: Duration = Duration::from_secs(600);

fn part(name: &str) -> RelayPart {
    name.parse().unwrap()
}

fn relay(name: &str) -> RelayId {
    name.parse().unwrap()
}

/// A process that carries a part.
struct Carrier<'a> {
    journal: &'a Arc<dyn Journal>,
    part: RelayPart,
    epoch: Epoch,
    place: Place,
}

impl<'a> Carrier<'a> {
    async fn claim(journal: &'a Arc<dyn Journal>, name: &str, process: &str) -> Carrier<'a> {
        let part = part(name);
        let claim = journal.relays().claim(&part, &holder(process), LEASE).await;
        let ClaimAnswer::Claimed { epoch, place } = claim.unwrap() else {
            panic!("{part} is free");
        };
        assert_eq!((place.epoch, &place.holder), (epoch, &Some(holder(process))));
        let place = *place;
        Self {
            journal,
            part,
            epoch,
            place,
        }
    }

    async fn advance(&self, progress: Progress) -> Result<MoveAnswer, JournalError> {
        let relays = self.journal.relays();
        relays.advance(&self.part, self.epoch, progress, LEASE).await
    }

    async fn go_to(&self, cursors: &BTreeMap<u16, Bytes>) {
        let cursors = cursors.clone();
        let progress = Progress {
            cursors,
            ..Progress::default()
        };
        assert_eq!(self.advance(progress).await.unwrap(), MoveAnswer::Moved);
    }

    async fn is_fenced(&self) {
        let answer = self.advance(Progress::default()).await.unwrap();
        let MoveAnswer::NotMoved(NotMoved::Fenced { given, current }) = answer else {
            panic!("it is not its to move: {answer:?}");
        };
        assert_eq!(given, self.epoch);
        assert_ne!(current, self.epoch);
    }

    /// It gave the part back: no other process has it, and it moves nothing.
    async fn gave_it_back(&self) {
        let answer = self.advance(Progress::default()).await.unwrap();
        assert!(matches!(answer, MoveAnswer::NotMoved(NotMoved::Fenced { .. })));
        assert_eq!(status(self.journal, &self.part.to_string()).await.left_ms, 0);
    }
}

async fn held(journal: &Arc<dyn Journal>, name: &str, process: &str) -> Held {
    let claim = journal.relays().claim(&part(name), &holder(process), LEASE).await;
    match claim.unwrap() {
        ClaimAnswer::Held(held) => held,
        claimed @ ClaimAnswer::Claimed { .. } => panic!("it is not free: {claimed:?}"),
    }
}

async fn status(journal: &Arc<dyn Journal>, name: &str) -> PartStatus {
    let part = part(name);
    let query = PlaceQuery::Relay(part.relay.clone());
    let page = journal.relays().places(&query, None, 0).await.unwrap();
    page.parts.into_iter().find(|status| status.part == part).unwrap()
}

async fn lag(journal: &Arc<dyn Journal>, name: &str) -> Lag {
    status(journal, name).await.lag.unwrap()
}

/// Controls a relay whose parts can all be read. Returns how many there are.
async fn control(journal: &Arc<dyn Journal>, name: &str, control: Control) -> Result<u64, JournalError> {
    let done = journal.relays().control(&relay(name), &control).await?;
    assert_eq!(done.unreadable, []);
    Ok(done.parts)
}

/// The first two parts of a relay; one where the feed has one shard.
async fn parts(journal: &Arc<dyn Journal>, relay: &str) -> Vec<String> {
    let (ends, _) = ends(journal, &BTreeMap::new()).await;
    let parts = ends.keys().take(2);
    parts.map(|part| format!("{relay}/{part}")).collect()
}

/// The cursors of all shards at the end of the feed, and how many entries lie before them.
async fn ends(journal: &Arc<dyn Journal>, from: &BTreeMap<u16, Bytes>) -> (BTreeMap<u16, Bytes>, usize) {
    let tail = |follow| Tail {
        cursors: from.clone(),
        from_start: true,
        follow,
        ..Tail::new(">".parse().unwrap())
    };
    let first = journal.tail(&tail(true)).next().await.unwrap().unwrap();
    let mut ends: BTreeMap<u16, Bytes> = (0..first.shards).map(|shard| (shard, Bytes::new())).collect();
    ends.extend(from.clone());
    let (mut feed, mut entries) = (journal.tail(&tail(false)), 0);
    while let Some(page) = feed.next().await {
        let page = page.unwrap();
        entries += page.entries.len();
        ends.insert(page.shard, page.cursor);
    }
    (ends, entries)
}

pub(super) async fn one_process_carries_a_part_of_a_relay(journal: Arc<dyn Journal>) {
    let name = "t/lake/0";
    let first = Carrier::claim(&journal, name, "a").await;
    assert_eq!(first.place.cursors, BTreeMap::new());
    let other = held(&journal, name, "b").await;
    assert!(
        matches!(&other, Held::By { holder, until } if holder.as_str() == "a" && *until == first.place.until)
    );
    // The process itself may claim again. What it sent before moves nothing any more.
    let again = Carrier::claim(&journal, name, "a").await;
    assert!(again.epoch > first.epoch);
    first.is_fenced().await;
    journal.relays().release(&first.part, first.epoch).await.unwrap();
    assert!(matches!(held(&journal, name, "b").await, Held::By { .. }));
    let (ends, _) = ends(&journal, &BTreeMap::new()).await;
    again.go_to(&ends).await;
    journal.relays().release(&again.part, again.epoch).await.unwrap();
    again.gave_it_back().await;
    let next = Carrier::claim(&journal, name, "b").await;
    assert_eq!(next.place.cursors, ends, "it goes on there");
}

pub(super) async fn a_place_is_what_its_moves_made_it(journal: Arc<dyn Journal>) {
    let name = "*/lake/0";
    let carrier = Carrier::claim(&journal, name, "a").await;
    let (ends, _) = ends(&journal, &BTreeMap::new()).await;
    let reached = Some(Timestamp::from_micros(7));
    let progress = Progress {
        cursors: ends.clone(),
        reached,
        delivered: 5,
        refused: 2,
        is_failing: true,
        disable: None,
        state: Some(Bytes::from_static(&[0, 255])),
    };
    assert_eq!(carrier.advance(progress).await.unwrap(), MoveAnswer::Moved);
    let failing = status(&journal, name).await;
    assert!(failing.place.failing.is_some());
    assert!((1..=600_000).contains(&failing.left_ms));
    let more = Progress {
        delivered: 1,
        ..Progress::default()
    };
    assert_eq!(carrier.advance(more).await.unwrap(), MoveAnswer::Moved);
    let Place {
        epoch,
        holder: by,
        until,
        cursors,
        reached: reached_now,
        moved,
        delivered,
        refused,
        failing: failing_now,
        disabled,
        state,
    } = status(&journal, name).await.place;
    assert_eq!((epoch, by), (carrier.epoch, Some(holder("a"))));
    assert!(until >= failing.place.until);
    assert_eq!((cursors, reached_now), (ends, reached));
    assert_eq!(moved, failing.place.moved);
    assert_eq!((delivered, refused), (6, 2));
    assert_eq!((failing_now, disabled), (None, None));
    assert_eq!(state, [0, 255][..]);
}

pub(super) async fn a_relay_that_is_disabled_is_no_process_s(journal: Arc<dyn Journal>) {
    let parts = parts(&journal, "t/lake").await;
    let mut carriers = Vec::new();
    for (name, process) in parts.iter().zip(["a", "b"]) {
        carriers.push((Carrier::claim(&journal, name, process).await, name));
    }
    let of_all = Carrier::claim(&journal, "*/lake/0", "a").await;
    let reason = "the partner asked".to_owned();
    let disabled = control(&journal, "t/lake", Control::Disable { reason }).await;
    assert_eq!(disabled.unwrap(), parts.len() as u64);
    for (carrier, name) in carriers {
        carrier.is_fenced().await;
        let stopped = held(&journal, name, "a").await;
        assert!(matches!(&stopped, Held::Disabled(stop) if stop.reason == "the partner asked"));
        let status = status(&journal, name).await;
        assert_eq!(status.place.disabled.map(Held::Disabled), Some(stopped));
    }
    of_all.go_to(&BTreeMap::new()).await;
    let enabled = control(&journal, "t/lake", Control::Enable).await;
    assert_eq!(enabled.unwrap(), parts.len() as u64);
    let again = Carrier::claim(&journal, &parts[0], "b").await;
    // A relay stops itself with a move.
    let gone = Progress {
        disable: Some("410 Gone".to_owned()),
        ..Progress::default()
    };
    assert_eq!(again.advance(gone).await.unwrap(), MoveAnswer::Moved);
    let stopped = held(&journal, &parts[0], "b").await;
    assert_eq!(stopped.to_string(), "it is disabled: 410 Gone");
}

pub(super) async fn a_relay_is_put_at_other_places(journal: Arc<dyn Journal>) {
    let name = "*/lake/0";
    Driven::begin(&journal, run_id("t", "i"), "x").await;
    let (before, entries) = ends(&journal, &BTreeMap::new()).await;
    assert_eq!(entries, 2);
    let beginning: BTreeMap<u16, Bytes> = before.keys().map(|shard| (*shard, Bytes::new())).collect();
    let carrier = Carrier::claim(&journal, name, "a").await;
    carrier.go_to(&before).await;
    assert_eq!(
        control(&journal, "*/lake", Control::ToBeginning).await.unwrap(),
        1
    );
    carrier.is_fenced().await;
    assert_eq!(status(&journal, name).await.place.cursors, beginning);
    assert_eq!(ends(&journal, &beginning).await.1, entries);
    control(&journal, "*/lake", Control::ToEnd).await.unwrap();
    let end = status(&journal, name).await.place.cursors;
    assert_eq!(ends(&journal, &end).await.1, 0, "nothing lies behind it");
    Driven::begin(&journal, run_id("t", "j"), "x").await;
    assert_eq!(ends(&journal, &end).await.1, 2, "what comes from then on does");
    let carrier = Carrier::claim(&journal, name, "a").await;
    carrier.go_to(&beginning).await;
    let to = Control::To([(0, before[&0].clone())].into());
    control(&journal, "*/lake", to).await.unwrap();
    carrier.is_fenced().await;
    let mut expected = beginning;
    expected.insert(0, before[&0].clone());
    assert_eq!(
        status(&journal, name).await.place.cursors,
        expected,
        "other shards stay"
    );
}

pub(super) async fn a_part_of_a_relay_that_never_began_is_put_elsewhere(journal: Arc<dyn Journal>) {
    Driven::begin(&journal, run_id("t", "i"), "x").await;
    let (end, entries) = ends(&journal, &BTreeMap::new()).await;
    let beginning: BTreeMap<u16, Bytes> = end.keys().map(|shard| (*shard, Bytes::new())).collect();
    // One part alone carries all shards.
    let carrier = Carrier::claim(&journal, "*/lake/0", "a").await;
    control(&journal, "*/lake", Control::ToBeginning).await.unwrap();
    carrier.is_fenced().await;
    assert_eq!(status(&journal, "*/lake/0").await.place.cursors, beginning);
    control(&journal, "*/lake", Control::ToEnd).await.unwrap();
    let place = status(&journal, "*/lake/0").await.place;
    assert_eq!(ends(&journal, &place.cursors).await.1, 0, "of {entries}");
    // Of several parts, each carries the shard of its number.
    let parts = parts(&journal, "t/lake").await;
    for part in &parts {
        Carrier::claim(&journal, part, "a").await;
    }
    control(&journal, "t/lake", Control::ToBeginning).await.unwrap();
    for (shard, part) in (0..).zip(&parts) {
        let place = status(&journal, part).await.place;
        assert_eq!(place.cursors, BTreeMap::from([(shard, Bytes::new())]));
    }
    // One that has begun its own shard alone is not all of a relay, though no other part was claimed yet.
    let first = Carrier::claim(&journal, "u/lake/0", "a").await;
    first.go_to(&[(0, end[&0].clone())].into()).await;
    control(&journal, "u/lake", Control::ToBeginning).await.unwrap();
    let place = status(&journal, "u/lake/0").await.place;
    assert_eq!(place.cursors, BTreeMap::from([(0, Bytes::new())]));
}

pub(super) async fn a_relay_whose_place_makes_no_sense_hides_no_other(journal: Arc<dyn Journal>) {
    let wrong = Carrier::claim(&journal, "a/lake/0", "a").await;
    wrong
        .go_to(&[(0, Bytes::from_static(b"of another journal"))].into())
        .await;
    let beginning = [(0, Bytes::new())].into();
    Carrier::claim(&journal, "b/lake/0", "a")
        .await
        .go_to(&beginning)
        .await;
    let page = journal.relays().places(&PlaceQuery::All, None, 0).await.unwrap();
    let [wrong, right] = &page.parts[..] else {
        panic!("both are listed: {page:?}");
    };
    assert!(
        wrong.lag.as_ref().is_err_and(|problem| !problem.is_empty()),
        "{wrong:?}"
    );
    assert_eq!(right.lag, Ok(Lag::default()));
    // It is mended by a person.
    control(&journal, "a/lake", Control::ToBeginning).await.unwrap();
    assert_eq!(lag(&journal, "a/lake/0").await, Lag::default());
}

pub(super) async fn a_relay_of_the_longest_names_has_a_place(journal: Arc<dyn Journal>) {
    let name = "/".repeat(NAME_BYTES_MAX);
    let relay = RelayId {
        tenant: Some(tenant(&name)),
        name: RelayName::new(&name).unwrap(),
    };
    let (ends, _) = ends(&journal, &BTreeMap::new()).await;
    let part = *ends.keys().max().unwrap();
    let part = RelayPart { relay, part };
    let carrier = Carrier::claim(&journal, &part.to_string(), "a").await;
    carrier.go_to(&BTreeMap::new()).await;
    let query = PlaceQuery::Relay(part.relay.clone());
    let page = journal.relays().places(&query, None, 0).await.unwrap();
    assert_eq!(page.parts.len(), 1);
}

pub(super) async fn a_relay_that_is_forgotten_begins_anew(journal: Arc<dyn Journal>) {
    let name = "t/lake/0";
    let (ends, _) = ends(&journal, &BTreeMap::new()).await;
    let first = Carrier::claim(&journal, name, "a").await;
    first.go_to(&ends).await;
    // By its name goes only a record that cannot be read.
    let readable = journal.relays().forget_record("relay/t/lake/0").await;
    assert_eq!(invalid(readable), "record: can be read: forget its relay");
    assert!(!journal.relays().forget_record("relay/t/none/0").await.unwrap());
    assert_eq!(control(&journal, "t/lake", Control::Forget).await.unwrap(), 1);
    assert_eq!(control(&journal, "t/lake", Control::Forget).await.unwrap(), 0);
    let page = journal.relays().places(&PlaceQuery::All, None, 0).await.unwrap();
    assert_eq!(page, PlacePage::default());
    first.is_fenced().await;
    let next = Carrier::claim(&journal, name, "b").await;
    assert_eq!((next.place.cursors.len(), next.place.delivered), (0, 0));
    // The process of the forgotten relay has no epoch that the new one may have.
    first.is_fenced().await;
}

pub(super) async fn relays_are_listed_in_the_order_of_their_names(journal: Arc<dyn Journal>) {
    let names = [
        "*/lake/0",
        "*/pond/0",
        "a/fraud/0",
        "a/lake/0",
        "ab/lake/0",
        "b/lake/0",
    ];
    for name in names.iter().rev() {
        Carrier::claim(&journal, name, "a").await;
    }
    let listed = async |query: PlaceQuery, size: u32| {
        let (mut found, mut from) = (Vec::new(), None::<String>);
        loop {
            let page = journal.relays().places(&query, from.as_deref(), size);
            let page = page.await.unwrap();
            assert!(page.parts.len() <= size as usize && page.unreadable.is_empty());
            found.extend(page.parts.iter().map(|status| status.part.to_string()));
            match page.next {
                Some(next) => from = Some(next),
                None => return found,
            }
        }
    };
    for size in [1, 4, 64] {
        assert_eq!(listed(PlaceQuery::All, size).await, names);
        let of_tenant = PlaceQuery::Tenant(tenant("a"));
        assert_eq!(listed(of_tenant, size).await, names[2..4]);
        let of_relay = PlaceQuery::Relay(relay("*/lake"));
        assert_eq!(listed(of_relay, size).await, names[..1]);
    }
    assert_eq!(
        listed(PlaceQuery::Relay(relay("t/none")), 4).await,
        Vec::<String>::new()
    );
    let relays = journal.relays();
    let first = relays.places(&PlaceQuery::All, Some(""), 1).await.unwrap();
    assert_eq!(first.parts[0].part.to_string(), names[0]);
    let of_tenant = PlaceQuery::Tenant(tenant("a"));
    let foreign = relays.places(&of_tenant, first.next.as_deref(), 1).await;
    assert!(invalid(foreign).starts_with("page_token: "));
}

pub(super) async fn the_lag_of_a_relay_is_what_it_has_not_passed(journal: Arc<dyn Journal>) {
    let (start, _) = ends(&journal, &BTreeMap::new()).await;
    for name in ["t/lake/0", "*/lake/0"] {
        Carrier::claim(&journal, name, "a").await.go_to(&start).await;
        assert_eq!(lag(&journal, name).await, Lag::default());
    }
    let mine = Driven::begin(&journal, run_id("t", "i"), "x").await;
    Driven::begin(&journal, run_id("u", "i"), "x").await;
    let first = journal
        .read(&mine.run, tape_core::id::Seq::ZERO, 1)
        .await
        .unwrap();
    let written = tape_core::codec::decode(&first[0]).unwrap().at;
    let of_tenant = lag(&journal, "t/lake/0").await;
    assert_eq!(
        (of_tenant.entries, of_tenant.is_more, of_tenant.oldest),
        (2, false, Some(written))
    );
    let of_all = lag(&journal, "*/lake/0").await;
    assert_eq!((of_all.entries, of_all.oldest), (4, Some(written)));
    let (end, _) = ends(&journal, &start).await;
    Carrier::claim(&journal, "t/lake/0", "a").await.go_to(&end).await;
    assert_eq!(lag(&journal, "t/lake/0").await, Lag::default());
}

fn invalid<T: std::fmt::Debug>(refused: Result<T, JournalError>) -> String {
    match refused {
        Err(JournalError::Invalid(problem)) => problem,
        other => panic!("it is not refused as invalid: {other:?}"),
    }
}

pub(super) async fn what_is_out_of_bounds_for_a_relay_changes_nothing(journal: Arc<dyn Journal>) {
    let name = "t/lake/0";
    let carrier = Carrier::claim(&journal, name, "a").await;
    let (ends, _) = ends(&journal, &BTreeMap::new()).await;
    carrier.go_to(&[(0, ends[&0].clone())].into()).await;
    let before = status(&journal, name).await.place;
    for lease_ms in [0, LEASE_MS_MIN - 1, RELAY_LEASE_MS_MAX + 1, u64::MAX] {
        let (relays, lease) = (journal.relays(), Duration::from_millis(lease_ms));
        let problem = format!("lease_ms: is {lease_ms}, not 100 to 3600000");
        let claim = relays.claim(&carrier.part, &holder("a"), lease).await;
        assert_eq!(invalid(claim), problem);
        let progress = Progress::default();
        let moved = relays
            .advance(&carrier.part, carrier.epoch, progress, lease)
            .await;
        assert_eq!(invalid(moved), problem);
    }
    let shards = u16::try_from(ends.len()).unwrap();
    let none = RelayPart {
        part: shards,
        ..carrier.part.clone()
    };
    let claim = journal.relays().claim(&none, &holder("a"), LEASE).await;
    let problem = format!("part: is {shards}, and the feed of this journal has {shards} shards");
    assert_eq!(invalid(claim), problem);
    let to = |shard, bytes| BTreeMap::from([(shard, Bytes::from(vec![b'x'; bytes]))]);
    let foreign = format!("cursors: there is no shard {shards} in this journal of {shards}");
    let long = CURSOR_BYTES_MAX + 1;
    let cursor = |cursors| Progress {
        cursors,
        ..Progress::default()
    };
    let large = Progress {
        state: Some(vec![0; RELAY_STATE_BYTES_MAX + 1].into()),
        ..Progress::default()
    };
    let stop = |bytes| Progress {
        disable: Some("x".repeat(bytes)),
        ..Progress::default()
    };
    for (progress, problem) in [
        (cursor(to(shards, 1)), foreign.as_str()),
        (
            cursor(to(0, long)),
            "cursors: has 513 bytes in one of them, the limit is 512",
        ),
        (large, "state: has 16385 bytes, the limit is 16384"),
        (stop(0), "disable: has 0 bytes, not 1 to 8192"),
        (stop(8_193), "disable: has 8193 bytes, not 1 to 8192"),
    ] {
        assert_eq!(invalid(carrier.advance(progress).await), problem);
    }
    let reason = String::new();
    for (wrong, problem) in [
        (Control::Disable { reason }, "reason: has 0 bytes, not 1 to 8192"),
        (Control::To(BTreeMap::new()), "cursors: is empty"),
        (Control::To(to(shards, 1)), foreign.as_str()),
    ] {
        assert_eq!(invalid(control(&journal, "t/lake", wrong).await), problem);
    }
    // A cursor that no journal made is found out before any shard is put elsewhere.
    let mut cursors = to(shards - 1, 3);
    cursors.entry(0).or_insert_with(Bytes::new);
    invalid(control(&journal, "t/lake", Control::To(cursors)).await);
    if shards > 1 {
        let not_begun = control(&journal, "t/lake", Control::To(ends.clone())).await;
        assert_eq!(invalid(not_begun), "cursors: t/lake has not begun shard 1");
    }
    assert_eq!(status(&journal, name).await.place, before);
    let page = journal.relays().places(&PlaceQuery::All, None, 0).await.unwrap();
    assert_eq!(page.parts.len(), 1, "{page:?}");
}

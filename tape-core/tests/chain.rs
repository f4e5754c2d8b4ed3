//! Evidence: every change of a journal behind a published head is found, and erasing payloads is not a change.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use bytes::Bytes;
use support::{Journal, run_line};
use tape_core::chain::{ChainError, StreamTag, Verifier, link, link_v1};
use tape_core::codec::{Stamp, StoredEntry, seal};
use tape_core::decider::Decider as _;
use tape_core::entry::run::RunOutcome;
use tape_core::id::{Epoch, RequestId, Seq, StreamId};
use tape_core::payload::Digest;

use tape_core::run::Run;

type Head = (Seq, Digest);

/// A journal of eight entries, and its head.
fn journal() -> (Vec<StoredEntry>, Head) {
    let mut journal = Journal::<Run>::new();
    let script = [
        "begin a1",
        "decide #0 rationale=since",
        "effect #0.0 inline idempotent undo=u",
        "finish #0.0 1 ok",
        "decide #1",
        "checkpoint c",
        "complete",
    ];
    for line in script {
        let command = run_line::command(line, &journal.state);
        journal.ask(command).unwrap();
    }
    let head = journal.stored.last().unwrap();
    let head = (head.seq, head.digest);
    (journal.stored, head)
}

fn stream() -> StreamId {
    support::names::run_id().into()
}

fn verify(journal: &[StoredEntry], published: Option<Head>) -> Result<Head, ChainError> {
    verify_as(&stream(), journal, published)
}

fn verify_as(
    stream: &StreamId,
    journal: &[StoredEntry],
    published: Option<Head>,
) -> Result<Head, ChainError> {
    let mut verifier = Verifier::new(stream, published);
    journal.iter().try_for_each(|stored| verifier.check(stored))?;
    verifier.finish()
}

/// Makes the chain whole again from `from` on, as an attacker with access to the store could.
fn relink(journal: &mut [StoredEntry], from: usize) {
    let mut previous = from
        .checked_sub(1)
        .map_or_else(Digest::default, |last| journal[last].digest);
    for stored in &mut journal[from..] {
        stored.digest = link(&StreamTag::of(&stream()), &previous, &stored.envelope);
        previous = stored.digest;
    }
}

fn replaced(stored: &StoredEntry, from: &str, to: &str) -> Bytes {
    let text = std::str::from_utf8(&stored.envelope).unwrap();
    assert!(text.contains(from));
    Bytes::from(text.replacen(from, to, 1))
}

#[test]
fn a_whole_journal_verifies_to_its_head() {
    let (journal, head) = journal();
    assert_eq!(verify(&journal, None), Ok(head));
    assert_eq!(verify(&journal, Some(head)), Ok(head));
    for stored in &journal {
        assert_eq!(
            verify(&journal, Some((stored.seq, stored.digest))),
            Ok(head),
            "a head of long ago"
        );
    }
    assert_eq!(verify(&[], None), Ok((Seq::ZERO, Digest::default())));
}

#[test]
fn the_digest_is_what_the_format_says() {
    let (journal, _) = journal();
    let tag = Digest::of(b"tape stream\nacme/run/treasury/ann/s1/i1");
    let mut previous = Digest([0; 32]);
    for stored in &journal[..2] {
        let bytes = [&b"tape entry 2\n"[..], &tag.0, &previous.0, &stored.envelope].concat();
        assert_eq!(stored.digest, Digest::of(&bytes));
        previous = stored.digest;
    }
}

#[test]
fn an_edit_is_found() {
    let (whole, head) = journal();
    for (i, edited) in whole.iter().enumerate() {
        let mut journal = whole.clone();
        journal[i].envelope = replaced(edited, "\"req\":", "\"by\":\"eve\",\"req\":");
        let error = verify(&journal, None).unwrap_err();
        assert!(
            matches!(error, ChainError::Changed { seq, .. } if seq == edited.seq),
            "{error}"
        );
        relink(&mut journal, i);
        assert!(
            verify(&journal, None).is_ok(),
            "without a published head, nobody can tell"
        );
        let error = verify(&journal, Some(head)).unwrap_err();
        assert!(
            matches!(error, ChainError::HeadMismatch { seq, .. } if seq == head.0),
            "{error}"
        );
    }
}

#[test]
fn a_removal_is_found() {
    let (whole, head) = journal();
    for i in 0..whole.len() - 1 {
        let mut journal = whole.clone();
        journal.remove(i);
        let (expected, found) = (Seq(i as u64 + 1), Seq(i as u64 + 2));
        assert_eq!(verify(&journal, None), Err(ChainError::Gap { expected, found }));
        for (n, stored) in journal.iter_mut().enumerate().skip(i) {
            let (from, to) = (format!("\"seq\":{}", n + 2), format!("\"seq\":{}", n + 1));
            (stored.envelope, stored.seq) = (replaced(stored, &from, &to), Seq(n as u64 + 1));
        }
        relink(&mut journal, i);
        assert!(verify(&journal, None).is_ok());
        assert!(matches!(
            verify(&journal, Some(head)),
            Err(ChainError::Truncated { .. })
        ));
    }
}

#[test]
fn an_insertion_is_found() {
    let (whole, head) = journal();
    let mut journal = whole.clone();
    journal.insert(3, whole[3].clone());
    let error = verify(&journal, None).unwrap_err();
    assert_eq!(
        error,
        ChainError::Gap {
            expected: Seq(5),
            found: Seq(4)
        }
    );
    for (n, stored) in journal.iter_mut().enumerate().skip(4) {
        let (from, to) = (format!("\"seq\":{n}"), format!("\"seq\":{}", n + 1));
        (stored.envelope, stored.seq) = (replaced(stored, &from, &to), Seq(n as u64 + 1));
    }
    relink(&mut journal, 4);
    assert!(verify(&journal, None).is_ok());
    let error = verify(&journal, Some(head)).unwrap_err();
    assert!(matches!(error, ChainError::HeadMismatch { .. }), "{error}");
}

#[test]
fn reordering_is_found() {
    let (whole, _) = journal();
    for i in 0..whole.len() - 1 {
        let mut journal = whole.clone();
        journal.swap(i, i + 1);
        assert!(matches!(verify(&journal, None), Err(ChainError::Gap { .. })));
        (journal[i].seq, journal[i + 1].seq) = (whole[i].seq, whole[i + 1].seq);
        assert!(matches!(verify(&journal, None), Err(ChainError::Changed { .. })));
        relink(&mut journal, i);
        let error = verify(&journal, None).unwrap_err();
        assert!(
            error.to_string().contains("holds the envelope of entry"),
            "{error}"
        );
    }
}

#[test]
fn truncation_behind_a_published_head_is_found() {
    let (journal, head) = journal();
    for len in 0..journal.len() {
        let error = verify(&journal[..len], Some(head)).unwrap_err();
        let end = Seq(len as u64);
        assert_eq!(error, ChainError::Truncated { end, head: head.0 });
        assert!(
            verify(&journal[..len], None).is_ok(),
            "without a published head, nobody can tell"
        );
    }
}

#[test]
fn a_swapped_payload_is_found() {
    let (whole, head) = journal();
    let mut changed = 0;
    for i in 0..whole.len() {
        let mut journal = whole.clone();
        let bytes = journal[i].payload.clone().unwrap();
        if bytes.is_empty() {
            continue;
        }
        changed += 1;
        let mut other = bytes.to_vec();
        other[0] ^= 1;
        journal[i].payload = Some(other.into());
        let error = verify(&journal, Some(head)).unwrap_err();
        assert!(
            matches!(error, ChainError::PayloadChanged { seq, .. } if seq == whole[i].seq),
            "{error}"
        );
        journal[i].payload = Some(bytes.slice(1..));
        let error = verify(&journal, Some(head)).unwrap_err();
        assert!(matches!(error, ChainError::PayloadChanged { .. }), "{error}");
    }
    assert!(changed >= 5);
}

#[test]
fn gone_payloads_leave_the_chain_whole_and_are_destroyed_without_an_erasure() {
    let (mut journal, head) = journal();
    for stored in &mut journal {
        stored.payload = None;
    }
    let mut verifier = Verifier::new(&stream(), Some(head));
    for stored in &journal {
        verifier.check(stored).unwrap();
    }
    assert_eq!((verifier.seq(), verifier.digest()), head);
    let (first, entries) = (Seq(1), journal.len() as u64);
    let destroyed = ChainError::PayloadDestroyed { first, entries };
    assert_eq!(verifier.finish(), Err(destroyed));
    // Builds of version 1 erased without an entry.
    let old = as_version_1(&journal);
    let head = old.last().map(|last| (last.seq, last.digest)).unwrap();
    assert_eq!(verify(&old, Some(head)), Ok(head));
}

#[test]
fn an_erased_run_folds_to_the_same_state() {
    let mut journal = Journal::<Run>::new();
    for line in [
        "begin a1",
        "decide #0",
        "effect #0.0 outbox idempotent undo=u",
        "claim #0.0 w",
    ] {
        let command = run_line::command(line, &journal.state);
        journal.ask(command).unwrap();
    }
    journal.stored.iter_mut().for_each(|stored| stored.payload = None);
    assert_eq!(journal.folded(), journal.state);
}

/// The same entries as a build of version 1 wrote them.
fn as_version_1(journal: &[StoredEntry]) -> Vec<StoredEntry> {
    let mut previous = Digest::default();
    let old = |stored: &StoredEntry| {
        let envelope = replaced(stored, "{\"v\":2", "{\"v\":1");
        previous = link_v1(&previous, &envelope);
        StoredEntry {
            envelope,
            digest: previous,
            ..stored.clone()
        }
    };
    journal.iter().map(old).collect()
}

#[test]
fn a_journal_under_another_name_does_not_verify() {
    let (journal, head) = journal();
    for other in [
        "acme/run/treasury/ann/s1/i2",
        "other/run/treasury/ann/s1/i1",
        "acme/value/rate",
        "acme/session/treasury/ann/s1",
    ] {
        let other = other.parse().unwrap();
        for published in [None, Some(head)] {
            let error = verify_as(&other, &journal, published).unwrap_err();
            assert!(
                matches!(error, ChainError::Changed { seq: Seq(1), .. }),
                "{error}"
            );
        }
        // A journal of version 1 is bound to its stream only by the name in its entries.
        let error = verify_as(&other, &as_version_1(&journal), None).unwrap_err();
        assert!(
            matches!(&error, ChainError::OtherStream { seq: Seq(1), named } if *named == stream()),
            "{error}"
        );
    }
}

#[test]
fn a_journal_of_version_1_goes_on_with_version_2_and_never_back() {
    let (journal, _) = journal();
    let old = as_version_1(&journal);
    let head = old.last().map(|last| (last.seq, last.digest)).unwrap();
    assert_eq!(verify(&old, Some(head)), Ok(head));
    for from in 1..journal.len() {
        let mut mixed = old.clone();
        mixed[from..].clone_from_slice(&journal[from..]);
        relink(&mut mixed, from);
        verify(&mixed, None).unwrap();
        let mut back = journal.clone();
        back[from] = StoredEntry {
            digest: link_v1(&journal[from - 1].digest, &old[from].envelope),
            ..old[from].clone()
        };
        let error = verify(&back, None).unwrap_err();
        let (seq, version, after) = (back[from].seq, 1, 2);
        assert_eq!(error, ChainError::OlderVersion { seq, version, after });
    }
}

#[test]
fn any_bit_of_an_entry_counts() {
    let (whole, _) = journal();
    for (i, stored) in whole.iter().enumerate() {
        let differs = |change: &dyn Fn(&mut StoredEntry)| {
            let mut journal = whole.clone();
            change(&mut journal[i]);
            verify(&journal, None).unwrap_err();
        };
        let flipped = |bytes: &Bytes, bit: usize| {
            let mut bytes = bytes.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            Bytes::from(bytes)
        };
        for bit in 0..stored.envelope.len() * 8 {
            differs(&|stored| stored.envelope = flipped(&stored.envelope, bit));
        }
        let payload = stored.payload.clone().unwrap();
        for bit in 0..payload.len() * 8 {
            differs(&|stored| stored.payload = Some(flipped(&payload, bit)));
        }
        for bit in 0..256 {
            differs(&|stored| stored.digest.0[bit / 8] ^= 1 << (bit % 8));
        }
        for bit in 0..64 {
            differs(&|stored| stored.seq.0 ^= 1 << bit);
        }
    }
}

/// A journal of eight entries and the one that retires it, and its head.
fn retired() -> (Vec<StoredEntry>, Head) {
    let mut journal = Journal::<Run>::new();
    for line in [
        "begin a1",
        "decide #0 rationale=since",
        "effect #0.0 inline idempotent undo=u",
        "finish #0.0 1 ok",
        "decide #1",
        "checkpoint c",
        "complete",
        "retire old",
    ] {
        let command = run_line::command_in(line, &journal);
        journal.ask(command).unwrap();
    }
    let last = journal.stored.last().unwrap();
    let head = (last.seq, last.digest);
    (journal.stored, head)
}

#[test]
fn the_rest_of_a_retired_journal_verifies_to_its_head() {
    let (whole, head) = retired();
    assert_eq!(verify(&whole, Some(head)), Ok(head));
    let rest = &whole[8..];
    assert_eq!(verify(rest, None), Ok(head));
    assert_eq!(verify(rest, Some(head)), Ok(head));
    let mut verifier = Verifier::new(&stream(), None);
    verifier.check(&rest[0]).unwrap();
    assert_eq!((verifier.dropped(), verifier.seq()), (8, Seq(9)));
    let ended = (whole[7].seq, whole[7].digest);
    let other = (ended.0, Digest::of(b"other"));
    assert!(matches!(
        verify(rest, Some(other)),
        Err(ChainError::HeadMismatch { seq: Seq(8), .. })
    ));
    for dropped in &whole[..8] {
        let error = verify(rest, Some((dropped.seq, dropped.digest))).unwrap_err();
        let (head, first) = (dropped.seq, Seq(9));
        assert_eq!(error, ChainError::HeadDropped { head, first });
    }
}

#[test]
fn only_what_retires_a_run_stands_for_entries_that_are_gone() {
    let (whole, _) = retired();
    for i in 1..8 {
        let error = verify(&whole[i..], None).unwrap_err();
        let found = whole[i].seq;
        assert_eq!(
            error,
            ChainError::Gap {
                expected: Seq(1),
                found
            }
        );
    }
    let torn = [&whole[..3], &whole[8..]].concat();
    let (expected, found) = (Seq(4), Seq(9));
    assert_eq!(verify(&torn, None), Err(ChainError::Gap { expected, found }));
}

#[test]
fn an_edit_of_what_retires_a_run_is_found() {
    let (whole, head) = retired();
    for (from, to) in [("completed", "cancelled"), ("\"dropped\":8", "\"dropped\":7")] {
        let mut rest = whole[8..].to_vec();
        rest[0].envelope = replaced(&rest[0], from, to);
        verify(&rest, None).unwrap_err();
    }
    // An attacker who can write to the store makes the retired journal consistent; only the dropped entries or a published head reveal it.
    let ended = whole[7].digest.to_string();
    let mut forged = whole.clone();
    forged[8].envelope = replaced(&forged[8], &ended, &Digest::of(b"other").to_string());
    forged[8].digest = link(&StreamTag::of(&stream()), &forged[7].digest, &forged[8].envelope);
    assert_eq!(verify(&forged, None), Err(ChainError::Retirement { seq: Seq(9) }));
    let mut rest = forged[8..].to_vec();
    rest[0].digest = link(
        &StreamTag::of(&stream()),
        &Digest::of(b"other"),
        &rest[0].envelope,
    );
    assert!(
        verify(&rest, None).is_ok(),
        "without a published head, nobody can tell"
    );
    let error = verify(&rest, Some(head)).unwrap_err();
    assert!(matches!(error, ChainError::HeadMismatch { .. }), "{error}");
}

/// An entry that retires a run of `dropped` entries, linked to the digest that it names.
fn forged(seq: u64, dropped: u64, previous: Digest) -> StoredEntry {
    let retired = tape_core::entry::run::Retired {
        run: support::names::run_id(),
        labels: Default::default(),
        epoch: Epoch(1),
        begun_at: Default::default(),
        ended_at: Default::default(),
        ending: RunOutcome::Completed,
        output: Some(support::names::payload("all paid")),
        output_erased: None,
        dropped,
        previous,
        reason: "old".to_owned(),
        repeats: Vec::new(),
    };
    let stamp = Stamp {
        at: Default::default(),
        request: RequestId::from_u128(9),
        principal: None,
        trace: None,
        command: None,
    };
    seal(
        &StreamTag::of(&stream()),
        &previous,
        Seq(seq),
        &stamp,
        retired.into(),
    )
    .1
}

#[test]
fn a_forged_retirement_does_not_verify_against_an_earlier_head() {
    let (whole, head) = journal();
    let forged = forged(head.0.0 + 1, head.0.0, head.1);
    for published in whole.iter().map(|stored| (stored.seq, stored.digest)) {
        let error = verify(std::slice::from_ref(&forged), Some(published)).unwrap_err();
        let (head, first) = (published.0, forged.seq);
        assert_eq!(error, ChainError::HeadDropped { head, first });
    }
}

#[test]
fn retirements_that_count_wrongly_are_refused() {
    let most = u64::MAX;
    for (seq, dropped) in [
        (1, 0),
        (1, most),
        (5, 0),
        (5, 3),
        (5, 5),
        (5, most),
        (0, most),
        (most, most),
        (most, most - 2),
    ] {
        let stored = forged(seq, dropped, Digest::default());
        verify(&[stored], None).unwrap_err();
    }
    let last = forged(most, most - 1, Digest::default());
    verify(std::slice::from_ref(&last), None).unwrap();
    verify(&[last.clone(), last], None).unwrap_err();
}

#[test]
fn what_is_left_of_a_retired_run_says_how_it_ended() {
    let mut journal = Journal::<Run>::new();
    for line in ["begin a1 topic=sweep", "decide #0", "complete"] {
        let command = run_line::command_in(line, &journal);
        journal.ask(command).unwrap();
    }
    let before = journal.state.summary();
    journal.ask(run_line::command_in("retire old", &journal)).unwrap();
    let left = tape_core::codec::decode(journal.stored.last().unwrap()).unwrap();
    let mut run = Run::default();
    run.apply(&left).unwrap();
    assert_eq!(run, journal.state);
    assert_eq!(run.summary(), before);
    let mut replay = tape_core::replay::Replay::default();
    replay.apply(left).unwrap();
    let output = support::names::payload("output");
    assert_eq!(
        *replay.standing(),
        tape_core::replay::Standing::Ended(RunOutcome::Completed, Some(output))
    );
}

/// Retirement keeps the reference of an output that was erased before, and not its bytes.
#[test]
fn an_erased_output_stays_erased() {
    let mut journal = Journal::<Run>::new();
    for line in ["begin a1", "complete"] {
        let command = run_line::command_in(line, &journal);
        journal.ask(command).unwrap();
    }
    let last = journal.entries.last_mut().unwrap();
    let tape_core::entry::EntryBody::RunCompleted(completed) = &mut last.body else {
        panic!("it completed")
    };
    let output = completed.output.clone();
    completed.output = output.erased();
    journal.ask(run_line::command_in("retire old", &journal)).unwrap();
    let left = journal.entries.pop().unwrap();
    assert_eq!(left.body.payloads(), Vec::<&tape_core::payload::Payload>::new());
    let mut replay = tape_core::replay::Replay::default();
    replay.apply(left).unwrap();
    assert_eq!(
        *replay.standing(),
        tape_core::replay::Standing::Ended(RunOutcome::Completed, Some(output.erased()))
    );
}

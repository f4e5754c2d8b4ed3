//! Evidence: every change of a journal behind a published head is found, and erasing payloads is none.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use bytes::Bytes;
use support::{Journal, run_line};
use tape_core::chain::{ChainError, Verifier, link};
use tape_core::codec::StoredEntry;
use tape_core::id::Seq;
use tape_core::payload::Digest;
use tape_core::reply::Ended;
use tape_core::run::Run;
use tape_core::stream::Stream as _;

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

fn verify(journal: &[StoredEntry], published: Option<Head>) -> Result<Head, ChainError> {
    let mut verifier = Verifier::new(published);
    journal.iter().try_for_each(|stored| verifier.check(stored))?;
    verifier.finish()
}

/// Makes the chain whole again from `from` on, as someone with access to the store could.
fn relink(journal: &mut [StoredEntry], from: usize) {
    let mut previous = from
        .checked_sub(1)
        .map_or_else(Digest::default, |last| journal[last].digest);
    for stored in &mut journal[from..] {
        stored.digest = link(&previous, &stored.envelope);
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
    assert_eq!(journal[0].digest, link(&Digest([0; 32]), &journal[0].envelope));
    let bytes = [&b"tape entry 1\n"[..], &journal[0].digest.0, &journal[1].envelope].concat();
    assert_eq!(journal[1].digest, Digest::of(&bytes));
}

#[test]
fn an_edit_is_found() {
    let (whole, head) = journal();
    for (i, edited) in whole.iter().enumerate() {
        let mut journal = whole.clone();
        journal[i].envelope = replaced(edited, "\"at\":0", "\"at\":1");
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
fn erased_payloads_leave_the_chain_whole() {
    let (mut journal, head) = journal();
    for stored in &mut journal {
        stored.payload = None;
    }
    assert_eq!(verify(&journal, Some(head)), Ok(head));
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
    let mut verifier = Verifier::new(None);
    verifier.check(&rest[0]).unwrap();
    assert_eq!((verifier.dropped(), verifier.seq()), (8, Seq(9)));
    let ended = (whole[7].seq, whole[7].digest);
    assert_eq!(
        verify(rest, Some(ended)),
        Ok(head),
        "it names the end of what was dropped"
    );
    let other = (ended.0, Digest::of(b"other"));
    assert!(matches!(
        verify(rest, Some(other)),
        Err(ChainError::HeadMismatch { seq: Seq(8), .. })
    ));
    for dropped in &whole[..7] {
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
    // Somebody who can write to the store makes it fit itself; the entries that it is about tell, or a head.
    let ended = whole[7].digest.to_string();
    let mut forged = whole.clone();
    forged[8].envelope = replaced(&forged[8], &ended, &Digest::of(b"other").to_string());
    forged[8].digest = link(&forged[7].digest, &forged[8].envelope);
    assert_eq!(verify(&forged, None), Err(ChainError::Retirement { seq: Seq(9) }));
    let mut rest = forged[8..].to_vec();
    rest[0].digest = link(&Digest::of(b"other"), &rest[0].envelope);
    assert!(
        verify(&rest, None).is_ok(),
        "without a published head, nobody can tell"
    );
    let error = verify(&rest, Some(head)).unwrap_err();
    assert!(matches!(error, ChainError::HeadMismatch { .. }), "{error}");
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
        tape_core::replay::Standing::Ended(Ended::Completed, Some(output))
    );
}

/// What was erased before is not kept by retirement: its reference is.
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
        tape_core::replay::Standing::Ended(Ended::Completed, Some(output.erased()))
    );
}

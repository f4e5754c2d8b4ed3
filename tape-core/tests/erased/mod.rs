//! Journals with erased payloads.

use crate::support::{Journal, run_line};
use tape_core::chain::ChainError;
use tape_core::codec::decode;
use tape_core::command::Command;
use tape_core::decider::{Decider, restore, snapshot};
use tape_core::entry::EntryBody;
use tape_core::erasure::ErasureCommand;
use tape_core::id::{RequestId, Seq};
use tape_core::reply::Rejection;
use tape_core::run::Run;
use tape_core::verify::{Audit, AuditError, Verified};

pub(crate) fn request(n: u128) -> RequestId {
    RequestId::new(tape_core::time::Timestamp::from_micros(0), 1 << 60 | n)
}

pub(crate) fn erase_also<S>(
    journal: &mut Journal<S>,
    entries: &[u64],
    copies: &[u64],
) -> Result<Vec<Seq>, Rejection>
where
    S: Decider + PartialEq + std::fmt::Debug,
{
    let seqs = |seqs: &[u64]| seqs.iter().copied().map(Seq).collect();
    let command = ErasureCommand::Erase {
        entries: seqs(entries),
        copies: seqs(copies),
        seen: journal.state.seq(),
        reason: "asked for".to_owned(),
    };
    let command = Command::new(request(journal.entries.len() as u128), command);
    let decided = journal.state.decide_erasure(&command, journal.now)?;
    let erased = match decided.entries.first() {
        Some(EntryBody::PayloadErased(erased)) => erased.entries.clone(),
        other => panic!("{other:?}"),
    };
    journal.append(&command, &decided);
    Ok(erased)
}

/// Erases entries of a journal; returns all entries that were erased.
pub(crate) fn erase<S>(journal: &mut Journal<S>, entries: &[u64]) -> Result<Vec<Seq>, Rejection>
where
    S: Decider + PartialEq + std::fmt::Debug,
{
    erase_also(journal, entries, &[])
}

/// The result of an audit after the payloads of these entries are removed.
fn audit<S>(journal: &Journal<S>, gone: &[u64]) -> Result<Verified, AuditError>
where
    S: Decider + PartialEq + std::fmt::Debug,
{
    let mut audit = Audit::new(journal.stream(), [], None);
    for stored in &journal.stored {
        let mut stored = stored.clone();
        if gone.contains(&stored.seq.0) {
            stored.payload = None;
        }
        audit.check(&stored)?;
    }
    audit.finish()
}

/// Checks that only an erasure explains a missing payload of the journal's entry `seq`.
pub(crate) fn is_proved<S>(mut journal: Journal<S>, seq: u64)
where
    S: Decider + PartialEq + std::fmt::Debug,
{
    let destroyed = |journal: &Journal<S>, gone: &[u64], at: u64, of: u64| {
        let found = audit(journal, gone);
        let told = matches!(&found, Err(AuditError::Chain(ChainError::PayloadDestroyed { first, entries }))
            if (first.0, *entries) == (at, of));
        assert!(told, "{}: {found:?}", journal.stream());
    };
    assert_eq!(audit(&journal, &[]).unwrap().erased, 0);
    destroyed(&journal, &[seq], seq, 1);
    erase(&mut journal, &[seq]).unwrap();
    let erasure = journal.state.seq().0;
    let found = audit(&journal, &[seq]).unwrap();
    assert!(found.erased > 0 && found.unproved.is_empty(), "{found:?}");
    // An erasure covers the entries that it names, and neither itself nor later entries.
    destroyed(&journal, &[seq, erasure], erasure, 1);
    if seq > 1 {
        destroyed(&journal, &[1, seq, erasure], 1, 2);
    }
    erase(&mut journal, &[erasure]).unwrap();
    audit(&journal, &[seq, erasure]).unwrap();
}

/// The state of a reader that reads the journal after the store has removed the erased bytes.
pub(crate) fn read_again<S: Decider>(journal: &Journal<S>, erased: &[Seq]) -> S {
    let mut state = S::default();
    for stored in &journal.stored {
        let mut stored = stored.clone();
        if erased.contains(&stored.seq) {
            stored.payload = None;
        }
        state.apply(&decode(&stored).unwrap()).unwrap();
    }
    state
}

/// A state that folded the bytes and one that never saw them are equal, and a snapshot has nothing of the secret.
pub(crate) fn forgotten<S>(journal: &Journal<S>, erased: &[Seq], secret: &str)
where
    S: Decider + PartialEq + std::fmt::Debug,
{
    assert_eq!(read_again(journal, erased), journal.state);
    let bytes = snapshot(&journal.state);
    let text = String::from_utf8(bytes.clone()).unwrap();
    assert!(!text.contains(secret), "{text}");
    assert_eq!(restore::<S>(&bytes).unwrap(), journal.state);
    for stored in journal
        .stored
        .iter()
        .filter(|stored| !erased.contains(&stored.seq))
    {
        let envelope = String::from_utf8_lossy(&stored.envelope);
        let payload = stored
            .payload
            .as_ref()
            .map(|bytes| String::from_utf8_lossy(bytes));
        assert!(!envelope.contains(secret), "{envelope}");
        assert!(
            !payload.unwrap().contains(secret),
            "entry {} has it still",
            stored.seq
        );
    }
}

pub(crate) fn run(lines: &[&str]) -> Journal<Run> {
    let mut journal = Journal::new();
    for line in lines {
        say(&mut journal, line);
    }
    journal
}

pub(crate) fn say(journal: &mut Journal<Run>, line: &str) {
    let command = run_line::command_in(line, journal);
    journal
        .ask(command)
        .unwrap_or_else(|rejection| panic!("{line}: {rejection}"));
}

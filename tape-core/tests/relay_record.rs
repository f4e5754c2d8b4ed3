//! What is on record of a relay: nothing twice as far as the stream remembers, and what it remembers is bounded.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use support::Journal;
use support::quick::Quick;
use tape_core::chain::{Chain, ChainError};
use tape_core::codec::Stamp;
use tape_core::command::{Command, RelayCommand};
use tape_core::decider::{Decider as _, ReplayError, snapshot};
use tape_core::entry::relay::{Receipt, RecordedErasure, Redelivered, Refused, SentEntry};
use tape_core::entry::{Entry, EntryBody};
use tape_core::id::{RequestId, Seq, StreamId};
use tape_core::limits::{NAME_BYTES_MAX, RECEIPTS_MAX, REFUSALS_MAX, TEXT_BYTES_MAX};
use tape_core::payload::Digest;
use tape_core::relay_record::RelayRecord;
use tape_core::reply::{Field, Limit, Missing, Rejection};
use tape_core::time::Timestamp;
use tape_core::verify::{Audit, AuditError};

fn stream(text: &str) -> StreamId {
    text.parse().unwrap()
}

fn entry(stream: &StreamId, seq: u64) -> SentEntry {
    SentEntry {
        stream: stream.clone(),
        seq: Seq(seq),
        digest: Digest::of(&seq.to_be_bytes()),
    }
}

fn refuse(stream: &StreamId, seq: u64) -> RelayCommand {
    RelayCommand::Refuse {
        entry: entry(stream, seq),
        attempts: 1,
        reason: "it is too large".to_owned(),
    }
}

fn redelivered(refusal: u64) -> RelayCommand {
    RelayCommand::Redelivered {
        refusal: Seq(refusal),
    }
}

fn receipt(stream: &StreamId, seq: u64) -> RelayCommand {
    RelayCommand::Receipt {
        subscriber: "lake".parse().unwrap(),
        erasure: RecordedErasure {
            stream: stream.clone(),
            seq: Seq(seq),
        },
    }
}

#[test]
fn as_many_refusals_are_remembered_as_the_limit_says() {
    let (mut record, rate) = (Quick::<RelayRecord>::default(), stream("acme/value/rate"));
    let max = REFUSALS_MAX as u64;
    for seq in 1..=max {
        record.ask(refuse(&rate, seq)).unwrap();
    }
    let first = record.ask(refuse(&rate, 1)).unwrap();
    assert_eq!((first.entries.len(), first.reply.seq), (0, Seq(1)));
    assert_eq!(record.state.forgotten(), Seq::ZERO);
    record.ask(refuse(&rate, max + 1)).unwrap();
    assert_eq!(record.state.forgotten(), Seq(1));
    let again = record.ask(refuse(&rate, 2)).unwrap();
    assert_eq!((again.entries.len(), again.reply.seq), (0, Seq(2)));
    let forgotten = record.ask(refuse(&rate, 1)).unwrap();
    assert_eq!(
        forgotten.entries.len(),
        1,
        "what is forgotten is recorded once more"
    );
    // What became of a forgotten one is not known, so it is not refused.
    for _ in 0..2 {
        assert_eq!(record.ask(redelivered(1)).unwrap().entries.len(), 1);
    }
    record.ask(redelivered(3)).unwrap();
    assert_eq!(
        record.ask(redelivered(3)),
        Err(Rejection::Redelivered {
            refusal: Seq(3),
            seq: record.state.seq()
        })
    );
}

#[test]
fn as_many_receipts_are_remembered_as_the_limit_says() {
    let (mut record, rate) = (Quick::<RelayRecord>::default(), stream("acme/value/rate"));
    let max = RECEIPTS_MAX as u64;
    for seq in 1..=max {
        record.ask(receipt(&rate, seq)).unwrap();
    }
    assert_eq!(record.ask(receipt(&rate, 1)).unwrap().reply.seq, Seq(1));
    record.ask(receipt(&rate, max + 1)).unwrap();
    assert_eq!(record.ask(receipt(&rate, 2)).unwrap().reply.seq, Seq(2));
    assert_eq!(record.ask(receipt(&rate, 1)).unwrap().reply.seq, Seq(max + 2));
}

/// The names of streams are as long as names get, and the state has none of them.
#[test]
fn the_state_is_bounded_whatever_the_names() {
    let long = "%2F".repeat(NAME_BYTES_MAX);
    let long = stream(&format!("acme/run/{long}/{long}/{long}/{long}"));
    let mut record = Quick::<RelayRecord>::default();
    for seq in 1..=3 * REFUSALS_MAX as u64 {
        record.ask(refuse(&long, seq)).unwrap();
        record.ask(receipt(&long, seq)).unwrap();
    }
    let bytes = snapshot(&record.state).len();
    assert!(bytes < 512 * 1024, "{bytes}");
}

#[test]
fn the_reason_of_a_refusal_is_bounded() {
    let reason = |len: usize| RelayCommand::Refuse {
        entry: entry(&stream("acme/value/rate"), 1),
        attempts: 1,
        reason: "x".repeat(len),
    };
    let mut record = Quick::<RelayRecord>::default();
    let over = record.ask(reason(TEXT_BYTES_MAX + 1)).unwrap_err();
    let limit = Limit::TextBytes;
    assert!(
        matches!(over, Rejection::LimitExceeded { limit: found, .. } if found == limit),
        "{over}"
    );
    let empty = record.ask(reason(0)).unwrap_err();
    assert!(
        matches!(
            empty,
            Rejection::Invalid {
                field: Field::Reason,
                ..
            }
        ),
        "{empty}"
    );
    record.ask(reason(TEXT_BYTES_MAX)).unwrap();
}

#[test]
fn nothing_of_one_tenant_is_on_record_in_another() {
    let (own, other) = (stream("acme/value/rate"), stream("beta/value/rate"));
    let tenant = own.tenant();
    for command in [refuse(&own, 1), receipt(&own, 1), redelivered(1)] {
        assert_eq!(command.check_tenant(tenant), Ok(()));
    }
    for command in [refuse(&other, 1), receipt(&other, 1)] {
        let refused = command.check_tenant(tenant).unwrap_err();
        assert!(
            matches!(
                refused,
                Rejection::Invalid {
                    field: Field::Stream,
                    ..
                }
            ),
            "{refused}"
        );
    }
}

/// An entry of a body, after those of `before`, in the stream of a relay.
fn sealed(bodies: Vec<EntryBody>) -> Vec<(Entry, tape_core::codec::StoredEntry)> {
    let mut chain = Chain::new(&stream("acme/relay/own/lake"));
    let stamp = Stamp {
        at: Timestamp::from_micros(0),
        request: RequestId::new(Timestamp::from_micros(0), 1),
        principal: None,
        trace: None,
        command: None,
    };
    bodies.into_iter().map(|body| chain.seal(&stamp, body)).collect()
}

fn refused(stream: &StreamId) -> EntryBody {
    Refused {
        entry: entry(stream, 1),
        attempts: 1,
        reason: "it is too large".to_owned(),
    }
    .into()
}

/// A program that writes to the store itself can seal any entry. A verifier finds one that is about another tenant.
#[test]
fn an_entry_about_another_tenant_does_not_verify() {
    let receipt = |stream: &StreamId| {
        EntryBody::from(Receipt {
            subscriber: "lake".parse().unwrap(),
            erasure: RecordedErasure {
                stream: stream.clone(),
                seq: Seq(1),
            },
        })
    };
    let (own, other) = (stream("acme/value/rate"), stream("beta/value/rate"));
    for body in [refused, receipt] as [fn(&StreamId) -> EntryBody; 2] {
        for (stream, is_sound) in [(&own, true), (&other, false)] {
            let (_, stored) = sealed(vec![body(stream)]).remove(0);
            let mut audit = Audit::new(&self::stream("acme/relay/own/lake"), [], None);
            match audit.check(&stored) {
                Ok(()) => assert!(is_sound),
                Err(AuditError::Chain(ChainError::OtherStream { named, .. })) => {
                    assert!(!is_sound && named.to_string() == "beta/relay/own/lake");
                }
                Err(other) => panic!("{other}"),
            }
        }
    }
}

#[test]
fn what_was_never_refused_or_was_sent_again_is_not_sent_again() {
    let refused = refused(&stream("acme/value/rate"));
    let again = |refusal| EntryBody::from(Redelivered { refusal });
    for bodies in [
        vec![again(Seq(1))],
        vec![refused.clone(), again(Seq(2))],
        vec![refused.clone(), again(Seq(3))],
        vec![refused, again(Seq(1)), again(Seq(1))],
    ] {
        let entries = sealed(bodies);
        let mut record = RelayRecord::default();
        let last = entries.len() - 1;
        for (n, (entry, _)) in entries.iter().enumerate() {
            let applied = record.apply(entry);
            let impossible = matches!(applied, Err(ReplayError::Impossible { .. }));
            assert_eq!((applied.is_ok(), impossible), (n < last, n == last));
        }
    }
}

/// What a naive model with an unbounded memory says of a command.
#[derive(Debug, PartialEq)]
enum Expected {
    New,
    First(u64),
    SentAgain(u64),
    Unknown,
}

/// Entries of the history by what they are about.
#[derive(Default)]
struct Model {
    /// By the entry that was refused: the refusal, unless it was sent again.
    open: BTreeMap<u64, u64>,
    /// By refusals: the entry that says that it was sent again.
    sent_again: BTreeMap<u64, u64>,
    receipts: BTreeMap<u64, u64>,
}

impl Model {
    fn expected(&self, command: &RelayCommand) -> Expected {
        let first = |entry: Option<&u64>| entry.map_or(Expected::New, |entry| Expected::First(*entry));
        match command {
            RelayCommand::Refuse { entry, .. } => first(self.open.get(&entry.seq.0)),
            RelayCommand::Receipt { erasure, .. } => first(self.receipts.get(&erasure.seq.0)),
            RelayCommand::Redelivered { refusal } => match self.sent_again.get(&refusal.0) {
                Some(seq) => Expected::SentAgain(*seq),
                None if self.open.values().any(|entry| *entry == refusal.0) => Expected::New,
                None => Expected::Unknown,
            },
        }
    }

    fn note(&mut self, command: &RelayCommand, seq: u64) {
        match command {
            RelayCommand::Refuse { entry, .. } => drop(self.open.insert(entry.seq.0, seq)),
            RelayCommand::Receipt { erasure, .. } => drop(self.receipts.insert(erasure.seq.0, seq)),
            RelayCommand::Redelivered { refusal } => {
                self.open.retain(|_, entry| *entry != refusal.0);
                self.sent_again.insert(refusal.0, seq);
            }
        }
    }
}

fn command() -> impl Strategy<Value = RelayCommand> {
    let rate = || stream("acme/value/rate");
    prop_oneof![
        (1..4_u64).prop_map(move |seq| refuse(&rate(), seq)),
        (0..12_u64).prop_map(redelivered),
        (1..4_u64).prop_map(move |seq| receipt(&rate(), seq)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// A history that the stream remembers has each refusal and each receipt once. `Journal` repeats each request besides.
    #[test]
    fn a_random_history_has_nothing_twice(commands in prop::collection::vec(command(), 1..40)) {
        let (mut journal, mut model) = (Journal::<RelayRecord>::new(), Model::default());
        for command in commands {
            let end = journal.state.seq().0;
            let found = match journal.ask(command.clone()) {
                Ok(decided) if decided.entries.is_empty() => Expected::First(decided.reply.seq.0),
                Ok(_) => Expected::New,
                Err(Rejection::Redelivered { seq, .. }) => Expected::SentAgain(seq.0),
                Err(Rejection::NotFound { what: Missing::Refusal, .. }) => Expected::Unknown,
                Err(other) => panic!("{other}"),
            };
            prop_assert_eq!(&found, &model.expected(&command), "{:?}", command);
            if found == Expected::New {
                model.note(&command, end + 1);
            }
            let open: BTreeSet<u64> = journal.state.open().map(|seq| seq.0).collect();
            prop_assert_eq!(open, model.open.values().copied().collect());
        }
        journal.check();
    }
}

#[test]
fn a_repeated_request_of_another_command_is_refused() {
    let (mut journal, rate) = (Journal::<RelayRecord>::new(), stream("acme/value/rate"));
    let request = journal.named(1);
    journal.ask_as(request, None, refuse(&rate, 1)).unwrap();
    let other = Command::new(request, refuse(&rate, 2));
    let refused = journal.state.decide(&other, journal.now).unwrap_err();
    assert_eq!(refused, Rejection::RequestReused { request });
}

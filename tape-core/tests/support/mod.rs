//! Shared by the tests of the rules: a journal in memory that checks, with every command, what must hold for every stream.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "each test file uses a part of it, and a panic is how a test fails"
)]

pub(crate) mod alphabet;
pub(crate) mod line;
pub(crate) mod names;
pub(crate) mod quick;
pub(crate) mod run_line;
pub(crate) mod watch;

use std::collections::BTreeMap;
use tape_core::agenda::{Agenda, Item, Queue};
use tape_core::chain::{Chain, Verifier};
use tape_core::codec::{Stamp, StoredEntry, decode};
use tape_core::command::{Command, CommandBody};
use tape_core::decider::{Decider, restore, snapshot};
use tape_core::entry::{Entry, EntryBody};
use tape_core::id::{Principal, RequestId, Seq, StreamId};
use tape_core::reply::{Decided, Rejection};
use tape_core::time::Timestamp;

/// A stream in memory: it does what a store and its service do.
#[derive(Clone)]
pub(crate) struct Journal<S> {
    pub(crate) state: S,
    pub(crate) entries: Vec<Entry>,
    pub(crate) stored: Vec<StoredEntry>,
    pub(crate) now: Timestamp,
    index: BTreeMap<(Queue, Item), Timestamp>,
    chain: Chain,
    requests: u128,
    /// Ids of requests that a test names by numbers, so that it can repeat them.
    named: BTreeMap<u128, RequestId>,
}

impl<S: Decider + PartialEq + std::fmt::Debug> Journal<S> {
    pub(crate) fn new() -> Self {
        Self {
            state: S::default(),
            entries: Vec::new(),
            stored: Vec::new(),
            now: Timestamp::from_micros(0),
            index: BTreeMap::new(),
            chain: Chain::new(&stream_of::<S>()),
            requests: 0,
            named: BTreeMap::new(),
        }
    }

    /// The stream's name.
    pub(crate) const fn stream(&self) -> &StreamId {
        self.chain.stream()
    }

    pub(crate) fn wait(&mut self, millis: u64) {
        self.now = self.now.plus_millis(millis);
    }

    /// Asks with a request id of its own.
    pub(crate) fn ask(&mut self, body: S::Command) -> Result<Decided, Rejection> {
        self.requests += 1;
        let request = RequestId::new(self.now, self.requests);
        self.ask_as(request, None, body)
    }

    /// The id of the request that a test calls `n`, made when it is first used.
    pub(crate) fn named(&mut self, n: u128) -> RequestId {
        let now = self.now;
        *self.named.entry(n).or_insert_with(|| RequestId::new(now, n))
    }

    /// Asks, appends the decided entries, and checks what holds for every command.
    pub(crate) fn ask_as(
        &mut self,
        request: RequestId,
        principal: Option<Principal>,
        body: S::Command,
    ) -> Result<Decided, Rejection> {
        let mut command = Command::new(request, body);
        command.principal = principal;
        let decided = self.state.decide(&command, self.now);
        assert_eq!(
            decided,
            self.state.decide(&command, self.now),
            "deciding is repeatable"
        );
        let decided = decided?;
        self.append(&command, &decided);
        if !decided.entries.is_empty() {
            self.repeated(&command, &decided);
        }
        Ok(decided)
    }

    /// Appends the decided entries.
    pub(crate) fn append<B: CommandBody>(&mut self, command: &Command<B>, decided: &Decided) {
        let stamp = Stamp::of(command, self.now);
        for body in &decided.entries {
            let (entry, stored) = self.chain.seal(&stamp, body.clone());
            assert_eq!(
                decode(&stored).unwrap(),
                entry,
                "an entry decodes to what was sealed"
            );
            let before = self.state.agenda();
            self.state.apply(&entry).unwrap();
            self.reindex(&before);
            if let EntryBody::ErasureFinished(finished) = body {
                self.destroy(finished.through);
            }
            self.entries.push(entry);
            self.stored.push(stored);
        }
        if !decided.entries.is_empty() {
            assert_eq!(
                decided.reply.seq,
                self.state.seq(),
                "a reply names the last entry"
            );
        }
    }

    /// The bytes of all erasures up to an entry are gone before an entry says so.
    fn destroy(&mut self, through: Seq) {
        let erasures = self.entries.iter().filter(|entry| entry.seq <= through);
        let listed = erasures.filter_map(|entry| match &entry.body {
            EntryBody::PayloadErased(erased) => Some(erased.entries.clone()),
            _ => None,
        });
        let listed: Vec<Seq> = listed.flatten().collect();
        let erased = self
            .stored
            .iter_mut()
            .filter(|stored| listed.contains(&stored.seq));
        erased.for_each(|stored| stored.payload = None);
    }

    fn reindex(&mut self, before: &Agenda) {
        let after = self.state.agenda();
        for change in before.changes_to(&after) {
            let key = (change.queue, change.item);
            assert_eq!(
                self.index.get(&key).copied(),
                change.was,
                "a change says what was there"
            );
            match change.due {
                Some(due) => self.index.insert(key, due),
                None => self.index.remove(&key),
            };
        }
        let expected: BTreeMap<(Queue, Item), Timestamp> = after
            .iter()
            .map(|(queue, item, due)| ((queue, item.clone()), due))
            .collect();
        assert_eq!(
            self.index, expected,
            "the changes lead from one agenda to the next"
        );
    }

    /// A repeat gets the same reply and no entries, at once and later.
    fn repeated(&self, command: &Command<S::Command>, decided: &Decided) {
        if command.body.is_idempotent() {
            return;
        }
        for later in [self.now, self.now.plus_millis(10_000_000)] {
            let again = self.state.decide(command, later).unwrap();
            assert!(again.entries.is_empty(), "a repeat appends nothing");
            assert_eq!(again.reply, decided.reply, "a repeat gets the first reply");
        }
    }

    /// The state from the entries as they are stored.
    pub(crate) fn folded(&self) -> S {
        let mut state = S::default();
        for stored in &self.stored {
            state.apply(&decode(stored).unwrap()).unwrap();
        }
        state
    }

    /// Checks what holds for every journal: fold, snapshot and chain.
    pub(crate) fn check(&self) {
        let folded = self.folded();
        assert_eq!(folded, self.state, "the state is the fold of its entries");
        let restored: S = restore(&snapshot(&self.state)).expect("its own snapshot");
        assert_eq!(restored, self.state, "a snapshot is the state");
        assert_eq!(
            restored.agenda(),
            folded.agenda(),
            "the agenda follows from the state"
        );
        let published = (self.state.seq(), self.chain.digest());
        let mut verifier = Verifier::new(self.chain.stream(), Some(published));
        self.stored
            .iter()
            .for_each(|stored| verifier.check(stored).unwrap());
        let head = verifier.finish().unwrap();
        assert_eq!(head, (Seq(self.stored.len() as u64), published.1));
    }
}

/// The stream whose commands the tests make.
fn stream_of<S: Decider>() -> StreamId {
    let streams = [
        "acme/run/treasury/ann/s1/i1",
        "acme/session/treasury/ann/s1",
        "acme/shared/treasury/ann",
        "acme/value/rate",
        "acme/claim/bank/invoice-7",
        "acme/relay/own/lake",
    ];
    let mut streams = streams
        .map(|stream| stream.parse::<StreamId>().unwrap())
        .into_iter();
    streams.find(|stream| S::accepts(stream)).unwrap()
}

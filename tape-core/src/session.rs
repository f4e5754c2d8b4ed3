//! Sessions: events, and state in scopes.
//!
//! The prefix of a state key says how far it reaches: `app:` every session of the app, `user:` every session of the user in the
//! app, `temp:` this invocation only (never recorded), anything else this session.

mod erase;
mod size;

pub(crate) use size::check_size;

use crate::agenda::{Agenda, Item, Queue};
use crate::command::{Command, SessionCommand};
use crate::decider::{Decider, ReplayError};
use crate::entry::session::{Created, Deleted, EventAppended, Merged, RefusedMerge, Rewound};
use crate::entry::{Entry, EntryBody};
use crate::erasure::{ErasureCommand, Erasures};
use crate::id::{EventId, Key, Seq, SessionId, StreamId};
use crate::limits::{NAME_BYTES_MAX, PENDING_MERGES_MAX, REMEMBERED_EVENTS_MAX};
use crate::payload::ContentDigest;
use crate::replies::Replies;
use crate::reply::{Decided, Field, Limit, Missing, Rejection, ReplyResult, Versioned};
use crate::reply::{already, decided};
use crate::state::{Delta, State, StateScope};
use crate::time::{Now, Timestamp};
use serde::{Deserialize, Serialize};
use size::{check_state, recorded};
use std::collections::{BTreeMap, VecDeque};

/// The folded state of a session. Its events are in its entries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    seq: Seq,
    id: Option<SessionId>,
    created: Seq,
    last_event: Option<(Seq, Timestamp)>,
    state: State,
    /// The last events, with their contents, so that one that is appended again under another request is found.
    events: VecDeque<(EventId, Seq, ContentDigest)>,
    /// The entry that the session was last rewound to, if nothing was appended since.
    rewound: Option<Seq>,
    /// The entries that have the values of the state.
    kept: BTreeMap<Key, Kept>,
    /// The last entry that repeats values of earlier ones.
    repeated: Seq,
    erasures: Erasures,
    pending: VecDeque<PendingMerge>,
    replies: Replies,
}

/// The digest recorded in place of that of an erased event.
const FORGOTTEN: ContentDigest = ContentDigest([0; 16]);

/// A session's own state as it was after an entry.
struct Then<'a> {
    state: &'a Delta,
    /// The entry in which each key's value first appeared.
    origins: &'a BTreeMap<Key, Seq>,
    /// The last entry of the session before this state was read.
    seen: Seq,
}

/// The entries that have a value of a session's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    /// The entry in which it first appeared.
    origin: Seq,
    /// The entry from which the state has its bytes: the same entry, or one that repeats it.
    entry: Seq,
}

/// A change of shared state that has not reached its stream yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingMerge {
    /// The entry that recorded it.
    pub source: Seq,
    /// When.
    pub at: Timestamp,
    /// The change of `app:` state, keys without prefix.
    pub app: Delta,
    /// The change of `user:` state, keys without prefix.
    pub user: Delta,
}

impl Session {
    /// The session; none where it was never created or is deleted.
    #[must_use]
    pub const fn id(&self) -> Option<&SessionId> {
        self.id.as_ref()
    }

    /// The entry that created it. Earlier entries belong to a deleted session of the same name.
    #[must_use]
    pub const fn created(&self) -> Seq {
        self.created
    }

    /// When the last event was recorded.
    #[must_use]
    pub fn last_event_at(&self) -> Option<Timestamp> {
        self.last_event.map(|(_, at)| at)
    }

    /// Its own state; shared state is in streams of its own.
    #[must_use]
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// The entry in which each value of its own state first appeared.
    #[must_use]
    pub fn origins(&self) -> BTreeMap<Key, Seq> {
        let origins = self.kept.iter().map(|(key, kept)| (key.clone(), kept.origin));
        origins.collect()
    }

    /// Changes of shared state that are not merged yet, oldest first.
    #[must_use]
    pub const fn pending(&self) -> &VecDeque<PendingMerge> {
        &self.pending
    }

    fn there(&self) -> Result<&SessionId, Rejection> {
        self.id.as_ref().ok_or(Rejection::not_found(Missing::Session))
    }

    fn create(&self, session: &SessionId, state: &Delta) -> Result<Decided, Rejection> {
        if self.id.is_some() {
            return Err(Rejection::Exists {
                what: "session".to_owned(),
            });
        }
        check_size(&State::default(), state)?;
        self.check_shared(state)?;
        let created = Created {
            session: session.clone(),
            state: recorded(state),
        };
        Ok(decided(self.seq, vec![created.into()]))
    }

    fn append(&self, event: EventAppended, expected: Option<Seq>) -> Result<Decided, Rejection> {
        self.there()?;
        if let Some((_, seq, content)) = self.events.iter().find(|(id, ..)| *id == event.event) {
            if *content != FORGOTTEN && *content != ContentDigest::of(&event) {
                let what = format!("event '{}'", event.event);
                return Err(Rejection::Exists { what });
            }
            return Ok(already(*seq, ReplyResult::Recorded));
        }
        self.expected(expected)?;
        if event.author.is_empty() || event.author.len() > NAME_BYTES_MAX {
            let problem = format!("must have 1 to {NAME_BYTES_MAX} bytes");
            return Err(Rejection::Invalid {
                field: Field::Author,
                problem,
            });
        }
        check_size(&self.state, &event.delta)?;
        self.check_shared(&event.delta)?;
        Ok(decided(self.seq, vec![event.into()]))
    }

    /// Refuses a caller that has not seen the last event, if the caller gave the last entry that it has seen. An entry that is not there yet
    /// was not seen: all entries up to it would count.
    fn expected(&self, expected: Option<Seq>) -> Result<(), Rejection> {
        if let Some(seen) = expected.filter(|seen| *seen > self.seq) {
            let problem = format!("is entry {seen}, and the session ends with entry {}", self.seq);
            return Err(Rejection::Invalid {
                field: Field::Seen,
                problem,
            });
        }
        let last = self.last_event.map_or(self.created, |(seq, _)| seq);
        match expected.filter(|expected| *expected < last) {
            None => Ok(()),
            Some(expected) => Err(Rejection::VersionConflict {
                what: Versioned::Session,
                expected: expected.0,
                current: last.0,
            }),
        }
    }

    /// Refuses keys of shared state without a name, and a change of shared state if too many are under way.
    fn check_shared(&self, delta: &Delta) -> Result<(), Rejection> {
        let mut shared = delta
            .0
            .keys()
            .filter(|key| matches!(StateScope::of(key), StateScope::App | StateScope::User))
            .peekable();
        if shared.peek().is_some() {
            room(self.pending.len())?;
        }
        match shared.find(|key| StateScope::of(key).strip(key).is_none()) {
            None => Ok(()),
            Some(key) => Err(Rejection::Invalid {
                field: Field::State,
                problem: format!("the key '{key}' has no name after its prefix"),
            }),
        }
    }

    fn rewind(&self, to: Seq, expected: Option<Seq>, then: &Then<'_>) -> Result<Decided, Rejection> {
        self.there()?;
        if let Some((seq, _)) = self.last_event.filter(|_| self.rewound == Some(to)) {
            return Ok(already(seq, ReplyResult::Recorded));
        }
        self.expected(expected)?;
        let Then { state, origins, seen } = *then;
        if self.erasures.last() > seen {
            // The state that was read may repeat bytes that were erased since.
            return Err(Rejection::Woken {
                seq: self.erasures.last(),
            });
        }
        if to < self.created || to > self.seq {
            let problem = format!("must be between {} and {}", self.created, self.seq);
            return Err(Rejection::Invalid {
                field: Field::To,
                problem,
            });
        }
        if to > seen {
            // The state was read before the entry `to` existed.
            return Err(Rejection::Woken { seq: to });
        }
        // This is a whole state, which may be larger than the change of one event.
        check_state(&State::default(), state)?;
        if let Some(key) = state
            .0
            .keys()
            .find(|key| StateScope::of(key) != StateScope::Session)
        {
            let problem = format!("has the key '{key}', which is not of the session alone");
            return Err(Rejection::Invalid {
                field: Field::State,
                problem,
            });
        }
        Ok(decided(
            self.seq,
            vec![
                Rewound {
                    to,
                    state: state.clone(),
                    origins: origins.clone(),
                }
                .into(),
            ],
        ))
    }

    fn mark_merged(&self, through: Seq, refused: &[RefusedMerge]) -> Result<Decided, Rejection> {
        if self
            .pending
            .front()
            .is_none_or(|pending| pending.source > through)
        {
            return Ok(already(self.seq, ReplyResult::Recorded));
        }
        let refused = refused.to_vec();
        Ok(decided(self.seq, vec![Merged { through, refused }.into()]))
    }

    fn fold(&mut self, entry: &Entry) -> Result<(), &'static str> {
        let (seq, at) = (entry.seq, entry.decided_at);
        // Changes of shared state by a deleted session are still merged.
        let created = matches!(entry.body, EntryBody::SessionCreated(_));
        let always = matches!(
            entry.body,
            EntryBody::SessionMerged(_) | EntryBody::PayloadErased(_) | EntryBody::ErasureFinished(_)
        );
        if created == self.id.is_some() && !always {
            return Err("a session is created once, until it is deleted");
        }
        match &entry.body {
            EntryBody::SessionCreated(e) => {
                let before = std::mem::take(self);
                *self = Self {
                    id: Some(e.session.clone()),
                    created: seq,
                    replies: before.replies,
                    pending: before.pending,
                    erasures: before.erasures,
                    repeated: before.repeated,
                    ..Self::default()
                };
                self.change(&e.state, seq, at);
            }
            EntryBody::SessionEventAppended(e) => {
                if self.events.len() == REMEMBERED_EVENTS_MAX {
                    self.events.pop_front();
                }
                self.events
                    .push_back((e.event.clone(), seq, ContentDigest::of(e)));
                (self.last_event, self.rewound) = (Some((seq, at)), None);
                self.change(&e.delta, seq, at);
            }
            EntryBody::SessionMerged(e) => self.pending.retain(|pending| pending.source > e.through),
            EntryBody::SessionRewound(e) => {
                self.state = State::default();
                self.kept.clear();
                self.set(&e.state, seq, &e.origins);
                self.repeated = seq;
                self.events.retain(|(_, event, _)| *event <= e.to);
                (self.last_event, self.rewound) = (Some((seq, at)), Some(e.to));
            }
            EntryBody::SessionDeleted(_) => self.id = None,
            EntryBody::PayloadErased(e) => self.fold_erased(e, seq, at),
            EntryBody::ErasureFinished(e) => self.erasures.fold_finished(e),
            _ => return Err("it does not belong into a session"),
        }
        self.seq = seq;
        Ok(())
    }

    /// Applies an entry's change to the session's own state. `origins` has the entries in which repeated values first appeared.
    fn set(&mut self, delta: &Delta, entry: Seq, origins: &BTreeMap<Key, Seq>) {
        self.state.change(delta);
        for (key, json) in &delta.0 {
            let origin = origins.get(key).copied().unwrap_or(entry);
            match json {
                Some(_) => self.kept.insert(key.clone(), Kept { origin, entry }),
                None => self.kept.remove(key),
            };
        }
    }

    fn change(&mut self, delta: &Delta, source: Seq, at: Timestamp) {
        self.set(&delta.of(StateScope::Session), source, &BTreeMap::new());
        let (app, user) = (delta.of(StateScope::App), delta.of(StateScope::User));
        if !(app.is_empty() && user.is_empty()) {
            self.pending.push_back(PendingMerge {
                source,
                at,
                app,
                user,
            });
        }
    }
}

impl Decider for Session {
    type Command = SessionCommand;
    const SNAPSHOT_VERSION: u32 = 3;

    fn accepts(stream: &StreamId) -> bool {
        matches!(stream, StreamId::Session(_))
    }

    fn begins(command: &SessionCommand) -> bool {
        matches!(command, SessionCommand::Create { .. })
    }

    fn decide(&self, command: &Command<SessionCommand>, now: impl Into<Now>) -> Result<Decided, Rejection> {
        if let Some(first) = self.replies.recall(command, now.into().at())? {
            return Ok(first);
        }
        match &command.body {
            SessionCommand::Create { session, state } => self.create(session, state),
            SessionCommand::Append {
                event,
                expected,
                invocation,
                author,
                delta,
                content,
            } => {
                let appended = EventAppended {
                    event: event.clone(),
                    invocation: invocation.clone(),
                    author: author.clone(),
                    delta: recorded(delta),
                    content: content.clone(),
                };
                self.append(appended, *expected)
            }
            SessionCommand::MarkMerged { through, refused } => self.mark_merged(*through, refused),
            SessionCommand::Rewind {
                to,
                expected,
                state,
                origins,
                seen,
            } => {
                let seen = *seen;
                self.rewind(*to, *expected, &Then { state, origins, seen })
            }
            SessionCommand::Delete => {
                self.there()?;
                Ok(decided(self.seq, vec![Deleted {}.into()]))
            }
        }
    }

    fn decide_erasure(
        &self,
        command: &Command<ErasureCommand>,
        now: impl Into<Now>,
    ) -> Result<Decided, Rejection> {
        match self.replies.recall(command, now.into().at())? {
            Some(first) => Ok(first),
            None => self.erase(&command.body),
        }
    }

    fn erasures(&self) -> Option<&Erasures> {
        Some(&self.erasures)
    }

    fn apply(&mut self, entry: &Entry) -> Result<(), ReplayError> {
        if entry.seq != self.seq.next() {
            return Err(ReplayError::OutOfOrder {
                after: self.seq,
                found: entry.seq,
            });
        }
        self.fold(entry).map_err(|problem| ReplayError::Impossible {
            seq: entry.seq,
            kind: entry.body.kind(),
            problem: problem.to_owned(),
        })?;
        self.replies.note(entry);
        Ok(())
    }

    fn agenda(&self) -> Agenda {
        let mut agenda = Agenda::default();
        if let Some(pending) = self.pending.front() {
            agenda.add(Queue::Timers, Item::Merge, pending.at);
        }
        self.erasures.add_to(&mut agenda);
        agenda
    }

    fn seq(&self) -> Seq {
        self.seq
    }

    fn named(&self) -> Option<StreamId> {
        self.id.clone().map(StreamId::Session)
    }
}

fn room(pending: usize) -> Result<(), Rejection> {
    if pending < PENDING_MERGES_MAX {
        return Ok(());
    }
    let (max, given) = (PENDING_MERGES_MAX as u64, pending as u64 + 1);
    Err(Rejection::LimitExceeded {
        limit: Limit::SharedChanges,
        max,
        given,
    })
}

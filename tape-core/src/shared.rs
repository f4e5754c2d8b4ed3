//! State that sessions share, either of an app (`app:`), or of one of its users (`user:`).

use crate::agenda::Agenda;
use crate::command::{Command, SharedCommand};
use crate::decider::{Decider, ReplayError};
use crate::entry::erasure::Erased;
use crate::entry::session::SharedMerged;
use crate::entry::{Entry, EntryBody};
use crate::erasure::{ErasureCommand, Erasures};
use crate::id::{Key, RequestId, Seq, SessionId, StreamId};
use crate::limits::PENDING_MERGES_MAX;
use crate::payload::ContentDigest;
use crate::replies::Replies;
use crate::reply::{Decided, Rejection, ReplyResult};
use crate::reply::{already, decided};
use crate::session::check_size;
use crate::state::{Delta, State};
use crate::time::{Now, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Shared state, and which sessions' changes it has.
///
/// A session's event records the change first; then any server merges it here, once. The id of a change is made from its session, its entry
/// there and the time of that entry, so these ids are ordered by time. The last [`PENDING_MERGES_MAX`] ids are remembered, and the greatest
/// forgotten id: an id above that is remembered or new. A change with an older id may have been merged before. It is accepted only from a
/// server that has searched the forgotten entries for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shared {
    seq: Seq,
    state: State,
    /// The merged changes, by their ids, with the entries that merged them.
    merged: BTreeMap<RequestId, Seq>,
    /// The greatest forgotten id.
    forgotten: Option<RequestId>,
    /// The last entry whose change was forgotten.
    forgotten_seq: Seq,
    /// The entry that has the bytes of each value.
    kept: BTreeMap<Key, Seq>,
    erasures: Erasures,
    /// Replies to erasures only. Changes are deduplicated by their own ids.
    replies: Replies,
}

impl Shared {
    /// The state, keys without their prefix.
    #[must_use]
    pub const fn state(&self) -> &State {
        &self.state
    }

    fn note(&mut self, change: RequestId, seq: Seq) {
        self.merged.insert(change, seq);
        while self.merged.len() > PENDING_MERGES_MAX {
            let Some((change, seq)) = self.merged.pop_first() else {
                return;
            };
            self.forgotten = self.forgotten.max(Some(change));
            self.forgotten_seq = self.forgotten_seq.max(seq);
        }
    }

    /// Refuses a change that is too large, or makes the state too large.
    ///
    /// # Errors
    /// [`Rejection::LimitExceeded`] names the limit.
    pub fn takes(&self, delta: &Delta) -> Result<(), Rejection> {
        check_size(&self.state, delta)
    }

    fn fold_merged(&mut self, merged: &SharedMerged, entry: Seq) {
        self.state.change(&merged.delta);
        for (key, json) in &merged.delta.0 {
            match json {
                Some(_) => self.kept.insert(key.clone(), entry),
                None => self.kept.remove(key),
            };
        }
        let recorded_at = merged.recorded_at.unwrap_or_default();
        self.note(name(&merged.session, merged.source, recorded_at), entry);
    }

    fn fold_erased(&mut self, erased: &Erased, entry: Seq, at: Timestamp) {
        let kept = std::mem::take(&mut self.kept);
        for (key, kept) in kept {
            if erased.entries.contains(&kept) {
                self.state.0.remove(&key);
            } else {
                self.kept.insert(key, kept);
            }
        }
        self.erasures.fold_erased(erased, entry, at);
    }
}

/// The id of a change. It is ordered by the time at which the session recorded the change, and is the same for every server that merges it.
fn name(session: &SessionId, source: Seq, recorded_at: Timestamp) -> RequestId {
    let digest = ContentDigest::of(&(session, source)).0;
    RequestId::new(recorded_at, u128::from_be_bytes(digest))
}

impl Decider for Shared {
    type Command = SharedCommand;
    const SNAPSHOT_VERSION: u32 = 3;

    fn accepts(stream: &StreamId) -> bool {
        matches!(stream, StreamId::Shared { .. })
    }

    fn decide(&self, command: &Command<SharedCommand>, now: impl Into<Now>) -> Result<Decided, Rejection> {
        let SharedCommand::Merge {
            session,
            source,
            recorded_at,
            delta,
            searched,
        } = &command.body;
        let change = name(session, *source, *recorded_at);
        if let Some(seq) = self.merged.get(&change) {
            return Ok(already(*seq, ReplyResult::Recorded));
        }
        if let Some(forgotten) = self.forgotten.filter(|forgotten| change <= *forgotten)
            && *searched < self.forgotten_seq
        {
            return Err(Rejection::RequestTooOld {
                request: change,
                forgotten,
                now: now.into().at(),
            });
        }
        self.takes(delta)?;
        let merged = SharedMerged {
            session: session.clone(),
            source: *source,
            recorded_at: Some(*recorded_at),
            delta: delta.clone(),
        };
        Ok(decided(self.seq, vec![merged.into()]))
    }

    fn decide_erasure(
        &self,
        command: &Command<ErasureCommand>,
        now: impl Into<Now>,
    ) -> Result<Decided, Rejection> {
        match self.replies.recall(command, now.into().at())? {
            Some(first) => Ok(first),
            None => self.erasures.decide(&command.body, self.seq, |_| Vec::new()),
        }
    }

    fn erasures(&self) -> Option<&Erasures> {
        Some(&self.erasures)
    }

    fn agenda(&self) -> Agenda {
        let mut agenda = Agenda::default();
        self.erasures.add_to(&mut agenda);
        agenda
    }

    fn apply(&mut self, entry: &Entry) -> Result<(), ReplayError> {
        if entry.seq != self.seq.next() {
            return Err(ReplayError::OutOfOrder {
                after: self.seq,
                found: entry.seq,
            });
        }
        match &entry.body {
            EntryBody::SharedMerged(merged) => self.fold_merged(merged, entry.seq),
            EntryBody::PayloadErased(erased) => self.fold_erased(erased, entry.seq, entry.at),
            EntryBody::ErasureFinished(finished) => self.erasures.fold_finished(finished),
            _ => {
                let problem = "it does not belong into shared state".to_owned();
                return Err(ReplayError::Impossible {
                    seq: entry.seq,
                    kind: entry.body.kind(),
                    problem,
                });
            }
        }
        self.replies.note(entry);
        self.seq = entry.seq;
        Ok(())
    }

    fn seq(&self) -> Seq {
        self.seq
    }
}

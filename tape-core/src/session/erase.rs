//! The effect of an erasure on a session.

use super::{Delta, FORGOTTEN, Session};
use crate::entry::EntryBody;
use crate::entry::erasure::Erased;
use crate::entry::session::Rewound;
use crate::entry::words::Words as _;
use crate::erasure::ErasureCommand;
use crate::id::{Key, Seq};
use crate::reply::{Decided, Missing, Rejection};
use crate::time::Timestamp;
use std::collections::BTreeMap;

impl Session {
    pub(super) fn erase(&self, command: &ErasureCommand) -> Result<Decided, Rejection> {
        if self.seq == Seq::ZERO {
            return Err(Rejection::not_found(Missing::Session));
        }
        if let ErasureCommand::Erase { entries, seen, .. } = command {
            if self.repeated > *seen {
                return Err(Rejection::Woken { seq: self.repeated });
            }
            // A change that is merged after its erasure would come back.
            if let Some(pending) = self.pending.iter().find(|p| entries.contains(&p.source)) {
                return Err(Rejection::Unsettled {
                    what: format!("the change of shared state by entry {}", pending.source),
                });
            }
        }
        let mut decided = self.erasures.decide(command, self.seq, |_| Vec::new())?;
        let restated = match decided.entries.first() {
            Some(EntryBody::PayloadErased(erased)) => self.restated(erased),
            _ => None,
        };
        if let Some(restated) = restated {
            decided.entries.push(restated.into());
            decided.reply.seq = decided.reply.seq.next();
        }
        Ok(decided)
    }

    /// The state that an erasure leaves, if it must be recorded again: some values that were not to be erased are only in entries that are
    /// erased because they also repeat the erased values.
    fn restated(&self, erased: &Erased) -> Option<Rewound> {
        let goes = |entry: Seq| erased.entries.contains(&entry);
        let left = self.kept.iter().filter(|(_, kept)| !goes(kept.origin));
        let left: BTreeMap<Key, Seq> = left.map(|(key, kept)| (key.clone(), kept.origin)).collect();
        let loses = |key: &Key| self.kept.get(key).is_some_and(|kept| goes(kept.entry));
        if self.id.is_none() || !left.keys().any(loses) {
            return None;
        }
        let state = left
            .keys()
            .map(|key| (key.clone(), self.state.0.get(key).cloned()));
        Some(Rewound {
            to: self.seq.next(),
            state: Delta(state.collect()),
            origins: left,
        })
    }

    pub(super) fn fold_erased(&mut self, e: &Erased, seq: Seq, at: Timestamp) {
        let goes = |entry: Seq| e.entries.contains(&entry);
        let kept = std::mem::take(&mut self.kept);
        for (key, kept) in kept {
            if goes(kept.origin) || goes(kept.entry) {
                self.state.0.remove(&key);
            } else {
                self.kept.insert(key, kept);
            }
        }
        for pending in self.pending.iter_mut().filter(|pending| goes(pending.source)) {
            pending.app.erase();
            pending.user.erase();
        }
        for (_, event, content) in &mut self.events {
            if goes(*event) {
                *content = FORGOTTEN;
            }
        }
        self.erasures.fold_erased(e, seq, at);
    }
}

//! Payloads that are there, compared with the erasures that the stream records as finished.

use crate::codec::Opened;
use crate::entry::EntryBody;
use crate::id::Seq;
use std::collections::{BTreeSet, VecDeque};

/// Entries whose payload has bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct Kept {
    /// Those that no erasure lists so far.
    rightly: BTreeSet<Seq>,
    /// The others, in the order of the first erasures that list them: the erasure, and the entry.
    listed: VecDeque<(Seq, Seq)>,
}

impl Kept {
    /// Takes the next entry. Where it says that an erasure is finished and bytes of that are there, returns such an entry.
    pub(super) fn take(&mut self, opened: &Opened, has_bytes: bool) -> Option<Seq> {
        let seq = opened.entry.seq;
        let mut back = None;
        match &opened.entry.body {
            EntryBody::PayloadErased(erased) => self.list(&erased.entries, seq),
            EntryBody::ErasureFinished(finished) => back = self.first(finished.through),
            _ => {}
        }
        if has_bytes {
            self.rightly.insert(seq);
        }
        back
    }

    /// An erasure lists these entries. It covers only those before it.
    fn list(&mut self, entries: &[Seq], erasure: Seq) {
        for covered in entries {
            if self.rightly.remove(covered) {
                self.listed.push_back((erasure, *covered));
            }
        }
    }

    /// The first entry that an erasure up to `through` lists.
    fn first(&self, through: Seq) -> Option<Seq> {
        let (erasure, entry) = *self.listed.front()?;
        (erasure <= through).then_some(entry)
    }
}

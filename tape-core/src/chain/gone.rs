//! Missing payloads, compared with the erasures that the stream's entries record.

use crate::codec::Opened;
use crate::entry::EntryBody;
use crate::id::Seq;
use std::collections::BTreeSet;

/// The first version whose streams record each erasure as an entry.
const RECORDED_FROM: u32 = 2;

/// Entries whose payload is missing and that no erasure covers so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Gone {
    destroyed: BTreeSet<Seq>,
    unproved: BTreeSet<Seq>,
}

impl Gone {
    /// Takes the next entry. An erasure covers only entries before it.
    pub(super) fn take(&mut self, opened: &Opened, has_payload: bool) {
        if let EntryBody::PayloadErased(erased) = &opened.entry.body {
            for covered in &erased.entries {
                self.destroyed.remove(covered);
                self.unproved.remove(covered);
            }
        }
        if !has_payload {
            let of = if opened.version < RECORDED_FROM {
                &mut self.unproved
            } else {
                &mut self.destroyed
            };
            of.insert(opened.entry.seq);
        }
    }

    /// Entries that a build which records erasures wrote, and that no erasure covers.
    pub(super) const fn destroyed(&self) -> &BTreeSet<Seq> {
        &self.destroyed
    }

    /// Entries of earlier builds that no erasure covers: those builds erased without an entry.
    pub(super) const fn unproved(&self) -> &BTreeSet<Seq> {
        &self.unproved
    }
}

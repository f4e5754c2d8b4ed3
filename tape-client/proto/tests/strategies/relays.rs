//! Arbitrary relays and their places.

use super::{name, text, time};
use bytes::Bytes;
use proptest::collection::{btree_map, vec};
use proptest::option::of;
use proptest::prelude::*;
use std::collections::BTreeMap;
use tape_core::id::{Epoch, RelayId, RelayPart};
use tape_core::relay::{Disabled, Place, Progress};

pub(crate) fn relay_id() -> impl Strategy<Value = RelayId> {
    (of(name()), name()).prop_map(|(tenant, name)| RelayId { tenant, name })
}

pub(crate) fn relay_part() -> impl Strategy<Value = RelayPart> {
    (relay_id(), any::<u16>()).prop_map(|(relay, part)| RelayPart { relay, part })
}

fn bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..20).prop_map(Bytes::from)
}

pub(crate) fn cursors() -> impl Strategy<Value = BTreeMap<u16, Bytes>> {
    btree_map(any::<u16>(), bytes(), 0..4)
}

pub(crate) fn place() -> impl Strategy<Value = Place> {
    let disabled = (time(), text()).prop_map(|(since, reason)| Disabled { since, reason });
    let held = (any::<u64>(), of(name()), time());
    let been = (cursors(), of(time()), of(time()));
    let did = (any::<u64>(), any::<u64>(), of(time()), of(disabled), bytes());
    (held, been, did).prop_map(|((epoch, holder, until), (cursors, reached, moved), did)| {
        let (delivered, refused, failing, disabled, state) = did;
        Place {
            epoch: Epoch(epoch),
            holder,
            until,
            cursors,
            reached,
            moved,
            delivered,
            refused,
            failing,
            disabled,
            state,
        }
    })
}

pub(crate) fn progress() -> impl Strategy<Value = Progress> {
    let counts = (any::<u64>(), any::<u64>(), any::<bool>());
    (cursors(), of(time()), counts, of(text()), of(bytes())).prop_map(
        |(cursors, reached, (delivered, refused, is_failing), disable, state)| Progress {
            cursors,
            reached,
            delivered,
            refused,
            is_failing,
            disable,
            state,
        },
    )
}

//! The place of a part of a relay.

use crate::id::{Epoch, Holder};
use crate::limits::{CURSOR_BYTES_MAX, RELAY_LEASE_MS_MAX, RELAY_SHARDS_MAX, RELAY_STATE_BYTES_MAX};
use crate::time::{Now, Timestamp};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Where a part of a relay is, which process carries it, and what it has done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Grows with each change of holder. A move under an older one is refused.
    pub epoch: Epoch,
    /// The process that carries the part; none where it was given back.
    pub holder: Option<Holder>,
    /// When the holder's lease ends.
    pub until: Timestamp,
    /// Where to go on, by shard. A shard without a cursor was never begun.
    #[serde(with = "cursors")]
    pub cursors: BTreeMap<u16, Bytes>,
    /// The time of the last entry that the place has passed; none before the first.
    pub reached: Option<Timestamp>,
    /// When the place was moved last.
    pub moved: Option<Timestamp>,
    /// How many events the sink has confirmed, over the life of the relay. A repeated delivery counts again.
    pub delivered: u64,
    /// How many events the sink has refused for good.
    pub refused: u64,
    /// Since when the sink takes nothing; none while it works.
    pub failing: Option<Timestamp>,
    /// Why nothing is sent until a person says so; none while the relay may run.
    pub disabled: Option<Disabled>,
    /// What the relay keeps for itself, such as the state of its limits. Only the relay reads it.
    #[serde(with = "hexadecimal")]
    pub state: Bytes,
}

/// Why a relay sends nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disabled {
    /// Since when.
    pub since: Timestamp,
    /// Why, for people.
    pub reason: String,
}

/// A part that was claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The epoch under which the holder moves the place.
    pub epoch: Epoch,
    /// When the lease ends unless a move renews it.
    pub until: Timestamp,
}

/// Why a part was not claimed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Held {
    /// Another process carries it.
    #[error("{holder} carries it until {until}")]
    By {
        /// The process.
        holder: Holder,
        /// When its lease ends.
        until: Timestamp,
    },
    /// The relay is disabled.
    #[error("it is disabled: {}", .0.reason)]
    Disabled(Disabled),
    /// The server does not know the time well enough to judge whether the lease of another is over.
    #[error("whether the lease of another is over is not known yet")]
    Unsure,
}

/// What a holder reports of its part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The new cursors; shards that are not named stay where they are.
    pub cursors: BTreeMap<u16, Bytes>,
    /// The time of the last entry that is passed now; none where none was.
    pub reached: Option<Timestamp>,
    /// How many more events were confirmed.
    pub delivered: u64,
    /// How many more events were refused for good.
    pub refused: u64,
    /// Whether the sink takes nothing at present.
    pub is_failing: bool,
    /// Where the relay is to stop until a person says so: why.
    pub disable: Option<String>,
    /// What the relay keeps for itself from now on; none where that stays.
    pub state: Option<Bytes>,
}

/// Why a place was not moved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotMoved {
    /// Another process carries the part by now, or a person has reset it.
    #[error("epoch {given} is no longer the holder's; the part is at epoch {current}")]
    Fenced {
        /// The epoch of the move.
        given: Epoch,
        /// The epoch in force.
        current: Epoch,
    },
    /// A part keeps no more than this.
    #[error("{what}: has {given} {unit}, the limit is {max}")]
    TooMuch {
        /// What: `cursors` or `state`.
        what: &'static str,
        /// What of it is counted.
        unit: &'static str,
        /// How much.
        given: usize,
        /// The limit.
        max: usize,
    },
}

impl Place {
    /// Gives the part to a process for `lease_ms`, at most [`RELAY_LEASE_MS_MAX`]. The holder itself may claim again, and gets a new epoch:
    /// what it sent before under the old one moves nothing any more.
    ///
    /// # Errors
    /// [`Held`]; nothing is changed.
    pub fn claim(&mut self, holder: &Holder, lease_ms: u64, now: Now) -> Result<Claim, Held> {
        if let Some(disabled) = &self.disabled {
            return Err(Held::Disabled(disabled.clone()));
        }
        if let Some(other) = self.holder.as_ref().filter(|other| *other != holder) {
            match now.outlived(self.until) {
                Some(true) => {}
                Some(false) => {
                    return Err(Held::By {
                        holder: other.clone(),
                        until: self.until,
                    });
                }
                None => return Err(Held::Unsure),
            }
        }
        self.epoch = self.epoch.next();
        self.holder = Some(holder.clone());
        self.until = lease_end(lease_ms, now);
        Ok(Claim {
            epoch: self.epoch,
            until: self.until,
        })
    }

    /// Records the progress of the holder and renews its lease.
    ///
    /// # Errors
    /// [`NotMoved`]; nothing is changed.
    pub fn advance(
        &mut self,
        epoch: Epoch,
        progress: Progress,
        lease_ms: u64,
        now: Now,
    ) -> Result<(), NotMoved> {
        self.check_epoch(epoch)?;
        progress.check(&self.cursors)?;
        if !progress.cursors.is_empty() {
            self.moved = Some(now.at());
        }
        self.cursors.extend(progress.cursors);
        self.reached = progress.reached.or(self.reached);
        self.delivered = self.delivered.saturating_add(progress.delivered);
        self.refused = self.refused.saturating_add(progress.refused);
        self.failing = progress
            .is_failing
            .then(|| self.failing.unwrap_or_else(|| now.at()));
        self.state = progress.state.unwrap_or_else(|| self.state.clone());
        self.until = lease_end(lease_ms, now);
        if let Some(reason) = progress.disable {
            self.disable(reason, now);
        }
        Ok(())
    }

    /// Gives the part back, so that another process can take it at once.
    ///
    /// # Errors
    /// [`NotMoved::Fenced`]: it is another's by now.
    pub fn release(&mut self, epoch: Epoch) -> Result<(), NotMoved> {
        self.check_epoch(epoch)?;
        self.holder = None;
        Ok(())
    }

    /// Stops the relay until [`Place::enable`]. Its holder loses the part.
    pub fn disable(&mut self, reason: String, now: Now) {
        self.take_away();
        self.disabled = Some(Disabled {
            since: now.at(),
            reason,
        });
    }

    /// Lets the relay run again, from where it stopped.
    pub fn enable(&mut self) {
        self.disabled = None;
        self.failing = None;
    }

    /// Puts the part at other places of the feed. Its holder loses it; whether it is disabled stays.
    pub fn reset(&mut self, cursors: BTreeMap<u16, Bytes>) {
        self.take_away();
        self.cursors = cursors;
        self.reached = None;
        self.state = Bytes::new();
    }

    fn take_away(&mut self) {
        self.epoch = self.epoch.next();
        self.holder = None;
    }

    fn check_epoch(&self, given: Epoch) -> Result<(), NotMoved> {
        if given == self.epoch && self.holder.is_some() {
            return Ok(());
        }
        Err(NotMoved::Fenced {
            given,
            current: self.epoch,
        })
    }
}

impl Progress {
    fn check(&self, known: &BTreeMap<u16, Bytes>) -> Result<(), NotMoved> {
        let new = self.cursors.keys().filter(|shard| !known.contains_key(shard));
        let longest = self.cursors.values().map(Bytes::len).max().unwrap_or(0);
        let bounds = [
            ("cursors", "shards", known.len() + new.count(), RELAY_SHARDS_MAX),
            ("cursors", "bytes in one of them", longest, CURSOR_BYTES_MAX),
            (
                "state",
                "bytes",
                self.state.as_ref().map_or(0, Bytes::len),
                RELAY_STATE_BYTES_MAX,
            ),
        ];
        for (what, unit, given, max) in bounds {
            if given > max {
                return Err(NotMoved::TooMuch {
                    what,
                    unit,
                    given,
                    max,
                });
            }
        }
        Ok(())
    }
}

fn lease_end(lease_ms: u64, now: Now) -> Timestamp {
    now.at().plus_millis(lease_ms.min(RELAY_LEASE_MS_MAX))
}

/// Bytes as hexadecimal digits.
mod hexadecimal {
    use bytes::Bytes;
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &Bytes, to: S) -> Result<S::Ok, S::Error> {
        hex::serde::serialize(bytes, to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Bytes, D::Error> {
        hex::serde::deserialize::<_, Vec<u8>>(from).map(Bytes::from)
    }
}

/// Cursors by shard, as hexadecimal digits.
mod cursors {
    use bytes::Bytes;
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};
    use std::collections::BTreeMap;

    pub(super) fn serialize<S: Serializer>(cursors: &BTreeMap<u16, Bytes>, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(cursors.iter().map(|(shard, cursor)| (shard, hex::encode(cursor))))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<u16, Bytes>, D::Error> {
        let texts = BTreeMap::<u16, String>::deserialize(from)?;
        let read =
            |(shard, text): (u16, String)| Ok((shard, hex::decode(text).map_err(D::Error::custom)?.into()));
        texts.into_iter().map(read).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{Held, NotMoved, Place, Progress};
    use crate::id::{Epoch, Holder};
    use crate::limits::{CURSOR_BYTES_MAX, RELAY_STATE_BYTES_MAX};
    use crate::time::{Now, Timestamp};
    use bytes::Bytes;

    fn at(second: i64) -> Now {
        Timestamp::from_micros(second * 1_000_000).into()
    }

    fn holder(name: &str) -> Holder {
        Holder::new(name).unwrap()
    }

    fn to(cursor: &'static str) -> Progress {
        Progress {
            cursors: [(0, Bytes::from(cursor))].into(),
            delivered: 1,
            ..Progress::default()
        }
    }

    #[test]
    fn one_process_carries_a_part_until_its_lease_is_over() {
        let mut place = Place::default();
        let first = place.claim(&holder("a"), 10_000, at(0)).unwrap();
        let held = place.claim(&holder("b"), 10_000, at(9)).unwrap_err();
        assert!(matches!(held, Held::By { holder, .. } if holder.as_str() == "a"));
        let unsure = place.claim(&holder("b"), 10_000, at(11).unsure()).unwrap_err();
        assert_eq!(unsure, Held::Unsure);
        // A move renews the lease.
        place.advance(first.epoch, to("x"), 10_000, at(9)).unwrap();
        assert!(place.claim(&holder("b"), 10_000, at(18)).is_err());
        place.claim(&holder("b"), 10_000, at(19)).unwrap();
    }

    #[test]
    fn a_process_that_lost_its_lease_moves_nothing() {
        let mut place = Place::default();
        let first = place.claim(&holder("a"), 1_000, at(0)).unwrap();
        let second = place.claim(&holder("b"), 1_000, at(2)).unwrap();
        place.advance(second.epoch, to("b"), 1_000, at(2)).unwrap();
        let before = place.clone();
        let late = place.advance(first.epoch, to("a"), 1_000, at(2)).unwrap_err();
        assert_eq!(
            late,
            NotMoved::Fenced {
                given: Epoch(1),
                current: Epoch(2)
            }
        );
        assert!(place.release(first.epoch).is_err());
        assert_eq!(place, before);
        place.release(second.epoch).unwrap();
        assert!(place.advance(second.epoch, to("b"), 1_000, at(2)).is_err());
        // It is free at once.
        place.claim(&holder("a"), 1_000, at(2)).unwrap();
    }

    #[test]
    fn a_reset_and_a_stop_take_the_part_from_its_holder() {
        let mut place = Place::default();
        let claim = place.claim(&holder("a"), 1_000, at(0)).unwrap();
        place.reset([(0, Bytes::from("start"))].into());
        assert!(place.advance(claim.epoch, to("a"), 1_000, at(0)).is_err());
        assert_eq!(place.cursors[&0], "start");
        let claim = place.claim(&holder("a"), 1_000, at(0)).unwrap();
        place.disable("410 Gone".to_owned(), at(0));
        assert!(place.advance(claim.epoch, to("a"), 1_000, at(0)).is_err());
        let held = place.claim(&holder("b"), 1_000, at(100)).unwrap_err();
        assert_eq!(held.to_string(), "it is disabled: 410 Gone");
        place.enable();
        place.claim(&holder("b"), 1_000, at(100)).unwrap();
    }

    #[test]
    fn the_time_since_when_a_sink_fails_is_kept_until_it_works() {
        let mut place = Place::default();
        let epoch = place.claim(&holder("a"), 1_000, at(0)).unwrap().epoch;
        let failing = Progress {
            is_failing: true,
            ..Progress::default()
        };
        for second in [5, 9] {
            place.advance(epoch, failing.clone(), 1_000, at(second)).unwrap();
            assert_eq!(place.failing, Some(at(5).at()));
        }
        place.advance(epoch, to("x"), 1_000, at(10)).unwrap();
        assert_eq!(place.failing, None);
    }

    #[test]
    fn what_a_part_keeps_is_bounded() {
        let mut place = Place::default();
        let epoch = place.claim(&holder("a"), 1_000, at(0)).unwrap().epoch;
        let before = place.clone();
        let cursor = |bytes: usize| Progress {
            cursors: [(0, Bytes::from(vec![0; bytes]))].into(),
            ..Progress::default()
        };
        let state = |bytes: usize| Progress {
            state: Some(Bytes::from(vec![0; bytes])),
            ..Progress::default()
        };
        for over in [cursor(CURSOR_BYTES_MAX + 1), state(RELAY_STATE_BYTES_MAX + 1)] {
            place.advance(epoch, over, 1_000, at(0)).unwrap_err();
            assert_eq!(place, before);
        }
        place
            .advance(epoch, cursor(CURSOR_BYTES_MAX), 1_000, at(0))
            .unwrap();
        place
            .advance(epoch, state(RELAY_STATE_BYTES_MAX), 1_000, at(0))
            .unwrap();
    }

    #[test]
    fn its_stored_form_is_json_that_reads_back() {
        let mut place = Place::default();
        let epoch = place.claim(&holder("a"), 1_000, at(7)).unwrap().epoch;
        place.advance(epoch, to("\u{0}x"), 1_000, at(8)).unwrap();
        let form = serde_json::to_string(&place).unwrap();
        assert_eq!(serde_json::from_str::<Place>(&form).unwrap(), place);
        assert!(form.contains(r#""cursors":{"0":"0078"}"#), "{form}");
    }
}

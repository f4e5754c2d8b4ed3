//! Ownership of business keys: one business operation has one owner, however many runs ask for it.

use crate::command::{Command, KeyCommand};
use crate::decider::{Decider, ReplayError};
use crate::effect::{Mode, Status};
use crate::entry::value::KeyTaken;
use crate::entry::{Entry, EntryBody};
use crate::id::{EffectId, RunId, Seq, StreamId};
use crate::reply::{Decided, Rejection, ReplyResult};
use crate::reply::{already, decided};
use crate::run::{Phase, Run};
use crate::time::Now;
use serde::{Deserialize, Serialize};

/// The owner of a business key. The key is claimed before the intent of its effect is durable, so an owner may turn out to have no such
/// effect. It keeps the key as long as it can still begin the effect. [`Ownership`] says when another effect may take the key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyOwner {
    seq: Seq,
    owner: Option<(RunId, EffectId)>,
}

impl KeyOwner {
    /// The owner, once there is one.
    #[must_use]
    pub const fn owner(&self) -> Option<&(RunId, EffectId)> {
        self.owner.as_ref()
    }
}

impl Decider for KeyOwner {
    type Command = KeyCommand;
    const SNAPSHOT_VERSION: u32 = 2;

    fn accepts(stream: &StreamId) -> bool {
        matches!(stream, StreamId::KeyOwner { .. })
    }

    fn decide(&self, command: &Command<KeyCommand>, _now: impl Into<Now>) -> Result<Decided, Rejection> {
        let KeyCommand::Take {
            connector,
            key,
            run,
            effect,
            from,
        } = &command.body;
        match &self.owner {
            Some(owner) if owner.0 == *run && owner.1 == *effect => {
                Ok(already(self.seq, ReplyResult::Recorded))
            }
            Some(owner) if from.as_ref() != Some(owner) => Err(Rejection::BusinessKeyTaken {
                connector: connector.clone(),
                key: key.to_string(),
                run: owner.0.clone(),
                effect: owner.1.clone(),
                status: None,
                settled: None,
            }),
            Some(_) | None => {
                let (connector, key, run) = (connector.clone(), key.clone(), run.clone());
                Ok(decided(
                    self.seq,
                    vec![
                        KeyTaken {
                            connector,
                            key,
                            run,
                            effect: effect.clone(),
                        }
                        .into(),
                    ],
                ))
            }
        }
    }

    fn apply(&mut self, entry: &Entry) -> Result<(), ReplayError> {
        if entry.seq != self.seq.next() {
            return Err(ReplayError::OutOfOrder {
                after: self.seq,
                found: entry.seq,
            });
        }
        let EntryBody::KeyTaken(taken) = &entry.body else {
            let problem = "it does not belong into a claim".to_owned();
            return Err(ReplayError::Impossible {
                seq: entry.seq,
                kind: entry.body.kind(),
                problem,
            });
        };
        self.owner = Some((taken.run.clone(), taken.effect.clone()));
        self.seq = entry.seq;
        Ok(())
    }

    fn seq(&self) -> Seq {
        self.seq
    }
}

/// The state of the effect that owns a business key, as far as the owner's run shows.
///
/// A key is free where its effect never happened and never will: it has not begun and can no longer begin, or it failed without ever having
/// reached the upstream. Once free, it stays free. The key of an effect that may have happened is never free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// The key is free.
    Free,
    /// The key is taken.
    Holds {
        /// Where the effect stands; none where it has not begun yet, or its entries were dropped.
        status: Option<Status>,
        /// The entry that settled it, where it is settled.
        settled: Option<Seq>,
    },
}

impl Ownership {
    /// What the folded state of the owner's run shows; none where only its entries can show it, since the state forgets settled effects.
    #[must_use]
    pub fn by_state(run: &Run, effect: &EffectId) -> Option<Self> {
        if let Some(it) = run.effects().get(effect) {
            return match it.status {
                Status::Failed if it.was_never_sent() => Some(Self::Free),
                // Its attempts may all have ended before they reached the upstream.
                Status::Failed => None,
                status => Some(Self::Holds {
                    status: Some(status),
                    settled: status.is_settled().then_some(it.changed),
                }),
            };
        }
        // Effects begin under the newest decision of their scope, while the run is not ending.
        let later = run.next_position(&effect.position.scope).k > effect.position.k.saturating_add(1);
        let ends = matches!(run.phase(), Phase::Ended { .. } | Phase::Compensating { .. });
        (!later && !ends).then_some(Self::Holds {
            status: None,
            settled: None,
        })
    }
}

/// Follows one effect through the entries of its run, where the folded state has forgotten it.
#[derive(Clone, Debug)]
pub struct OwnershipTrace {
    effect: EffectId,
    begun: bool,
    /// Whether an attempt is under way, or ended in any way other than not reaching the upstream.
    under_way: bool,
    sent: bool,
    status: Option<Status>,
    settled: Option<Seq>,
    dropped: bool,
}

impl OwnershipTrace {
    /// Before the first entry.
    #[must_use]
    pub const fn of(effect: EffectId) -> Self {
        Self {
            effect,
            begun: false,
            under_way: false,
            sent: false,
            status: None,
            settled: None,
            dropped: false,
        }
    }

    /// Notes an entry of the run; they come in order.
    pub fn note(&mut self, entry: &Entry) {
        match &entry.body {
            EntryBody::EffectBegun(e) if e.effect == self.effect => {
                (self.begun, self.status) = (true, Some(Status::Pending));
                self.sent |= e.spec.mode == Mode::Inline;
            }
            EntryBody::EffectStarted(e) if e.effect == self.effect => {
                self.sent |= self.under_way;
                (self.under_way, self.status) = (true, Some(Status::Started));
            }
            EntryBody::EffectDeferred(e) if e.effect == self.effect => {
                self.sent |= self.under_way && !e.unreached;
                (self.under_way, self.status) = (false, Some(Status::Pending));
            }
            EntryBody::EffectUnknown(e) if e.effect == self.effect => self.status = Some(Status::Unknown),
            EntryBody::EffectConfirmed(e) if e.effect == self.effect => {
                (self.status, self.settled) = (Some(Status::Confirmed), Some(entry.seq));
            }
            EntryBody::EffectFailed(e) if e.effect == self.effect => {
                (self.status, self.settled) = (Some(Status::Failed), Some(entry.seq));
            }
            // The entries before it are gone: the effect may be among them.
            EntryBody::RunRetired(_) => self.dropped = true,
            _ => {}
        }
    }

    /// The ownership that all entries of a run show, for a run whose state has forgotten the effect.
    #[must_use]
    pub fn owner(&self) -> Ownership {
        let never = !self.begun || (self.status == Some(Status::Failed) && !(self.sent || self.under_way));
        if never && !self.dropped {
            return Ownership::Free;
        }
        Ownership::Holds {
            status: self.status,
            settled: self.settled,
        }
    }
}

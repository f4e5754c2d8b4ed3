//! Gates: durable waits for a named signal. The first answer counts; later senders are told so.

use super::Run;
use super::check::{moment, room};
use crate::entry::EntryBody;
use crate::entry::gate::{Answered, AnsweredBy, Opened, SignalReceived};
use crate::id::{GateName, Principal, Scope, Seq, SignalId};
use crate::limits::{BUFFERED_SIGNALS_MAX, GATES_MAX};
use crate::payload::{ContentDigest, Payload};
use crate::reply::decided;
use crate::reply::{Decided, Field, Limit, Missing, Rejection, ReplyResult};
use crate::time::Deadline;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// A gate of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Gate {
    /// A signal came before it opened.
    Signalled {
        /// The sender's name for the signal.
        id: SignalId,
        /// Who sent it.
        who: Option<Principal>,
        /// The entry that has what it carries.
        received: Seq,
        /// What it carries.
        content: ContentDigest,
    },
    /// It waits.
    Open {
        /// When the wait ends in any case.
        deadline: Option<Timestamp>,
        /// The entry that opened it.
        opened: Seq,
        /// The answer of a signal that came before. The entry after the one that opened the gate answers the gate with it.
        earlier: Option<ContentDigest>,
    },
    /// The wait is over.
    Answered {
        /// By what.
        by: AnsweredBy,
        /// The entry that says so.
        seq: Seq,
        /// What it carries; for a deadline, nothing.
        content: ContentDigest,
    },
}

impl Gate {
    pub(super) const fn deadline(&self) -> Option<Timestamp> {
        if let Self::Open { deadline, .. } = self {
            *deadline
        } else {
            None
        }
    }
}

impl Run {
    pub(super) fn open_gate(
        &self,
        gate: &GateName,
        asked: Option<Deadline>,
        now: Timestamp,
    ) -> Result<Decided, Rejection> {
        let deadline = asked.map(|asked| moment(Field::Command, asked, now));
        let opened = EntryBody::from(Opened {
            gate: gate.clone(),
            deadline: deadline.transpose()?,
            asked,
            scope: Scope::root(),
        });
        match self.gates.get(gate) {
            None => {
                room(Limit::Gates, self.gates.len(), GATES_MAX)?;
                Ok(decided(self.seq, vec![opened]))
            }
            Some(Gate::Signalled {
                id, who, received, ..
            }) => {
                let by = AnsweredBy::EarlierSignal {
                    id: id.clone(),
                    who: who.clone(),
                    received: *received,
                };
                let answered = Answered {
                    gate: gate.clone(),
                    by,
                    answer: Payload::empty(),
                };
                Ok(decided(self.seq, vec![opened, answered.into()]))
            }
            Some(Gate::Open { .. } | Gate::Answered { .. }) => Err(Rejection::Exists {
                what: format!("gate '{gate}'"),
            }),
        }
    }

    pub(super) fn signal(
        &self,
        gate: &GateName,
        id: &SignalId,
        who: Option<&Principal>,
        answer: &Payload,
        seen: Option<Seq>,
    ) -> Result<Decided, Rejection> {
        self.alive()?;
        if let Some(repeat) = self.signal_repeat(gate, id, answer) {
            return repeat;
        }
        // A run that is ending reads no gate any more: an accepted signal would be lost.
        self.open()?;
        if let Some(seen) = seen {
            self.gate_as_seen(gate, seen)?;
        }
        let (gate, id, answer) = (gate.clone(), id.clone(), answer.clone());
        if self.gates.contains_key(&gate) {
            let by = AnsweredBy::Signal {
                id,
                who: who.cloned(),
            };
            return self.append(Answered { gate, by, answer });
        }
        let buffered = self
            .gates
            .values()
            .filter(|gate| matches!(gate, Gate::Signalled { .. }))
            .count();
        room(Limit::BufferedSignals, buffered, BUFFERED_SIGNALS_MAX)?;
        room(Limit::Gates, self.gates.len(), GATES_MAX)?;
        self.append(SignalReceived { gate, id, answer })
    }

    /// Refuses an answer to a gate that is not open, or was opened after the last entry that the sender has seen.
    fn gate_as_seen(&self, gate: &GateName, seen: Seq) -> Result<(), Rejection> {
        let Some(Gate::Open { opened, .. }) = self.gates.get(gate) else {
            return Err(Rejection::none_named(Missing::OpenGate, gate));
        };
        self.as_seen(|| format!("gate '{gate}'"), *opened, seen, || "open".to_owned())
    }

    /// The reply to a signal where another, or the same one, came before it.
    fn signal_repeat(
        &self,
        gate: &GateName,
        signal: &SignalId,
        answer: &Payload,
    ) -> Option<Result<Decided, Rejection>> {
        let (by, first, said_in, result) = match self.gates.get(gate)? {
            Gate::Open { .. } => return None,
            Gate::Signalled {
                id,
                who,
                received,
                content,
            } => {
                let by = AnsweredBy::EarlierSignal {
                    id: id.clone(),
                    who: who.clone(),
                    received: *received,
                };
                (by, content, *received, ReplyResult::SignalBuffered)
            }
            Gate::Answered { by, content, seq } => {
                let result = ReplyResult::GateAnswered { by: by.clone() };
                (by.clone(), content, *seq, result)
            }
        };
        let same = match &by {
            AnsweredBy::Signal { id, .. } | AnsweredBy::EarlierSignal { id, .. } => id == signal,
            AnsweredBy::Deadline => false,
        };
        Some(if same && *first == ContentDigest::of(answer) {
            Ok(self.already_in(Some(said_in), result))
        } else if same {
            Err(Rejection::Exists {
                what: format!("signal '{signal}' of gate '{gate}'"),
            })
        } else {
            Err(Rejection::GateAnswered {
                gate: gate.clone(),
                by,
            })
        })
    }

    pub(super) fn expire_gate(&self, gate: &GateName, now: Timestamp) -> Result<Decided, Rejection> {
        self.counts()?;
        match self.gates.get(gate) {
            None | Some(Gate::Signalled { .. }) => Err(Rejection::none_named(Missing::OpenGate, gate)),
            Some(Gate::Open { deadline, .. }) if deadline.is_none_or(|deadline| deadline > now) => {
                let due = deadline.unwrap_or(Timestamp::MAX);
                Err(Rejection::TooEarly {
                    what: format!("the deadline of gate '{gate}'"),
                    due,
                })
            }
            Some(Gate::Open { .. }) => {
                let (gate, answer) = (gate.clone(), Payload::empty());
                self.append(Answered {
                    gate,
                    by: AnsweredBy::Deadline,
                    answer,
                })
            }
            Some(Gate::Answered {
                by: by @ AnsweredBy::Deadline,
                seq,
                ..
            }) => Ok(self.already_in(Some(*seq), ReplyResult::GateAnswered { by: by.clone() })),
            Some(Gate::Answered { by, .. }) => Err(Rejection::GateAnswered {
                gate: gate.clone(),
                by: by.clone(),
            }),
        }
    }

    pub(super) fn fold_gate_opened(&mut self, e: &Opened, opened: Seq) -> Result<(), String> {
        // The next entry answers the gate with the signal that came before.
        let earlier = match self.gates.get(&e.gate) {
            None => None,
            Some(Gate::Signalled { content, .. }) => Some(*content),
            Some(Gate::Open { .. } | Gate::Answered { .. }) => {
                return Err(format!("gate '{}' was opened before", e.gate));
            }
        };
        self.progress();
        let open = Gate::Open {
            deadline: e.deadline,
            opened,
            earlier,
        };
        self.gates.insert(e.gate.clone(), open);
        Ok(())
    }

    pub(super) fn fold_gate_answered(&mut self, e: &Answered, seq: Seq, at: Timestamp) -> Result<(), String> {
        let Some(gate @ Gate::Open { .. }) = self.gates.get_mut(&e.gate) else {
            return Err(format!("gate '{}' is not open", e.gate));
        };
        let earlier = match (&e.by, &*gate) {
            (AnsweredBy::EarlierSignal { .. }, Gate::Open { earlier, .. }) => *earlier,
            _ => None,
        };
        *gate = Gate::Answered {
            by: e.by.clone(),
            seq,
            content: earlier.unwrap_or_else(|| ContentDigest::of(&e.answer)),
        };
        self.wake(seq, at);
        Ok(())
    }

    pub(super) fn fold_signal(
        &mut self,
        e: &SignalReceived,
        received: Seq,
        who: Option<Principal>,
    ) -> Result<(), String> {
        if self.gates.contains_key(&e.gate) {
            return Err(format!("gate '{}' is there already", e.gate));
        }
        let signalled = Gate::Signalled {
            id: e.id.clone(),
            who,
            received,
            content: ContentDigest::of(&e.answer),
        };
        self.gates.insert(e.gate.clone(), signalled);
        Ok(())
    }
}

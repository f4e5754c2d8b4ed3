//! Gates: durable waits for a named signal. The first answer counts; whoever comes later is told.

use super::Run;
use super::check::room;
use crate::entry::EntryBody;
use crate::entry::gate::{Answered, AnsweredBy, Opened, SignalReceived};
use crate::id::{GateName, Principal, Seq, SignalId};
use crate::limits::{BUFFERED_SIGNALS_MAX, GATES_MAX};
use crate::payload::Payload;
use crate::reply::{Decided, Rejection, ReplyResult};
use crate::stream::decided;
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
    },
    /// It waits.
    Open {
        /// The wait ends here in any case.
        deadline: Option<Timestamp>,
    },
    /// The wait is over.
    Answered {
        /// By what.
        by: AnsweredBy,
        /// The entry that says so.
        seq: Seq,
    },
}

impl Gate {
    pub(super) const fn deadline(&self) -> Option<Timestamp> {
        if let Self::Open { deadline } = self {
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
        deadline: Option<Timestamp>,
    ) -> Result<Decided, Rejection> {
        let opened = EntryBody::from(Opened {
            gate: gate.clone(),
            deadline,
        });
        match self.gates.get(gate) {
            None => {
                room("gates of a run", self.gates.len(), GATES_MAX)?;
                Ok(decided(self.seq, vec![opened]))
            }
            Some(Gate::Signalled { id, who, received }) => {
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
    ) -> Result<Decided, Rejection> {
        self.alive()?;
        if let Some(repeat) = self.signal_repeat(gate, id) {
            return repeat;
        }
        self.counts()?;
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
        room("signals that wait for their gate", buffered, BUFFERED_SIGNALS_MAX)?;
        room("gates of a run", self.gates.len(), GATES_MAX)?;
        self.append(SignalReceived { gate, id, answer })
    }

    /// What a signal is told where another, or the same one, was there before it.
    fn signal_repeat(&self, gate: &GateName, signal: &SignalId) -> Option<Result<Decided, Rejection>> {
        let (by, result) = match self.gates.get(gate)? {
            Gate::Open { .. } => return None,
            Gate::Signalled { id, who, received } => {
                let by = AnsweredBy::EarlierSignal {
                    id: id.clone(),
                    who: who.clone(),
                    received: *received,
                };
                (by, ReplyResult::SignalBuffered)
            }
            Gate::Answered { by, .. } => (by.clone(), ReplyResult::GateAnswered { by: by.clone() }),
        };
        let same = match &by {
            AnsweredBy::Signal { id, .. } | AnsweredBy::EarlierSignal { id, .. } => id == signal,
            AnsweredBy::Deadline => false,
        };
        Some(if same {
            Ok(self.already(result))
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
            None | Some(Gate::Signalled { .. }) => Err(Rejection::NotFound { what: "open gate" }),
            Some(Gate::Open { deadline }) if deadline.is_none_or(|deadline| deadline > now) => {
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
                ..
            }) => Ok(self.already(ReplyResult::GateAnswered { by: by.clone() })),
            Some(Gate::Answered { by, .. }) => Err(Rejection::GateAnswered {
                gate: gate.clone(),
                by: by.clone(),
            }),
        }
    }

    pub(super) fn fold_gate_opened(&mut self, e: &Opened) -> Result<(), String> {
        if matches!(
            self.gates.get(&e.gate),
            Some(Gate::Open { .. } | Gate::Answered { .. })
        ) {
            return Err(format!("gate '{}' was opened before", e.gate));
        }
        self.progress();
        // A signal that is there already answers in the entry after this one.
        self.gates
            .insert(e.gate.clone(), Gate::Open { deadline: e.deadline });
        Ok(())
    }

    pub(super) fn fold_gate_answered(&mut self, e: &Answered, seq: Seq, at: Timestamp) -> Result<(), String> {
        let there = self
            .gates
            .get_mut(&e.gate)
            .filter(|gate| matches!(gate, Gate::Open { .. }));
        *there.ok_or_else(|| format!("gate '{}' is not open", e.gate))? = Gate::Answered {
            by: e.by.clone(),
            seq,
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
        self.gates.insert(
            e.gate.clone(),
            Gate::Signalled {
                id: e.id.clone(),
                who,
                received,
            },
        );
        Ok(())
    }
}

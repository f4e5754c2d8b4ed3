//! Where recorded effects stand.

use super::drift::{Differences, Drift, Place};
use crate::effect::{EffectSpec, Mode, Status, Undo};
use crate::entry::effect::AfterObservation;
use crate::entry::{Entry, EntryBody};
use crate::id::{EffectId, Seq};
use crate::json::word;
use crate::payload::Payload;
use crate::run::ARGUMENTS_ERASED;
use crate::time::Timestamp;

/// A recorded effect and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EffectRecord {
    /// What it is. Only digests are kept of its arguments and of those of its undo.
    pub spec: EffectSpec,
    /// Where it stands.
    pub status: Status,
    /// Its newest attempt, from 1; zero where none has started.
    pub attempt: u32,
    /// When its next attempt or observation is due, where it waits for one.
    pub due: Option<Timestamp>,
    /// Its outcome, once it is settled.
    pub settled: Option<Settled>,
    /// Why it waits, is unknown or is stuck; otherwise empty.
    pub why: String,
    /// The entry that began it.
    begun: Seq,
    /// Whether its arguments are erased: it can be neither sent nor asked about.
    erased: bool,
}

/// The outcome of an effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    /// It happened; the upstream answered this.
    Confirmed(Payload),
    /// It did not happen and will not.
    Failed {
        /// What went wrong.
        error: String,
        /// What the upstream answered, where it did.
        detail: Option<Payload>,
    },
}

impl EffectRecord {
    pub(super) fn begun(mut spec: EffectSpec, begun: Seq, at: Timestamp) -> Self {
        spec.args = spec.args.erased();
        if let Some(undo) = &mut spec.undo {
            undo.args = undo.args.erased();
        }
        let (status, attempt, due) = match spec.mode {
            Mode::Inline => (Status::Started, 1, None),
            Mode::Outbox => (Status::Pending, 0, Some(at)),
        };
        Self {
            spec,
            status,
            attempt,
            due,
            settled: None,
            why: String::new(),
            begun,
            erased: false,
        }
    }

    /// Folds that payloads of entries were erased.
    pub(super) fn erase(&mut self, entries: &[Seq]) {
        self.erased |= entries.contains(&self.begun);
        self.hold();
    }

    /// Marks it stuck if it would have to be sent or asked about without its arguments.
    fn hold(&mut self) {
        let waits = match self.status {
            Status::Pending => self.spec.mode == Mode::Outbox,
            status => status == Status::Unknown,
        };
        if self.erased && waits {
            self.status = Status::Stuck;
            (self.due, self.why) = (None, ARGUMENTS_ERASED.to_owned());
        }
    }

    /// Folds an entry about this effect. Entries that change nothing for a driver are skipped.
    pub(super) fn fold(&mut self, entry: Entry) {
        match entry.body {
            EntryBody::EffectStarted(started) => {
                self.attempt = started.attempt;
                self.stand(Status::Started, None, String::new());
            }
            EntryBody::EffectConfirmed(confirmed) => {
                self.settle(Status::Confirmed, Settled::Confirmed(confirmed.result));
            }
            EntryBody::EffectFailed(failed) => {
                self.settle(
                    Status::Failed,
                    Settled::Failed {
                        error: failed.error,
                        detail: failed.detail,
                    },
                );
            }
            EntryBody::EffectDeferred(deferred) => {
                self.stand(Status::Pending, Some(deferred.next_at), deferred.error);
            }
            EntryBody::EffectUnknown(unknown) => {
                self.stand(Status::Unknown, Some(unknown.observe_at), unknown.cause);
            }
            EntryBody::EffectObserved(observed) => self.observed(observed.then, observed.why),
            EntryBody::EffectResendAllowed(allowed) => {
                self.stand(Status::Pending, Some(entry.decided_at), allowed.reason);
            }
            _ => {}
        }
    }

    fn observed(&mut self, then: AfterObservation, why: String) {
        match then {
            // The next entry says how.
            AfterObservation::Settle => {}
            AfterObservation::Resend { at } => self.stand(Status::Pending, Some(at), "absent".to_owned()),
            AfterObservation::ObserveAgain { at } => {
                (self.status, self.due) = (Status::Unknown, Some(at));
                if !why.is_empty() {
                    self.why = why;
                }
            }
            AfterObservation::Stuck { reason } => self.stand(Status::Stuck, None, reason),
        }
    }

    fn stand(&mut self, status: Status, due: Option<Timestamp>, why: String) {
        (self.status, self.due, self.why) = (status, due, why);
        self.hold();
    }

    fn settle(&mut self, status: Status, settled: Settled) {
        self.stand(status, None, String::new());
        self.settled = Some(settled);
    }

    /// Compares every part of `asked` with the record. Without this check the recorded effect would be used, and a change of the agent's
    /// code would silently have no effect.
    pub(super) fn compare(&self, effect: &EffectId, asked: &EffectSpec) -> Result<(), Box<Drift>> {
        let recorded = &self.spec;
        let mut differences = Differences::default();
        differences.compare(
            "connector",
            &recorded.connector,
            &asked.connector,
            ToString::to_string,
        );
        differences.compare(
            "operation",
            &recorded.operation,
            &asked.operation,
            ToString::to_string,
        );
        differences.compare("semantics", &recorded.semantics, &asked.semantics, word);
        differences.compare("mode", &recorded.mode, &asked.mode, word);
        differences.compare_payloads("args", &recorded.args, &asked.args);
        differences.compare(
            "business key",
            &recorded.business_key,
            &asked.business_key,
            |key| {
                key.as_ref()
                    .map_or_else(|| "none".to_owned(), |key| format!("'{key}'"))
            },
        );
        compare_undo(&mut differences, recorded.undo.as_ref(), asked.undo.as_ref());
        differences.compare("reservation", &recorded.reserve, &asked.reserve, |spends| {
            let spends: Vec<String> = spends
                .iter()
                .map(|spend| format!("{} of '{}'", spend.amount, spend.budget))
                .collect();
            if spends.is_empty() {
                "none".to_owned()
            } else {
                spends.join(" and ")
            }
        });
        differences.compare("policy", &recorded.policy, &asked.policy, word);
        differences.at(|| Place::Effect(effect.clone()))
    }
}

fn compare_undo(differences: &mut Differences, recorded: Option<&Undo>, asked: Option<&Undo>) {
    let operation = |undo: Option<&Undo>| undo.map(|undo| undo.operation.clone());
    differences.compare("undo", &operation(recorded), &operation(asked), |operation| {
        operation
            .as_ref()
            .map_or_else(|| "none".to_owned(), ToString::to_string)
    });
    if let (Some(recorded), Some(asked)) = (recorded, asked) {
        differences.compare_payloads("undo args", &recorded.args, &asked.args);
    }
}

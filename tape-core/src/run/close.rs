//! How a run ends: completed, or failed or cancelled once its effects are undone.

use super::check::text;
use super::{Effect, ObligationStatus, Phase, Run, effect, obligation};
use crate::effect::{Semantics, SettledBy, Status};
use crate::entry::effect::Failed;
use crate::entry::run::RunOutcome;
use crate::entry::run::{CancelRequested, Cancelled, Compensating, Completed, UnhappyOutcome};
use crate::entry::{Entry, EntryBody, run};
use crate::id::{EffectId, RequestId};
use crate::payload::{Digest, Payload};
use crate::reply::decided;
use crate::reply::{Decided, Field, Rejection, ReplyResult};
use crate::time::{Now, Timestamp};

impl Run {
    pub(super) fn complete(&self, output: &Payload) -> Result<Decided, Rejection> {
        if let Some((effect, _)) = self.unsettled() {
            return Err(Rejection::Unsettled {
                what: format!("effect {effect}"),
            });
        }
        // Only the obligations of duplicates are released in a healthy run.
        if let Some(released) = self
            .obligations
            .iter()
            .find(|o| o.status != ObligationStatus::Armed)
        {
            return Err(Rejection::Unsettled {
                what: obligation::name(&released.id),
            });
        }
        self.append(Completed {
            output: output.clone(),
        })
    }

    pub(super) fn cancel(&self, reason: &str, now: Now) -> Result<Decided, Rejection> {
        if let Phase::Ended {
            ending: ending @ RunOutcome::Cancelled { .. },
        } = &self.phase
        {
            let result = ReplyResult::Ended {
                ending: ending.clone(),
            };
            return Ok(self.already_in(self.retired_in().or_else(|| self.ended_in()), result));
        }
        self.counts()?;
        text(Field::Reason, reason)?;
        // A stuck run accepts no commands of a driver, even if its lease is held: there is no driver to wait for.
        let waits = self.stuck.is_none() && self.driver_at(now)?;
        let first = self.cancel_requested();
        if waits && first.is_some() {
            return Ok(self.already_in(self.ending_said.first(), ReplyResult::Recorded));
        }
        // The first reason counts.
        let reason = first.unwrap_or(reason).to_owned();
        if waits {
            return self.append(CancelRequested { reason });
        }
        self.close(UnhappyOutcome::Cancelled { reason }, now.at())
    }

    pub(super) fn accept_cancel(&self, now: Timestamp) -> Result<Decided, Rejection> {
        let invalid = Rejection::Invalid {
            field: Field::Cancel,
            problem: "no cancellation was requested".to_owned(),
        };
        let reason = self.cancel.clone().ok_or(invalid)?;
        self.close(UnhappyOutcome::Cancelled { reason }, now)
    }

    /// Ends the run, once nothing is under way and everything is undone.
    pub(super) fn close(&self, then: UnhappyOutcome, now: Timestamp) -> Result<Decided, Rejection> {
        let mut entries: Vec<EntryBody> = self
            .effects
            .iter()
            .filter_map(|(id, effect)| break_off(id, effect, now))
            .collect();
        entries.push(Compensating { then }.into());
        Ok(decided(self.seq, entries))
    }

    /// Adds the end of the run to a command that undoes or settles the last item.
    pub(super) fn finish_unwinding(&self, decided: Decided, now: Timestamp) -> Result<Decided, Rejection> {
        let unwinds = |body: &EntryBody| matches!(body, EntryBody::RunCompensating(_));
        let compensating = matches!(self.phase, Phase::Compensating { .. });
        if decided.entries.is_empty() || !(compensating || decided.entries.iter().any(unwinds)) {
            return Ok(decided);
        }
        let after = self.after_entries(&decided.entries, now);
        let Phase::Compensating { then } = &after.phase else {
            return Ok(decided);
        };
        if after.unsettled().is_some() || !after.obligations.is_empty() {
            return Ok(decided);
        }
        let mut entries = decided.entries;
        // A run with nothing to undo ends at once.
        entries.retain(|body| !unwinds(body));
        entries.push(match then.clone() {
            UnhappyOutcome::Failed { error } => run::Failed { error }.into(),
            UnhappyOutcome::Cancelled { reason } => Cancelled { reason }.into(),
        });
        Ok(crate::reply::decided(self.seq, entries))
    }

    /// The state after these entries. The rules about the consequences of a command read them from that state.
    fn after_entries(&self, entries: &[EntryBody], now: Timestamp) -> Self {
        let mut after = self.clone();
        let request = RequestId::from_u128(0);
        for body in entries {
            let entry = Entry {
                seq: after.seq.next(),
                at: now,
                decided_at: now,
                request,
                principal: None,
                trace: None,
                command: None,
                body: body.clone(),
                digest: Digest::default(),
            };
            after.fold(&entry).expect("what was decided can be folded");
        }
        after
    }
}

/// The entry for an effect whose run ends: it fails if it cannot have acted, and becomes UNKNOWN if it may have. None where nothing
/// changes: it is settled or stuck, a worker has it, or the upstream is being asked about it.
fn break_off(id: &EffectId, effect: &Effect, now: Timestamp) -> Option<EntryBody> {
    let unknown = |cause: &str| Some(effect::unknown(id.clone(), cause.to_owned(), now));
    match effect.status {
        Status::Pending if effect.doubt => unknown("the run ended before it was sent again"),
        Status::Pending => Some(not_sent(id.clone())),
        Status::Stuck if effect.is_held_unsent() => Some(not_sent(id.clone())),
        Status::Started if effect.semantics == Semantics::ReadOnly => Some(not_sent(id.clone())),
        Status::Started if effect.is_inline() => unknown("the run ended while it was running"),
        Status::Started | Status::Unknown | Status::Stuck | Status::Confirmed | Status::Failed => None,
    }
}

fn not_sent(effect: EffectId) -> EntryBody {
    let by = SettledBy::Rule {
        reason: "the run ended before it was sent".to_owned(),
    };
    Failed {
        effect,
        by,
        error: "not sent".to_owned(),
        detail: None,
    }
    .into()
}

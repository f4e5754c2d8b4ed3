//! Suspension: a run waits without a driver.

use super::check::moment;
use super::{Effect, Gate, Run};
use crate::entry::run::Suspended;
use crate::id::{EffectId, Seq};
use crate::reply::{Decided, Field, Rejection};
use crate::time::{Deadline, Timestamp};

impl Run {
    /// Only a driver makes the next attempt at an inline effect. If the run is suspended before that attempt, it is driven again when the
    /// attempt is due.
    pub(super) fn suspend(
        &self,
        seen: Seq,
        resume: Option<Deadline>,
        now: Timestamp,
    ) -> Result<Decided, Rejection> {
        self.is_there(seen)?;
        if self.event > seen {
            return Err(Rejection::Woken { seq: self.event });
        }
        let under_way = |(_, effect): &(&EffectId, &Effect)| effect.is_drivers_now(now);
        if let Some((effect, _)) = self.effects.iter().find(under_way) {
            return Err(Rejection::Unsettled {
                what: format!("effect {effect}"),
            });
        }
        let attempts = self.effects.values().filter(|effect| effect.is_drivers());
        let resume_at = resume
            .map(|asked| moment(Field::Resume, asked, now))
            .transpose()?;
        let resume_at = attempts.filter_map(|effect| effect.due).chain(resume_at).min();
        if resume_at.is_none() && !self.will_be_woken() {
            return Err(Rejection::Invalid {
                field: Field::Resume,
                problem:
                    "is needed, since no open gate, pending timer or unsettled effect would wake the run"
                        .to_owned(),
            });
        }
        self.append(Suspended { resume_at })
    }

    /// Whether a gate, timer or effect is open whose end wakes a waiting run.
    fn will_be_woken(&self) -> bool {
        self.unsettled().is_some()
            || self.gates.values().any(|gate| matches!(gate, Gate::Open { .. }))
            || self.timers.values().any(|timer| timer.due().is_some())
    }
}

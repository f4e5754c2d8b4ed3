//! Suspension: a run waits without a driver.

use super::{Effect, Gate, Run};
use crate::entry::run::Suspended;
use crate::id::{EffectId, Seq};
use crate::reply::{Decided, Rejection};
use crate::time::Timestamp;

impl Run {
    pub(super) fn suspend(&self, seen: Seq, resume_at: Option<Timestamp>) -> Result<Decided, Rejection> {
        self.is_there(seen)?;
        if self.event > seen {
            return Err(Rejection::Woken { seq: self.event });
        }
        let drivers = |(_, effect): &(&EffectId, &Effect)| effect.is_drivers();
        if let Some((effect, _)) = self.effects.iter().find(drivers) {
            return Err(Rejection::Unsettled {
                what: format!("effect {effect}"),
            });
        }
        if resume_at.is_none() && !self.will_be_woken() {
            return Err(Rejection::Invalid {
                field: "resume",
                problem:
                    "is needed, since no open gate, pending timer or unsettled effect would wake the run"
                        .to_owned(),
            });
        }
        self.append(Suspended { resume_at })
    }

    /// Whether something is under way whose end wakes a run that waits.
    fn will_be_woken(&self) -> bool {
        self.unsettled().is_some()
            || self.gates.values().any(|gate| matches!(gate, Gate::Open { .. }))
            || self.timers.values().any(|timer| timer.due().is_some())
    }
}

//! `tape release`: ends a lease or claim whose holder is gone for good.

use crate::name::{RunPath, path};
use crate::remedy::Remedy;
use crate::text::time;
use crate::{Context, Failure, foreseen, show};
use clap::Args;
use serde_json::json;
use std::process::ExitCode;
use tape_client::Error;
use tape_client::core::command::{Claimed, ExternalCommand};
use tape_client::core::decider::Decider as _;
use tape_client::core::entry::obligation::ObligationId;
use tape_client::core::id::{EffectId, Holder};
use tape_client::core::reply::{Field, Missing, Rejection};
use tape_client::core::run::{Lease, ObligationStatus, Run};
use tape_client::core::time::Timestamp;

/// Ends the lease of a run's driver, or a worker's claim on an effect or its undo, whose holder is gone for good. A lease or claim of a
/// live holder ends by itself. Without `--until`, prints the holder and the end, and changes nothing.
#[derive(Debug, Args)]
pub(crate) struct Release {
    /// The run.
    run: RunPath,
    /// The effect that is claimed; without it, the lease of the run.
    effect: Option<EffectId>,
    /// The claim on the effect's undo, instead of the effect.
    #[arg(long, requires = "effect")]
    undo: bool,
    /// With `--undo`: the undo of the n-th duplicate.
    #[arg(long, value_name = "N", requires = "undo", default_value_t = 0)]
    duplicate: u16,
    /// When it ends, as this command printed it, in microseconds. A lease or claim that was renewed or taken since then stays.
    #[arg(long, value_name = "MICROSECONDS", requires = "reason")]
    until: Option<i64>,
    /// Why. The release of a claim records the reason; the release of a lease records only the name.
    #[arg(long)]
    reason: Option<String>,
}

impl Release {
    pub(crate) async fn run(self, context: &mut Context<'_>) -> Result<ExitCode, Failure> {
        let reading = show::read(context, &self.run.0).await?;
        let claimed = self.claimed();
        let (holder, until) = held(&reading.state, claimed.as_ref())
            .ok_or_else(|| rejected(Rejection::not_found(Missing::LeaseOrClaim)))?;
        let Some(seen) = self.until else {
            let micros = until.as_micros();
            let remedy = self.remedy(until).to_string();
            let told = json!({"holder": holder.as_str(), "until_us": micros, "remedies": [remedy]});
            let line = if until > context.tape.now() {
                format!("{holder} has it until {}; to end it:", time(until))
            } else {
                let until = time(until);
                format!(
                    "{holder} had it until {until}: it has run out, and others may take it; to end it for certain:"
                )
            };
            context.say(&told, &line)?;
            context.note(&format!("  tape {remedy}"))?;
            return Ok(ExitCode::FAILURE);
        };
        let (right, until_then) = (self.right(), time(until));
        let what =
            format!("ends {right}, which {holder} has until {until_then}: others may go on with it at once");
        let reason = self.reason.clone().unwrap_or_default();
        let seen = Timestamp::from_micros(seen);
        match &claimed {
            Some(claimed) => {
                let told = ExternalCommand::ReleaseClaim {
                    claimed: claimed.clone(),
                    until: seen,
                    reason: reason.clone(),
                };
                foreseen::ask(context, &reading.state, told, &what)?;
            }
            None if seen == until => context.consent.ask(&what)?,
            None => return Err(renewed(&holder, until)),
        }
        let tape = &context.tape;
        let reply = match claimed {
            Some(claimed) => tape.release_claim(&self.run.0, claimed, seen, &reason).await?,
            None => {
                let epoch = reading.state.epoch();
                tape.release_lease(&self.run.0, epoch, reading.state.seq())
                    .await?
            }
        };
        let seq = reply.seq.0;
        context.say(
            &json!({"seq": seq, "done": "released"}),
            &format!("entry {seq}: released"),
        )?;
        Ok(ExitCode::SUCCESS)
    }

    pub(crate) const fn only_looks(&self) -> bool {
        self.until.is_none()
    }

    /// The lease or claim, as text.
    fn right(&self) -> String {
        let run = path(&self.run.0);
        match (&self.effect, self.undo) {
            (None, _) => format!("the lease of {run}"),
            (Some(effect), false) => format!("the claim on effect {effect} of {run}"),
            (Some(effect), true) => format!("the claim on the undo of effect {effect} of {run}"),
        }
    }

    /// The command that ends it.
    fn remedy(&self, until: Timestamp) -> Remedy {
        let mut remedy = Remedy::new("release").name(path(&self.run.0));
        if let Some(effect) = &self.effect {
            remedy = remedy.name(effect);
        }
        if self.undo {
            remedy = remedy.words("--undo").option("--duplicate", self.duplicate);
        }
        remedy.option("--until", until.as_micros()).words("--reason WHY")
    }

    fn claimed(&self) -> Option<Claimed> {
        let effect = self.effect.clone()?;
        Some(if self.undo {
            let copy = self.duplicate;
            Claimed::Obligation(ObligationId { effect, copy })
        } else {
            Claimed::Effect(effect)
        })
    }
}

/// The holder of the lease or claim, and its end.
fn held(run: &Run, claimed: Option<&Claimed>) -> Option<(Holder, Timestamp)> {
    let claim = match claimed {
        None => {
            let Lease::Held { holder, until, .. } = run.lease() else {
                return None;
            };
            return Some((holder.clone(), *until));
        }
        Some(Claimed::Effect(effect)) => run.effects().get(effect)?.claim.as_ref()?,
        Some(Claimed::Obligation(id)) => {
            let obligation = run.obligations().iter().find(|obligation| obligation.id == *id)?;
            let ObligationStatus::Started { claim } = &obligation.status else {
                return None;
            };
            claim
        }
    };
    Some((claim.holder.clone(), claim.until))
}

fn renewed(holder: &Holder, until: Timestamp) -> Failure {
    let problem = format!(
        "the lease is held by {holder} until {} now: look again",
        until.as_micros()
    );
    rejected(Rejection::Invalid {
        field: Field::Until,
        problem,
    })
}

fn rejected(rejection: Rejection) -> Failure {
    Error::Rejected(Box::new(rejection)).into()
}

//! Commands of people to runs: `tape signal`, `approve`, `settle`, `retry`, `cancel`.

use crate::name::{RunPath, path};
use crate::show::Reading;
use crate::text::counted;
use crate::{Context, Failure, foreseen, show};
use clap::Args;
use serde_json::json;
use std::process::ExitCode;
use tape_client::core::command::{ExternalCommand, Verdict};
use tape_client::core::decider::Decider as _;
use tape_client::core::effect::Undo;
use tape_client::core::entry::obligation::ObligationId;
use tape_client::core::id::{EffectId, GateName, Operation, Seq, SignalId};
use tape_client::core::reply::{Reply, ReplyResult};
use tape_client::core::run::{ObligationStatus, Run};
use tape_client::{Error, Payload};

/// Answers a gate of a run, now or when it opens.
#[derive(Debug, Args)]
pub(crate) struct Signal {
    /// The run.
    run: RunPath,
    /// The gate.
    gate: GateName,
    /// What the signal carries: JSON, or otherwise a text.
    #[arg(default_value = "true")]
    answer: String,
    /// A name for the signal: a signal sent twice under one name counts once.
    #[arg(long)]
    id: Option<SignalId>,
}

/// Answers an open gate with yes or no, and a reason: `{"approved": true, "reason": WHY}`.
///
/// To answer a gate before it opens, use `tape signal`.
#[derive(Debug, Args)]
pub(crate) struct Approve {
    /// The run.
    run: RunPath,
    /// The gate.
    gate: GateName,
    /// Answers no instead.
    #[arg(long)]
    deny: bool,
    /// Why, for the record.
    #[arg(long)]
    reason: String,
    /// A name for the answer: an answer sent twice under one name counts once.
    #[arg(long)]
    id: Option<SignalId>,
    /// The last entry that you have seen, as `tape show` numbers it. A gate that was opened after it is not answered.
    #[arg(long, value_name = "ENTRY")]
    seen: Option<u64>,
}

/// Settles an effect that is unknown or stuck, or the next undo where no worker has it, on your word.
///
/// The command reads the run, prints the status of the effect and settles it. If the effect changes in between, the command is refused. Use
/// `--attempt` or `--seen` to say what you have looked at yourself.
#[derive(Debug, Args)]
pub(crate) struct Settle {
    /// The run.
    run: RunPath,
    /// The effect, such as `#0.0`, or `planner#2.1` in a scope.
    effect: EffectId,
    #[command(flatten)]
    verdict: Said,
    /// The operation that undoes the effect, if the upstream's answer tells. Otherwise the undo that the agent gave when the effect began
    /// holds.
    #[arg(long, value_name = "OPERATION", requires = "confirmed")]
    undo: Option<Operation>,
    /// The arguments of that operation: JSON, or otherwise a text.
    #[arg(long, value_name = "ARGS", requires = "undo", default_value = "null")]
    undo_args: String,
    /// With `--undone`: the undo of the n-th duplicate instead of the effect itself.
    #[arg(long, value_name = "N", requires = "undone", default_value_t = 0)]
    duplicate: u16,
    #[command(flatten)]
    pin: Pin,
    /// Why, for the record.
    #[arg(long)]
    reason: String,
}

/// What a verdict is about.
#[derive(Debug, Args)]
struct Pin {
    /// The attempt that you have looked at. If there is a newer one by now, nothing is done.
    #[arg(long, value_name = "N")]
    attempt: Option<u32>,
    /// The last entry that you have seen, as `tape show` numbers it. If the effect or undo changed after it, nothing is done.
    #[arg(long, value_name = "ENTRY")]
    seen: Option<u64>,
}

impl Pin {
    /// The last entry that the verdict is about, after a check of its subject's status in the run as just read.
    fn check(
        &self,
        context: &mut Context<'_>,
        state: &Run,
        what: &str,
        standing: &str,
        attempt: u32,
    ) -> Result<Seq, Failure> {
        context.note(&format!("{what} is {standing} in attempt {attempt}"))?;
        match self.attempt {
            Some(given) if given != attempt => Err(Error::Invalid {
                what: "attempt",
                problem: format!("is {given}, but {what} is {standing} in attempt {attempt}: look again"),
            }
            .into()),
            _ => Ok(self.seen.map_or_else(|| state.seq(), Seq)),
        }
    }
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Said {
    /// It happened. The value is the upstream's answer, as far as you know it: JSON, or otherwise a text.
    #[arg(long, value_name = "RESULT", num_args = 0..=1, default_missing_value = "null")]
    confirmed: Option<String>,
    /// It did not happen, and is not sent again.
    #[arg(long)]
    failed: bool,
    /// It did not happen: send it again.
    #[arg(long)]
    resend: bool,
    /// You have undone it yourself, because its undo is stuck or no worker carries it out. The last effect is undone first.
    #[arg(long)]
    undone: bool,
}

/// Lets a stuck run continue: it is driven again or, with `--undo`, its stuck undo is tried again.
#[derive(Debug, Args)]
pub(crate) struct Retry {
    /// The run.
    run: RunPath,
    /// The effect whose undo is stuck.
    #[arg(long, value_name = "EFFECT")]
    undo: Option<EffectId>,
    /// The undo of the n-th duplicate instead of the effect itself.
    #[arg(long, value_name = "N", requires = "undo", default_value_t = 0)]
    duplicate: u16,
    /// With `--undo`: the attempt that you have looked at. If there is a newer one by now, nothing is done.
    #[arg(long, value_name = "N", requires = "undo")]
    attempt: Option<u32>,
    /// The last entry that you have seen, as `tape show` numbers it. If the run became stuck or the undo changed after it, nothing is done.
    #[arg(long, value_name = "ENTRY")]
    seen: Option<u64>,
    /// Why, for the record.
    #[arg(long)]
    reason: String,
}

/// Cancels a run and has its effects undone.
///
/// A driver that has the run is told, and accepts. A run whose driver is gone is cancelled at once, also if its cancellation was requested
/// before.
#[derive(Debug, Args)]
pub(crate) struct Cancel {
    /// The run.
    run: RunPath,
    /// Why, for the record.
    #[arg(long)]
    reason: String,
}

impl Signal {
    pub(crate) async fn run(self, context: &mut Context<'_>) -> Result<ExitCode, Failure> {
        let answer = payload(&self.answer)?;
        let id = signal_id(context, self.id)?;
        let reply = context.tape.signal(&self.run.0, self.gate, id, answer).await?;
        done(context, &reply)
    }
}

impl Approve {
    pub(crate) async fn run(self, context: &mut Context<'_>) -> Result<ExitCode, Failure> {
        let answer = Payload::json(&json!({"approved": !self.deny, "reason": self.reason}));
        let state = show::read(context, &self.run.0).await?.state;
        let seen = self.seen.map_or_else(|| state.seq(), Seq);
        let id = signal_id(context, self.id)?;
        let reply = context
            .tape
            .answer(&self.run.0, self.gate, id, answer, seen)
            .await?;
        done(context, &reply)
    }
}

fn signal_id(context: &Context<'_>, id: Option<SignalId>) -> Result<SignalId, Error> {
    let fresh = || SignalId::new(format!("cli-{:016x}", context.tape.environment().random_u64()));
    Ok(id.map_or_else(fresh, Ok)?)
}

/// The last entry that a verdict on an undo is about.
fn undo_seen(
    context: &mut Context<'_>,
    state: &Run,
    obligation: &ObligationId,
    pin: &Pin,
) -> Result<Seq, Failure> {
    let Some(it) = state.obligations().iter().find(|it| it.id == *obligation) else {
        return Ok(pin.seen.map_or_else(|| state.seq(), Seq));
    };
    let what = match obligation.copy {
        0 => format!("the undo of effect {}", obligation.effect),
        n => format!("the undo of duplicate {n} of effect {}", obligation.effect),
    };
    let standing = match &it.status {
        ObligationStatus::Armed => "armed",
        ObligationStatus::Due { .. } => "due",
        ObligationStatus::Started { .. } => "started",
        ObligationStatus::Stuck { .. } => "stuck",
    };
    pin.check(context, state, &what, standing, it.attempt)
}

impl Retry {
    pub(crate) async fn run(self, context: &mut Context<'_>) -> Result<ExitCode, Failure> {
        let run = &self.run.0;
        let state = show::read(context, run).await?.state;
        let pin = Pin {
            attempt: self.attempt,
            seen: self.seen,
        };
        let reply = match self.undo {
            Some(effect) => {
                let obligation = ObligationId {
                    effect,
                    copy: self.duplicate,
                };
                let seen = undo_seen(context, &state, &obligation, &pin)?;
                let settled = context
                    .tape
                    .settle_obligation(run, obligation, true, seen, &self.reason);
                settled.await?
            }
            None => {
                let seen = pin.seen.map_or_else(|| state.seq(), Seq);
                context.tape.retry(run, seen, &self.reason).await?
            }
        };
        done(context, &reply)
    }
}

impl Settle {
    pub(crate) async fn run(self, context: &mut Context<'_>) -> Result<ExitCode, Failure> {
        let state = show::read(context, &self.run.0).await?.state;
        if self.verdict.undone {
            let obligation = ObligationId {
                effect: self.effect,
                copy: self.duplicate,
            };
            let seen = undo_seen(context, &state, &obligation, &self.pin)?;
            let (effect, of) = (&obligation.effect, path(&self.run.0));
            let what = format!("takes effect {effect} of {of} for undone, on your word");
            let told = ExternalCommand::SettleObligation {
                obligation: obligation.clone(),
                retry: false,
                reason: self.reason.clone(),
                seen,
            };
            foreseen::ask(context, &state, told, &what)?;
            let settled = context
                .tape
                .settle_obligation(&self.run.0, obligation, false, seen, &self.reason);
            let reply = settled.await?;
            return done(context, &reply);
        }
        let seen = match state.effects().get(&self.effect) {
            Some(it) => {
                let what = format!("effect {} {} {}", self.effect, it.connector, it.operation);
                self.pin
                    .check(context, &state, &what, it.status.as_str(), it.attempt)?
            }
            None => self.pin.seen.map_or_else(|| state.seq(), Seq),
        };
        let what = format!("effect {} of {}", self.effect, path(&self.run.0));
        let what = match &self.verdict {
            Said {
                confirmed: Some(_), ..
            } => format!("takes {what} for done, on your word"),
            Said { failed: true, .. } => format!("takes {what} for not done, for good, on your word"),
            Said { .. } => format!("has {what} sent again, on your word that it was not done"),
        };
        let undo = |operation| {
            Ok::<_, Failure>(Undo {
                operation,
                args: payload(&self.undo_args)?,
            })
        };
        let verdict = match self.verdict {
            Said {
                confirmed: Some(result),
                ..
            } => Verdict::Confirmed {
                result: payload(&result)?,
                undo: self.undo.map(undo).transpose()?,
            },
            Said { failed: true, .. } => Verdict::Failed,
            Said { .. } => Verdict::Resend,
        };
        let told = ExternalCommand::SettleEffect {
            effect: self.effect.clone(),
            verdict: verdict.clone(),
            reason: self.reason.clone(),
            seen,
        };
        foreseen::ask(context, &state, told, &what)?;
        let reply = context
            .tape
            .settle(&self.run.0, self.effect, verdict, seen, &self.reason)
            .await?;
        done(context, &reply)
    }
}

impl Cancel {
    pub(crate) async fn run(self, context: &mut Context<'_>) -> Result<ExitCode, Failure> {
        let run = &self.run.0;
        let reading = show::read(context, run).await?;
        let (of, status) = (path(run), reading.state.status().as_str());
        let did = did(&reading);
        let what = format!("ends {of} ({status}) for good, and has undone what it did: {did}");
        let told = ExternalCommand::Cancel {
            reason: self.reason.clone(),
        };
        foreseen::ask(context, &reading.state, told, &what)?;
        let reply = context.tape.cancel(run, &self.reason).await?;
        done(context, &reply)
    }
}

/// The effects of a run, as far as its journal knows.
fn did(reading: &Reading) -> String {
    let (happened, doubtful) = reading.acts();
    let undos = reading.state.obligations().len();
    let more = match doubtful {
        0 => String::new(),
        n => format!("; {n} more may have happened"),
    };
    let happened = counted(happened, "effect", "effects");
    format!("{happened} happened, {undos} to be undone{more}")
}

fn payload(text: &str) -> Result<Payload, Error> {
    let is_json = serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
    Ok(Payload::new(
        if is_json { Payload::JSON } else { "text/plain" },
        text.to_owned(),
    )?)
}

fn done(context: &mut Context<'_>, reply: &Reply) -> Result<ExitCode, Failure> {
    let what = match &reply.result {
        ReplyResult::SignalBuffered => "recorded; it answers the gate when the gate opens",
        ReplyResult::GateAnswered { .. } => "the gate is answered",
        ReplyResult::Compensating => "what the run did is being undone",
        ReplyResult::Ended { .. } => "the run has ended",
        _ => "recorded",
    };
    say(context, reply.seq.0, what)
}

pub(crate) fn say(context: &mut Context<'_>, seq: u64, what: &str) -> Result<ExitCode, Failure> {
    context.say(
        &json!({"seq": seq, "done": what}),
        &format!("entry {seq}: {what}"),
    )?;
    Ok(ExitCode::SUCCESS)
}

//! Entries as lines of text.

use crate::text::{counted, preview, raw, time};
use serde::Serialize;
use serde_json::value::RawValue;
use tape_client::core::effect::{SettledBy, Undo};
use tape_client::core::entry::effect::AfterObservation;
use tape_client::core::entry::gate::AnsweredBy;
use tape_client::core::entry::relay::RecordedErasure;
use tape_client::core::entry::run::UnhappyOutcome;
use tape_client::core::entry::{Entry, EntryBody};
use tape_client::core::id::{Principal, RequestId, Seq, StreamId};
use tape_client::core::json::word;
use tape_client::core::payload::Digest;

/// An entry as a line.
pub(crate) struct Line {
    what: String,
    told: String,
}

impl Line {
    pub(crate) fn of(stream: &StreamId, entry: &Entry) -> Self {
        let what = subject(&entry.body).unwrap_or_else(|| entry.body.kind().to_owned());
        let mut told = tell(stream, &entry.body);
        if let Some(who) = &entry.principal {
            told.push_str(&format!("  (by {who})"));
        }
        Self { what, told }
    }

    pub(crate) fn text(&self) -> String {
        format!("{:<22}  {}", self.what, self.told).trim_end().to_owned()
    }
}

/// An entry as JSON.
#[derive(Debug, Serialize)]
pub(crate) struct JsonEntry<'a> {
    stream: String,
    seq: Seq,
    at: String,
    entry: &'a EntryBody,
    /// The payloads exactly as recorded.
    payloads: Vec<Box<RawValue>>,
    by: Option<&'a Principal>,
    request: RequestId,
    digest: Digest,
}

impl<'a> JsonEntry<'a> {
    pub(crate) fn of(stream: &StreamId, entry: &'a Entry) -> Self {
        Self {
            stream: stream.to_string(),
            seq: entry.seq,
            at: time(entry.at),
            entry: &entry.body,
            payloads: entry.body.payloads().into_iter().map(raw).collect(),
            by: entry.principal.as_ref(),
            request: entry.request,
            digest: entry.digest,
        }
    }
}

/// The subject of an entry, if its kind does not already say it.
fn subject(body: &EntryBody) -> Option<String> {
    use EntryBody as E;
    Some(match body {
        E::DecisionRecorded(e) => format!("decision {}", e.position),
        E::EffectBegun(e) => format!("effect {}", e.effect),
        E::EffectStarted(e) => format!("effect {}", e.effect),
        E::EffectClaimRenewed(e) => format!("effect {}", e.effect),
        E::EffectConfirmed(e) => format!("effect {}", e.effect),
        E::EffectFailed(e) => format!("effect {}", e.effect),
        E::EffectDeferred(e) => format!("effect {}", e.effect),
        E::EffectUnknown(e) => format!("effect {}", e.effect),
        E::EffectObserving(e) => format!("effect {}", e.effect),
        E::EffectObserved(e) => format!("effect {}", e.effect),
        E::EffectResendAllowed(e) => format!("effect {}", e.effect),
        E::ObligationArmed(e) => format!("undo of {}", e.obligation.effect),
        E::ObligationStarted(e) => format!("undo of {}", e.obligation.effect),
        E::ObligationClaimRenewed(e) => format!("undo of {}", e.obligation.effect),
        E::ObligationDone(e) => format!("undo of {}", e.obligation.effect),
        E::ObligationDeferred(e) => format!("undo of {}", e.obligation.effect),
        E::ObligationStuck(e) => format!("undo of {}", e.obligation.effect),
        E::ObligationRetried(e) => format!("undo of {}", e.obligation.effect),
        E::GateOpened(e) => format!("gate {}", e.gate),
        E::GateAnswered(e) => format!("gate {}", e.gate),
        E::SignalReceived(e) => format!("gate {}", e.gate),
        E::TimerSet(e) => format!("timer {}", e.timer),
        E::TimerFired(e) => format!("timer {}", e.timer),
        E::TimerCancelled(e) => format!("timer {}", e.timer),
        E::BudgetOpened(e) => format!("budget {}", e.budget),
        E::SampleRecorded(e) => format!("sample {}#{} {}", e.scope, e.n, e.name),
        E::RunCheckpoint(e) => format!("checkpoint {}", e.label),
        _ => return None,
    })
}

fn tell(stream: &StreamId, body: &EntryBody) -> String {
    use EntryBody as E;
    match body {
        E::EffectBegun(_)
        | E::EffectStarted(_)
        | E::EffectClaimRenewed(_)
        | E::EffectConfirmed(_)
        | E::EffectFailed(_)
        | E::EffectDeferred(_)
        | E::EffectUnknown(_)
        | E::EffectObserving(_)
        | E::EffectObserved(_)
        | E::EffectResendAllowed(_) => effect(stream, body),
        E::ObligationArmed(e) => format!(
            "duplicate found; {} {} {}",
            e.connector,
            e.operation,
            preview(&e.args)
        ),
        E::ObligationStarted(e) => format!("attempt {} by {}", e.attempt, e.claim.holder),
        E::ObligationDone(e) => format!("done by {} {}", by(&e.by), preview(&e.result)),
        E::ObligationDeferred(e) => {
            let what = match e {
                e if e.unreached => "not sent, the upstream was not reached",
                e if e.not_done => "failed",
                _ => "may be done",
            };
            format!("{what}: {}; again at {}", e.error, time(e.next_at))
        }
        E::ObligationStuck(e) => format!("STUCK: {}", e.reason),
        E::ObligationRetried(e) => format!("to be tried again: {}", e.reason),
        E::DecisionRecorded(e) => {
            let model = if e.model.is_empty() {
                String::new()
            } else {
                format!("{}: ", e.model)
            };
            format!("{model}{}", preview(&e.response))
        }
        E::GateOpened(e) => e
            .deadline
            .map_or_else(|| "waits".to_owned(), |at| format!("waits until {}", time(at))),
        E::GateAnswered(e) => format!("answered by {} {}", answered(&e.by), preview(&e.answer)),
        E::SignalReceived(e) => format!("signal {} came early {}", e.id, preview(&e.answer)),
        E::TimerSet(e) => format!("due {}", time(e.due_at)),
        E::TimerFired(_) => "fired".to_owned(),
        E::TimerCancelled(_) => "cancelled".to_owned(),
        E::BudgetOpened(e) => format!("{} {}", e.limit, e.currency),
        E::SampleRecorded(e) => preview(&e.value),
        E::RelayRefused(_) | E::RelayRedelivered(_) | E::RelayReceipt(_) => report(body),
        other => life(other),
    }
}

/// What a relay reports.
fn report(body: &EntryBody) -> String {
    use EntryBody as E;
    match body {
        E::RelayRefused(e) => {
            let (seq, stream) = (e.entry.seq, &e.entry.stream);
            format!("entry {seq} of {stream} in attempt {}: {}", e.attempts, e.reason)
        }
        E::RelayRedelivered(e) => format!("what entry {} says was refused", e.refusal),
        E::RelayReceipt(e) => {
            let RecordedErasure { stream, seq } = &e.erasure;
            format!("{} erased what entry {seq} of {stream} says", e.subscriber)
        }
        _ => String::new(),
    }
}

fn effect(stream: &StreamId, body: &EntryBody) -> String {
    use EntryBody as E;
    match body {
        E::EffectBegun(e) => {
            let key = stream
                .as_run()
                .map(|run| format!("  key {}", e.effect.idempotency_key(run)))
                .unwrap_or_default();
            let (spec, mode) = (&e.spec, word(&e.spec.mode));
            format!(
                "{} {} {}  {mode}{key}",
                spec.connector,
                spec.operation,
                preview(&spec.args)
            )
        }
        E::EffectStarted(e) => {
            let who = e
                .claim
                .as_ref()
                .map(|claim| format!(" by {}", claim.holder))
                .unwrap_or_default();
            format!("attempt {}{who}", e.attempt)
        }
        E::EffectClaimRenewed(e) => format!("kept until {}", time(e.until)),
        E::EffectConfirmed(e) => {
            let undo = |undo: &Undo| format!(", undone by {} {}", undo.operation, preview(&undo.args));
            let undo = e.undo.as_ref().map(undo).unwrap_or_default();
            format!("confirmed by {} {}{undo}", by(&e.by), preview(&e.result))
        }
        E::EffectFailed(e) => format!("FAILED, says {}: {}", by(&e.by), e.error),
        E::EffectDeferred(e) => {
            let what = match e {
                e if e.unreached => "not sent, the upstream was not reached",
                e if e.lapsed => "may be done",
                _ => "not done",
            };
            format!("{what}: {}; again at {}", e.error, time(e.next_at))
        }
        E::EffectUnknown(e) => format!("UNKNOWN: {}", e.cause),
        E::EffectObserving(e) => format!("observation {} by {}", e.observation, e.claim.holder),
        E::EffectObserved(e) => {
            let then = match &e.then {
                AfterObservation::Settle => String::new(),
                AfterObservation::Resend { at } => format!("; sent again at {}", time(*at)),
                AfterObservation::ObserveAgain { at } => format!("; asked again at {}", time(*at)),
                AfterObservation::Stuck { reason } => format!("; STUCK: {reason}"),
            };
            let why = if e.why.is_empty() {
                String::new()
            } else {
                format!(": {}", e.why)
            };
            format!("observed: {}{why}{then}", word(&e.outcome))
        }
        E::EffectResendAllowed(e) => format!("may be sent again: {}", e.reason),
        _ => String::new(),
    }
}

fn life(body: &EntryBody) -> String {
    use EntryBody as E;
    match body {
        E::RunBegun(e) => preview(&e.input),
        E::RunCheckpoint(e) => preview(&e.state),
        E::PayloadErased(e) => {
            let entries: Vec<String> = e.entries.iter().map(ToString::to_string).collect();
            format!("of {}: {}", entries.join(", "), e.reason)
        }
        E::RunSuspended(e) => e
            .resume_at
            .map(|at| format!("until {} at the latest", time(at)))
            .unwrap_or_default(),
        E::RunCancelRequested(e) => e.reason.clone(),
        E::RunCompensating(e) => match &e.then {
            UnhappyOutcome::Failed { error } => format!("then failed: {error}"),
            UnhappyOutcome::Cancelled { reason } => format!("then cancelled: {reason}"),
        },
        E::RunStuck(e) => e.reason.clone(),
        E::RunRetried(e) => e.reason.clone(),
        E::RunCompleted(e) => preview(&e.output),
        E::RunFailed(e) => e.error.clone(),
        E::RunCancelled(e) => e.reason.clone(),
        E::RunRetired(e) => retired(e),
        E::LeaseAcquired(e) => {
            let recovery = if e.recovery { ", for recovery" } else { "" };
            format!(
                "{} until {} (epoch {}{recovery})",
                e.holder,
                time(e.until),
                e.epoch
            )
        }
        E::LeaseRenewed(e) => format!("until {}", time(e.until)),
        E::LeaseReleased(e) => {
            let undriven = if e.undriven { "no agent was reached; " } else { "" };
            format!("{undriven}recovery may take it from {}", time(e.redrive_at))
        }
        E::BudgetReserved(e) => format!("for decision {}: {}", e.position, spends(&e.spends)),
        E::BudgetReleased(e) => format!("for decision {}", e.position),
        E::SessionEventAppended(e) => format!("{} {}: {}", e.event, e.author, preview(&e.content)),
        E::SessionRewound(e) => format!("to entry {}", e.to),
        E::ValuePut(e) => format!("version {}: {}", e.version, preview(&e.value)),
        E::ValueDeleted(e) => format!("version {}", e.version),
        E::KeyTaken(e) => format!("by effect {} of {}", e.effect, StreamId::Run(e.run.clone())),
        _ => String::new(),
    }
}

fn retired(e: &tape_client::core::entry::run::Retired) -> String {
    use tape_client::core::entry::run::RunOutcome;

    let how = match &e.ending {
        RunOutcome::Completed => {
            let output = e.output.as_ref().or(e.output_erased.as_ref());
            format!("completed {}", output.map(preview).unwrap_or_default())
        }
        RunOutcome::Failed { error } => format!("failed: {error}"),
        RunOutcome::Cancelled { reason } => format!("cancelled: {reason}"),
    };
    let (dropped, ended) = (counted(e.dropped, "entry", "entries"), time(e.ended_at));
    format!("{dropped} dropped: {}; the run ended {ended}, {how}", e.reason)
}

fn spends(spends: &[tape_client::core::budget::Spend]) -> String {
    let spends = spends
        .iter()
        .map(|spend| format!("{} {}", spend.amount, spend.budget));
    spends.collect::<Vec<_>>().join(", ")
}

fn by(by: &SettledBy) -> String {
    match by {
        SettledBy::Driver => "the driver".to_owned(),
        SettledBy::Worker { holder } | SettledBy::Observer { holder } => holder.to_string(),
        SettledBy::Person { reason } => format!("a person ({reason})"),
        SettledBy::Rule { reason } => format!("rule ({reason})"),
    }
}

fn answered(by: &AnsweredBy) -> String {
    let signal = |id: &dyn std::fmt::Display, who: Option<&dyn std::fmt::Display>| {
        who.map_or_else(|| format!("signal {id}"), |who| format!("signal {id} of {who}"))
    };
    match by {
        AnsweredBy::Signal { id, who } | AnsweredBy::EarlierSignal { id, who, .. } => {
            signal(id, who.as_ref().map(|who| who as &dyn std::fmt::Display))
        }
        AnsweredBy::Deadline => "the deadline".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::tell;
    use tape_client::core::entry::obligation::{Deferred, ObligationId};
    use tape_client::core::entry::relay::{Receipt, RecordedErasure, Redelivered, Refused, SentEntry};
    use tape_client::core::id::Seq;
    use tape_client::core::payload::Digest;
    use tape_client::core::time::Timestamp;

    #[test]
    fn an_undo_whose_answer_was_lost_is_not_told_as_failed() {
        let stream = "acme/run/treasury/ann/s1/i1".parse().unwrap();
        for (not_done, unreached, told) in [
            (true, false, "failed: timeout; again at "),
            (false, false, "may be done: timeout; again at "),
            (
                true,
                true,
                "not sent, the upstream was not reached: timeout; again at ",
            ),
        ] {
            let deferred = Deferred {
                obligation: ObligationId {
                    effect: "#0.0".parse().unwrap(),
                    copy: 0,
                },
                error: "timeout".to_owned(),
                not_done,
                unreached,
                next_at: Timestamp::from_micros(0),
            };
            let line = tell(&stream, &deferred.into());
            assert!(line.starts_with(told), "{line}");
        }
    }

    #[test]
    fn what_a_relay_reports_names_the_entry_that_it_is_about() {
        let relay = "acme/relay/own/lake".parse().unwrap();
        let (stream, seq) = ("acme/value/rate".parse().unwrap(), Seq(7));
        let refused = Refused {
            entry: SentEntry {
                stream,
                seq,
                digest: Digest::default(),
            },
            attempts: 5,
            reason: "it is too large".to_owned(),
        };
        let erasure = RecordedErasure {
            stream: refused.entry.stream.clone(),
            seq,
        };
        let subscriber = "lake".parse().unwrap();
        for (body, told) in [
            (
                refused.into(),
                "entry 7 of acme/value/rate in attempt 5: it is too large",
            ),
            (
                Redelivered { refusal: Seq(3) }.into(),
                "what entry 3 says was refused",
            ),
            (
                Receipt { subscriber, erasure }.into(),
                "lake erased what entry 7 of acme/value/rate says",
            ),
        ] {
            assert_eq!(tell(&relay, &body), told);
        }
    }
}

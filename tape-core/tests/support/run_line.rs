//! Commands of runs as lines of a script.

use super::Journal;
use super::line::Line;
use super::names::{begin, holder, obligation, payload};
use tape_core::budget::Currency;
use tape_core::command::{
    AttemptOutcome, Claimed, DriverCommand, ExternalCommand, Held, RecordDecision, RunCommand, UndoOutcome,
    Verdict, WorkerCommand,
};
use tape_core::decider::Decider as _;
use tape_core::effect::{EffectPolicy, EffectSpec, Mode, Outcome, Semantics, Undo};
use tape_core::entry::decision::Usage;
use tape_core::entry::run::RunOutcome;
use tape_core::entry::{Entry, run as entry};
use tape_core::fingerprint::Fingerprint;
use tape_core::id::{BusinessKey, ConnectorName, EffectId, Epoch, Key, Operation, RequestId, Seq};
use tape_core::payload::Digest;
use tape_core::time::Deadline;

use tape_core::run::{Phase, Run};
use tape_core::time::Timestamp;

/// Reads a command; values that it leaves out are taken from `run`.
pub(crate) fn command(text: &str, run: &Run) -> RunCommand {
    let mut line = Line::new(text);
    let word = line.word();
    let epoch = line.pair("epoch").map_or_else(|| run.epoch(), Epoch);
    let command = if word == "begin" {
        begun(&mut line, run)
    } else if let Some(command) = driver(&word, &mut line, run) {
        RunCommand::Drive(epoch, command)
    } else if let Some(command) = worker(&word, &mut line, run) {
        RunCommand::Work(command)
    } else if word == "retire" {
        RunCommand::External(retire(&mut line, run))
    } else {
        RunCommand::External(outside(&word, &mut line, run))
    };
    line.end();
    command
}

/// The same, with values of the journal's last entry where the command names it.
pub(crate) fn command_in(text: &str, journal: &Journal<Run>) -> RunCommand {
    let mut command = command(text, &journal.state);
    if let RunCommand::External(ExternalCommand::Retire {
        last: Some(named), ..
    }) = &mut command
        && let Some(last) = journal.entries.last().filter(|last| last.seq == named.seq)
    {
        **named = last.clone();
    }
    command
}

/// Makes the last entry of the run, except for its digest.
fn retire(line: &mut Line, run: &Run) -> ExternalCommand {
    let body = match run.phase() {
        Phase::Ended {
            ending: RunOutcome::Failed { error },
        } => entry::Failed { error: error.clone() }.into(),
        Phase::Ended {
            ending: RunOutcome::Cancelled { reason },
        } => entry::Cancelled {
            reason: reason.clone(),
        }
        .into(),
        _ => entry::Completed {
            output: payload("output"),
        }
        .into(),
    };
    let last = Entry {
        seq: Seq(line.pair("last").unwrap_or_else(|| run.seq().0)),
        at: Timestamp::default(),
        decided_at: Timestamp::default(),
        request: RequestId::from_u128(0),
        principal: None,
        trace: None,
        command: None,
        body,
        digest: Digest::default(),
    };
    ExternalCommand::Retire {
        last: (!line.flag("unread")).then(|| Box::new(last)),
        ended: None,
        reason: line.rest(),
    }
}

fn begun(line: &mut Line, run: &Run) -> RunCommand {
    let mut begin = begin(&line.word(), line.pair("lease").unwrap_or(1_000));
    let adopt = line.pair("adopt").map(Epoch);
    begin.adopt = adopt.or_else(|| line.flag("adopts").then(|| run.epoch()));
    begin.recovery = line.flag("recovery");
    if line.flag("there") {
        begin.create = None;
    }
    let labels = line.pairs();
    if let Some(create) = &mut begin.create {
        create.labels = labels
            .into_iter()
            .map(|(key, value)| (Key::new(key).unwrap(), value))
            .collect();
    }
    RunCommand::Begin(begin)
}

fn driver(word: &str, line: &mut Line, run: &Run) -> Option<DriverCommand> {
    use DriverCommand as C;
    Some(match word {
        "renew" => C::RenewLease {
            lease_ms: line.pair("lease").unwrap_or(1_000),
        },
        "release" => C::ReleaseLease {
            redrive_in_ms: line.pair("in").unwrap_or(0),
            undriven: line.flag("undriven"),
        },
        "decide" => C::RecordDecision(decision(line)),
        "reserve" => C::ReserveForDecision {
            position: line.parse(),
            spends: line.spends("spends").unwrap_or_default(),
        },
        "unreserve" => C::ReleaseReservation {
            position: line.parse(),
        },
        "effect" => C::BeginEffect {
            effect: line.parse(),
            spec: spec(line),
        },
        "restart" => C::RestartEffect { effect: line.parse() },
        "finish" => {
            let (effect, attempt) = attempted(line, run);
            C::FinishEffect {
                effect,
                attempt,
                ending: ending(line),
            }
        }
        "gate" => C::OpenGate {
            gate: line.parse(),
            deadline: line.pair("deadline").map(Deadline::InMs),
        },
        "timer" => C::SetTimer {
            timer: line.parse(),
            due: Deadline::InMs(line.pair("due").unwrap_or(1_000)),
            note: payload("note"),
        },
        "untimer" => C::CancelTimer { timer: line.parse() },
        "budget" => C::OpenBudget {
            budget: line.parse(),
            limit: line.parse(),
            parent: line.pair("parent"),
            currency: match line.pair::<String>("currency").as_deref() {
                None | Some("micro_usd") => Currency::MicroUsd,
                Some("tokens") => Currency::Tokens,
                Some(unit) => Currency::Unit(Key::new(unit).unwrap()),
            },
        },
        "sample" => C::RecordSample {
            scope: line.pair("scope").unwrap_or_default(),
            n: line.parse(),
            name: line.parse(),
            value: payload("sample"),
        },
        "checkpoint" => C::Checkpoint {
            label: line.parse(),
            state: payload("state"),
        },
        "suspend" => C::Suspend {
            seen: line.pair("seen").map_or_else(|| run.seq(), Seq),
            resume: line.pair("resume").map(Deadline::InMs),
        },
        "complete" => C::Complete {
            output: payload("output"),
        },
        "fail" => C::Fail { error: line.rest() },
        "accept-cancel" => C::AcceptCancel,
        _ => return None,
    })
}

fn attempted(line: &mut Line, run: &Run) -> (EffectId, u32) {
    let effect: EffectId = line.parse();
    let attempt = number(line, run.effects().get(&effect).map(|effect| effect.attempt));
    (effect, attempt)
}

/// A number, or `last` for the one that the run has.
fn number(line: &mut Line, last: Option<u32>) -> u32 {
    match line.word().as_str() {
        "last" => last.unwrap_or(0),
        number => number
            .parse()
            .unwrap_or_else(|_| panic!("'{number}' is no number")),
    }
}

fn decision(line: &mut Line) -> RecordDecision {
    let asked: String = line.pair("asked").unwrap_or_else(|| "question".to_owned());
    let answer: String = line.pair("answer").unwrap_or_else(|| "answer".to_owned());
    RecordDecision {
        position: line.parse(),
        fingerprint: Fingerprint::of_bytes(asked.as_bytes()),
        response: payload(&answer),
        model: "m".to_owned(),
        usage: Usage::default(),
        rationale: line.pair::<String>("rationale").map(|text| payload(&text)),
        policy_version: String::new(),
        spent: line.spends("spent").unwrap_or_default(),
    }
}

fn spec(line: &mut Line) -> EffectSpec {
    let mode = match line.word().as_str() {
        "inline" => Mode::Inline,
        "outbox" => Mode::Outbox,
        other => panic!("mode '{other}'"),
    };
    let semantics = match line.word().as_str() {
        "idempotent" => Semantics::Idempotent,
        "non-idempotent" => Semantics::NonIdempotent,
        "read-only" => Semantics::ReadOnly,
        other => panic!("semantics '{other}'"),
    };
    EffectSpec {
        connector: ConnectorName::new("bank").unwrap(),
        operation: Operation::new("pay").unwrap(),
        semantics,
        mode,
        args: payload("args"),
        business_key: line.pair::<BusinessKey>("key"),
        undo: undo(line, "undo"),
        reserve: line.spends("reserve").unwrap_or_default(),
        policy: EffectPolicy {
            attempts_max: line.pair("attempts").unwrap_or(10),
            observations_max: line.pair("observations").unwrap_or(10),
            backoff_ms: line.pair("backoff").unwrap_or(500),
            backoff_max_ms: line.pair("backoff-max").unwrap_or(60_000),
            resend_absent: line.flag("resend"),
        },
    }
}

fn undo(line: &mut Line, name: &str) -> Option<Undo> {
    line.pair(name).map(|operation| Undo {
        operation,
        args: payload("undo args"),
    })
}

/// How to undo each duplicate: `copy-undo=refund,refund`.
fn copies(line: &mut Line) -> Vec<Undo> {
    let text = line.pair::<String>("copy-undo").unwrap_or_default();
    let operations = text.split(',').filter(|operation| !operation.is_empty());
    operations
        .map(|operation| Undo {
            operation: operation.parse().expect("an operation"),
            args: payload("undo args"),
        })
        .collect()
}

fn ending(line: &mut Line) -> AttemptOutcome {
    match line.word().as_str() {
        "ok" => AttemptOutcome::Confirmed {
            result: payload("result"),
            undo: undo(line, "undo"),
            spent: line.spends("spent"),
        },
        "failed" => AttemptOutcome::Failed {
            error: line.rest(),
            detail: line.pair::<String>("detail").map(|text| payload(&text)),
        },
        "refused" => AttemptOutcome::Refused {
            error: line.rest(),
            detail: None,
        },
        "retry" => AttemptOutcome::Retry {
            error: line.rest(),
            after_ms: line.pair("after"),
        },
        "unknown" => AttemptOutcome::Unknown { cause: line.rest() },
        "repeat" => AttemptOutcome::Repeat {
            cause: line.rest(),
            after_ms: line.pair("after"),
        },
        "unreached" => AttemptOutcome::Unreached { error: line.rest() },
        other => panic!("ending '{other}'"),
    }
}

fn worker(word: &str, line: &mut Line, run: &Run) -> Option<WorkerCommand> {
    use WorkerCommand as C;
    Some(match word {
        "claim" => C::ClaimEffect {
            effect: line.parse(),
            holder: line.parse(),
            claim_ms: line.pair("ms").unwrap_or(1_000),
        },
        "done" => {
            let effect: EffectId = line.parse();
            let holder = line.parse();
            let attempt = number(line, run.effects().get(&effect).map(|effect| effect.attempt));
            C::FinishClaimed {
                effect,
                holder,
                attempt,
                ending: ending(line),
            }
        }
        "lapse" => C::LapseEffect { effect: line.parse() },
        "observe" => C::ClaimObservation {
            effect: line.parse(),
            holder: line.parse(),
            claim_ms: line.pair("ms").unwrap_or(1_000),
        },
        "observed" => {
            let effect: EffectId = line.parse();
            let holder = line.parse();
            let last = run.effects().get(&effect).map(|effect| effect.observations);
            C::RecordObservation {
                observation: number(line, last),
                effect,
                holder,
                outcome: outcome(&line.word()),
                result: payload("seen"),
                undo: undo(line, "undo"),
                undo_duplicates: copies(line),
                why: line.rest(),
            }
        }
        "keep" => C::RenewEffectClaim {
            effect: line.parse(),
            holder: line.parse(),
            held: (line.pair("attempt").map(Held::Attempt))
                .or_else(|| line.pair("observation").map(Held::Observation)),
            claim_ms: line.pair("ms").unwrap_or(1_000),
        },
        "undo" => C::ClaimObligation {
            obligation: obligation(&line.word()),
            holder: line.parse(),
            claim_ms: line.pair("ms").unwrap_or(1_000),
        },
        "keep-undo" => C::RenewObligationClaim {
            obligation: obligation(&line.word()),
            holder: line.parse(),
            attempt: line.pair("attempt"),
            claim_ms: line.pair("ms").unwrap_or(1_000),
        },
        "undone" => {
            let obligation = obligation(&line.word());
            let there = run.obligations().iter().find(|there| there.id == obligation);
            let holder = holder(&line.word());
            C::FinishObligation {
                attempt: number(line, there.map(|there| there.attempt)),
                obligation,
                holder,
                ending: undo_ending(line),
            }
        }
        _ => return None,
    })
}

fn undo_ending(line: &mut Line) -> UndoOutcome {
    match line.word().as_str() {
        "ok" => UndoOutcome::Done {
            result: payload("undone"),
        },
        "retry" => UndoOutcome::Retry { error: line.rest() },
        "unknown" => UndoOutcome::Unknown { cause: line.rest() },
        "stuck" => UndoOutcome::Stuck { reason: line.rest() },
        "unreached" => UndoOutcome::Unreached { error: line.rest() },
        other => panic!("ending '{other}'"),
    }
}

fn outcome(word: &str) -> Outcome {
    match word {
        "found" => Outcome::Found,
        "absent" => Outcome::Absent,
        "duplicate" => Outcome::Duplicate,
        "inconclusive" => Outcome::Inconclusive,
        "unreached" => Outcome::Unreached,
        other => panic!("outcome '{other}'"),
    }
}

fn outside(word: &str, line: &mut Line, run: &Run) -> ExternalCommand {
    let seen = line.pair::<u64>("seen").map(Seq);
    use ExternalCommand as C;
    match word {
        "signal" => C::Signal {
            gate: line.parse(),
            id: line.parse(),
            answer: payload(&line.pair::<String>("answer").unwrap_or_else(|| "yes".to_owned())),
            seen,
        },
        "expire" => C::ExpireGate { gate: line.parse() },
        "fire" => C::FireTimer { timer: line.parse() },
        "cancel" => C::Cancel { reason: line.rest() },
        "vanished" => C::DriverVanished {
            epoch: Epoch(line.parse()),
            seen: seen.unwrap_or_else(|| run.seq()),
            grace_ms: line.pair("grace").unwrap_or(0),
        },
        "settle" => C::SettleEffect {
            effect: line.parse(),
            verdict: match line.word().as_str() {
                "confirmed" => Verdict::Confirmed {
                    result: payload("by a person"),
                    undo: undo(line, "undo"),
                },
                "failed" => Verdict::Failed,
                "resend" => Verdict::Resend,
                other => panic!("verdict '{other}'"),
            },
            seen: seen.unwrap_or_else(|| run.seq()),
            reason: line.rest(),
        },
        "settle-undo" => C::SettleObligation {
            obligation: obligation(&line.word()),
            retry: match line.word().as_str() {
                "retry" => true,
                "done" => false,
                other => panic!("'{other}' is neither retry nor done"),
            },
            seen: seen.unwrap_or_else(|| run.seq()),
            reason: line.rest(),
        },
        "retry-run" => C::RetryRun {
            seen: seen.unwrap_or_else(|| run.seq()),
            reason: line.rest(),
        },
        "release-claim" => C::ReleaseClaim {
            claimed: Claimed::Effect(line.parse()),
            until: Timestamp::from_micros(line.parse()),
            reason: line.rest(),
        },
        "release-undo-claim" => C::ReleaseClaim {
            claimed: Claimed::Obligation(obligation(&line.word())),
            until: Timestamp::from_micros(line.parse()),
            reason: line.rest(),
        },
        other => panic!("there is no command '{other}'"),
    }
}

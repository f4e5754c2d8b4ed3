//! Rejections as a reason and texts by field name, and back.

use crate::v1::{EffectStatus, Reason};
use crate::words;
use std::collections::BTreeMap;
use std::str::FromStr;
use tape_core::effect::Status;
use tape_core::entry::gate::AnsweredBy;
use tape_core::entry::run::RunOutcome;
use tape_core::id::{Epoch, RunId, Seq, StreamId};
use tape_core::reply::{Field, Rejection, Word};
use tape_core::status::RunStatus;
use tape_core::time::Timestamp;
use tonic::Code;

/// The fields of an error, as texts.
pub(crate) type Metadata = BTreeMap<String, String>;

/// The reason and the fields of a rejection.
pub(crate) fn write(rejection: &Rejection) -> (Reason, Metadata) {
    let mut fields = Fields::default();
    let reason = match rejection {
        Rejection::NotFound { what, name } => {
            if let Some(name) = name {
                fields.put("name", name);
            }
            fields.put_word("what", *what).is(Reason::NotFound)
        }
        Rejection::Exists { what } => fields.put("what", what).is(Reason::Exists),
        Rejection::Fenced { given, current } => fields
            .put("given", given)
            .put("current", current)
            .is(Reason::Fenced),
        Rejection::LeaseHeld { holder, until } => fields
            .put("holder", holder)
            .put_time("until", *until)
            .is(Reason::LeaseHeld),
        Rejection::NotDue { due } => {
            if let Some(due) = due {
                fields.put_time("due", *due);
            }
            Reason::NotDue
        }
        Rejection::RunEnded { ending } => write_ending(ending, &mut fields),
        Rejection::NotEnded { status } => fields.put("status", status.as_str()).is(Reason::NotEnded),
        Rejection::Closing { phase } => fields.put_word("phase", *phase).is(Reason::Closing),
        Rejection::Unsettled { what } => fields.put("what", what).is(Reason::Unsettled),
        Rejection::Woken { seq } => fields.put("seq", seq).is(Reason::Woken),
        Rejection::WrongPosition { given, next } => fields
            .put("given", given)
            .put("next", next)
            .is(Reason::WrongPosition),
        Rejection::WrongSample { scope, given, next } => fields
            .put("scope", scope)
            .put("given", given)
            .put("next", next)
            .is(Reason::WrongSample),
        Rejection::NoDecision { effect } => fields.put("effect", effect).is(Reason::NoDecision),
        Rejection::WrongStatus {
            effect,
            status,
            attempt,
        } => {
            let status = EffectStatus::from(*status).as_str_name();
            fields
                .put("effect", effect)
                .put("status", status)
                .put("attempt", attempt)
                .is(Reason::WrongStatus)
        }
        Rejection::InlineNonIdempotent { effect } => {
            fields.put("effect", effect).is(Reason::InlineNonIdempotent)
        }
        Rejection::BusinessKeyTaken {
            connector,
            key,
            run,
            effect,
            status,
            settled,
        } => {
            if let Some(status) = status {
                fields.put("status", EffectStatus::from(*status).as_str_name());
            }
            if let Some(settled) = settled {
                fields.put("settled", settled);
            }
            fields
                .put("connector", connector)
                .put("key", key)
                .put("run", StreamId::Run(run.clone()))
                .put("effect", effect)
                .is(Reason::BusinessKeyTaken)
        }
        Rejection::ClaimLost { holder, what } => fields
            .put("holder", holder)
            .put("what", what)
            .is(Reason::ClaimLost),
        Rejection::Claimed { what, holder, until } => fields
            .put("what", what)
            .put("holder", holder)
            .put_time("until", *until)
            .is(Reason::Claimed),
        Rejection::NotNext { what } => fields.put("what", what).is(Reason::NotNext),
        Rejection::GateAnswered { gate, by } => {
            fields.put("gate", gate);
            write_answer(by, &mut fields)
        }
        Rejection::TooEarly { what, due } => fields
            .put("what", what)
            .put_time("due", *due)
            .is(Reason::TooEarly),
        Rejection::TimerDone { timer } => fields.put("timer", timer).is(Reason::TimerDone),
        Rejection::BudgetExhausted { budget, left, asked } => fields
            .put("budget", budget)
            .put("left", left)
            .put("asked", asked)
            .is(Reason::BudgetExhausted),
        Rejection::VersionConflict {
            what,
            expected,
            current,
        } => {
            let fields = fields
                .put_word("what", *what)
                .put("expected", expected)
                .put("current", current);
            fields.is(Reason::VersionConflict)
        }
        Rejection::LimitExceeded { limit, max, given } => fields
            .put_word("limit", *limit)
            .put("max", max)
            .put("given", given)
            .is(Reason::LimitExceeded),
        Rejection::UnorderedRequest { request } => {
            fields.put("request", request).is(Reason::UnorderedRequest)
        }
        Rejection::RequestReused { request } => fields.put("request", request).is(Reason::RequestReused),
        Rejection::RequestTooOld {
            request,
            forgotten,
            now,
        } => fields
            .put("request", request)
            .put("forgotten", forgotten)
            .put_time("now", *now)
            .is(Reason::RequestTooOld),
        Rejection::RequestFromFuture { request, now } => fields
            .put("request", request)
            .put_time("now", *now)
            .is(Reason::RequestFromFuture),
        Rejection::Changed {
            what,
            seen,
            changed,
            standing,
        } => fields
            .put("what", what)
            .put("seen", seen)
            .put("changed", changed)
            .put("standing", standing)
            .is(Reason::Changed),
        Rejection::Redelivered { refusal, seq } => fields
            .put("refusal", refusal)
            .put("seq", seq)
            .is(Reason::Redelivered),
        Rejection::Erased { what } => fields.put("what", what).is(Reason::Erased),
        Rejection::Invalid { field, problem } => fields
            .put_word("field", *field)
            .put("problem", problem)
            .is(Reason::Invalid),
        // A rejection that this build of the wire does not know keeps its text.
        other => fields
            .put_word("field", Field::Command)
            .put("problem", other)
            .is(Reason::Invalid),
    };
    (reason, fields.0)
}

fn write_ending(ending: &RunOutcome, fields: &mut Fields) -> Reason {
    match ending {
        RunOutcome::Completed => fields.put("how", "completed"),
        RunOutcome::Failed { error } => fields.put("how", "failed").put("error", error),
        RunOutcome::Cancelled { reason } => fields.put("how", "cancelled").put("reason", reason),
    }
    .is(Reason::RunEnded)
}

fn write_answer(by: &AnsweredBy, fields: &mut Fields) -> Reason {
    let who = match by {
        AnsweredBy::Signal { id, who } => {
            fields.put("by", "signal").put("id", id);
            who.as_ref()
        }
        AnsweredBy::EarlierSignal { id, who, received } => {
            fields
                .put("by", "earlier_signal")
                .put("id", id)
                .put("received", received);
            who.as_ref()
        }
        AnsweredBy::Deadline => {
            fields.put("by", "deadline");
            None
        }
    };
    if let Some(who) = who {
        fields.put("who", who);
    }
    Reason::GateAnswered
}

/// The rejection for a reason and its fields; none where the reason is not that of a rejection, or a field is missing or wrong.
pub(crate) fn read(reason: Reason, fields: &Metadata) -> Option<Rejection> {
    let f = Read(fields);
    Some(match reason {
        Reason::NotFound => Rejection::NotFound {
            what: f.word("what")?,
            name: f.get("name"),
        },
        Reason::Exists => Rejection::Exists { what: f.get("what")? },
        Reason::Fenced => Rejection::Fenced {
            given: Epoch(f.get("given")?),
            current: Epoch(f.get("current")?),
        },
        Reason::LeaseHeld => Rejection::LeaseHeld {
            holder: f.get("holder")?,
            until: f.time("until")?,
        },
        Reason::NotDue => Rejection::NotDue { due: f.time("due") },
        Reason::RunEnded => Rejection::RunEnded { ending: f.ending()? },
        Reason::NotEnded => Rejection::NotEnded {
            status: f.run_status()?,
        },
        Reason::Closing => Rejection::Closing {
            phase: f.word("phase")?,
        },
        Reason::Unsettled => Rejection::Unsettled { what: f.get("what")? },
        Reason::Woken => Rejection::Woken {
            seq: Seq(f.get("seq")?),
        },
        Reason::WrongPosition => Rejection::WrongPosition {
            given: f.get("given")?,
            next: f.get("next")?,
        },
        Reason::WrongSample => Rejection::WrongSample {
            scope: f.get("scope")?,
            given: f.get("given")?,
            next: f.get("next")?,
        },
        Reason::NoDecision => Rejection::NoDecision {
            effect: f.get("effect")?,
        },
        Reason::WrongStatus => Rejection::WrongStatus {
            effect: f.get("effect")?,
            status: f.status()?,
            attempt: f.get("attempt")?,
        },
        Reason::InlineNonIdempotent => Rejection::InlineNonIdempotent {
            effect: f.get("effect")?,
        },
        Reason::BusinessKeyTaken => Rejection::BusinessKeyTaken {
            connector: f.get("connector")?,
            key: f.get("key")?,
            run: f.run("run")?,
            effect: f.get("effect")?,
            status: f.status(),
            settled: f.get("settled").map(Seq),
        },
        Reason::ClaimLost => Rejection::ClaimLost {
            holder: f.get("holder")?,
            what: f.get("what")?,
        },
        Reason::Claimed => Rejection::Claimed {
            what: f.get("what")?,
            holder: f.get("holder")?,
            until: f.time("until")?,
        },
        Reason::NotNext => Rejection::NotNext { what: f.get("what")? },
        Reason::GateAnswered => Rejection::GateAnswered {
            gate: f.get("gate")?,
            by: f.answer()?,
        },
        Reason::TooEarly => Rejection::TooEarly {
            what: f.get("what")?,
            due: f.time("due")?,
        },
        Reason::TimerDone => Rejection::TimerDone {
            timer: f.get("timer")?,
        },
        Reason::BudgetExhausted => Rejection::BudgetExhausted {
            budget: f.get("budget")?,
            left: f.get("left")?,
            asked: f.get("asked")?,
        },
        Reason::VersionConflict => Rejection::VersionConflict {
            what: f.word("what")?,
            expected: f.get("expected")?,
            current: f.get("current")?,
        },
        Reason::LimitExceeded => Rejection::LimitExceeded {
            limit: f.word("limit")?,
            max: f.get("max")?,
            given: f.get("given")?,
        },
        Reason::UnorderedRequest => Rejection::UnorderedRequest {
            request: f.get("request")?,
        },
        Reason::RequestReused => Rejection::RequestReused {
            request: f.get("request")?,
        },
        Reason::RequestTooOld => Rejection::RequestTooOld {
            request: f.get("request")?,
            forgotten: f.get("forgotten")?,
            now: f.time("now")?,
        },
        Reason::RequestFromFuture => Rejection::RequestFromFuture {
            request: f.get("request")?,
            now: f.time("now")?,
        },
        Reason::Changed => Rejection::Changed {
            what: f.get("what")?,
            seen: Seq(f.get("seen")?),
            changed: Seq(f.get("changed")?),
            standing: f.get("standing")?,
        },
        Reason::Redelivered => Rejection::Redelivered {
            refusal: Seq(f.get("refusal")?),
            seq: Seq(f.get("seq")?),
        },
        Reason::Erased => Rejection::Erased { what: f.get("what")? },
        Reason::Invalid => Rejection::Invalid {
            field: f.word("field")?,
            problem: f.get("problem")?,
        },
        _ => return None,
    })
}

/// The status code of a rejection with this reason.
pub(crate) const fn code(reason: Reason) -> Code {
    match reason {
        Reason::NotFound => Code::NotFound,
        Reason::Exists | Reason::BusinessKeyTaken | Reason::RequestReused => Code::AlreadyExists,
        Reason::BudgetExhausted | Reason::LimitExceeded => Code::ResourceExhausted,
        Reason::VersionConflict => Code::Aborted,
        Reason::Invalid | Reason::UnorderedRequest => Code::InvalidArgument,
        _ => Code::FailedPrecondition,
    }
}

#[derive(Default)]
struct Fields(Metadata);

impl Fields {
    fn put(&mut self, key: &str, value: impl ToString) -> &mut Self {
        self.0.insert(key.to_owned(), value.to_string());
        self
    }

    fn put_word(&mut self, key: &str, word: impl Word) -> &mut Self {
        self.put(key, words::write(word))
    }

    fn put_time(&mut self, key: &str, at: Timestamp) -> &mut Self {
        self.put(key, at.as_micros())
    }

    const fn is(&mut self, reason: Reason) -> Reason {
        reason
    }
}

struct Read<'a>(&'a Metadata);

impl Read<'_> {
    fn get<T: FromStr>(&self, key: &str) -> Option<T> {
        self.0.get(key)?.parse().ok()
    }

    fn word<W: Word>(&self, key: &str) -> Option<W> {
        self.0.get(key).map(|word| words::read(word))
    }

    fn time(&self, key: &str) -> Option<Timestamp> {
        self.get(key).map(Timestamp::from_micros)
    }

    fn run(&self, key: &str) -> Option<RunId> {
        match self.get(key)? {
            StreamId::Run(run) => Some(run),
            _ => None,
        }
    }

    fn status(&self) -> Option<Status> {
        EffectStatus::from_str_name(self.0.get("status")?)?
            .try_into()
            .ok()
    }

    fn run_status(&self) -> Option<RunStatus> {
        let word = self.0.get("status")?;
        RunStatus::ALL.into_iter().find(|status| status.as_str() == word)
    }

    fn ending(&self) -> Option<RunOutcome> {
        match self.0.get("how")?.as_str() {
            "completed" => Some(RunOutcome::Completed),
            "failed" => Some(RunOutcome::Failed {
                error: self.get("error")?,
            }),
            "cancelled" => Some(RunOutcome::Cancelled {
                reason: self.get("reason")?,
            }),
            _ => None,
        }
    }

    fn answer(&self) -> Option<AnsweredBy> {
        let who = self.get("who");
        match self.0.get("by")?.as_str() {
            "signal" => Some(AnsweredBy::Signal {
                id: self.get("id")?,
                who,
            }),
            "earlier_signal" => Some(AnsweredBy::EarlierSignal {
                id: self.get("id")?,
                who,
                received: Seq(self.get("received")?),
            }),
            "deadline" => Some(AnsweredBy::Deadline),
            _ => None,
        }
    }
}

//! Arbitrary words of the core.
#![allow(dead_code, reason = "each test uses its part")]

mod commands;
mod relays;

#[allow(unused_imports, reason = "each test uses its part")]
pub(crate) use commands::*;
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;
#[allow(unused_imports, reason = "each test uses its part")]
pub(crate) use relays::*;
use tape_core::budget::Spend;
use tape_core::effect::Status;
use tape_core::entry::gate::AnsweredBy;
use tape_core::entry::obligation::ObligationId;
use tape_core::entry::run::RunOutcome;
use tape_core::id::{EffectId, Epoch, Position, RequestId, RunId, Scope, Seq, SessionId};
use tape_core::payload::Payload;
use tape_core::reply::{
    ClosingPhase, Field, Limit, Missing, Rejection, Reply, ReplyResult, Versioned, Word as _,
};
use tape_core::time::Timestamp;

/// A name of any kind, with the characters that need care in paths.
pub(crate) fn name<N: std::str::FromStr<Err = tape_core::id::InvalidName> + std::fmt::Debug>()
-> impl Strategy<Value = N> {
    "[a-z%/. *>#ü\\-]{1,12}".prop_map(|text| text.parse().unwrap())
}

pub(crate) fn text() -> impl Strategy<Value = String> {
    "\\PC{0,20}"
}

pub(crate) fn payload() -> impl Strategy<Value = Payload> {
    ("[a-z/+;= -]{1,20}", vec(any::<u8>(), 0..80))
        .prop_map(|(kind, bytes)| Payload::new(&kind, bytes).unwrap())
}

pub(crate) fn time() -> impl Strategy<Value = Timestamp> {
    any::<i64>().prop_map(Timestamp::from_micros)
}

pub(crate) fn run() -> impl Strategy<Value = RunId> {
    (name(), name(), name(), name(), name()).prop_map(|(tenant, app, user, session, invocation)| RunId {
        tenant,
        app,
        user,
        session,
        invocation,
    })
}

pub(crate) fn session() -> impl Strategy<Value = SessionId> {
    run().prop_map(|run| run.session())
}

pub(crate) fn scope() -> impl Strategy<Value = Scope> {
    vec("[a-z .%]{1,6}", 0..4).prop_map(|parts| parts.join("/").parse().unwrap())
}

pub(crate) fn position() -> impl Strategy<Value = Position> {
    (scope(), any::<u32>()).prop_map(|(scope, k)| Position { scope, k })
}

pub(crate) fn effect() -> impl Strategy<Value = EffectId> {
    (position(), any::<u16>()).prop_map(|(position, call)| EffectId { position, call })
}

pub(crate) fn obligation() -> impl Strategy<Value = ObligationId> {
    (effect(), any::<u16>()).prop_map(|(effect, copy)| ObligationId { effect, copy })
}

pub(crate) fn spends() -> impl Strategy<Value = Vec<Spend>> {
    vec(
        (name(), any::<u64>()).prop_map(|(budget, amount)| Spend { budget, amount }),
        0..3,
    )
}

pub(crate) fn request() -> impl Strategy<Value = RequestId> {
    any::<u128>().prop_map(RequestId::from_u128)
}

pub(crate) fn status() -> impl Strategy<Value = Status> {
    prop_oneof![
        Just(Status::Pending),
        Just(Status::Started),
        Just(Status::Confirmed),
        Just(Status::Failed),
        Just(Status::Unknown),
        Just(Status::Stuck)
    ]
}

fn ended() -> impl Strategy<Value = RunOutcome> {
    prop_oneof![
        Just(RunOutcome::Completed),
        text().prop_map(|error| RunOutcome::Failed { error }),
        text().prop_map(|reason| RunOutcome::Cancelled { reason })
    ]
}

fn answered_by() -> impl Strategy<Value = AnsweredBy> {
    prop_oneof![
        (name(), of(name())).prop_map(|(id, who)| AnsweredBy::Signal { id, who }),
        (name(), of(name()), any::<u64>()).prop_map(|(id, who, received)| AnsweredBy::EarlierSignal {
            id,
            who,
            received: Seq(received)
        }),
        Just(AnsweredBy::Deadline)
    ]
}

pub(crate) fn reply() -> impl Strategy<Value = Reply> {
    use ReplyResult as R;
    let result = prop_oneof![
        Just(R::Recorded),
        (any::<u64>(), time()).prop_map(|(epoch, until)| R::Leased {
            epoch: Epoch(epoch),
            until
        }),
        (status(), any::<u32>(), of(time())).prop_map(|(status, attempt, until)| R::Effect {
            status,
            attempt,
            until
        }),
        (any::<u32>(), time(), any::<bool>()).prop_map(|(observation, until, unwanted)| R::Observing {
            observation,
            until,
            unwanted,
        }),
        (any::<u32>(), of(time()), any::<[bool; 3]>()).prop_map(
            |(attempt, until, [in_doubt, done, stuck])| {
                R::Obligation {
                    attempt,
                    until,
                    in_doubt,
                    done,
                    stuck,
                }
            }
        ),
        of(time()).prop_map(|deadline| R::GateOpen { deadline }),
        answered_by().prop_map(|by| R::GateAnswered { by }),
        Just(R::SignalBuffered),
        time().prop_map(|due_at| R::TimerSet { due_at }),
        ended().prop_map(|ending| R::Ended { ending }),
        Just(R::Compensating),
        text().prop_map(|reason| R::Stuck { reason }),
        any::<u64>().prop_map(|version| R::Version { version }),
    ];
    (any::<u64>(), result).prop_map(|(seq, result)| Reply {
        seq: Seq(seq),
        result,
    })
}

pub(crate) fn rejection() -> BoxedStrategy<Rejection> {
    use Rejection as R;
    prop_oneof![
        prop_oneof![
            (select(Missing::ALL), of(text())).prop_map(|(what, name)| R::NotFound { what, name }),
            text().prop_map(|what| R::Exists { what }),
            any::<[u64; 2]>().prop_map(|[given, current]| R::Fenced {
                given: Epoch(given),
                current: Epoch(current)
            }),
            (name(), time()).prop_map(|(holder, until)| R::LeaseHeld { holder, until }),
            of(time()).prop_map(|due| R::NotDue { due }),
            ended().prop_map(|ending| R::RunEnded { ending }),
            select(&tape_core::status::RunStatus::ALL[..]).prop_map(|status| R::NotEnded { status }),
            select(ClosingPhase::ALL).prop_map(|phase| R::Closing { phase }),
            text().prop_map(|what| R::Unsettled { what }),
            any::<u64>().prop_map(|seq| R::Woken { seq: Seq(seq) }),
        ],
        prop_oneof![
            (position(), position()).prop_map(|(given, next)| R::WrongPosition { given, next }),
            (scope(), any::<u32>(), any::<u32>()).prop_map(|(scope, given, next)| R::WrongSample {
                scope,
                given,
                next
            }),
            effect().prop_map(|effect| R::NoDecision { effect }),
            (effect(), status(), any::<u32>()).prop_map(|(effect, status, attempt)| R::WrongStatus {
                effect,
                status,
                attempt
            }),
            effect().prop_map(|effect| R::InlineNonIdempotent { effect }),
            (name(), text(), run(), effect(), of(status()), of(any::<u64>())).prop_map(
                |(connector, key, run, effect, status, settled)| R::BusinessKeyTaken {
                    connector,
                    key,
                    run,
                    effect,
                    status,
                    settled: settled.map(Seq),
                }
            ),
            request().prop_map(|request| R::UnorderedRequest { request }),
            request().prop_map(|request| R::RequestReused { request }),
            (request(), request(), time()).prop_map(|(request, forgotten, now)| R::RequestTooOld {
                request,
                forgotten,
                now
            }),
            (request(), time()).prop_map(|(request, now)| R::RequestFromFuture { request, now }),
            (text(), any::<[u64; 2]>(), text()).prop_map(|(what, [seen, changed], standing)| R::Changed {
                what,
                seen: Seq(seen),
                changed: Seq(changed),
                standing
            }),
            (name(), text()).prop_map(|(holder, what)| R::ClaimLost { holder, what }),
            (text(), name(), time()).prop_map(|(what, holder, until)| R::Claimed { what, holder, until }),
            text().prop_map(|what| R::NotNext { what }),
        ],
        prop_oneof![
            (name(), answered_by()).prop_map(|(gate, by)| R::GateAnswered { gate, by }),
            (text(), time()).prop_map(|(what, due)| R::TooEarly { what, due }),
            name().prop_map(|timer| R::TimerDone { timer }),
            (name(), any::<u64>(), any::<u64>()).prop_map(|(budget, left, asked)| R::BudgetExhausted {
                budget,
                left,
                asked
            }),
            (select(Versioned::ALL), any::<u64>(), any::<u64>()).prop_map(|(what, expected, current)| {
                R::VersionConflict {
                    what,
                    expected,
                    current,
                }
            }),
            (select(Limit::ALL), any::<u64>(), any::<u64>())
                .prop_map(|(limit, max, given)| R::LimitExceeded { limit, max, given }),
            (select(Field::ALL), text()).prop_map(|(field, problem)| R::Invalid { field, problem }),
            text().prop_map(|what| R::Erased { what }),
            any::<[u64; 2]>().prop_map(|[refusal, seq]| R::Redelivered {
                refusal: Seq(refusal),
                seq: Seq(seq)
            }),
        ],
    ]
    .boxed()
}

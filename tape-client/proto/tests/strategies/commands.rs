//! Commands of every kind.

use super::{effect, name, obligation, payload, position, run, scope, session, spends, text, time};
use proptest::collection::{btree_map, vec};
use proptest::option::of;
use proptest::prelude::*;
use tape_core::budget::Currency;
use tape_core::command::{
    AttemptOutcome, Begin, Claimed, Command, Create, DriverCommand, ExternalCommand, Held, RecordDecision,
    RelayCommand, RunCommand, SessionCommand, UndoOutcome, ValueCommand, Verdict, WorkerCommand,
};
use tape_core::effect::{EffectPolicy, EffectSpec, Mode, Outcome, Semantics, Undo};
use tape_core::entry::TraceParent;
use tape_core::entry::decision::Usage;
use tape_core::entry::relay::{RecordedErasure, SentEntry};
use tape_core::fingerprint::{Fingerprint, Part};
use tape_core::id::{Epoch, RelayScope, RelayStream, RequestId, RunId, Seq, SessionId, StreamId};
use tape_core::payload::Digest;
use tape_core::state::{Delta, Json};
use tape_core::time::Deadline;

pub(crate) fn deadline() -> impl Strategy<Value = Deadline> {
    prop_oneof![
        time().prop_map(Deadline::At),
        any::<u64>().prop_map(Deadline::InMs)
    ]
}

pub(crate) fn undo() -> impl Strategy<Value = Undo> {
    (name(), payload()).prop_map(|(operation, args)| Undo { operation, args })
}

pub(crate) fn policy() -> impl Strategy<Value = EffectPolicy> {
    (
        any::<u32>(),
        any::<u32>(),
        any::<u64>(),
        any::<u64>(),
        any::<bool>(),
    )
        .prop_map(|(a, o, b, m, resend_absent)| EffectPolicy {
            attempts_max: a,
            observations_max: o,
            backoff_ms: b,
            backoff_max_ms: m,
            resend_absent,
        })
}

pub(crate) fn spec() -> impl Strategy<Value = EffectSpec> {
    let semantics = prop_oneof![
        Just(Semantics::Idempotent),
        Just(Semantics::NonIdempotent),
        Just(Semantics::ReadOnly)
    ];
    let mode = prop_oneof![Just(Mode::Inline), Just(Mode::Outbox)];
    let policy = prop_oneof![Just(EffectPolicy::default()), policy()];
    let head = (name(), name(), semantics, mode, payload());
    (head, of(name()), of(undo()), spends(), policy).prop_map(
        |(head, business_key, undo, reserve, policy)| {
            let (connector, operation, semantics, mode, args) = head;
            EffectSpec {
                connector,
                operation,
                semantics,
                mode,
                args,
                business_key,
                undo,
                reserve,
                policy,
            }
        },
    )
}

pub(crate) fn ending() -> impl Strategy<Value = AttemptOutcome> {
    prop_oneof![
        (payload(), of(undo()), of(spends())).prop_map(|(result, undo, spent)| AttemptOutcome::Confirmed {
            result,
            undo,
            spent
        }),
        (text(), of(payload())).prop_map(|(error, detail)| AttemptOutcome::Failed { error, detail }),
        (text(), of(payload())).prop_map(|(error, detail)| AttemptOutcome::Refused { error, detail }),
        (text(), of(any::<u64>())).prop_map(|(error, after_ms)| AttemptOutcome::Retry { error, after_ms }),
        text().prop_map(|cause| AttemptOutcome::Unknown { cause }),
        (text(), of(any::<u64>())).prop_map(|(cause, after_ms)| AttemptOutcome::Repeat { cause, after_ms }),
        text().prop_map(|error| AttemptOutcome::Unreached { error }),
    ]
}

pub(crate) fn fingerprint() -> impl Strategy<Value = Fingerprint> {
    let part = (text(), text(), text()).prop_map(|(name, digest, preview)| Part {
        name,
        digest,
        preview,
    });
    (any::<[u8; 32]>(), vec(part, 0..3)).prop_map(|(digest, parts)| Fingerprint {
        digest: Digest(digest),
        parts,
    })
}

pub(crate) fn decision() -> impl Strategy<Value = RecordDecision> {
    let usage = prop_oneof![
        Just(Usage::default()),
        any::<[u64; 3]>().prop_map(|[input_tokens, output_tokens, cost_micro_usd]| Usage {
            input_tokens,
            output_tokens,
            cost_micro_usd
        })
    ];
    let head = (position(), fingerprint(), payload(), text(), usage);
    (head, of(payload()), text(), spends()).prop_map(|(head, rationale, policy_version, spent)| {
        let (position, fingerprint, response, model, usage) = head;
        RecordDecision {
            position,
            fingerprint,
            response,
            model,
            usage,
            rationale,
            policy_version,
            spent,
        }
    })
}

pub(crate) fn currency() -> impl Strategy<Value = Currency> {
    prop_oneof![
        Just(Currency::MicroUsd),
        Just(Currency::Tokens),
        name().prop_map(Currency::Unit)
    ]
}

pub(crate) fn driver_command() -> BoxedStrategy<DriverCommand> {
    use DriverCommand as C;
    prop_oneof![
        any::<u64>().prop_map(|lease_ms| C::RenewLease { lease_ms }),
        any::<(u64, bool)>().prop_map(|(redrive_in_ms, undriven)| C::ReleaseLease {
            redrive_in_ms,
            undriven,
        }),
        decision().prop_map(C::RecordDecision),
        (position(), spends()).prop_map(|(position, spends)| C::ReserveForDecision { position, spends }),
        position().prop_map(|position| C::ReleaseReservation { position }),
        (effect(), spec()).prop_map(|(effect, spec)| C::BeginEffect { effect, spec }),
        effect().prop_map(|effect| C::RestartEffect { effect }),
        (effect(), any::<u32>(), ending()).prop_map(|(effect, attempt, ending)| C::FinishEffect {
            effect,
            attempt,
            ending
        }),
        (name(), of(deadline())).prop_map(|(gate, deadline)| C::OpenGate { gate, deadline }),
        (name(), deadline(), payload()).prop_map(|(timer, due, note)| C::SetTimer { timer, due, note }),
        name().prop_map(|timer| C::CancelTimer { timer }),
        (name(), of(name()), currency(), any::<u64>()).prop_map(|(budget, parent, currency, limit)| {
            C::OpenBudget {
                budget,
                parent,
                currency,
                limit,
            }
        }),
        (scope(), any::<u32>(), name(), payload()).prop_map(|(scope, n, name, value)| C::RecordSample {
            scope,
            n,
            name,
            value
        }),
        (name(), payload()).prop_map(|(label, state)| C::Checkpoint { label, state }),
        (scope(), name(), payload())
            .prop_map(|(scope, label, state)| C::Checkpoint { label, state }.within(&scope)),
        (scope(), name(), of(deadline()))
            .prop_map(|(scope, gate, deadline)| C::OpenGate { gate, deadline }.within(&scope)),
        (any::<u64>(), of(deadline())).prop_map(|(seen, resume)| C::Suspend {
            seen: Seq(seen),
            resume
        }),
        payload().prop_map(|output| C::Complete { output }),
        text().prop_map(|error| C::Fail { error }),
        Just(C::AcceptCancel),
    ]
    .boxed()
}

pub(crate) fn worker_command() -> BoxedStrategy<WorkerCommand> {
    use WorkerCommand as C;
    let outcome = prop_oneof![
        Just(Outcome::Found),
        Just(Outcome::Absent),
        Just(Outcome::Duplicate),
        Just(Outcome::Inconclusive),
        Just(Outcome::Unreached)
    ];
    let held = prop_oneof![
        any::<u32>().prop_map(Held::Attempt),
        any::<u32>().prop_map(Held::Observation),
    ];
    let undone = prop_oneof![
        payload().prop_map(|result| UndoOutcome::Done { result }),
        text().prop_map(|error| UndoOutcome::Retry { error }),
        text().prop_map(|cause| UndoOutcome::Unknown { cause }),
        text().prop_map(|reason| UndoOutcome::Stuck { reason }),
        text().prop_map(|error| UndoOutcome::Unreached { error }),
    ];
    prop_oneof![
        (effect(), name(), any::<u64>()).prop_map(|(effect, holder, claim_ms)| C::ClaimEffect {
            effect,
            holder,
            claim_ms
        }),
        (effect(), name(), any::<u64>()).prop_map(|(effect, holder, claim_ms)| C::ClaimObservation {
            effect,
            holder,
            claim_ms
        }),
        (effect(), name(), of(held), any::<u64>()).prop_map(|(effect, holder, held, claim_ms)| {
            C::RenewEffectClaim {
                effect,
                holder,
                held,
                claim_ms,
            }
        }),
        (effect(), name(), any::<u32>(), ending()).prop_map(|(effect, holder, attempt, ending)| {
            C::FinishClaimed {
                effect,
                holder,
                attempt,
                ending,
            }
        }),
        effect().prop_map(|effect| C::LapseEffect { effect }),
        (
            effect(),
            name(),
            any::<u32>(),
            outcome,
            payload(),
            of(undo()),
            vec(undo(), 0..3),
            text()
        )
            .prop_map(
                |(effect, holder, observation, outcome, result, undo, undo_duplicates, why)| {
                    C::RecordObservation {
                        effect,
                        holder,
                        observation,
                        outcome,
                        result,
                        undo,
                        undo_duplicates,
                        why,
                    }
                }
            ),
        (obligation(), name(), any::<u64>()).prop_map(|(obligation, holder, claim_ms)| C::ClaimObligation {
            obligation,
            holder,
            claim_ms
        }),
        (obligation(), name(), of(any::<u32>()), any::<u64>()).prop_map(
            |(obligation, holder, attempt, claim_ms)| C::RenewObligationClaim {
                obligation,
                holder,
                attempt,
                claim_ms,
            }
        ),
        (obligation(), name(), any::<u32>(), undone).prop_map(|(obligation, holder, attempt, ending)| {
            C::FinishObligation {
                obligation,
                holder,
                attempt,
                ending,
            }
        }),
    ]
    .boxed()
}

pub(crate) fn outside_command() -> BoxedStrategy<ExternalCommand> {
    use ExternalCommand as C;
    let verdict = prop_oneof![
        (payload(), of(undo())).prop_map(|(result, undo)| Verdict::Confirmed { result, undo }),
        Just(Verdict::Failed),
        Just(Verdict::Resend)
    ];
    prop_oneof![
        (name(), name(), payload(), of(any::<u64>())).prop_map(|(gate, id, answer, seen)| C::Signal {
            gate,
            id,
            answer,
            seen: seen.map(Seq)
        }),
        name().prop_map(|gate| C::ExpireGate { gate }),
        name().prop_map(|timer| C::FireTimer { timer }),
        text().prop_map(|reason| C::Cancel { reason }),
        any::<[u64; 3]>().prop_map(|[epoch, seen, grace_ms]| C::DriverVanished {
            epoch: Epoch(epoch),
            seen: Seq(seen),
            grace_ms
        }),
        (effect(), verdict, text(), any::<u64>()).prop_map(|(effect, verdict, reason, seen)| {
            C::SettleEffect {
                effect,
                verdict,
                reason,
                seen: Seq(seen),
            }
        }),
        (obligation(), any::<bool>(), text(), any::<u64>()).prop_map(|(obligation, retry, reason, seen)| {
            C::SettleObligation {
                obligation,
                retry,
                reason,
                seen: Seq(seen),
            }
        }),
        (text(), any::<u64>()).prop_map(|(reason, seen)| C::RetryRun {
            reason,
            seen: Seq(seen)
        }),
        (effect(), time(), text()).prop_map(|(effect, until, reason)| C::ReleaseClaim {
            claimed: Claimed::Effect(effect),
            until,
            reason,
        }),
        (obligation(), time(), text()).prop_map(|(obligation, until, reason)| C::ReleaseClaim {
            claimed: Claimed::Obligation(obligation),
            until,
            reason,
        }),
        text().prop_map(|reason| C::Retire {
            reason,
            last: None,
            ended: None
        }),
    ]
    .boxed()
}

pub(crate) fn begin(run: RunId) -> impl Strategy<Value = Begin> {
    let create = (btree_map(name(), text(), 0..3), payload());
    let create = create.prop_map(|(labels, input)| Create {
        labels,
        input,
        forked_from: None,
    });
    (of(create), name(), any::<u64>(), of(any::<u64>()), any::<bool>()).prop_map(
        move |(create, holder, lease_ms, adopt, recovery)| Begin {
            run: run.clone(),
            create,
            holder,
            lease_ms,
            adopt: adopt.map(Epoch),
            recovery,
        },
    )
}

pub(crate) fn command<B: Clone + std::fmt::Debug>(
    body: impl Strategy<Value = B>,
) -> impl Strategy<Value = Command<B>> {
    let trace =
        "00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}".prop_map(|text| TraceParent::try_from(text).unwrap());
    (any::<u128>(), of(name()), of(trace), body).prop_map(|(request, principal, trace, body)| Command {
        request: RequestId::from_u128(request),
        principal,
        trace,
        body,
    })
}

pub(crate) fn run_command() -> impl Strategy<Value = (RunId, Command<RunCommand>)> {
    run().prop_flat_map(|run| {
        let body = prop_oneof![
            1 => begin(run.clone()).prop_map(RunCommand::Begin),
            6 => (any::<u64>(), driver_command())
                .prop_map(|(epoch, command)| RunCommand::Drive(Epoch(epoch), command)),
            3 => worker_command().prop_map(RunCommand::Work),
            3 => outside_command().prop_map(RunCommand::External),
        ];
        (Just(run), command(body))
    })
}

pub(crate) fn delta() -> impl Strategy<Value = Delta> {
    let json = "[0-9]{1,5}".prop_map(|text| Json::try_from(format!("[{text}, 1.50]")));
    btree_map(name(), of(json.prop_filter_map("json", Result::ok)), 0..4).prop_map(Delta)
}

/// Commands that the wire has, and the session they are for.
pub(crate) fn session_command() -> impl Strategy<Value = (SessionId, Command<SessionCommand>)> {
    session().prop_flat_map(|session| {
        let created = session.clone();
        let append = (name(), of(any::<u64>()), of(name()), text(), delta(), payload());
        let body = prop_oneof![
            delta().prop_map(move |state| SessionCommand::Create {
                session: created.clone(),
                state
            }),
            append.prop_map(
                |(event, expected, invocation, author, delta, content)| SessionCommand::Append {
                    event,
                    expected: expected.map(Seq),
                    invocation,
                    author,
                    delta,
                    content
                }
            ),
            Just(SessionCommand::Delete),
        ];
        (Just(session), command(body))
    })
}

pub(crate) fn value_command() -> impl Strategy<Value = Command<ValueCommand>> {
    command(prop_oneof![
        (payload(), of(any::<u64>())).prop_map(|(value, expected)| ValueCommand::Put { value, expected }),
        of(any::<u64>()).prop_map(|expected| ValueCommand::Delete { expected }),
    ])
}

pub(crate) fn relay() -> impl Strategy<Value = RelayStream> {
    let scope = proptest::sample::select(RelayScope::BOTH.as_slice());
    (name(), scope, name()).prop_map(|(tenant, scope, name)| RelayStream { tenant, scope, name })
}

/// Streams of all kinds.
pub(crate) fn stream() -> impl Strategy<Value = StreamId> {
    prop_oneof![
        run().prop_map(StreamId::Run),
        session().prop_map(StreamId::Session),
        (name(), name(), of(name())).prop_map(|(tenant, app, user)| StreamId::Shared { tenant, app, user }),
        (name(), name()).prop_map(|(tenant, name)| StreamId::Value { tenant, name }),
        (name(), name(), name()).prop_map(|(tenant, connector, key)| StreamId::KeyOwner {
            tenant,
            connector,
            key
        }),
        relay().prop_map(StreamId::Relay),
    ]
}

pub(crate) fn relay_command() -> impl Strategy<Value = Command<RelayCommand>> {
    let sent = (stream(), any::<u64>(), any::<[u8; 32]>());
    let sent = sent.prop_map(|(stream, seq, digest)| SentEntry {
        stream,
        seq: Seq(seq),
        digest: Digest(digest),
    });
    let erasure = (stream(), any::<u64>());
    let erasure = erasure.prop_map(|(stream, seq)| RecordedErasure {
        stream,
        seq: Seq(seq),
    });
    command(prop_oneof![
        (sent, any::<u32>(), text()).prop_map(|(entry, attempts, reason)| RelayCommand::Refuse {
            entry,
            attempts,
            reason
        }),
        any::<u64>().prop_map(|refusal| RelayCommand::Redelivered {
            refusal: Seq(refusal)
        }),
        (name(), erasure).prop_map(|(subscriber, erasure)| RelayCommand::Receipt { subscriber, erasure }),
    ])
}

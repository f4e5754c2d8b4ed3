//! The work that is measured: entries appended to runs, and steps.

use crate::served::Connection;
use std::time::{Duration, Instant};
use tape_core::chain::StreamTag;
use tape_core::codec::{Stamp, seal};
use tape_core::command::{AttemptOutcome, Begin, Command, Create, DriverCommand, RecordDecision, RunCommand};
use tape_core::effect::{EffectPolicy, EffectSpec, Mode, Semantics, SettledBy};
use tape_core::entry::EntryBody;
use tape_core::entry::decision::{Recorded, Usage};
use tape_core::entry::effect::{Begun, Confirmed};
use tape_core::entry::run::Checkpoint;
use tape_core::fingerprint::Fingerprint;
use tape_core::id::{EffectId, Epoch, Position, RequestId, RunId, Scope, Seq};
use tape_core::payload::{Digest, Payload};
use tape_core::time::Timestamp;
use tape_engine::Engine;
use tape_environment::{Environment as _, Machine};
use tape_store::clock::{Clock as _, SystemClock};

/// Bytes of each payload.
pub(crate) const PAYLOAD_BYTES: usize = 512;
/// Steps under one decision.
const STEPS_PER_DECISION: u16 = 16;

/// The executor of commands.
#[derive(Clone)]
pub(crate) enum Caller {
    /// The engine in this process.
    Embedded(Engine),
    /// A server, over one Drive stream that many runs share.
    Served(Connection),
}

impl Caller {
    async fn ask(&self, run: &RunId, body: RunCommand) {
        let command = Command::new(SystemClock.request_id(), body);
        match self {
            Self::Embedded(engine) => drop(engine.run(run, command).await.expect("the command is taken")),
            Self::Served(connection) => connection.ask(run, command).await,
        }
    }

    async fn drive(&self, run: &RunId, command: DriverCommand) {
        self.ask(run, RunCommand::Drive(Epoch(1), command)).await;
    }

    pub(crate) async fn begin(&self) -> RunId {
        let run = RunId::new("bench", "bench", "user", "session", &Machine.uuid().to_string())
            .expect("these are names");
        let create = Create {
            labels: [].into(),
            input: Payload::empty(),
            forked_from: None,
        };
        let begin = Begin {
            run: run.clone(),
            create: Some(create),
            holder: "bench".parse().expect("a name"),
            lease_ms: 3_600_000,
            adopt: None,
            recovery: false,
        };
        self.ask(&run, RunCommand::Begin(begin)).await;
        run
    }

    /// Appends one entry.
    pub(crate) async fn append(&self, run: &RunId) {
        self.drive(
            run,
            DriverCommand::Checkpoint {
                label: "step".parse().expect("a name"),
                state: payload(),
            },
        )
        .await;
    }

    /// Leaves the run to wait for a person.
    pub(crate) async fn park(&self, run: &RunId) {
        let gate = "approval".parse().expect("a name");
        self.drive(run, DriverCommand::OpenGate { gate, deadline: None })
            .await;
        let seen = Seq(u64::MAX);
        self.drive(run, DriverCommand::Suspend { seen, resume: None })
            .await;
    }

    /// Begins a run, makes its steps and completes it.
    async fn whole_run(&self, kind: StepKind) -> RunTimes {
        let began = Instant::now();
        let run = self.begin().await;
        let begin = began.elapsed();
        let mut append = Duration::ZERO;
        match kind {
            StepKind::Record => {
                for _ in 0..RUN_STEPS {
                    let began = Instant::now();
                    self.append(&run).await;
                    append = began.elapsed();
                }
            }
            StepKind::Effect => steps_of(self, &run, RUN_STEPS).await,
        }
        let began = Instant::now();
        let output = Payload::empty();
        self.drive(&run, DriverCommand::Complete { output }).await;
        RunTimes {
            begin,
            append,
            complete: began.elapsed(),
        }
    }

    /// Records the decision before its first effect.
    async fn decide_before(&self, run: &RunId, effect: &EffectId) {
        if effect.call == 0 {
            self.drive(run, decision(effect.position.clone())).await;
        }
    }

    /// One step: the intent durable, then the result durable.
    async fn step(&self, run: &RunId, effect: EffectId) {
        let spec = spec();
        self.drive(
            run,
            DriverCommand::BeginEffect {
                effect: effect.clone(),
                spec,
            },
        )
        .await;
        let ending = AttemptOutcome::Confirmed {
            result: payload(),
            undo: None,
            spent: None,
        };
        self.drive(
            run,
            DriverCommand::FinishEffect {
                effect,
                attempt: 1,
                ending,
            },
        )
        .await;
    }
}

/// The time of each entry that `runs` runs append at once.
pub(crate) async fn appends(callers: &[Caller], runs: usize, span: Duration) -> Vec<Duration> {
    let end = Instant::now() + span;
    spread(callers, runs, |caller| async move {
        let (run, mut times) = (caller.begin().await, Vec::new());
        while Instant::now() < end {
            let began = Instant::now();
            caller.append(&run).await;
            times.push(began.elapsed());
        }
        times
    })
    .await
}

/// The time of each step that `runs` runs make at once.
pub(crate) async fn steps(callers: &[Caller], runs: usize, span: Duration) -> Vec<Duration> {
    let end = Instant::now() + span;
    spread(callers, runs, |caller| async move {
        let (run, mut times) = (caller.begin().await, Vec::new());
        for effect in effects() {
            caller.decide_before(&run, &effect).await;
            if Instant::now() >= end {
                break;
            }
            let began = Instant::now();
            caller.step(&run, effect).await;
            times.push(began.elapsed());
        }
        times
    })
    .await
}

/// Steps of a whole run.
pub(crate) const RUN_STEPS: usize = 10;

/// What the steps of a whole run are.
#[derive(Clone, Copy)]
pub(crate) enum StepKind {
    /// One entry each.
    Record,
    /// An effect each, its intent durable and then its result, under one decision.
    Effect,
}

/// The times of the parts of a whole run.
pub(crate) struct RunTimes {
    pub(crate) begin: Duration,
    /// Of the last step, where the steps are records; else zero.
    pub(crate) append: Duration,
    pub(crate) complete: Duration,
}

/// The times of the whole runs of [`RUN_STEPS`] steps that `at_once` callers make one after the other.
pub(crate) async fn runs(
    callers: &[Caller],
    at_once: usize,
    kind: StepKind,
    span: Duration,
) -> Vec<RunTimes> {
    let end = Instant::now() + span;
    let whole_runs = move |caller: Caller| async move {
        let mut times = Vec::new();
        while Instant::now() < end {
            times.push(caller.whole_run(kind).await);
        }
        times
    };
    spread(callers, at_once, whole_runs).await
}

/// Makes `steps` steps of a run that has begun.
pub(crate) async fn steps_of(caller: &Caller, run: &RunId, steps: usize) {
    for effect in effects().take(steps) {
        caller.decide_before(run, &effect).await;
        caller.step(run, effect).await;
    }
}

/// The effects of a run's steps.
fn effects() -> impl Iterator<Item = EffectId> + Send {
    let position = |k| Position {
        scope: Scope::root(),
        k,
    };
    (0..).flat_map(move |k| {
        (0..STEPS_PER_DECISION).map(move |call| EffectId {
            position: position(k),
            call,
        })
    })
}

/// Does the work `at_once` times at once, spread over the callers.
async fn spread<T, F>(callers: &[Caller], at_once: usize, work: impl Fn(Caller) -> F) -> Vec<T>
where
    F: Future<Output = Vec<T>> + Send + 'static,
    T: Send + 'static,
{
    let runs: Vec<_> = (0..at_once)
        .map(|i| tokio::spawn(work(callers[i % callers.len()].clone())))
        .collect();
    let mut times = Vec::new();
    for run in runs {
        times.extend(run.await.expect("no run panics"));
    }
    times
}

/// Entries a second that are encoded and linked into a chain, by one thread.
pub(crate) fn seals(span: Duration) -> f64 {
    let stamp = Stamp {
        at: Timestamp::from_micros(1_700_000_000_000_000),
        request: RequestId::from_u128(7),
        principal: None,
        trace: None,
        command: None,
    };
    let tag = StreamTag::of(&"acme/value/rate".parse().expect("a stream"));
    let (start, mut digest, mut count) = (Instant::now(), Digest::default(), 0);
    while start.elapsed() < span {
        for seq in 1..=100 {
            let body = Checkpoint {
                label: "step".parse().expect("a name"),
                state: payload(),
                scope: Scope::root(),
            };
            digest = seal(&tag, &digest, Seq(seq), &stamp, body.into()).1.digest;
        }
        count += 100;
    }
    crate::figure::rate(count, start.elapsed())
}

fn decision(position: Position) -> DriverCommand {
    DriverCommand::RecordDecision(RecordDecision {
        position,
        fingerprint: Fingerprint::of_bytes(b"asked"),
        response: payload(),
        model: "model".to_owned(),
        usage: Usage::default(),
        rationale: None,
        policy_version: String::new(),
        spent: Vec::new(),
    })
}

fn payload() -> Payload {
    Payload::new("application/octet-stream", vec![3; PAYLOAD_BYTES]).expect("it is small")
}

fn spec() -> EffectSpec {
    EffectSpec {
        connector: "bank".parse().expect("a name"),
        operation: "pay".parse().expect("a name"),
        semantics: Semantics::Idempotent,
        mode: Mode::Inline,
        args: payload(),
        business_key: None,
        undo: None,
        reserve: Vec::new(),
        policy: EffectPolicy::default(),
    }
}

/// A step in a journal: a decision and its one effect.
pub(crate) struct RecordedStep {
    pub(crate) position: Position,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) effect: EffectId,
    pub(crate) spec: EffectSpec,
}

/// The k-th step of a run.
pub(crate) fn recorded_step(k: u32) -> RecordedStep {
    let position = Position {
        scope: Scope::root(),
        k,
    };
    RecordedStep {
        fingerprint: Fingerprint::of_bytes(&k.to_be_bytes()),
        effect: EffectId {
            position: position.clone(),
            call: 0,
        },
        position,
        spec: spec(),
    }
}

impl RecordedStep {
    /// The entries of the step.
    pub(crate) fn entries(&self) -> Vec<EntryBody> {
        let recorded = Recorded {
            position: self.position.clone(),
            fingerprint: self.fingerprint.clone(),
            response: payload(),
            model: "model".to_owned(),
            usage: Usage::default(),
            rationale: None,
            policy_version: String::new(),
            spent: Vec::new(),
        };
        let begun = Begun {
            effect: self.effect.clone(),
            spec: self.spec.clone(),
        };
        let confirmed = Confirmed {
            effect: self.effect.clone(),
            by: SettledBy::Driver,
            result: payload(),
            undo: None,
            spent: None,
        };
        vec![recorded.into(), begun.into(), confirmed.into()]
    }
}

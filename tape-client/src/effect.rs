//! Effects: intent before act, and no act twice.

mod call;
mod calls;

pub(crate) use call::text;
pub use call::{Call, CallError};
pub(crate) use calls::Calls;

use crate::decision::{Decision, spends};
use crate::error::Error;
use crate::json;
use crate::lease::millis;
use crate::retry;
use crate::run::{Due, Run};
use calls::Number;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::Duration;
use tape_core::command::{AttemptOutcome, DriverCommand};
use tape_core::effect::{EffectPolicy, EffectSpec, Mode, Semantics, Status, Undo};
use tape_core::id::{BusinessKey, ConnectorName, EffectId, Operation};
use tape_core::payload::{ContentDigest, Payload};
use tape_core::replay::{EffectRecord, Place, Settled};
use tape_core::reply::{Rejection, Reply, ReplyResult};
use tape_core::time::Timestamp;

/// An effect about to be asked for. Unless told otherwise it is idempotent, and the agent runs it itself.
#[derive(Debug)]
#[must_use = "nothing happens before `run` or `settled`"]
pub struct Effect {
    run: Run,
    id: EffectId,
    number: Number,
    spec: Result<EffectSpec, Error>,
    reserve: Vec<(String, u64)>,
}

/// Where an effect stands, as far as the driver knows.
enum Stand {
    /// An attempt was started by this drive: call now.
    Go { attempt: u32 },
    /// An earlier attempt has no outcome, or is to be made again: start another.
    Again { due: Option<Timestamp> },
    /// Its outcome is unknown: start another attempt after a while, or leave it to an observer or a person.
    Unknown { cause: String },
    /// A person must settle it, or let it be sent again.
    Stuck,
    /// It is settled.
    Done(Settled),
}

impl Effect {
    pub(crate) fn new(run: Run, by: &Decision, connector: &str, operation: &str) -> Self {
        let spec = spec(connector, operation);
        let number = by.calls().next();
        let id = EffectId {
            position: by.position().clone(),
            call: number.call(),
        };
        Self {
            run,
            id,
            number,
            spec,
            reserve: Vec::new(),
        }
    }

    /// The effect's id. If the same effect was asked for before, it takes over that effect's id when it runs.
    #[must_use]
    pub const fn id(&self) -> &EffectId {
        &self.id
    }

    /// The key handed to the upstream: the same in every attempt and every process. [`Call::key`] has it, too.
    #[must_use]
    pub fn key(&self) -> String {
        self.id.idempotency_key(self.run.id())
    }

    /// Makes it the `call`-th effect of its decision, instead of the next in order of creation. Asked for again under this number, it is
    /// the same effect, even if the first future was dropped, and its arguments must be the same.
    pub const fn call(mut self, call: u16) -> Self {
        self.number.choose();
        self.id.call = call;
        self
    }

    /// The arguments, for the journal and for the worker that dispatches the effect.
    pub fn args(self, args: &impl Serialize) -> Self {
        let args = json::payload("effect arguments", args);
        self.with(|spec| args.map(|args| spec.args = args))
    }

    /// The arguments, in any form.
    pub fn args_payload(self, args: Payload) -> Self {
        self.with(|spec| {
            spec.args = args;
            Ok(())
        })
    }

    /// How to undo it once it happened: an operation of the same connector.
    ///
    /// The agent's process undoes nothing itself. Where the run ends badly, a `tape-reactor` over the same journal does, by its
    /// reactor `compensation` and a connector of this name, also for runs of an embedded journal. Without one the run stays
    /// [`Undoing`](crate::RunResult::Undoing) until there is one, or a person settles it
    /// ([`Tape::settle_obligation`](crate::Tape::settle_obligation)).
    pub fn undo(self, operation: &str, args: &impl Serialize) -> Self {
        let undo = undo(operation, args);
        self.with(|spec| undo.map(|undo| spec.undo = Some(undo)))
    }

    /// Reserves part of a budget, in the same commit as the intent.
    pub fn reserve(mut self, budget: &str, amount: u64) -> Self {
        self.reserve.push((budget.to_owned(), amount));
        self
    }

    /// The business operation's own name. Within a tenant and connector, only one effect gets it.
    pub fn business_key(self, key: &str) -> Self {
        let key = BusinessKey::new(key);
        self.with(|spec| {
            spec.business_key = Some(key?);
            Ok(())
        })
    }

    /// How often it is tried, asked about and undone.
    pub fn policy(self, policy: EffectPolicy) -> Self {
        self.with(|spec| {
            spec.policy = policy;
            Ok(())
        })
    }

    /// It changes nothing at the upstream.
    pub fn read_only(self) -> Self {
        self.with(|spec| {
            spec.semantics = Semantics::ReadOnly;
            Ok(())
        })
    }

    /// A worker dispatches it, not the agent.
    pub fn outbox(self) -> Self {
        self.with(|spec| {
            spec.mode = Mode::Outbox;
            Ok(())
        })
    }

    /// The upstream would act twice if it were sent twice. A worker dispatches it, and it is never sent again before its outcome is known.
    pub fn non_idempotent(self) -> Self {
        self.with(|spec| {
            (spec.semantics, spec.mode) = (Semantics::NonIdempotent, Mode::Outbox);
            Ok(())
        })
    }

    fn with(mut self, change: impl FnOnce(&mut EffectSpec) -> Result<(), Error>) -> Self {
        self.spec = self.spec.and_then(|mut spec| change(&mut spec).map(|()| spec));
        self
    }

    /// Runs it: `call` is called once the intent is durable, unless the journal has the outcome. A retryable failure and a lost answer are
    /// tried again with the same key, as often as the policy says.
    ///
    /// # Errors
    /// [`Error::EffectFailed`] where it failed for good, now or in an earlier drive; [`Error::EffectUnknown`] where the last
    /// answer was lost too; [`Error::Drift`] where the journal has another effect here; [`Error::Invalid`] where it is new, and a later
    /// decision of its scope was asked for; [`Error::Unreadable`] where it happened, and its result is too large to be kept or cannot be
    /// read as `T`: no drive calls the upstream again for that; [`Error::Suspended`] where the next attempt is due later than the client
    /// waits, or a person must settle the effect first, and the run waits without this driver; [`Error::Cancelled`] where a cancellation is
    /// requested before the next attempt.
    ///
    /// # Cancellation
    /// If this future is dropped, the effect may have happened: the call may be under way, and its outcome may still be recorded. An effect
    /// that is asked for again, equal in every part, is the same effect with the same key. Its outcome is returned if the journal has it;
    /// otherwise the call is made again, as after a crash.
    pub async fn run<T, F>(self, mut call: impl FnMut(Call) -> F) -> Result<T, Error>
    where
        T: Serialize + DeserializeOwned,
        F: Future<Output = Result<T, CallError>>,
    {
        let what = format!("the result of effect {}", self.id);
        let call = |this: Call| {
            let called = call(this);
            // It happened, so a result that cannot be recorded must not count as a failure.
            async { Ok(json::kept("effect result", &called.await?)) }
        };
        let result = self.run_payload(call).await?;
        json::read(&what, &result)
    }

    /// As [`Effect::run`], with results in any form. For a result of unknown size, use [`Payload::kept`].
    ///
    /// # Errors
    /// As [`Effect::run`].
    pub async fn run_payload<F>(self, mut call: impl FnMut(Call) -> F) -> Result<Payload, Error>
    where
        F: Future<Output = Result<Payload, CallError>>,
    {
        let Asked {
            run,
            id,
            spec,
            mut number,
        } = self.checked(Mode::Inline)?;
        let doing = run.doing().await?;
        let mut stand = first(&run, &id, &spec).await?;
        let mut backoff = retry::backoff();
        let mut calls = 0;
        loop {
            let attempt = match stand {
                Stand::Done(settled) => {
                    number.tell();
                    doing.done();
                    return outcome(id, settled);
                }
                Stand::Go { attempt } => attempt,
                Stand::Unknown { cause } if calls >= spec.policy.attempts_max => {
                    return Err(Error::EffectUnknown { effect: id, cause });
                }
                Stand::Again { due } => {
                    stand = again(&run, &id, due).await?;
                    continue;
                }
                Stand::Stuck => {
                    stand = unstuck(&run, &id).await?;
                    continue;
                }
                Stand::Unknown { .. } => {
                    let longest = Duration::from_millis(spec.policy.backoff_max_ms);
                    let wait = backoff.next(run.inner.tape.environment.chance()).min(longest);
                    let due = run.inner.lease.clock().after(wait);
                    stand = again(&run, &id, Some(due)).await?;
                    continue;
                }
            };
            calls += 1;
            let this = Call::new(id.clone(), run.id(), attempt);
            let busy = run.busy();
            let answered = call(this.clone()).await;
            drop(busy);
            stand = finish(&run, &id, attempt, this.ending(answered)).await?;
        }
    }

    /// Hands it to the outbox, and waits until a worker, or a person, has settled it. A long wait suspends the run.
    ///
    /// # Errors
    /// [`Error::EffectFailed`] where it failed for good; [`Error::Suspended`] where the run waits without this driver;
    /// [`Error::Drift`] and [`Error::Invalid`] as for [`Effect::run`]; [`Error::Unreadable`] where it happened, and the answer cannot be read as `T`. An empty answer is read as `null`.
    ///
    /// # Cancellation
    /// If this future is dropped, the effect is in the outbox, or still gets there. An effect that is asked for again, equal in every part,
    /// is the same effect with the same key.
    pub async fn settled<T: DeserializeOwned>(self) -> Result<T, Error> {
        let what = format!("the result of effect {}", self.id);
        json::read(&what, &self.settled_payload().await?)
    }

    /// As [`Effect::settled`], with results in any form.
    ///
    /// # Errors
    /// As [`Effect::settled`].
    pub async fn settled_payload(self) -> Result<Payload, Error> {
        let Asked {
            run,
            id,
            spec,
            mut number,
        } = self.checked(Mode::Outbox)?;
        let doing = run.doing().await?;
        first(&run, &id, &spec).await?;
        let settled = run
            .wait_until(None, |replay| replay.effect(&id)?.settled.clone())
            .await?;
        number.tell();
        doing.done();
        outcome(id, settled)
    }

    fn checked(mut self, mode: Mode) -> Result<Asked, Error> {
        let spec = EffectSpec {
            reserve: spends(&self.reserve)?,
            ..self.spec?
        };
        match (mode, spec.mode) {
            (Mode::Inline, Mode::Outbox) => Err(Error::invalid(
                "effect",
                "is for the outbox: wait until it is `settled` instead",
            )),
            (Mode::Outbox, Mode::Inline) => {
                Err(Error::invalid("effect", "is the agent's own: `run` it instead"))
            }
            _ => {
                if let Some(call) = self.number.ask(&spec) {
                    self.id.call = call;
                }
                Ok(Asked {
                    run: self.run,
                    id: self.id,
                    spec,
                    number: self.number,
                })
            }
        }
    }
}

/// An effect that is asked for.
struct Asked {
    run: Run,
    id: EffectId,
    spec: EffectSpec,
    number: Number,
}

fn spec(connector: &str, operation: &str) -> Result<EffectSpec, Error> {
    Ok(EffectSpec {
        connector: ConnectorName::new(connector)?,
        operation: Operation::new(operation)?,
        semantics: Semantics::Idempotent,
        mode: Mode::Inline,
        args: Payload::empty(),
        business_key: None,
        undo: None,
        reserve: Vec::new(),
        policy: EffectPolicy::default(),
    })
}

pub(crate) fn undo(operation: &str, args: &impl Serialize) -> Result<Undo, Error> {
    Ok(Undo {
        operation: Operation::new(operation)?,
        args: json::payload("undo arguments", args)?,
    })
}

/// Finds the effect in the journal, or begins it.
async fn first(run: &Run, id: &EffectId, spec: &EffectSpec) -> Result<Stand, Error> {
    let (at, of) = (Place::Effect(id.clone()), ContentDigest::of(spec));
    run.refused_before(&at, of)?;
    if let Some(stand) = recorded(run, id, spec).await? {
        return Ok(stand);
    }
    let begin = DriverCommand::BeginEffect {
        effect: id.clone(),
        spec: spec.clone(),
    };
    match run.drive(begin).await {
        Ok(reply) if spec.mode == Mode::Inline => started(reply),
        Ok(_) => Ok(Stand::Again { due: None }),
        // This driver began it before and was told its outcome: the journal has it.
        Err(Error::Rejected(rejection)) if matches!(*rejection, Rejection::Exists { .. }) => {
            run.catch_up().await?;
            let stand = recorded(run, id, spec).await?;
            stand.ok_or(Error::Rejected(rejection))
        }
        // A parallel call recorded the next decision meanwhile.
        Err(Error::Rejected(rejection)) if matches!(*rejection, Rejection::NoDecision { .. }) => {
            Err(late(id))
        }
        Err(error) => Err(run.tell_refusal(&id.position.scope, &at, of, error).await),
    }
}

async fn recorded(run: &Run, id: &EffectId, spec: &EffectSpec) -> Result<Option<Stand>, Error> {
    if is_late(run, id) {
        // This driver may have begun it before the later decision.
        run.catch_up().await?;
        if is_late(run, id) {
            return Err(late(id));
        }
    }
    run.ask(|replay| Ok(replay.ask_effect(id, spec)?.map(stand)))
        .await
}

fn is_late(run: &Run, id: &EffectId) -> bool {
    run.replay().is_late(id)
}

fn late(id: &EffectId) -> Error {
    let problem = format!(
        "{id} is asked for after a later decision of its scope: a new effect begins under the newest decision. Ask for it before the next \
         decision, or in a scope of its own"
    );
    Error::invalid("effect", problem)
}

fn stand(record: &EffectRecord) -> Stand {
    match &record.settled {
        Some(settled) => Stand::Done(settled.clone()),
        // Started by a driver that is gone, or UNKNOWN: an idempotent effect is sent again with its key at once.
        None if record.status == Status::Pending => Stand::Again { due: record.due },
        None if record.status == Status::Stuck => Stand::Stuck,
        None => Stand::Again { due: None },
    }
}

fn started(reply: Reply) -> Result<Stand, Error> {
    match reply.result {
        ReplyResult::Effect {
            status: Status::Started,
            attempt,
            ..
        } => Ok(Stand::Go { attempt }),
        other => Err(Error::unexpected("the start of an effect", &other)),
    }
}

/// Starts another attempt once it is due.
async fn again(run: &Run, id: &EffectId, due: Option<Timestamp>) -> Result<Stand, Error> {
    if let Some(due) = due
        && let Some(settled) = until_due(run, id, due).await?
    {
        return Ok(Stand::Done(settled));
    }
    let restart = DriverCommand::RestartEffect { effect: id.clone() };
    match run.drive(restart).await {
        Ok(reply) => started(reply),
        Err(Error::Rejected(refused)) => meanwhile(run, id, refused).await,
        Err(error) => Err(error),
    }
}

/// Where an effect stands that cannot be restarted, or whose attempt cannot be finished: since the replay was read, an observer, a person
/// or another call may have settled it.
///
/// # Errors
/// The refusal, if the journal has nothing newer that explains it.
async fn meanwhile(run: &Run, id: &EffectId, refused: Box<Rejection>) -> Result<Stand, Error> {
    run.catch_up().await?;
    match run.replay().effect(id).map(stand) {
        Some(found @ (Stand::Done(_) | Stand::Stuck)) => Ok(found),
        _ => Err(Error::Rejected(refused)),
    }
}

/// Waits until a person has settled a stuck effect, or has let it be sent again. A long wait suspends the run.
async fn unstuck(run: &Run, id: &EffectId) -> Result<Stand, Error> {
    let over = run.wait_until(None, |replay| {
        if replay.cancel_requested().is_some() {
            return Some(Err(Error::Cancelled));
        }
        match stand(replay.effect(id)?) {
            Stand::Stuck => None,
            found => Some(Ok(found)),
        }
    });
    over.await?
}

/// Waits until the next attempt is due, or until a worker or a person settles the effect. A wait that is longer than the client waits
/// suspends the run.
///
/// # Errors
/// [`Error::Cancelled`] where a cancellation is requested meanwhile: nothing more is sent then.
async fn until_due(run: &Run, id: &EffectId, due: Timestamp) -> Result<Option<Settled>, Error> {
    let left = || run.inner.lease.clock().until(due);
    // Another wait in the run must not suspend the run during a short wait.
    let short = left() <= run.inner.tape.settings.suspend_after;
    let _busy = short.then(|| run.busy());
    let wait = Due {
        at: due,
        say: None,
        alone: true,
    };
    let over = run.wait_until(Some(wait), |replay| {
        if let Some(settled) = replay.effect(id).and_then(|record| record.settled.clone()) {
            return Some(Ok(Some(settled)));
        }
        if replay.cancel_requested().is_some() {
            return Some(Err(Error::Cancelled));
        }
        left().is_zero().then_some(Ok(None))
    });
    over.await?
}

/// Records how an attempt ended.
async fn finish(run: &Run, id: &EffectId, attempt: u32, ending: AttemptOutcome) -> Result<Stand, Error> {
    let doubt = match &ending {
        AttemptOutcome::Retry { error: cause, .. }
        | AttemptOutcome::Refused { error: cause, .. }
        | AttemptOutcome::Unreached { error: cause }
        | AttemptOutcome::Repeat { cause, .. }
        | AttemptOutcome::Unknown { cause } => cause.clone(),
        AttemptOutcome::Confirmed { .. } | AttemptOutcome::Failed { .. } => String::new(),
    };
    let settled = match &ending {
        AttemptOutcome::Confirmed { result, .. } => Some(Settled::Confirmed(result.clone())),
        AttemptOutcome::Failed { error, detail } => Some(Settled::Failed {
            error: error.clone(),
            detail: detail.clone(),
        }),
        // If one of these is the last attempt, the journal has the error's text.
        _ => None,
    };
    let bare = ending.without_cost();
    let finish = |ending| DriverCommand::FinishEffect {
        effect: id.clone(),
        attempt,
        ending,
    };
    let reply = match (run.drive(finish(ending)).await, bare) {
        (Err(Error::Rejected(refused)), _) if matches!(*refused, Rejection::WrongStatus { .. }) => {
            return meanwhile(run, id, refused).await;
        }
        // It happened. The same outcome would be refused again, so it is recorded without its cost.
        (Err(Error::Rejected(rejection)), Some(bare)) => {
            run.drive(finish(bare)).await?;
            return Err(Error::Rejected(rejection));
        }
        (reply, _) => reply?,
    };
    match (reply.result, settled) {
        (
            ReplyResult::Effect {
                status: Status::Confirmed | Status::Failed,
                ..
            },
            settled,
        ) => match settled {
            Some(settled) => Ok(Stand::Done(settled)),
            None => recorded_outcome(run, id).await.map(Stand::Done),
        },
        (
            ReplyResult::Effect {
                status: Status::Pending,
                until,
                ..
            },
            _,
        ) => Ok(Stand::Again { due: until }),
        (
            ReplyResult::Effect {
                status: Status::Unknown,
                ..
            },
            _,
        ) => Ok(Stand::Unknown { cause: doubt }),
        (other, _) => Err(Error::unexpected("the outcome of an effect", &other)),
    }
}

/// The recorded outcome of a settled effect.
async fn recorded_outcome(run: &Run, id: &EffectId) -> Result<Settled, Error> {
    run.catch_up().await?;
    let settled = run.replay().effect(id).and_then(|record| record.settled.clone());
    settled.ok_or_else(|| Error::damaged(format!("the journal settled effect {id} without an outcome")))
}

fn outcome(effect: EffectId, settled: Settled) -> Result<Payload, Error> {
    match settled {
        Settled::Confirmed(result) => json::there(|| format!("the result of effect {effect}"), result),
        Settled::Failed { error, detail } => Err(Error::EffectFailed {
            effect,
            error,
            detail: detail.map(Box::new),
        }),
    }
}

/// The wait that an upstream asks for, in the journal's unit.
pub(crate) fn after_ms(after: Option<Duration>) -> Option<u64> {
    after.map(millis)
}

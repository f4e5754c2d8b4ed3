//! The backing of an agent with Tape: a run, driven over its journal.

use crate::journal::{Answer, Call, Journal};
use anyhow::{Context as _, Result};
use serde_json::Value;
use tape_client::core::id::{EventId, Invocation};
use tape_client::core::state::Delta;
use tape_client::{
    CallError, Currency, Decision, EffectPolicy, Error, Event, Payload, Run, Session, Tape, Usage,
};

/// The budget that the model's answers are charged to.
pub const MODEL_BUDGET: &str = "model";

/// The policy of acts at an upstream that ignores idempotency keys: an act that it reports as absent may be sent again without a person,
/// any number of times. Waits are short, since in a scenario answers get lost all the time.
const ASKED_OFTEN: EffectPolicy = EffectPolicy {
    attempts_max: 100,
    observations_max: 100,
    backoff_ms: 200,
    backoff_max_ms: 2_000,
    resend_absent: true,
};

/// A run that this process drives.
#[derive(Debug)]
pub struct Taped {
    run: Run,
    session: Session,
    said: usize,
    heard: usize,
    newest: Option<Decision>,
    reserve: u64,
}

impl Taped {
    /// Drives `run`; messages are kept in its session.
    ///
    /// # Errors
    /// Where the journal is unreachable.
    pub async fn new(tape: &Tape, run: Run) -> Result<Self> {
        let session = tape.session(run.id().session());
        match session.create(Delta::default()).await {
            // An earlier drive has begun it.
            Ok(_) | Err(Error::Rejected(_)) => {}
            Err(error) => return Err(error.into()),
        }
        let events_max = tape_client::core::limits::PAGE_ENTRIES_MAX;
        let said = session.get(events_max).await?.map_or(0, |view| view.events.len());
        Ok(Self {
            run,
            session,
            said,
            heard: 0,
            newest: None,
            reserve: 0,
        })
    }

    /// Opens a budget for the model's answers, in millionths of a US dollar; `reserve` of it is reserved before each question.
    ///
    /// # Errors
    /// Where the journal refuses.
    pub async fn with_model_budget(mut self, limit: u64, reserve: u64) -> Result<Self> {
        self.run
            .open_budget(MODEL_BUDGET, Currency::MicroUsd, limit)
            .await?;
        self.reserve = reserve;
        Ok(self)
    }

    fn record(&self, answer: Answer) -> Result<tape_client::Answer> {
        let Answer {
            decision,
            model,
            input_tokens,
            output_tokens,
            cost_micro_usd,
        } = answer;
        let usage = Usage {
            input_tokens,
            output_tokens,
            cost_micro_usd,
        };
        let answer = tape_client::Answer::json(&decision)?.model(&model).usage(usage);
        if self.reserve == 0 {
            Ok(answer)
        } else {
            Ok(answer.spent(MODEL_BUDGET, cost_micro_usd)?)
        }
    }
}

impl Journal for Taped {
    fn epoch(&self) -> Option<u64> {
        Some(self.run.epoch().0)
    }

    async fn hear(&mut self, event: &str, author: &str, content: &Value) -> Result<()> {
        self.heard += 1;
        if self.heard <= self.said {
            return Ok(());
        }
        let invocation = Invocation::new(self.run.id().invocation.as_str())?;
        let content = Payload::new(Payload::JSON, content.to_string())?;
        let event = Event::new(EventId::new(event)?, author, content).invocation(invocation);
        self.session.append(event).await?;
        Ok(())
    }

    async fn sample(&mut self, name: &str, fresh: Value) -> Result<Value> {
        Ok(self
            .run
            .sample(name, async || Ok::<_, std::convert::Infallible>(fresh))
            .await?)
    }

    async fn decide(&mut self, request: &Value, ask: impl AsyncFnOnce() -> Result<Answer>) -> Result<Value> {
        let mut asking = self.run.decision(request);
        if self.reserve > 0 {
            asking = asking.reserve(MODEL_BUDGET, self.reserve);
        }
        let decision = asking.ask(async || self.record(ask().await?)).await?;
        let answer = decision.json()?;
        self.newest = Some(decision);
        Ok(answer)
    }

    async fn act(&mut self, call: Call, run: impl AsyncFn(Option<String>) -> Result<Value>) -> Result<Value> {
        let decision = self.newest.as_ref().context("a call follows a decision")?;
        let mut effect = self
            .run
            .effect(decision, &call.connector, &call.operation)
            .args(&call.args);
        if !call.changes {
            effect = effect.read_only();
        }
        if let Some((operation, args)) = &call.undo {
            effect = effect.undo(operation, args);
        }
        if let Some(key) = &call.business_key {
            let by_a_worker = effect.non_idempotent().business_key(key).policy(ASKED_OFTEN);
            return Ok(by_a_worker.settled().await?);
        }
        let run = &run;
        let result = effect.run(|attempt| async move {
            let answer = run(Some(attempt.key().to_owned())).await;
            // After any error on the way, the upstream may have acted: Tape sends it again, with the same key.
            answer.map_err(|error| CallError::unknown(format!("{error:#}")))
        });
        Ok(result.await?)
    }

    async fn approval(&mut self, gate: &str, waiting: impl AsyncFnOnce()) -> Result<Value> {
        let waiting = async {
            waiting().await;
            std::future::pending().await
        };
        tokio::select! {
            // This is polled first: where the answer is recorded, there is no wait.
            biased;
            answer = self.run.gate(gate).wait() => Ok(answer?.json()?),
            never = waiting => never,
        }
    }

    async fn fail(&mut self, why: &str) -> Result<()> {
        self.run.fail(why).await?;
        Ok(())
    }

    async fn finish(&mut self, output: &Value) -> Result<()> {
        self.run.complete(output).await?;
        Ok(())
    }
}

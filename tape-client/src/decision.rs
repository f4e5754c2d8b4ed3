//! Decisions: the model is asked once, and its recorded answer is replayed in every later drive.

use crate::effect::Calls;
use crate::error::Error;
use crate::json;
use crate::run::Run;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tape_api::Source;
use tape_core::budget::Spend;
use tape_core::command::{DriverCommand, RecordDecision};
use tape_core::entry::decision::{Recorded, Usage};
use tape_core::fingerprint::Fingerprint;
use tape_core::id::{BudgetName, Position};
use tape_core::payload::Payload;

/// A decision about to be asked for.
#[derive(Debug)]
#[must_use = "nothing is asked before `ask`"]
pub struct Asking {
    run: Run,
    fingerprint: Result<Fingerprint, Error>,
    reserve: Vec<(String, u64)>,
}

/// A model's answer, and what is recorded with it. A JSON value ([`serde_json::Value`]) or a [`Payload`] can be used as an answer directly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    response: Payload,
    model: String,
    usage: Usage,
    rationale: Option<Payload>,
    policy_version: String,
    spent: Vec<Spend>,
}

/// A recorded decision. Effects are authorised by it.
#[derive(Clone, Debug)]
pub struct Decision {
    position: Position,
    response: Payload,
    model: String,
    usage: Usage,
    replayed: bool,
    calls: Calls,
}

impl Asking {
    pub(crate) fn new(run: Run, request: &impl Serialize) -> Self {
        let of =
            |text: String| Fingerprint::of_json_text(&text).map_err(|error| Error::invalid("request", error));
        let fingerprint = json::text("request", request).and_then(of);
        Self {
            run,
            fingerprint,
            reserve: Vec::new(),
        }
    }

    /// The request's fingerprint, for requests that are not JSON.
    pub fn fingerprint(mut self, fingerprint: Fingerprint) -> Self {
        self.fingerprint = Ok(fingerprint);
        self
    }

    /// Reserves part of a budget before the model is asked. The amount that the answer [spent](Answer::spent) replaces the reservation.
    pub fn reserve(mut self, budget: &str, amount: u64) -> Self {
        self.reserve.push((budget.to_owned(), amount));
        self
    }

    /// The recorded decision, or else what `model` answers, recorded.
    ///
    /// # Errors
    /// As [`Run::decide`]; [`Error::OverBudget`] where the reservation does not fit, and the model is not asked.
    ///
    /// # Cancellation
    /// As [`Run::decide`]. What was reserved stays reserved for the next call.
    pub async fn ask<A, E, F>(self, model: impl FnOnce() -> F) -> Result<Decision, Error>
    where
        F: Future<Output = Result<A, E>>,
        A: Into<Answer>,
        E: Into<Source>,
    {
        let run = &self.run;
        let fingerprint = self.fingerprint?;
        let spends = spends(&self.reserve)?;
        let doing = run.doing().await?;
        let turn = run.take_turn("decision")?;
        let of = fingerprint.content_digest();
        let at = run.replay().next_decision(&run.scope);
        run.refused_before(&at, of)?;
        let next = run.ask(|replay| replay.decide(&run.scope, &fingerprint)).await?;
        if let Some(recorded) = next.recorded {
            doing.done();
            return Decision::replayed(*recorded);
        }
        let position = next.position;
        let reserved = !spends.is_empty() || run.replay().is_reserved(&position);
        if !spends.is_empty() && !run.replay().is_reserved(&position) {
            let reserve = DriverCommand::ReserveForDecision {
                position: position.clone(),
                spends,
            };
            if let Err(error) = run.drive(reserve).await {
                return Err(run.tell_refusal(&run.scope, &at, of, error).await);
            }
        }
        let busy = run.busy();
        let answer = model().await;
        drop(busy);
        let answer = match answer {
            Ok(answer) => answer.into(),
            Err(error) => {
                if reserved {
                    run.drive(DriverCommand::ReleaseReservation { position }).await?;
                }
                return Err(Error::NoAnswer { source: error.into() });
            }
        };
        let decision = Decision::new(position, &answer);
        let position = decision.position.clone();
        run.drive(DriverCommand::RecordDecision(
            answer.record(position, fingerprint),
        ))
        .await?;
        run.note(|replay| replay.decided(&decision.position));
        doing.done();
        drop(turn);
        Ok(decision)
    }
}

pub(crate) fn spends(of: &[(String, u64)]) -> Result<Vec<Spend>, Error> {
    of.iter()
        .map(|(budget, amount)| {
            Ok(Spend {
                budget: BudgetName::new(budget)?,
                amount: *amount,
            })
        })
        .collect()
}

impl Answer {
    /// An answer in any form.
    #[must_use]
    pub const fn new(response: Payload) -> Self {
        Self {
            response,
            model: String::new(),
            usage: Usage {
                input_tokens: 0,
                output_tokens: 0,
                cost_micro_usd: 0,
            },
            rationale: None,
            policy_version: String::new(),
            spent: Vec::new(),
        }
    }

    /// An answer in JSON.
    ///
    /// # Errors
    /// [`Error::Invalid`] where the value has no JSON form or is too large.
    pub fn json(response: &impl Serialize) -> Result<Self, Error> {
        Ok(Self::new(json::payload("answer", response)?))
    }

    /// The model that answered.
    #[must_use]
    pub fn model(mut self, model: &str) -> Self {
        model.clone_into(&mut self.model);
        self
    }

    /// What the answer used.
    #[must_use]
    pub const fn usage(mut self, usage: Usage) -> Self {
        self.usage = usage;
        self
    }

    /// Why, in the model's words.
    #[must_use]
    pub fn rationale(mut self, rationale: Payload) -> Self {
        self.rationale = Some(rationale);
        self
    }

    /// The version of the policy that the decision is made under.
    #[must_use]
    pub fn policy_version(mut self, version: &str) -> Self {
        version.clone_into(&mut self.policy_version);
        self
    }

    /// Charges a budget.
    ///
    /// # Errors
    /// [`Error::Invalid`] where the budget's name is not valid.
    pub fn spent(mut self, budget: &str, amount: u64) -> Result<Self, Error> {
        self.spent.push(Spend {
            budget: BudgetName::new(budget)?,
            amount,
        });
        Ok(self)
    }

    fn record(self, position: Position, fingerprint: Fingerprint) -> RecordDecision {
        RecordDecision {
            position,
            fingerprint,
            response: self.response,
            model: self.model,
            usage: self.usage,
            rationale: self.rationale,
            policy_version: self.policy_version,
            spent: self.spent,
        }
    }
}

impl From<serde_json::Value> for Answer {
    fn from(response: serde_json::Value) -> Self {
        Self::new(Payload::json(&response))
    }
}

impl From<Payload> for Answer {
    fn from(response: Payload) -> Self {
        Self::new(response)
    }
}

impl Decision {
    fn new(position: Position, answer: &Answer) -> Self {
        Self {
            position,
            response: answer.response.clone(),
            model: answer.model.clone(),
            usage: answer.usage,
            replayed: false,
            calls: Calls::default(),
        }
    }

    fn replayed(recorded: Recorded) -> Result<Self, Error> {
        let position = recorded.position;
        let response = json::there(|| format!("decision {position}"), recorded.response)?;
        Ok(Self {
            position,
            response,
            model: recorded.model,
            usage: recorded.usage,
            replayed: true,
            calls: Calls::default(),
        })
    }

    /// Where it is in the run.
    #[must_use]
    pub const fn position(&self) -> &Position {
        &self.position
    }

    /// What the model answered.
    #[must_use]
    pub const fn response(&self) -> &Payload {
        &self.response
    }

    /// What the model answered, read as JSON.
    ///
    /// # Errors
    /// [`Error::Unreadable`] where it is not such a value, [`Error::Erased`] where its bytes were erased. An empty answer is read as
    /// `null`.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        json::read("the decision", &self.response)
    }

    /// The model that answered.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.model
    }

    /// What the answer used.
    #[must_use]
    pub const fn usage(&self) -> Usage {
        self.usage
    }

    /// Whether the answer came from the journal, and the model was not asked.
    #[must_use]
    pub const fn is_replayed(&self) -> bool {
        self.replayed
    }

    pub(crate) const fn calls(&self) -> &Calls {
        &self.calls
    }
}

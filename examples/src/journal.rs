//! The seam between an agent and what it stands on. An agent is written once against it; with Tape and without differ only here.

use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::future::Future;

/// A model's answer, and what it cost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// What it decided.
    pub decision: Value,
    /// The model.
    pub model: String,
    /// Tokens of the request.
    pub input_tokens: u64,
    /// Tokens of the answer.
    pub output_tokens: u64,
    /// The price, in millionths of a US dollar.
    pub cost_micro_usd: u64,
}

/// A call that a decision asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The upstream.
    pub connector: String,
    /// What is asked of it.
    pub operation: String,
    /// With what.
    pub args: Value,
    /// Whether the upstream changes by it; else it is only asked.
    pub changes: bool,
    /// How to undo it: operation and arguments.
    pub undo: Option<(String, Value)>,
    /// The business act's own name, where the upstream heeds no keys and can be asked by nothing else. Then the call is no longer
    /// the agent's own, where somebody else is there to make it.
    pub business_key: Option<String>,
}

/// What an agent stands on.
pub trait Journal {
    /// The epoch of this driver, where there is such a thing.
    fn epoch(&self) -> Option<u64>;

    /// Writes down what somebody said. Said again under the same name, it counts once.
    fn hear(&mut self, event: &str, author: &str, content: &Value) -> impl Future<Output = Result<()>>;

    /// A value that must not change when the agent is run again.
    fn sample(&mut self, name: &str, fresh: Value) -> impl Future<Output = Result<Value>>;

    /// The model's next decision: the recorded one, or the one that `ask` brings.
    fn decide(
        &mut self,
        request: &Value,
        ask: impl AsyncFnOnce() -> Result<Answer>,
    ) -> impl Future<Output = Result<Value>>;

    /// The result of the next call of the newest decision: the recorded one, or the one that `run` brings. `run` gets the
    /// idempotency key, where there is one; where its answer is lost, it is called again.
    fn act(
        &mut self,
        call: Call,
        run: impl AsyncFn(Option<String>) -> Result<Value>,
    ) -> impl Future<Output = Result<Value>>;

    /// Waits for a person's answer. `waiting` runs beside the wait.
    fn approval(&mut self, gate: &str, waiting: impl AsyncFnOnce()) -> impl Future<Output = Result<Value>>;

    /// Ends the run badly: what it did is to be undone.
    fn fail(&mut self, why: &str) -> impl Future<Output = Result<()>>;

    /// Ends the run well.
    fn finish(&mut self, output: &Value) -> impl Future<Output = Result<()>>;
}

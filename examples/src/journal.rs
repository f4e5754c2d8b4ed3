//! The interface between an agent and its backing. An agent is written once against it; only the implementations with and without Tape
//! differ.

use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::future::Future;

/// A model's answer, and what it cost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The decision.
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
    /// The operation.
    pub operation: String,
    /// Its arguments.
    pub args: Value,
    /// Whether it changes the upstream; otherwise it only reads.
    pub changes: bool,
    /// How to undo it: operation and arguments.
    pub undo: Option<(String, Value)>,
    /// The name of the business act, where the upstream ignores idempotency keys and can be asked only by this name. Where there are
    /// workers, they then make the call, not the agent.
    pub business_key: Option<String>,
}

/// The backing of an agent.
pub trait Journal {
    /// The epoch of this driver, where there is such a thing.
    fn epoch(&self) -> Option<u64>;

    /// Records a message. A message that is repeated under the same name counts once.
    fn hear(&mut self, event: &str, author: &str, content: &Value) -> impl Future<Output = Result<()>>;

    /// A value that must not change when the agent is run again.
    fn sample(&mut self, name: &str, fresh: Value) -> impl Future<Output = Result<Value>>;

    /// The model's next decision: the recorded one, or the one that `ask` returns.
    fn decide(
        &mut self,
        request: &Value,
        ask: impl AsyncFnOnce() -> Result<Answer>,
    ) -> impl Future<Output = Result<Value>>;

    /// The result of the next call of the newest decision: the recorded one, or the one that `run` returns. `run` gets the
    /// idempotency key, where there is one; where its answer is lost, it is called again.
    fn act(
        &mut self,
        call: Call,
        run: impl AsyncFn(Option<String>) -> Result<Value>,
    ) -> impl Future<Output = Result<Value>>;

    /// Waits for a person's answer. `waiting` runs beside the wait.
    fn approval(&mut self, gate: &str, waiting: impl AsyncFnOnce()) -> impl Future<Output = Result<Value>>;

    /// Fails the run: its acts must be undone.
    fn fail(&mut self, why: &str) -> impl Future<Output = Result<()>>;

    /// Completes the run.
    fn finish(&mut self, output: &Value) -> impl Future<Output = Result<()>>;
}

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
}

/// What an agent stands on.
pub trait Journal: Send {
    /// The epoch of this driver, where there is such a thing.
    fn epoch(&self) -> Option<u64>;

    /// Writes down what somebody said. Said again under the same name, it counts once.
    fn hear(&mut self, event: &str, author: &str, content: &Value) -> impl Future<Output = Result<()>> + Send;

    /// A value that must not change when the agent is run again.
    fn sample(&mut self, name: &str, fresh: Value) -> impl Future<Output = Result<Value>> + Send;

    /// The model's next decision: the recorded one, or the one that `ask` brings.
    fn decide<F, Fut>(&mut self, request: &Value, ask: F) -> impl Future<Output = Result<Value>> + Send
    where
        F: FnOnce() -> Fut + Send,
        Fut: Future<Output = Result<Answer>> + Send;

    /// The result of the next call of the newest decision: the recorded one, or the one that `run` brings. `run` gets the
    /// idempotency key, where there is one.
    fn act<F, Fut>(&mut self, call: Call, run: F) -> impl Future<Output = Result<Value>> + Send
    where
        F: Fn(Option<String>) -> Fut + Send + Sync,
        Fut: Future<Output = Result<Value>> + Send;

    /// Waits for a person's answer. `waiting` is called once the wait has begun.
    fn approval<F, Fut>(&mut self, gate: &str, waiting: F) -> impl Future<Output = Result<Value>> + Send
    where
        F: FnOnce() -> Fut + Send,
        Fut: Future<Output = ()> + Send;

    /// Ends the run well.
    fn finish(&mut self, output: &Value) -> impl Future<Output = Result<()>> + Send;
}

//! The agent: it talks with a user, asks the model what to do, and calls the airline's tools. It is one program, with Tape or without.

use crate::recording::{Conversation, call_step, changes, decision_step, reference};
use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tape_examples::journal::{Answer, Call, Journal};
use tape_examples::model::{Model, Question};
use tape_examples::non_idempotent_upstream::UNDO;
use tape_examples::parent::Parent;
use tape_examples::stops::{Point, Stops};
use tape_examples::upstream::{Request, Upstream};

/// The services and settings of the agent.
pub(crate) struct Tools {
    pub(crate) airline: Upstream,
    /// The airline's name in journals.
    pub(crate) connector: String,
    /// Whether the airline ignores idempotency keys.
    pub(crate) non_idempotent: bool,
    pub(crate) model: Model,
    pub(crate) stops: Stops,
    pub(crate) parent: Parent,
}

/// The user's side of a conversation; the model's decisions are not known here.
pub(crate) struct Talk {
    pub(crate) run: String,
    pub(crate) said: Vec<String>,
    pub(crate) decisions_max: usize,
    pub(crate) regretted: bool,
}

impl Talk {
    pub(crate) fn of(conversation: &Conversation) -> Self {
        let Conversation {
            name,
            said,
            decisions,
            regretted,
        } = conversation.clone();
        Self {
            run: name,
            said,
            decisions_max: decisions.len(),
            regretted,
        }
    }
}

/// Holds the whole conversation.
pub(crate) async fn converse<J: Journal>(journal: &mut J, tools: &Tools, talk: &Talk) -> Result<()> {
    let mut messages = Vec::new();
    let mut said = talk.said.iter().enumerate();
    listen(journal, &mut said, &mut messages).await?;
    for k in 0..talk.decisions_max {
        let message = decide(journal, tools, talk, k, &messages).await?;
        let calls = message["tool_calls"].as_array().cloned().unwrap_or_default();
        messages.push(message);
        for (j, call) in calls.iter().enumerate() {
            let answer = act(journal, tools, talk, (k, j), &call["function"]).await?;
            messages.push(json!({ "role": "tool", "content": answer }));
        }
        if calls.is_empty() {
            listen(journal, &mut said, &mut messages).await?;
        }
    }
    if talk.regretted {
        return journal.fail("the user wants none of it").await;
    }
    journal.finish(&json!({ "messages": messages.len() })).await
}

/// Records what the user says next, if anything.
async fn listen<'a, J: Journal>(
    journal: &mut J,
    said: &mut (impl Iterator<Item = (usize, &'a String)> + Send),
    messages: &mut Vec<Value>,
) -> Result<()> {
    if let Some((n, text)) = said.next() {
        let content = json!({ "role": "user", "content": text });
        journal.hear(&format!("user-{n}"), "user", &content).await?;
        messages.push(content);
    }
    Ok(())
}

async fn decide<J: Journal>(
    journal: &mut J,
    tools: &Tools,
    talk: &Talk,
    k: usize,
    messages: &[Value],
) -> Result<Value> {
    let step = decision_step(k);
    tools.stops.pass(&step, Point::Redrive).await;
    let epoch = journal.epoch();
    let request = Value::from(messages);
    let ask = async || {
        tools.stops.going_live(&step)?;
        let question = Question {
            run: talk.run.clone(),
            k,
            epoch,
            request: Value::Null,
        };
        let answer: Answer = serde_json::from_value(tools.model.ask(&question).await?)?;
        tools.stops.pass(&step, Point::BeforeRecord).await;
        tools.parent.say("decides");
        Ok(answer)
    };
    journal.decide(&request, ask).await
}

async fn act<J: Journal>(
    journal: &mut J,
    tools: &Tools,
    talk: &Talk,
    (k, j): (usize, usize),
    function: &Value,
) -> Result<Value> {
    let step = call_step(k, j);
    let operation = function["name"]
        .as_str()
        .context("a call names its tool")?
        .to_owned();
    let args: Value = serde_json::from_str(function["arguments"].as_str().context("a call has arguments")?)?;
    let request = Request {
        reference: reference(&talk.run, k, j),
        operation,
        content: args,
    };
    tools.stops.pass(&step, Point::Redrive).await;
    tools.stops.pass(&step, Point::BeforeIntent).await;
    let changes = changes(&request.operation);
    let business_key = (changes && tools.non_idempotent).then(|| request.reference.clone());
    let call = Call {
        connector: tools.connector.clone(),
        operation: request.operation.clone(),
        args: request.content.clone(),
        changes,
        undo: business_key
            .as_ref()
            .map(|of| (UNDO.to_owned(), json!({ "of": of }))),
        business_key,
    };
    journal
        .act(call, async |key| send(tools, &step, &request, key).await)
        .await
}

async fn send(tools: &Tools, step: &str, request: &Request, key: Option<String>) -> Result<Value> {
    tools.stops.going_live(step)?;
    tools.stops.pass(step, Point::BeforeCall).await;
    let answer = if changes(&request.operation) {
        tools
            .airline
            .act(request, key.as_deref(), tools.stops.fault(step))
            .await?
    } else {
        tools.airline.look(request).await?
    };
    tools.stops.pass(step, Point::BeforeRecord).await;
    Ok(answer)
}

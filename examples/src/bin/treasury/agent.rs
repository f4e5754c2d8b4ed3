//! The agent that closes the book. It is one program, with Tape or without.

use crate::book::{Book, Tool, brief};
use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use tape_environment::{Environment as _, Machine};
use tape_examples::journal::{Answer, Call, Journal};
use tape_examples::model::{Model, Question, now_us};
use tape_examples::parent::Parent;
use tape_examples::stops::{Point, Stops};
use tape_examples::upstream::{Request, Upstream};

/// More decisions than any day needs; a model that needs more has failed.
const DECISIONS_MAX: usize = 20;

/// The services and settings of the agent.
pub(crate) struct Tools {
    pub(crate) run: String,
    pub(crate) bank: Upstream,
    pub(crate) model: Model,
    pub(crate) stops: Stops,
    pub(crate) parent: Parent,
}

/// Closes the book.
pub(crate) async fn close<J: Journal>(journal: &mut J, tools: &Tools, book: &Book) -> Result<()> {
    // The time and the number of this closing are the same however often the agent is started.
    let fresh = json!({ "id": Machine.uuid(), "at_us": now_us() });
    let closing = journal.sample("closing", fresh).await?;
    let mut messages = vec![brief(book, &closing)];
    for k in 0..DECISIONS_MAX {
        let decision = decide(journal, tools, k, &messages).await?;
        let calls = decision["calls"].as_array().cloned().unwrap_or_default();
        messages.push(decision);
        if calls.is_empty() {
            return journal
                .finish(&json!({ "closed": book.day, "decisions": k + 1 }))
                .await;
        }
        for call in &calls {
            let answer = act(journal, tools, book, call).await?;
            messages.push(json!({ "role": "tool", "call": call, "answer": answer }));
        }
    }
    bail!("the model has not closed the book in {DECISIONS_MAX} decisions")
}

async fn decide<J: Journal>(journal: &mut J, tools: &Tools, k: usize, messages: &[Value]) -> Result<Value> {
    let step = format!("decision {k}");
    tools.stops.pass(&step, Point::Redrive).await;
    let (run, epoch, request) = (tools.run.clone(), journal.epoch(), Value::from(messages));
    let question = Question {
        run,
        k,
        epoch,
        request,
    };
    let ask = async || {
        tools.stops.going_live(&step)?;
        let answer: Answer = serde_json::from_value(tools.model.ask(&question).await?)?;
        tools.stops.pass(&step, Point::BeforeRecord).await;
        Ok(answer)
    };
    journal.decide(&question.request, ask).await
}

async fn act<J: Journal>(journal: &mut J, tools: &Tools, book: &Book, call: &Value) -> Result<Value> {
    let tool = Tool::named(call["tool"].as_str().context("a call names its tool")?)?;
    let args = call["args"].clone();
    let request = Request {
        reference: tool.reference(&args),
        operation: tool.name.to_owned(),
        content: args,
    };
    if tool.name == "pay" && !approved(journal, tools, book, &request).await? {
        return Ok(json!({ "refused": "the person on duty did not approve" }));
    }
    let step = request.reference.clone();
    tools.stops.pass(&step, Point::Redrive).await;
    tools.stops.pass(&step, Point::BeforeIntent).await;
    let call = Call {
        connector: "bank".to_owned(),
        operation: request.operation.clone(),
        args: request.content.clone(),
        changes: tool.changes,
        undo: tool.undo.map(|undo| (undo.to_owned(), request.content.clone())),
        business_key: None,
    };
    journal
        .act(call, async |key| send(tools, tool, &request, key).await)
        .await
}

/// Whether a payment may be made: small ones may, a person decides about others.
async fn approved<J: Journal>(
    journal: &mut J,
    tools: &Tools,
    book: &Book,
    request: &Request,
) -> Result<bool> {
    let amount = request.content["amount_micro"]
        .as_u64()
        .context("a payment has an amount")?;
    if amount <= book.approval_above_micro {
        return Ok(true);
    }
    let gate = format!("approve {}", request.content["reference"].as_str().unwrap_or("?"));
    let waiting = async || {
        tools.parent.say(&format!("waiting {gate}"));
        tools.stops.pass(&gate, Point::AtGate).await;
    };
    let answer = journal.approval(&gate, waiting).await?;
    Ok(answer == "approved")
}

async fn send(tools: &Tools, tool: &Tool, request: &Request, key: Option<String>) -> Result<Value> {
    let step = &request.reference;
    tools.stops.going_live(step)?;
    tools.stops.pass(step, Point::BeforeCall).await;
    let answer = if tool.changes {
        tools
            .bank
            .act(request, key.as_deref(), tools.stops.fault(step))
            .await?
    } else {
        tools.bank.look(request).await?
    };
    tools.stops.pass(step, Point::BeforeRecord).await;
    Ok(answer)
}

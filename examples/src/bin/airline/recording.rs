//! The recorded conversations: what the user said, what the model decided, what the airline answered.

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

/// The tools that change the airline's books; the others only read or think.
const CHANGING: [&str; 6] = [
    "book_reservation",
    "cancel_reservation",
    "update_reservation_flights",
    "update_reservation_baggages",
    "update_reservation_passengers",
    "send_certificate",
];

/// Whether a tool changes the airline's books.
pub(crate) fn changes(tool: &str) -> bool {
    CHANGING.contains(&tool)
}

/// One recorded run of the agent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Conversation {
    /// Its name, unique in the file.
    pub(crate) name: String,
    /// What the user said, in order.
    pub(crate) said: Vec<String>,
    /// What the model decided, in order.
    pub(crate) decisions: Vec<Decision>,
    /// Whether everything should be undone in the end. That is not recorded.
    pub(crate) regretted: bool,
}

/// The separator between the name of a recorded run and the number of its repetition.
const AGAIN: char = '~';

impl Conversation {
    /// The same conversation once more, under another name.
    pub(crate) fn again(&self, n: usize) -> Self {
        let name = format!("{}{AGAIN}{n}", self.name);
        Self { name, ..self.clone() }
    }
}

/// The name of the recorded run that a run repeats, or its own.
pub(crate) fn recorded_name(run: &str) -> &str {
    run.split(AGAIN).next().unwrap_or(run)
}

/// One decision of the model.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Decision {
    /// The model's message, as it was recorded.
    pub(crate) message: Value,
    /// The outcomes of its calls.
    pub(crate) calls: Vec<Call>,
}

/// One call of a tool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Call {
    /// The tool.
    pub(crate) tool: String,
    /// Its arguments.
    pub(crate) args: Value,
    /// Its answer.
    pub(crate) answer: Value,
}

/// The agent's name of a decision.
pub(crate) fn decision_step(k: usize) -> String {
    format!("decision {k}")
}

/// The agent's name of a call.
pub(crate) fn call_step(k: usize, j: usize) -> String {
    format!("call {k}.{j}")
}

/// The reference under which the airline knows a call.
pub(crate) fn reference(run: &str, k: usize, j: usize) -> String {
    format!("{run}/{k}.{j}")
}

/// The same by the agent's name of the call.
pub(crate) fn reference_of(run: &str, call_step: &str) -> String {
    format!("{run}/{}", call_step.trim_start_matches("call "))
}

#[derive(Deserialize)]
struct Record {
    task_id: u64,
    trial: u64,
    traj: Vec<Message>,
}

#[derive(Deserialize)]
struct Message {
    role: String,
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    tool_calls: Option<Vec<Value>>,
    #[serde(default)]
    tool_call_id: Option<String>,
}

/// Reads a file of recorded runs.
pub(crate) fn read(path: &Path) -> Result<Vec<Conversation>> {
    let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let records: Vec<Record> =
        serde_json::from_slice(&text).context("the file is not an array of recorded runs")?;
    let conversations = records
        .into_iter()
        .map(conversation)
        .collect::<Result<Vec<_>>>()?;
    let names: BTreeSet<&str> = conversations
        .iter()
        .map(|conversation| conversation.name.as_str())
        .collect();
    ensure!(
        names.len() == conversations.len(),
        "two recorded runs have the same task and trial"
    );
    Ok(conversations)
}

fn conversation(record: Record) -> Result<Conversation> {
    let name = format!("task-{}-trial-{}", record.task_id, record.trial);
    let mut conversation = Conversation {
        name,
        said: Vec::new(),
        decisions: Vec::new(),
        regretted: false,
    };
    for message in record.traj {
        take(&mut conversation, message).with_context(|| format!("in run {}", conversation.name))?;
    }
    let answered = conversation
        .decisions
        .iter()
        .flat_map(|decision| &decision.calls)
        .all(|call| !call.answer.is_null());
    ensure!(answered, "a call in run {} has no answer", conversation.name);
    Ok(conversation)
}

fn take(conversation: &mut Conversation, message: Message) -> Result<()> {
    match message.role.as_str() {
        "system" => {}
        "user" => conversation.said.push(message.content.unwrap_or_default()),
        "assistant" => conversation.decisions.push(decision(&message)?),
        "tool" => answer(conversation, message)?,
        role => bail!("a message has the role '{role}'"),
    }
    Ok(())
}

fn decision(message: &Message) -> Result<Decision> {
    let asked = message.tool_calls.as_deref().unwrap_or_default();
    let calls = asked.iter().map(|call| {
        let function = &call["function"];
        let args = function["arguments"]
            .as_str()
            .context("a call has no arguments")?;
        let tool = function["name"]
            .as_str()
            .context("a call has no name")?
            .to_owned();
        Ok(Call {
            tool,
            args: serde_json::from_str(args)?,
            answer: Value::Null,
        })
    });
    let calls = calls.collect::<Result<_>>()?;
    Ok(Decision {
        message: serde_json::json!({ "content": message.content, "tool_calls": asked }),
        calls,
    })
}

fn answer(conversation: &mut Conversation, message: Message) -> Result<()> {
    let decision = conversation
        .decisions
        .last_mut()
        .context("a tool answers before it is asked")?;
    let asked = decision.message["tool_calls"]
        .as_array()
        .context("the calls are a list")?;
    let place = asked
        .iter()
        .position(|call| call["id"].as_str() == message.tool_call_id.as_deref());
    let call = &mut decision.calls[place.context("a tool answers what it was not asked")?];
    call.answer = Value::from(message.content.unwrap_or_default());
    Ok(())
}

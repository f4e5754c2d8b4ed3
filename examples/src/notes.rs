//! The backing of a careful agent without Tape: a notes file on its disk, with a line for each finished step.
//!
//! Run again, the agent skips the steps that it finds in its notes. That is more than most agents have, and it looks
//! safe; but a step that was done and not noted is done again.

use crate::journal::{Answer, Call, Journal};
use crate::model::now_us;
use crate::parent::Parent;
use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;

/// The line with which notes of a finished run end.
pub const FINISHED: &str = "finished";

/// The step of a decision.
pub const DECISION: &str = "decision";

/// One line of notes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// When it was made, in microseconds since 1970.
    pub at_us: i64,
    /// The step that is finished.
    pub step: String,
    /// Its result.
    pub value: Value,
}

/// An agent's notes.
#[derive(Debug)]
pub struct Notes {
    file: File,
    noted: VecDeque<Note>,
    parent: Parent,
}

impl Notes {
    /// Opens the notes of a run, or begins them.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn open(path: &Path, parent: Parent) -> Result<Self> {
        let noted = read(path)?.into();
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self { file, noted, parent })
    }

    fn recall(&mut self, step: &str) -> Option<Value> {
        self.noted
            .pop_front_if(|note| note.step == step)
            .map(|note| note.value)
    }

    fn note(&mut self, step: &str, value: &Value) -> Result<()> {
        let note = Note {
            at_us: now_us(),
            step: step.to_owned(),
            value: value.clone(),
        };
        let line = serde_json::to_string(&note)?;
        writeln!(self.file, "{line}").context("cannot write notes")
    }
}

/// The noted steps; a last line that was cut off by a crash is left out.
///
/// # Errors
/// Where the file cannot be read.
pub fn read(path: &Path) -> Result<Vec<Note>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = std::fs::read_to_string(path)?;
    Ok(text
        .lines()
        .map_while(|line| serde_json::from_str(line).ok())
        .collect())
}

impl Journal for Notes {
    fn epoch(&self) -> Option<u64> {
        None
    }

    async fn hear(&mut self, event: &str, _author: &str, content: &Value) -> Result<()> {
        match self.recall(event) {
            Some(_) => Ok(()),
            None => self.note(event, content),
        }
    }

    async fn sample(&mut self, name: &str, fresh: Value) -> Result<Value> {
        if let Some(noted) = self.recall(name) {
            return Ok(noted);
        }
        self.note(name, &fresh)?;
        Ok(fresh)
    }

    async fn decide(&mut self, _request: &Value, ask: impl AsyncFnOnce() -> Result<Answer>) -> Result<Value> {
        if let Some(noted) = self.recall(DECISION) {
            return Ok(noted);
        }
        let decision = ask().await?.decision;
        self.note(DECISION, &decision)?;
        Ok(decision)
    }

    async fn act(&mut self, call: Call, run: impl AsyncFn(Option<String>) -> Result<Value>) -> Result<Value> {
        if let Some(noted) = self.recall(&call.operation) {
            return Ok(noted);
        }
        let result = match run(None).await {
            // The answer was lost, so the request is sent again; most HTTP clients are configured like this.
            Err(_lost) => run(None).await?,
            Ok(result) => result,
        };
        self.note(&call.operation, &result)?;
        Ok(result)
    }

    async fn approval(&mut self, gate: &str, waiting: impl AsyncFnOnce()) -> Result<Value> {
        if let Some(noted) = self.recall(gate) {
            return Ok(noted);
        }
        waiting().await;
        let answer = Value::from(self.parent.command().await);
        self.note(gate, &answer)?;
        Ok(answer)
    }

    async fn fail(&mut self, why: &str) -> Result<()> {
        self.note(FINISHED, &Value::from(why))
    }

    async fn finish(&mut self, output: &Value) -> Result<()> {
        self.note(FINISHED, output)
    }
}

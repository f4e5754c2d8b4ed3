//! The world around the agents: an airline and a model, each a process of its own that answers as recorded.

use crate::recording::{Conversation, recorded_name, reference};
use futures::future::BoxFuture;
use serde_json::Value;
use std::collections::HashMap;
use tape_examples::journal::Answer;
use tape_examples::model::{ModelBackend, Question};
use tape_examples::upstream::{Request, Service};

/// Answers each call of a tool as recorded, and refuses any other.
pub(crate) struct Airline(HashMap<String, Request>, HashMap<String, Value>);

impl Airline {
    pub(crate) fn of(runs: &[Conversation]) -> Self {
        let (mut asked, mut answers) = (HashMap::new(), HashMap::new());
        for run in runs {
            for (k, decision) in run.decisions.iter().enumerate() {
                for (j, call) in decision.calls.iter().enumerate() {
                    let reference = reference(&run.name, k, j);
                    let (operation, content) = (call.tool.clone(), call.args.clone());
                    asked.insert(
                        reference.clone(),
                        Request {
                            reference: reference.clone(),
                            operation,
                            content,
                        },
                    );
                    answers.insert(reference, call.answer.clone());
                }
            }
        }
        Self(asked, answers)
    }
}

impl Service for Airline {
    fn answer(&self, request: &Request) -> Result<Value, String> {
        let Self(asked, answers) = self;
        let (run, call) = request.reference.split_once('/').unwrap_or_default();
        let recorded = format!("{}/{call}", recorded_name(run));
        let same =
            |asked: &Request| (&asked.operation, &asked.content) == (&request.operation, &request.content);
        if !asked.get(&recorded).is_some_and(same) {
            return Err(format!("{} is not what was recorded", request.reference));
        }
        answers
            .get(&recorded)
            .cloned()
            .ok_or_else(|| "no answer is recorded".to_owned())
    }
}

/// Decides as recorded.
pub(crate) struct Recorded(HashMap<String, Vec<Value>>);

impl Recorded {
    pub(crate) fn of(runs: &[Conversation]) -> Self {
        let messages = |run: &Conversation| {
            run.decisions
                .iter()
                .map(|decision| decision.message.clone())
                .collect()
        };
        Self(runs.iter().map(|run| (run.name.clone(), messages(run))).collect())
    }
}

impl ModelBackend for Recorded {
    fn answer<'a>(&'a self, question: &'a Question) -> BoxFuture<'a, Result<Value, String>> {
        Box::pin(async { self.recorded(question) })
    }
}

impl Recorded {
    fn recorded(&self, question: &Question) -> Result<Value, String> {
        let decision = self
            .0
            .get(recorded_name(&question.run))
            .and_then(|decisions| decisions.get(question.k));
        let decision = decision.ok_or("no decision is recorded")?.clone();
        let answer = Answer {
            decision,
            model: "gpt-4o, recorded".to_owned(),
            input_tokens: 0,
            output_tokens: 0,
            cost_micro_usd: 0,
        };
        serde_json::to_value(answer).map_err(|error| error.to_string())
    }
}

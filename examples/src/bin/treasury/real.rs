//! A real model, where the environment has a key for one.

use crate::book::TOOLS;
use anyhow::{Context as _, Result};
use futures::future::BoxFuture;
use genai::Client;
use genai::chat::{ChatMessage, ChatRequest};
use serde_json::{Value, json};
use tape_examples::journal::Answer;
use tape_examples::model::{ModelBackend, Question};

/// Providers by the variable that has their key, with a model of each; `TREASURY_MODEL` names another model.
const PROVIDERS: [(&str, &str); 3] = [
    ("OPENAI_API_KEY", "gpt-4o-mini"),
    ("ANTHROPIC_API_KEY", "claude-3-5-haiku-latest"),
    ("GEMINI_API_KEY", "gemini-2.0-flash"),
];

/// A model of a provider.
pub(crate) struct Real {
    client: Client,
    model: String,
}

/// Whether the environment has a key.
pub(crate) fn key_is_there() -> bool {
    provider().is_some()
}

fn provider() -> Option<&'static str> {
    let has_key = |name: &str| std::env::var(name).is_ok_and(|key| !key.is_empty());
    PROVIDERS
        .iter()
        .find(|(key, _)| has_key(key))
        .map(|(_, model)| *model)
}

impl Real {
    /// The model that the environment names.
    pub(crate) fn new() -> Result<Self> {
        // Where another part of the program has set it already, that one works as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let model = std::env::var("TREASURY_MODEL")
            .ok()
            .or_else(|| provider().map(str::to_owned));
        Ok(Self {
            client: Client::new()?,
            model: model.unwrap_or_default(),
        })
    }

    async fn ask(&self, messages: &Value) -> Result<Value> {
        let request = ChatRequest::new(vec![
            ChatMessage::system(instruction()),
            ChatMessage::user(messages.to_string()),
        ]);
        let response = self.client.exec_chat(&self.model, request, None).await?;
        let text = response
            .first_text()
            .context("the model answers without a text")?;
        let (input, output) = (response.usage.prompt_tokens, response.usage.completion_tokens);
        let tokens = |count: Option<i32>| {
            count
                .and_then(|count| u64::try_from(count).ok())
                .unwrap_or_default()
        };
        let (input_tokens, output_tokens) = (tokens(input), tokens(output));
        let answer = Answer {
            decision: decision(text)?,
            model: self.model.clone(),
            input_tokens,
            output_tokens,
            // Prices differ and change; this is the right order of magnitude for the small models above.
            cost_micro_usd: input_tokens + 5 * output_tokens,
        };
        Ok(serde_json::to_value(answer)?)
    }
}

impl ModelBackend for Real {
    fn answer<'a>(&'a self, question: &'a Question) -> BoxFuture<'a, Result<Value, String>> {
        Box::pin(async {
            self.ask(&question.request)
                .await
                .map_err(|error| format!("{error:#}"))
        })
    }
}

fn instruction() -> String {
    let tools: Vec<String> = TOOLS
        .iter()
        .map(|tool| format!("- {}: {}", tool.name, tool.about))
        .collect();
    format!(
        "You are the agent of a treasury desk. You get the conversation so far as JSON. Answer with JSON only, no Markdown: \
         {{\"text\": \"one short sentence\", \"calls\": [{{\"tool\": \"...\", \"args\": {{...}}}}]}}. No calls means that \
         you are done. Work in this order, one kind of tool per answer. The tools:\n{}",
        tools.join("\n")
    )
}

/// The model's text as a decision; a code fence around it is removed.
fn decision(text: &str) -> Result<Value> {
    let text = text
        .trim()
        .trim_start_matches("```json")
        .trim_start_matches("```")
        .trim_end_matches("```");
    let answer: Value = serde_json::from_str(text.trim()).context("the model's answer is not JSON")?;
    Ok(json!({ "role": "assistant", "text": answer["text"], "calls": answer["calls"] }))
}

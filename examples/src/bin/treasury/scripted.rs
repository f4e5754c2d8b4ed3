//! The scripted model: its decisions are a function of its input.

use crate::book::Book;
use anyhow::{Context as _, Result};
use futures::future::BoxFuture;
use serde_json::{Value, json};
use tape_examples::journal::Answer;
use tape_examples::model::{ModelBackend, Question};

/// A model without a network.
pub(crate) struct Scripted;

impl ModelBackend for Scripted {
    fn answer<'a>(&'a self, question: &'a Question) -> BoxFuture<'a, Result<Value, String>> {
        Box::pin(async { decide(&question.request).map_err(|error| format!("{error:#}")) })
    }
}

/// The next decision of a conversation.
fn decide(messages: &Value) -> Result<Value> {
    let messages = messages.as_array().context("the request is a list of messages")?;
    let book: Book = serde_json::from_value(messages[0]["book"].clone())?;
    let decided = messages
        .iter()
        .filter(|message| message["role"] == "assistant")
        .count();
    let (text, calls) = match decided {
        0 => ("I need prices first.", prices(&book)),
        1 => (
            "Each account keeps its floor; the rest goes to the pool.",
            sweeps(&book),
        ),
        2 => (
            "What was swept is hedged at today's prices.",
            vec![hedge(&book, messages)?],
        ),
        3 => ("The bill is due today.", vec![pay(&book)]),
        4 => (
            "All parts are done; the day can be posted.",
            vec![post(&book, messages)?],
        ),
        _ => ("The book is closed.", Vec::new()),
    };
    let length = |value: &Value| u64::try_from(value.to_string().len()).unwrap_or(u64::MAX);
    let input_tokens: u64 = messages.iter().map(length).sum::<u64>() / 4;
    let decision = json!({ "role": "assistant", "text": text, "calls": calls });
    let output_tokens = length(&decision) / 4;
    let answer = Answer {
        decision,
        model: "scripted".to_owned(),
        input_tokens,
        output_tokens,
        cost_micro_usd: 2 * input_tokens + 8 * output_tokens,
    };
    Ok(serde_json::to_value(answer)?)
}

fn call(tool: &str, args: Value) -> Value {
    json!({ "tool": tool, "args": args })
}

fn prices(book: &Book) -> Vec<Value> {
    book.positions
        .iter()
        .map(|position| call("price", json!({ "currency": position.currency })))
        .collect()
}

fn sweeps(book: &Book) -> Vec<Value> {
    let above = book
        .positions
        .iter()
        .filter(|position| position.balance_micro > position.keep_micro);
    let sweep = above.map(|position| {
        let surplus = position.balance_micro - position.keep_micro;
        let args =
            json!({ "account": position.account, "currency": position.currency, "amount_micro": surplus });
        call("sweep", args)
    });
    sweep.collect()
}

fn hedge(book: &Book, messages: &[Value]) -> Result<Value> {
    let amount = swept_usd_micro(book, messages)?;
    Ok(call("hedge", json!({ "day": book.day, "amount_micro": amount })))
}

fn pay(book: &Book) -> Value {
    let payment = &book.payment;
    let args =
        json!({ "to": payment.to, "reference": payment.reference, "amount_micro": payment.amount_micro });
    call("pay", args)
}

fn post(book: &Book, messages: &[Value]) -> Result<Value> {
    let left = swept_usd_micro(book, messages)?.saturating_sub(book.payment.amount_micro);
    Ok(call("post", json!({ "day": book.day, "amount_micro": left })))
}

/// The swept amount, in US dollars at the bank's prices.
fn swept_usd_micro(book: &Book, messages: &[Value]) -> Result<u64> {
    let price = |currency: &str| {
        let answers = messages.iter().map(|message| &message["answer"]);
        let price = answers
            .filter(|answer| answer["currency"] == currency)
            .find_map(|a| a["usd_micro"].as_u64());
        price.with_context(|| format!("the price of {currency} was not asked"))
    };
    let mut sum = 0;
    for position in &book.positions {
        let surplus = position.balance_micro.saturating_sub(position.keep_micro);
        sum += u128::from(surplus) * u128::from(price(&position.currency)?) / 1_000_000;
    }
    Ok(u64::try_from(sum)?)
}

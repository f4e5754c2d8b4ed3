//! The day's book, and the tools of the agent.

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The committed positions file.
const POSITIONS: &str = include_str!("../../../data/positions.json");

/// A day's book. Amounts are in millionths of their currency.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Book {
    pub(crate) desk: String,
    pub(crate) day: String,
    /// Where surplus is swept to.
    pub(crate) pool: String,
    /// Payments above this wait for a person.
    pub(crate) approval_above_micro: u64,
    /// The budget of the model.
    pub(crate) model_budget_micro_usd: u64,
    pub(crate) positions: Vec<Position>,
    pub(crate) payment: Payment,
}

/// One account.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Position {
    pub(crate) account: String,
    pub(crate) currency: String,
    pub(crate) balance_micro: u64,
    /// The amount that stays in it overnight.
    pub(crate) keep_micro: u64,
}

/// A bill to pay, in US dollars.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Payment {
    pub(crate) to: String,
    pub(crate) reference: String,
    pub(crate) amount_micro: u64,
}

impl Book {
    /// The committed book.
    pub(crate) fn of_the_day() -> Result<Self> {
        serde_json::from_str(POSITIONS).context("examples/data/positions.json is not a book")
    }
}

/// A tool that the agent offers to the model.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tool {
    pub(crate) name: &'static str,
    /// The argument that names its subject.
    pub(crate) subject: &'static str,
    /// The tool that undoes it; none where it does not change the bank, or where a new entry corrects it.
    pub(crate) undo: Option<&'static str>,
    pub(crate) changes: bool,
    #[cfg_attr(
        not(feature = "real-model"),
        expect(dead_code, reason = "only a real model reads it")
    )]
    pub(crate) about: &'static str,
}

/// The tools, in the order in which a day is closed.
pub(crate) const TOOLS: [Tool; 5] = [
    Tool {
        name: "price",
        subject: "currency",
        undo: None,
        changes: false,
        about: "Price of one unit of `currency` in millionths of a US dollar.",
    },
    Tool {
        name: "sweep",
        subject: "account",
        undo: Some("sweep_back"),
        changes: true,
        about: "Moves `amount_micro` of `currency` from `account` to the pool.",
    },
    Tool {
        name: "hedge",
        subject: "day",
        undo: Some("unwind"),
        changes: true,
        about: "Sells foreign currency worth `amount_micro` US dollars forward, for the `day`.",
    },
    Tool {
        name: "pay",
        subject: "reference",
        undo: None,
        changes: true,
        about: "Pays `amount_micro` US dollars to `to` for the bill `reference`.",
    },
    Tool {
        name: "post",
        subject: "day",
        undo: None,
        changes: true,
        about: "Posts the closing of the `day` to the ledger, with `amount_micro` US dollars in the pool.",
    },
];

impl Tool {
    pub(crate) fn named(name: &str) -> Result<&'static Self> {
        TOOLS
            .iter()
            .find(|tool| tool.name == name)
            .with_context(|| format!("there is no tool '{name}'"))
    }

    /// The name of an act in the bank's books and in the plan of kills, such as `sweep OPS-EUR`.
    pub(crate) fn reference(&self, args: &Value) -> String {
        format!("{} {}", self.name, args[self.subject].as_str().unwrap_or("?"))
    }
}

/// The first message to the model.
pub(crate) fn brief(book: &Book, closing: &Value) -> Value {
    let task = "Close the book of the day: ask the price of every currency; sweep what each account has above what it \
                keeps to the pool; hedge what was swept at its price; pay the bill; post the closing; then say in one \
                sentence that the book is closed. Amounts are whole numbers of millionths.";
    json!({ "role": "user", "task": task, "book": book, "closing": closing })
}

/// An amount for people: `84,250.00`.
pub(crate) fn amount(micro: &Value) -> String {
    let cents = micro.as_u64().unwrap_or_default() / 10_000;
    let whole = (cents / 100).to_string();
    let groups: Vec<&str> = whole
        .as_bytes()
        .rchunks(3)
        .rev()
        .filter_map(|group| std::str::from_utf8(group).ok())
        .collect();
    format!("{}.{:02}", groups.join(","), cents % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_written_for_people() {
        assert_eq!(amount(&json!(84_250_000_000_u64)), "84,250.00");
        assert_eq!(amount(&json!(1_234_567_890_000_u64)), "1,234,567.89");
        assert_eq!(amount(&json!(10_000)), "0.01");
    }

    #[test]
    fn the_committed_book_reads() {
        assert_eq!(Book::of_the_day().unwrap().positions.len(), 3);
    }
}

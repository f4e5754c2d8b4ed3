//! Short ways to write names and payloads in tests.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use tape_core::budget::Spend;
use tape_core::command::{Begin, Create, RunCommand};
use tape_core::entry::obligation::ObligationId;
use tape_core::id::{BudgetName, EffectId, Holder, Position, RunId, SessionId};
use tape_core::payload::Payload;

pub(crate) fn run_id() -> RunId {
    RunId::new("acme", "treasury", "ann", "s1", "i1").unwrap()
}

pub(crate) fn session_id(name: &str) -> SessionId {
    RunId::new("acme", "treasury", "ann", name, "i1")
        .unwrap()
        .session()
}

pub(crate) fn payload(text: &str) -> Payload {
    Payload::new("text/plain", text.to_owned()).unwrap()
}

pub(crate) fn effect(text: &str) -> EffectId {
    text.parse().unwrap()
}

pub(crate) fn position(text: &str) -> Position {
    text.parse().unwrap()
}

/// `#0.0` is the obligation of the effect itself, `#0.0/1` that of its first duplicate.
pub(crate) fn obligation(text: &str) -> ObligationId {
    let (effect, copy) = text.rsplit_once('/').unwrap_or((text, "0"));
    ObligationId {
        effect: effect.parse().unwrap(),
        copy: copy.parse().unwrap(),
    }
}

pub(crate) fn holder(text: &str) -> Holder {
    Holder::new(text).unwrap()
}

pub(crate) fn spend(budget: &str, amount: u64) -> Spend {
    Spend {
        budget: BudgetName::new(budget).unwrap(),
        amount,
    }
}

pub(crate) fn begin(by: &str, lease_ms: u64) -> Begin {
    Begin {
        run: run_id(),
        create: Some(Create {
            labels: Default::default(),
            input: payload("input"),
            forked_from: None,
        }),
        holder: holder(by),
        lease_ms,
        adopt: None,
        recovery: false,
    }
}

pub(crate) fn begin_command(by: &str) -> RunCommand {
    RunCommand::Begin(begin(by, 1_000))
}

//! The types of budgets: integers only, never floating point.

use crate::id::{BudgetName, Key};
use serde::{Deserialize, Serialize};
use std::fmt;

/// What a budget counts, in whole units.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Currency {
    /// Millionths of a US dollar.
    MicroUsd,
    /// Tokens of a model.
    Tokens,
    /// Units of the agent's own.
    Unit(Key),
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MicroUsd => f.write_str("micro_usd"),
            Self::Tokens => f.write_str("tokens"),
            Self::Unit(unit) => unit.fmt(f),
        }
    }
}

/// An amount of a budget, in the unit of its currency.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spend {
    /// The budget.
    pub budget: BudgetName,
    /// How much.
    pub amount: u64,
}

//! The words of budgets: integers only, never floating point.

use crate::id::{BudgetName, Key};
use serde::{Deserialize, Serialize};

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

/// An amount of a budget, in the unit of its currency.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spend {
    /// The budget.
    pub budget: BudgetName,
    /// How much.
    pub amount: u64,
}

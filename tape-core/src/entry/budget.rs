//! Limits on what a run spends.

use crate::budget::{Currency, Spend};
use crate::id::{BudgetName, Position, Scope};
use serde::{Deserialize, Serialize};

/// A budget was opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// The budget.
    pub budget: BudgetName,
    /// The budget it is part of: what is reserved here is reserved there too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<BudgetName>,
    /// What is counted.
    pub currency: Currency,
    /// The most that may be spent.
    pub limit: u64,
    /// The scope that asked for it; entries from before scopes were recorded read as the root's.
    #[serde(default, skip_serializing_if = "Scope::is_root")]
    pub scope: Scope,
}

/// Parts of budgets are reserved for the decision about to be asked. (An effect reserves in the entry that begins it.)
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reserved {
    /// The decision.
    pub position: Position,
    /// How much, of which budgets.
    pub spends: Vec<Spend>,
}

/// The reservation of a decision is released.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Released {
    /// The decision.
    pub position: Position,
}

//! Budgets: a reservation never takes reserved and spent amounts over the limit.

use super::Run;
use super::check::{room, units};
use crate::budget::{Currency, Spend};
use crate::entry::budget::{Opened, Released, Reserved};
use crate::id::{BudgetName, Position};
use crate::limits::{BUDGET_DEPTH_MAX, BUDGETS_MAX, SCOPES_MAX, SPENDS_MAX};
use crate::reply::{Decided, Field, Limit, Missing, Rejection, ReplyResult};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A budget and its amounts, in whole units of its currency.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// The budget it is part of.
    pub parent: Option<BudgetName>,
    /// What it counts.
    pub currency: Currency,
    /// The most that may be reserved and spent together.
    pub limit: u64,
    /// What is reserved for decisions and effects under way.
    pub reserved: u64,
    /// What is spent. It can exceed the limit: the actual cost counts, even if it is higher than the reservation.
    pub spent: u64,
}

impl Budget {
    /// What can still be reserved.
    #[must_use]
    pub const fn left(&self) -> u64 {
        self.limit
            .saturating_sub(self.reserved)
            .saturating_sub(self.spent)
    }
}

impl Run {
    pub(super) fn open_budget(
        &self,
        name: &BudgetName,
        parent: Option<&BudgetName>,
        currency: &Currency,
        limit: u64,
    ) -> Result<Decided, Rejection> {
        if let Some(there) = self.budgets.get(name) {
            let same = there.parent.as_ref() == parent && there.currency == *currency && there.limit == limit;
            let exists = Rejection::Exists {
                what: format!("budget '{name}'"),
            };
            return if same {
                Ok(self.already(ReplyResult::Recorded))
            } else {
                Err(exists)
            };
        }
        units(limit)?;
        room(Limit::Budgets, self.budgets.len(), BUDGETS_MAX)?;
        if let Some(parent) = parent {
            self.check_parent(parent, currency)?;
        }
        let (budget, parent, currency) = (name.clone(), parent.cloned(), currency.clone());
        self.append(Opened {
            budget,
            parent,
            currency,
            limit,
            scope: crate::id::Scope::root(),
        })
    }

    fn check_parent(&self, parent: &BudgetName, currency: &Currency) -> Result<(), Rejection> {
        let budget = self
            .budgets
            .get(parent)
            .ok_or_else(|| Rejection::none_named(Missing::Budget, parent))?;
        if budget.currency != *currency {
            let problem = "counts another currency than its part".to_owned();
            return Err(Rejection::Invalid {
                field: Field::Parent,
                problem,
            });
        }
        room(Limit::BudgetDepth, self.line(parent).count(), BUDGET_DEPTH_MAX)
    }

    /// A budget and its ancestors, from the inside out.
    fn line<'a>(&'a self, name: &'a BudgetName) -> impl Iterator<Item = &'a BudgetName> {
        let line = std::iter::successors(Some(name), |name| self.budgets.get(*name)?.parent.as_ref());
        line.take(BUDGET_DEPTH_MAX)
    }

    /// Refuses spends of budgets that do not exist, and amounts, alone or together, that no budget has.
    pub(super) fn check_spends(&self, spends: &[Spend]) -> Result<(), Rejection> {
        room(Limit::Spends, spends.len().saturating_sub(1), SPENDS_MAX)?;
        let unknown = |spend: &&Spend| !self.budgets.contains_key(&spend.budget);
        if let Some(spend) = spends.iter().find(unknown) {
            return Err(Rejection::none_named(Missing::Budget, &spend.budget));
        }
        self.totals(spends).into_values().try_for_each(units)
    }

    /// Refuses a reservation that exceeds what a budget, or an ancestor of it, has left.
    pub(super) fn check_reservation(&self, spends: &[Spend]) -> Result<(), Rejection> {
        self.check_spends(spends)?;
        for (name, asked) in self.totals(spends) {
            let left = self.budgets.get(&name).map_or(0, Budget::left);
            if asked > left {
                return Err(Rejection::BudgetExhausted {
                    budget: name,
                    left,
                    asked,
                });
            }
        }
        Ok(())
    }

    /// The total of the spends for each budget, ancestors included. One that saturates is over every bound.
    fn totals(&self, spends: &[Spend]) -> BTreeMap<BudgetName, u64> {
        let mut totals = BTreeMap::new();
        for spend in spends {
            for name in self.line(&spend.budget) {
                let total: &mut u64 = totals.entry(name.clone()).or_default();
                *total = total.saturating_add(spend.amount);
            }
        }
        totals
    }

    pub(super) fn reserve_for_decision(
        &self,
        position: &Position,
        spends: &[Spend],
    ) -> Result<Decided, Rejection> {
        self.check_position(position)?;
        if let Some(there) = self.reservations.get(position) {
            let exists = Rejection::Exists {
                what: format!("reservation for decision {position}"),
            };
            return if there == spends {
                Ok(self.already(ReplyResult::Recorded))
            } else {
                Err(exists)
            };
        }
        room(Limit::ReservedDecisions, self.reservations.len(), SCOPES_MAX)?;
        self.check_reservation(spends)?;
        self.append(Reserved {
            position: position.clone(),
            spends: spends.to_vec(),
        })
    }

    pub(super) fn release_reservation(&self, position: &Position) -> Result<Decided, Rejection> {
        if !self.reservations.contains_key(position) {
            return Ok(self.already(ReplyResult::Recorded));
        }
        self.append(Released {
            position: position.clone(),
        })
    }

    pub(super) fn fold_budget_opened(&mut self, e: &Opened) -> Result<(), String> {
        // A parent must exist before its child, so the budgets form no cycle.
        if e.parent
            .as_ref()
            .is_some_and(|parent| !self.budgets.contains_key(parent))
        {
            return Err(format!("budget '{}' is part of one that is not there", e.budget));
        }
        let budget = Budget {
            parent: e.parent.clone(),
            currency: e.currency.clone(),
            limit: e.limit,
            reserved: 0,
            spent: 0,
        };
        if self.budgets.insert(e.budget.clone(), budget).is_some() {
            return Err(format!("budget '{}' was opened before", e.budget));
        }
        self.progress();
        Ok(())
    }

    pub(super) fn fold_reserved(&mut self, e: &Reserved) -> Result<(), String> {
        let spends = e.spends.clone();
        if self.reservations.insert(e.position.clone(), spends).is_some() {
            return Err(format!("decision {} has a reservation already", e.position));
        }
        self.set_aside(&e.spends);
        Ok(())
    }

    pub(super) fn fold_reservation_released(&mut self, position: &Position) {
        if let Some(spends) = self.reservations.remove(position) {
            self.free(&spends);
        }
    }

    pub(super) fn set_aside(&mut self, spends: &[Spend]) {
        self.each(spends, |budget, amount| {
            budget.reserved = budget.reserved.saturating_add(amount)
        });
    }

    pub(super) fn free(&mut self, spends: &[Spend]) {
        self.each(spends, |budget, amount| {
            budget.reserved = budget.reserved.saturating_sub(amount)
        });
    }

    pub(super) fn charge(&mut self, spends: &[Spend]) {
        self.each(spends, |budget, amount| {
            budget.spent = budget.spent.saturating_add(amount)
        });
    }

    fn each(&mut self, spends: &[Spend], change: impl Fn(&mut Budget, u64)) {
        for (name, amount) in self.totals(spends) {
            if let Some(budget) = self.budgets.get_mut(&name) {
                change(budget, amount);
            }
        }
    }
}

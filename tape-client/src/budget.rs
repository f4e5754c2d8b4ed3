//! Budgets: what a run may spend.

use crate::error::Error;
use crate::run::Run;
use tape_core::budget::Currency;
use tape_core::command::DriverCommand;
use tape_core::id::BudgetName;

pub(crate) async fn open(
    run: &Run,
    name: &str,
    parent: Option<&str>,
    currency: Currency,
    limit: u64,
) -> Result<(), Error> {
    let budget = BudgetName::new(name)?;
    let parent = parent.map(BudgetName::new).transpose()?;
    run.check()?;
    let open = run
        .replay()
        .ask_budget(&budget, parent.as_ref(), &currency, limit)?;
    if !open {
        run.drive(DriverCommand::OpenBudget {
            budget,
            parent,
            currency,
            limit,
        })
        .await?;
    }
    Ok(())
}

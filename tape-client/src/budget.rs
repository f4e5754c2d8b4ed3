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
    let doing = run.doing().await?;
    let open = run
        .ask(|replay| replay.ask_budget(&run.scope, &budget, parent.as_ref(), &currency, limit))
        .await?;
    if !open {
        let command = DriverCommand::OpenBudget {
            budget,
            parent,
            currency,
            limit,
        };
        run.drive(command.within(&run.scope)).await?;
    }
    doing.done();
    Ok(())
}

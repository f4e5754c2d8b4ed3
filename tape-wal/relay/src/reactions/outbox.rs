//! The agent of the journal's own app: it has a worker carry out the effect of a reaction, and waits until that is done.

use super::order::Order;
use std::sync::Arc;
use tape_api::{Journal, Layer};
use tape_client::{Answer, Error, Host, Run, RunResult, Tape};
use tape_core::id::Holder;
use tape_core::reaction;

/// A journal that others of the process use too.
#[derive(Debug)]
struct Shared(Arc<dyn Journal>);

impl Layer for Shared {
    fn inner(&self) -> &dyn Journal {
        self.0.as_ref()
    }
}

/// Drives the runs by which reactions put effects into outboxes, of all tenants, until `stop` completes.
///
/// # Errors
/// [`Error`] where the client cannot be set up.
pub async fn serve_outbox(
    journal: Arc<dyn Journal>,
    holder: Holder,
    stop: impl Future<Output = ()>,
) -> Result<(), Error> {
    let tape = Tape::over(Shared(journal)).holder(holder).connect().await?;
    Host::new(tape)
        .agent(reaction::APP, carry_out)
        .serve_until(stop)
        .await
}

async fn carry_out(run: Run) -> Result<RunResult, Error> {
    let order: Order = run.input_json()?;
    let answer = Answer::json(&order.operation)?;
    let decision = run.decide(&order, async || Ok::<_, Error>(answer)).await?;
    let (connector, operation) = (order.connector.as_str(), order.operation.as_str());
    let effect = run
        .effect(&decision, connector, operation)
        .args(&order.request)
        .business_key(order.business_key.as_str());
    let effect = if order.non_idempotent {
        effect.non_idempotent()
    } else {
        effect.outbox()
    };
    match effect.settled_payload().await {
        Ok(_) => run.complete(&order.operation).await,
        Err(error @ Error::EffectFailed { .. }) => run.fail(error.to_string()).await,
        Err(error) => Err(error),
    }
}

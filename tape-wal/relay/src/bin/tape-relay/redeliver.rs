//! Sends refused entries again.

use crate::flags::Redeliver;
use std::sync::Arc;
use tape_api::Journal;
use tape_core::id::{Holder, RelayStream};
use tape_relay::reactions::{InvalidDefinition, NotDefined, Reaction};
use tape_relay::{Redelivered, RedeliveryStep, Relay, Settings, redeliver};

/// Why nothing could be sent, for people.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotSent {
    #[error("the relay has the entries of all tenants: say by --tenant whose are sent again")]
    NoTenant,
    #[error("the relay has the entries of another tenant")]
    OtherTenant,
    #[error("the reaction cannot be used")]
    Reaction(#[source] NotDefined),
    #[error("the predicate of the reaction does not hold")]
    Predicate(#[source] InvalidDefinition),
    #[error("the refused entries cannot be sent again")]
    Failed(#[source] tape_relay::RedeliveryError),
}

/// The relay that carries a reaction; none where the name is that of another relay.
pub(crate) async fn reaction(
    asked: &Redeliver,
    journal: &Arc<dyn Journal>,
    holder: &Holder,
) -> Result<Option<Relay>, NotSent> {
    let found = Reaction::carried_by(&asked.relay, journal).await;
    let found = found.map_err(NotSent::Reaction)?;
    let relay = found.map(|reaction| reaction.relay(journal, holder, Settings::default()));
    relay.transpose().map_err(NotSent::Predicate)
}

/// Sends them, and prints a line for each. Returns whether all were taken.
#[expect(clippy::print_stdout, reason = "the lines are what the command is for")]
pub(crate) async fn run(
    asked: &Redeliver,
    relay: &Relay,
    journal: &Arc<dyn Journal>,
) -> Result<bool, NotSent> {
    let tenant = asked
        .tenant
        .as_ref()
        .or(relay.id.tenant.as_ref())
        .ok_or(NotSent::NoTenant)?;
    let stream = RelayStream::of(&relay.id, tenant).ok_or(NotSent::OtherTenant)?;
    let mut all = true;
    let told = |step| match step {
        RedeliveryStep::Read { to, outstanding } => {
            tracing::info!(%to, outstanding, "reading what is on record of the relay");
        }
        RedeliveryStep::Sent { refusal, outcome } => match outcome {
            Redelivered::Taken => println!("{refusal}\ttaken"),
            Redelivered::NotTaken(reason) => {
                all = false;
                println!("{refusal}\tnot taken\t{}", reason.escape_debug());
            }
        },
    };
    let sent = redeliver(relay, journal, &stream, &asked.refusal, told).await;
    sent.map_err(NotSent::Failed)?;
    Ok(all)
}

//! `tape relay list`.

use super::parts::{is_carried, lag, lag_text, lag_value, read, state, tell_unreadable};
use crate::name::tenant;
use crate::{Context, Failure};
use clap::Args;
use serde_json::json;
use std::collections::BTreeSet;
use std::process::ExitCode;
use tape_client::api::relays::{PartStatus, PlaceQuery};
use tape_client::core::id::{RelayId, Tenant};

/// Lists relays, one a line: whether each runs, which processes carry its parts, what it sent, and how far behind it is.
///
/// A relay runs where a process carries a part, is idle where none does, fails where its sink takes nothing, and is disabled where nothing is
/// sent until a person enables it. For each part the next 10,000 entries of the feed are looked at, and those of the relay's tenant counted,
/// whatever its filter chooses.
#[derive(Debug, Args)]
pub(super) struct List {
    /// Only the relays of this tenant; without it, those of each tenant and those that send the entries of all tenants.
    #[arg(long, value_parser = tenant)]
    tenant: Option<Tenant>,
}

impl List {
    pub(super) async fn run(self, context: &mut Context<'_>) -> Result<ExitCode, Failure> {
        let query = self.tenant.map_or(PlaceQuery::All, PlaceQuery::Tenant);
        let found = read(context, &query).await?;
        // The parts of a relay follow each other.
        let relays = found.parts.chunk_by(|a, b| a.part.relay == b.part.relay);
        let mut listed = 0;
        for parts in relays {
            tell(context, &parts[0].part.relay, parts)?;
            listed += 1;
        }
        tell_unreadable(context, &found.unreadable)?;
        crate::list::end(context, listed + found.unreadable.len(), None)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn tell(context: &mut Context<'_>, relay: &RelayId, parts: &[PartStatus]) -> Result<(), Failure> {
    let carried = parts.iter().filter(|part| is_carried(part));
    let holders = carried.clone().filter_map(|part| part.place.holder.as_ref());
    let holders: BTreeSet<&str> = holders.map(|holder| holder.as_str()).collect();
    let carried = carried.count();
    let delivered: u64 = parts.iter().map(|part| part.place.delivered).sum();
    let refused: u64 = parts.iter().map(|part| part.place.refused).sum();
    let (lag, (word, standing)) = (lag(parts), state(parts));
    let value = json!({
        "relay": relay.to_string(),
        "state": word,
        "standing": standing,
        "parts": parts.len(),
        "carried": carried,
        "holders": holders,
        "delivered": delivered,
        "refused": refused,
        "lag": lag_value(lag.as_ref().map_err(|problem| *problem)),
    });
    let by = match holders.is_empty() {
        true => String::new(),
        false => format!(" by {}", holders.into_iter().collect::<Vec<_>>().join(", ")),
    };
    let text = format!(
        "{relay}  {standing}  {carried} of {} parts carried{by}  {delivered} delivered, {refused} refused  {}",
        parts.len(),
        lag_text(lag.as_ref().map_err(|problem| *problem))
    );
    context.say(&value, &text)
}

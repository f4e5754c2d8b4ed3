//! `tape relay status`.

use super::parts::{is_carried, lag_text, lag_value, of, state, tell_unreadable};
use super::unknown;
use crate::text::time;
use crate::{Context, Failure};
use clap::Args;
use serde_json::json;
use std::collections::BTreeMap;
use std::process::ExitCode;
use tape_client::api::relays::PartStatus;
use tape_client::core::id::RelayId;

/// Shows each part of a relay: which process carries it, how far it has come, and its cursor in each shard of the feed.
///
/// `tape relay reset RELAY --to SHARD=CURSOR` takes a cursor that this prints.
#[derive(Debug, Args)]
pub(super) struct Status {
    /// The relay.
    relay: RelayId,
}

impl Status {
    pub(super) async fn run(self, context: &mut Context<'_>) -> Result<ExitCode, Failure> {
        let found = of(context, &self.relay).await?;
        for status in &found.parts {
            tell(context, status)?;
        }
        tell_unreadable(context, &found.unreadable)?;
        if found.parts.is_empty() && found.unreadable.is_empty() {
            return Err(unknown(&self.relay));
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn tell(context: &mut Context<'_>, status: &PartStatus) -> Result<(), Failure> {
    let PartStatus {
        part,
        place,
        left_ms,
        lag,
    } = status;
    let lag = lag.as_ref().map_err(String::as_str);
    let (word, standing) = state(std::slice::from_ref(status));
    if context.print.json {
        let cursors = place.cursors.iter();
        let cursors: BTreeMap<u16, String> = cursors
            .map(|(shard, cursor)| (*shard, hex::encode(cursor)))
            .collect();
        return context.value(&json!({
            "relay": part.relay.to_string(),
            "part": part.part,
            "state": word,
            "standing": standing,
            "holder": place.holder.as_ref().filter(|_| is_carried(status)).map(|holder| holder.as_str()),
            "left_ms": left_ms,
            "epoch": place.epoch,
            "reached": place.reached.map(time),
            "moved": place.moved.map(time),
            "delivered": place.delivered,
            "refused": place.refused,
            "lag": lag_value(lag),
            "cursors": cursors,
        }));
    }
    let holder = place.holder.as_ref().filter(|_| is_carried(status));
    let by = holder.map(|holder| format!(" by {holder} until {}", time(place.until)));
    context.line(&format!("{part}  {standing}{}", by.unwrap_or_default()))?;
    let (delivered, refused) = (place.delivered, place.refused);
    context.line(&format!("  sent      {delivered} delivered, {refused} refused"))?;
    let reached = place.reached.map_or_else(|| "no entry yet".to_owned(), time);
    context.line(&format!("  reached   {reached}, {}", lag_text(lag)))?;
    let moved = place.moved.map_or_else(|| "never".to_owned(), time);
    context.line(&format!("  moved     {moved}"))?;
    for (shard, cursor) in &place.cursors {
        let cursor = match cursor.is_empty() {
            true => "(the beginning)".to_owned(),
            false => hex::encode(cursor),
        };
        context.line(&format!("  shard {shard:<3} {cursor}"))?;
    }
    Ok(())
}

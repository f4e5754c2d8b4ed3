//! The parts of relays, as people are told of them.

use crate::text::{counted, time};
use crate::{Context, Failure};
use serde_json::{Value, json};
use tape_client::api::relays::{Lag, PartStatus, PlaceQuery};
use tape_client::core::id::RelayId;

/// Parts, and records that cannot be read.
pub(super) struct Parts {
    pub(super) parts: Vec<PartStatus>,
    pub(super) unreadable: Vec<(String, String)>,
}

/// All parts of a query.
pub(super) async fn read(context: &Context<'_>, query: &PlaceQuery) -> Result<Parts, Failure> {
    let (mut parts, mut unreadable, mut page) = (Vec::new(), Vec::new(), None);
    loop {
        let read = context.tape.relay_places(query, page, 0).await?;
        parts.extend(read.parts);
        unreadable.extend(read.unreadable);
        page = read.next;
        if page.is_none() {
            return Ok(Parts { parts, unreadable });
        }
    }
}

/// All parts of one relay.
pub(super) async fn of(context: &Context<'_>, relay: &RelayId) -> Result<Parts, Failure> {
    read(context, &PlaceQuery::Relay(relay.clone())).await
}

/// Says which records cannot be read.
pub(super) fn tell_unreadable(context: &mut Context<'_>, parts: &Parts) -> Result<(), Failure> {
    for (name, problem) in &parts.unreadable {
        let line = json!({"record": name, "damaged": problem});
        context.say(&line, &format!("{name}  DAMAGED: {problem}"))?;
    }
    Ok(())
}

/// How parts stand together: what keeps one from being sent keeps the relay from being whole.
pub(super) fn state(parts: &[PartStatus]) -> (&'static str, String) {
    let disabled = parts.iter().filter_map(|part| part.place.disabled.as_ref());
    if let Some(stop) = disabled.min_by_key(|stop| stop.since) {
        let (since, reason) = (time(stop.since), &stop.reason);
        return ("disabled", format!("disabled since {since}: {reason}"));
    }
    if let Some(since) = parts.iter().filter_map(|part| part.place.failing).min() {
        return ("failing", format!("failing since {}", time(since)));
    }
    match parts.iter().any(is_carried) {
        true => ("running", "running".to_owned()),
        false => ("idle", "idle".to_owned()),
    }
}

/// Whether a process has the part.
pub(super) const fn is_carried(part: &PartStatus) -> bool {
    part.left_ms > 0
}

/// The lag of parts together.
pub(super) fn lag(parts: &[PartStatus]) -> Lag {
    let oldest = parts.iter().filter(|part| part.lag.oldest.is_some());
    let oldest = oldest.min_by_key(|part| part.lag.oldest);
    Lag {
        entries: parts.iter().map(|part| part.lag.entries).sum(),
        is_more: parts.iter().any(|part| part.lag.is_more),
        oldest: oldest.and_then(|part| part.lag.oldest),
        millis: oldest.map_or(0, |part| part.lag.millis),
    }
}

/// A lag, as text.
pub(super) fn lag_text(lag: &Lag) -> String {
    if lag.entries == 0 {
        return "at the end".to_owned();
    }
    let or_more = if lag.is_more { " or more" } else { "" };
    let oldest = lag.oldest.map(|at| format!(", the oldest of {}", time(at)));
    let entries = counted(lag.entries, "entry", "entries");
    format!("{entries}{or_more} behind{}", oldest.unwrap_or_default())
}

/// A lag, as JSON.
pub(super) fn lag_value(lag: &Lag) -> Value {
    json!({
        "entries": lag.entries,
        "more": lag.is_more,
        "oldest": lag.oldest.map(time),
        "oldest_ms": lag.millis,
    })
}

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
pub(super) fn tell_unreadable(
    context: &mut Context<'_>,
    unreadable: &[(String, String)],
) -> Result<(), Failure> {
    for (name, problem) in unreadable {
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

/// The lag of parts together; where that of one is not known, why.
pub(super) fn lag(parts: &[PartStatus]) -> Result<Lag, &str> {
    let mut together = Lag::default();
    for part in parts {
        let lag = part.lag.as_ref().map_err(String::as_str)?;
        together.entries += lag.entries;
        together.is_more |= lag.is_more;
        if lag.oldest.is_some() && together.oldest.is_none_or(|oldest| lag.oldest < Some(oldest)) {
            (together.oldest, together.millis) = (lag.oldest, lag.millis);
        }
    }
    Ok(together)
}

/// How much lies behind, as text.
pub(super) fn entries_text(lag: &Lag) -> String {
    let at_least = if lag.is_more { "at least " } else { "" };
    format!("{at_least}{}", counted(lag.entries, "entry", "entries"))
}

/// A lag, as text.
pub(super) fn lag_text(lag: Result<&Lag, &str>) -> String {
    match lag {
        Err(problem) => format!("how far behind is not known: {problem}"),
        Ok(lag) if lag.entries == 0 && !lag.is_more => "at the end".to_owned(),
        Ok(lag) => {
            let oldest = lag.oldest.map(|at| format!(", the oldest of {}", time(at)));
            format!("{} behind{}", entries_text(lag), oldest.unwrap_or_default())
        }
    }
}

/// A lag, as JSON.
pub(super) fn lag_value(lag: Result<&Lag, &str>) -> Value {
    match lag {
        Err(problem) => json!({"unknown": problem}),
        Ok(lag) => json!({
            "entries": lag.entries,
            "more": lag.is_more,
            "oldest": lag.oldest.map(time),
            "oldest_ms": lag.millis,
        }),
    }
}

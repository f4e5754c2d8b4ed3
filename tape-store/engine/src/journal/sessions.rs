//! Reads the events of a session from its entries.

use crate::{Engine, EventsFrom};
use tape_api::JournalError;
use tape_api::argument::EVENTS;
use tape_api::query::{OlderEvents, RecordedEvent, SessionEvents, SessionView};
use tape_core::codec::decode;
use tape_core::decider::Decider as _;
use tape_core::entry::EntryBody;
use tape_core::id::{Seq, SessionId};

pub(super) async fn view(
    engine: &Engine,
    session: &SessionId,
    events_max: u32,
) -> Result<Option<SessionView>, JournalError> {
    let Some(state) = engine.session_state(session).await? else {
        return Ok(None);
    };
    let page = match events_max {
        0 => None,
        max => Some(events(engine, session, EventsFrom::END, EVENTS.of(max)).await?),
    };
    let (events, older) = page.map(|page| (page.events, page.older)).unwrap_or_default();
    Ok(Some(SessionView {
        seq: state.session.seq(),
        state: state.merged(),
        events,
        older,
    }))
}

pub(super) async fn events(
    engine: &Engine,
    session: &SessionId,
    from: EventsFrom,
    events_max: u32,
) -> Result<SessionEvents, JournalError> {
    let page = engine.session_events(session, from, Seq::ZERO, events_max, usize::MAX);
    let page = page.await?;
    let mut events = Vec::with_capacity(page.events.len());
    for stored in &page.events {
        let entry = decode(stored).map_err(JournalError::damaged)?;
        if let EntryBody::SessionEventAppended(event) = entry.body {
            let seq = entry.seq;
            events.push(RecordedEvent { seq, event });
        }
    }
    let older = page.older.map(|from| OlderEvents(from.to_string()));
    Ok(SessionEvents { events, older })
}

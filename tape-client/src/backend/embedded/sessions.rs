//! What of a session is read from its entries: its events.

use super::pages;
use crate::backend::{Failure, SessionView, Until};
use crate::session::RecordedEvent;
use futures::StreamExt as _;
use std::collections::VecDeque;
use tape_core::codec::decode;
use tape_core::entry::EntryBody;
use tape_core::id::{Seq, SessionId, StreamId};
use tape_core::stream::Stream as _;
use tape_store::engine::Engine;

pub(super) async fn view(
    engine: &Engine,
    session: &SessionId,
    events_max: u32,
) -> Result<Option<SessionView>, Failure> {
    let Some(state) = engine.session_state(session).await? else {
        return Ok(None);
    };
    let seq = state.session.seq();
    let events = if events_max == 0 {
        VecDeque::new()
    } else {
        events(engine, session, seq, events_max).await?
    };
    Ok(Some(SessionView {
        seq,
        state: state.merged(),
        events: events.into(),
    }))
}

/// The newest events that count, up to and with the entry `last`.
async fn events(
    engine: &Engine,
    session: &SessionId,
    last: Seq,
    events_max: u32,
) -> Result<VecDeque<RecordedEvent>, Failure> {
    let mut events: Vec<RecordedEvent> = Vec::new();
    let mut pages = pages(
        engine.store().clone(),
        StreamId::Session(session.clone()),
        Seq::ZERO,
        Until::End,
    );
    while let Some(page) = pages.next().await {
        for stored in page?.iter().filter(|stored| stored.seq <= last) {
            let entry = decode(stored)?;
            match entry.body {
                EntryBody::SessionEventAppended(event) => events.push(RecordedEvent {
                    seq: entry.seq,
                    event,
                }),
                EntryBody::SessionRewound(rewound) => events.retain(|event| event.seq <= rewound.to),
                EntryBody::SessionCreated(_) => events.clear(),
                _ => {}
            }
        }
    }
    let skip = events
        .len()
        .saturating_sub(usize::try_from(events_max).unwrap_or(usize::MAX));
    Ok(events.into_iter().skip(skip).collect())
}

//! Sessions: their commands, their state and their newest events.

use super::Context;
use crate::failure::{damaged, of_journal, of_store};
use std::collections::VecDeque;
use tape_core::codec::{StoredEntry, decode};
use tape_core::entry::EntryBody;
use tape_core::id::{Seq, SessionId, StreamId};
use tape_core::limits::PAGE_ENTRIES_MAX;
use tape_core::reply::{Rejection, Reply};
use tape_core::stream::Stream as _;
use tape_proto::MESSAGE_BYTES_MAX;
use tape_proto::convert::{InvalidField, SessionChange, SessionRewind, write_state};
use tape_proto::failure::Failure;
use tape_proto::v1;
use tape_proto::v1::sessions_server::Sessions;
use tonic::{Request, Response, Status};

/// Entries that are looked at in one go, from the newest back.
const BLOCK_ENTRIES: u64 = 256;
/// Bytes of events in one answer: what is left of a message beside the largest state.
const EVENT_BYTES_MAX: usize = MESSAGE_BYTES_MAX / 4 * 3;

#[tonic::async_trait]
impl Sessions for Context {
    async fn create(
        &self,
        request: Request<v1::CreateSessionRequest>,
    ) -> Result<Response<v1::SessionReply>, Status> {
        self.answer(self.change_session(request.into_inner())).await
    }

    async fn append(
        &self,
        request: Request<v1::AppendEventRequest>,
    ) -> Result<Response<v1::SessionReply>, Status> {
        self.answer(self.change_session(request.into_inner())).await
    }

    async fn get(
        &self,
        request: Request<v1::GetSessionRequest>,
    ) -> Result<Response<v1::GetSessionResponse>, Status> {
        self.answer(self.session_view(request.into_inner())).await
    }

    async fn rewind(
        &self,
        request: Request<v1::RewindSessionRequest>,
    ) -> Result<Response<v1::SessionReply>, Status> {
        self.answer(self.rewind_session(request.into_inner())).await
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteSessionRequest>,
    ) -> Result<Response<v1::SessionReply>, Status> {
        self.answer(self.change_session(request.into_inner())).await
    }
}

impl Context {
    async fn change_session<W>(&self, wire: W) -> Result<v1::SessionReply, Failure>
    where
        W: TryInto<SessionChange, Error = InvalidField>,
    {
        let SessionChange { session, command } = wire.try_into()?;
        self.engine()
            .session(&session, command)
            .await
            .map(|reply| write(&reply))
            .map_err(of_journal)
    }

    async fn rewind_session(&self, wire: v1::RewindSessionRequest) -> Result<v1::SessionReply, Failure> {
        let SessionRewind { session, to } = wire.try_into()?;
        self.engine()
            .rewind_session(&session, to)
            .await
            .map(|reply| write(&reply))
            .map_err(of_journal)
    }

    async fn session_view(&self, wire: v1::GetSessionRequest) -> Result<v1::GetSessionResponse, Failure> {
        let session = wire.session.ok_or_else(|| InvalidField::missing("session"))?;
        let session = SessionId::try_from(session).map_err(|error| error.within("session"))?;
        if wire.events_max > PAGE_ENTRIES_MAX {
            let problem = format!("is {}, the limit is {PAGE_ENTRIES_MAX}", wire.events_max);
            return Err(InvalidField::new("events_max", problem).into());
        }
        let state = self.engine().session_state(&session).await.map_err(of_journal)?;
        let state = state.ok_or(Rejection::NotFound { what: "session" })?;
        let (head, created) = (state.session.seq(), state.session.created());
        let mut events = Newest::new(created.max(Seq(wire.after_seq)), wire.events_max);
        self.collect(&StreamId::Session(session), head, &mut events)
            .await?;
        Ok(v1::GetSessionResponse {
            head_seq: head.0,
            state: write_state(state.merged()),
            events_truncated: events.truncated,
            events: events.found.into_iter().map(Into::into).collect(),
        })
    }

    /// Reads back from `head` until all events that were asked for are there.
    async fn collect(&self, stream: &StreamId, head: Seq, events: &mut Newest) -> Result<(), Failure> {
        let mut end = head;
        while end > events.after && !events.full() {
            let start = Seq(end.0.saturating_sub(BLOCK_ENTRIES)).max(events.after);
            let mut block = VecDeque::new();
            let mut at = start;
            while at < end {
                let limit = u32::try_from(end.0 - at.0).expect("a block is small");
                let page = self
                    .store()
                    .read(stream, at, limit)
                    .await
                    .map_err(|error| of_store(&error))?;
                let Some(last) = page.last() else { break };
                at = last.seq;
                block.extend(page);
            }
            for stored in block.into_iter().rev() {
                events.look_at(stored)?;
            }
            end = start;
        }
        Ok(())
    }
}

/// The newest events that count, found from the last entry back.
struct Newest {
    after: Seq,
    max: usize,
    /// Entries after this one do not count: a later rewind took them back.
    counts_to: Seq,
    bytes: usize,
    found: VecDeque<StoredEntry>,
    truncated: bool,
}

impl Newest {
    fn new(after: Seq, max: u32) -> Self {
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        Self {
            after,
            max,
            counts_to: Seq(u64::MAX),
            bytes: 0,
            found: VecDeque::new(),
            truncated: false,
        }
    }

    fn full(&self) -> bool {
        self.truncated || self.found.len() == self.max
    }

    fn look_at(&mut self, stored: StoredEntry) -> Result<(), Failure> {
        if self.full() || stored.seq > self.counts_to {
            return Ok(());
        }
        match decode(&stored).map_err(|error| damaged(&error))?.body {
            EntryBody::SessionRewound(rewound) => self.counts_to = rewound.to,
            EntryBody::SessionEventAppended(_) => self.take(stored),
            _ => {}
        }
        Ok(())
    }

    fn take(&mut self, stored: StoredEntry) {
        self.bytes += stored.size();
        self.truncated = self.bytes > EVENT_BYTES_MAX && !self.found.is_empty();
        if !self.truncated {
            self.found.push_front(stored);
        }
    }
}

const fn write(reply: &Reply) -> v1::SessionReply {
    v1::SessionReply { seq: reply.seq.0 }
}

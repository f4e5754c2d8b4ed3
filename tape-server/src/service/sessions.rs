//! Sessions: their commands, their state and their newest events.

use super::read::named;
use super::{Context, Messages, read};
use crate::failure::{of_journal, of_store};
use tape_api::argument::EVENTS;
use tape_core::decider::Decider as _;
use tape_core::id::{Seq, SessionId};
use tape_core::limits::BATCH_BYTES_MAX;
use tape_core::reply::{Limit, Missing, Rejection};
use tape_engine::EventsFrom;
use tape_proto::MESSAGE_BYTES_MAX;
use tape_proto::convert::{InvalidField, SessionChange, SessionRewind, write_state};
use tape_proto::failure::Failure;
use tape_proto::v1;
use tape_proto::v1::session_service_server::SessionService;
use tonic::{Request, Response, Status};

/// The least room for events in an answer: the largest event fits.
const EVENTS_BYTES_MIN: usize = BATCH_BYTES_MAX;
/// The overhead of the largest page of events beside the bytes of their entries.
const FRAME_BYTES: usize = 256 * 1024;

#[tonic::async_trait]
impl SessionService for Context {
    type ReadSessionStream = Messages<v1::ReadSessionResponse>;

    async fn create_session(
        &self,
        request: Request<v1::CreateSessionRequest>,
    ) -> Result<Response<v1::CreateSessionResponse>, Status> {
        let reply = self.change_session(request.into_inner());
        self.answer(async { Ok(v1::CreateSessionResponse { seq: reply.await? }) })
            .await
    }

    async fn append_event(
        &self,
        request: Request<v1::AppendEventRequest>,
    ) -> Result<Response<v1::AppendEventResponse>, Status> {
        let reply = self.change_session(request.into_inner());
        self.answer(async { Ok(v1::AppendEventResponse { seq: reply.await? }) })
            .await
    }

    async fn get_session(
        &self,
        request: Request<v1::GetSessionRequest>,
    ) -> Result<Response<v1::GetSessionResponse>, Status> {
        self.answer(self.session_view(request.into_inner())).await
    }

    async fn read_session(
        &self,
        request: Request<v1::ReadSessionRequest>,
    ) -> Result<Response<Self::ReadSessionStream>, Status> {
        let request = read::Request::try_from(request.into_inner()).map_err(Failure::from)?;
        self.stream(|context, sink| read::serve(context, request, sink))
    }

    async fn list_sessions(
        &self,
        request: Request<v1::ListSessionsRequest>,
    ) -> Result<Response<v1::ListSessionsResponse>, Status> {
        self.answer(self.session_page(request.into_inner())).await
    }

    async fn rewind_session(
        &self,
        request: Request<v1::RewindSessionRequest>,
    ) -> Result<Response<v1::RewindSessionResponse>, Status> {
        self.answer(self.rewind(request.into_inner())).await
    }

    async fn delete_session(
        &self,
        request: Request<v1::DeleteSessionRequest>,
    ) -> Result<Response<v1::DeleteSessionResponse>, Status> {
        let reply = self.change_session(request.into_inner());
        self.answer(async { Ok(v1::DeleteSessionResponse { seq: reply.await? }) })
            .await
    }
}

impl Context {
    async fn change_session<W>(&self, wire: W) -> Result<u64, Failure>
    where
        W: TryInto<SessionChange, Error = InvalidField>,
    {
        let SessionChange { session, command } = wire.try_into()?;
        let reply = self.engine().session(&session, command).await;
        Ok(reply.map_err(of_journal)?.seq.0)
    }

    async fn rewind(&self, wire: v1::RewindSessionRequest) -> Result<v1::RewindSessionResponse, Failure> {
        let SessionRewind { session, to } = wire.try_into()?;
        let reply = self.engine().rewind_session(&session, to).await;
        let seq = reply.map_err(of_journal)?.seq.0;
        Ok(v1::RewindSessionResponse { seq })
    }

    async fn session_view(&self, wire: v1::GetSessionRequest) -> Result<v1::GetSessionResponse, Failure> {
        let session: SessionId = named("session", wire.session)?;
        let from = match wire.page_token.as_str() {
            "" => None,
            token => Some(token.parse::<EventsFrom>().map_err(|error| of_store(&error))?),
        };
        let wanted = match wire.events_max {
            // On the first page, zero events means the state alone.
            0 if from.is_none() => 0,
            given => EVENTS.of(given),
        };
        let state = self.engine().session_state(&session).await.map_err(of_journal)?;
        let state = state.ok_or(Rejection::not_found(Missing::Session))?;
        let mut view = v1::GetSessionResponse {
            head_seq: state.session.seq().0,
            ..v1::GetSessionResponse::default()
        };
        if from.is_none() {
            view.state = write_state(state.merged());
        }
        let left = room_beside(&view)?;
        // Events that do not fit beside the state come with the next page.
        let max = if left < EVENTS_BYTES_MIN { 0 } else { wanted };
        let after = Seq(wire.after_seq);
        let from = from.unwrap_or(EventsFrom::END);
        let page = self.engine().session_events(&session, from, after, max, left);
        let page = page.await.map_err(of_journal)?;
        let older = page.older.filter(|_| wanted > 0);
        view.next_page_token = older.map(|from| from.to_string()).unwrap_or_default();
        view.events = page.events.into_iter().map(Into::into).collect();
        Ok(view)
    }
}

/// Bytes of events that fit beside the rest of an answer.
fn room_beside(view: &v1::GetSessionResponse) -> Result<usize, Failure> {
    // Each pair takes some bytes for its tags and lengths.
    let state = view.state.iter().map(|(key, json)| key.len() + json.len() + 24);
    let taken: usize = state.sum();
    let max = MESSAGE_BYTES_MAX - FRAME_BYTES;
    max.checked_sub(taken).ok_or_else(|| {
        Rejection::LimitExceeded {
            limit: Limit::SessionMessageBytes,
            max: max as u64,
            given: taken as u64,
        }
        .into()
    })
}

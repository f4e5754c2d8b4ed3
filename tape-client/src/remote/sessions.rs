//! Sessions behind a server.

use super::failure::failed;
use super::pages::next_page;
use super::{Remote, stored};
use std::collections::{BTreeMap, VecDeque};
use tape_api::JournalError;
use tape_api::argument::EVENTS;
use tape_api::query::RecordedEvent;
use tape_api::query::{OlderEvents, SessionEvents, SessionView};
use tape_core::codec::decode;
use tape_core::command::{Command, Rewind, SessionCommand};
use tape_core::entry::EntryBody;
use tape_core::id::{Seq, SessionId};
use tape_core::reply::{Rejection, Reply, ReplyResult};
use tape_core::state::Delta;
use tape_proto::convert::{SessionRequest, read_state, session_request};
use tape_proto::v1;
use tape_proto::v1::session_service_client::SessionServiceClient;
use tonic::transport::Channel;

fn sessions(channel: Channel) -> SessionServiceClient<Channel> {
    SessionServiceClient::new(channel).max_decoding_message_size(super::message_bytes_max())
}

impl Remote {
    pub(super) async fn ask_session(
        &self,
        session: &SessionId,
        command: Command<SessionCommand>,
    ) -> Result<Reply, JournalError> {
        let request = session_request(session.clone(), command);
        let seq = match request {
            Some(SessionRequest::Create(request)) => {
                let request = tape_proto::fitting(request).map_err(failed)?;
                let create = |channel| async move { sessions(channel).create_session(request).await };
                self.link.ask(create).await?.seq
            }
            Some(SessionRequest::Append(request)) => {
                let request = tape_proto::fitting(request).map_err(failed)?;
                let append = |channel| async move { sessions(channel).append_event(request).await };
                self.link.ask(append).await?.seq
            }
            Some(SessionRequest::Rewind(request)) => {
                let rewind = |channel| async move { sessions(channel).rewind_session(request).await };
                self.link.ask(rewind).await?.seq
            }
            Some(SessionRequest::Delete(request)) => {
                let delete = |channel| async move { sessions(channel).delete_session(request).await };
                self.link.ask(delete).await?.seq
            }
            None => {
                return Err(JournalError::Invalid(
                    "only servers carry shared state over".to_owned(),
                ));
            }
        };
        Ok(recorded(seq))
    }

    pub(super) async fn read_session(
        &self,
        session: &SessionId,
        events_max: u32,
    ) -> Result<Option<SessionView>, JournalError> {
        let events_max = events_max.min(EVENTS.max);
        let Some(mut view) = self.session_page(session, String::new(), events_max).await? else {
            return Ok(None);
        };
        let state = read_state(std::mem::take(&mut view.state)).map_err(failed)?;
        let seq = Seq(view.head_seq);
        let events = self.collect_events(session, view, events_max).await?;
        Ok(Some(SessionView {
            seq,
            state,
            events: events.events,
            older: events.older,
        }))
    }

    pub(super) async fn read_events(
        &self,
        session: &SessionId,
        from: OlderEvents,
        events_max: u32,
    ) -> Result<SessionEvents, JournalError> {
        let events_max = EVENTS.of(events_max);
        match self.session_page(session, from.0, events_max).await? {
            Some(page) => self.collect_events(session, page, events_max).await,
            None => Ok(SessionEvents {
                events: Vec::new(),
                older: None,
            }),
        }
    }

    /// A page of a session; none where there is no such session.
    async fn session_page(
        &self,
        session: &SessionId,
        page_token: String,
        events_max: u32,
    ) -> Result<Option<v1::GetSessionResponse>, JournalError> {
        let request = v1::GetSessionRequest {
            session: Some(session.clone().into()),
            after_seq: 0,
            events_max,
            page_token,
        };
        let get = |channel| async move { sessions(channel).get_session(request).await };
        match self.link.ask(get).await {
            Ok(page) => Ok(Some(page)),
            Err(JournalError::Rejected(Rejection::NotFound { .. })) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// The events of a page and of those after it, until there are as many as were asked for.
    async fn collect_events(
        &self,
        session: &SessionId,
        mut page: v1::GetSessionResponse,
        events_max: u32,
    ) -> Result<SessionEvents, JournalError> {
        let (mut events, mut from) = (VecDeque::new(), None);
        loop {
            for event in page.events.into_iter().rev() {
                if let Some(event) = event_of(event)? {
                    events.push_front(event);
                }
            }
            let found = u32::try_from(events.len()).unwrap_or(u32::MAX);
            let left = events_max.saturating_sub(found);
            let older = next_page(from.as_deref(), page.next_page_token)?;
            match older {
                Some(token) if left > 0 => {
                    let next = self.session_page(session, token.clone(), left).await?;
                    from = Some(token);
                    // If the session was deleted meanwhile, the events read so far are returned.
                    page = next.unwrap_or_default();
                }
                older => {
                    return Ok(SessionEvents {
                        events: events.into(),
                        older: older.map(OlderEvents),
                    });
                }
            }
        }
    }
}

/// The command that puts a session back: the server reads the state of that time itself.
pub(super) fn rewinding(to: Command<Rewind>) -> Command<SessionCommand> {
    let Rewind { to: entry, expected } = to.body;
    Command {
        request: to.request,
        principal: to.principal,
        trace: to.trace,
        body: SessionCommand::Rewind {
            to: entry,
            expected,
            state: Delta::default(),
            origins: BTreeMap::default(),
            seen: Seq::ZERO,
        },
    }
}

fn event_of(event: v1::Entry) -> Result<Option<RecordedEvent>, JournalError> {
    let entry = decode(&stored(event)?).map_err(|error| JournalError::Damaged(error.into()))?;
    Ok(match entry.body {
        EntryBody::SessionEventAppended(event) => Some(RecordedEvent {
            seq: entry.seq,
            event,
        }),
        _ => None,
    })
}

const fn recorded(seq: u64) -> Reply {
    Reply {
        seq: Seq(seq),
        result: ReplyResult::Recorded,
    }
}

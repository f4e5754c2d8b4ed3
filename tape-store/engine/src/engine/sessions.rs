//! Sessions, and the state that they share.

use super::Parts;
use crate::stream_service::EngineError;
use std::collections::BTreeMap;
use std::sync::Arc;
use tape_core::codec::decode;
use tape_core::command::{Command, Rewind, SessionCommand, SharedCommand};
use tape_core::decider::Decider as _;
use tape_core::entry::EntryBody;
use tape_core::entry::session::RefusedMerge;
use tape_core::id::{Key, RequestId, Seq, SessionId, StreamId, User};
use tape_core::limits::PAGE_ENTRIES_MAX;
use tape_core::payload::ContentDigest;
use tape_core::reply::{Decided, Field, Rejection, Reply};
use tape_core::session::{PendingMerge, Session};
use tape_core::state::{Delta, Json, State, StateScope};
use tape_core::time::Timestamp;

/// How often a rewind is prepared again because the session moved on meanwhile.
const ATTEMPTS_MAX: u32 = 16;

/// A session and the state it shares with others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionState {
    /// The session itself, with its own state.
    pub session: Arc<Session>,
    /// The `app:` state, keys without prefix.
    pub app: State,
    /// The `user:` state, keys without prefix.
    pub user: State,
}

impl SessionState {
    /// All of the state as the agent sees it: keys with their prefixes.
    #[must_use]
    pub fn merged(&self) -> BTreeMap<String, Json> {
        let own = |scope: StateScope, state: &State| {
            let prefixed = |(key, json): (&Key, &Json)| (format!("{}{key}", scope.prefix()), json.clone());
            state.0.iter().map(prefixed).collect::<Vec<_>>()
        };
        let session = own(StateScope::Session, self.session.state());
        [
            session,
            own(StateScope::App, &self.app),
            own(StateScope::User, &self.user),
        ]
        .concat()
        .into_iter()
        .collect()
    }
}

impl Parts {
    pub(super) async fn ask_session(
        &self,
        session: &SessionId,
        command: Command<SessionCommand>,
    ) -> Result<Reply, EngineError> {
        if let SessionCommand::Create { session: named, .. } = &command.body
            && named != session
        {
            return Err(super::misaddressed(Field::Session));
        }
        let ends = matches!(command.body, SessionCommand::Delete);
        let shared = changed_shared_state(&command.body).cloned();
        if let Some(delta) = &shared {
            self.room_for(session, &command, delta).await?;
        }
        let reply = self
            .sessions
            .command(&StreamId::Session(session.clone()), command)
            .await?;
        // The changes of shared state that an ending session recorded are not lost with it.
        if (ends || shared.is_some())
            && let Err(error) = self.merge(session).await
        {
            // The agenda has the work; the command itself is durable.
            tracing::warn!(session = %StreamId::Session(session.clone()), %error, "shared state waits to be carried over");
        }
        Ok(reply)
    }

    /// Refuses a change that would make shared state too large before it is recorded.
    async fn room_for(
        &self,
        session: &SessionId,
        command: &Command<SessionCommand>,
        delta: &Delta,
    ) -> Result<(), EngineError> {
        let user = Some(session.user.clone());
        for (scope, user) in [(StateScope::App, None), (StateScope::User, user)] {
            let delta = delta.of(scope);
            if delta.is_empty() {
                continue;
            }
            let shared = self.shared.state(&shared_stream(session, user)).await?;
            let Err(rejection) = shared.as_deref().cloned().unwrap_or_default().takes(&delta) else {
                continue;
            };
            // A repeated command gets its first outcome; a command that is refused in any case gets that rejection.
            let state = self.sessions.state(&StreamId::Session(session.clone())).await?;
            let state = state.as_deref().cloned().unwrap_or_default();
            let adds = |decided: Decided| !decided.entries.is_empty();
            if state.decide(command, self.clock.read()).is_ok_and(adds) {
                return Err(rejection.into());
            }
        }
        Ok(())
    }

    pub(super) async fn rewind_session(
        &self,
        session: &SessionId,
        to: Command<Rewind>,
    ) -> Result<Reply, EngineError> {
        let stream = StreamId::Session(session.clone());
        let mut attempts = 0;
        loop {
            let seen = self
                .sessions
                .state(&stream)
                .await?
                .map_or(Seq::ZERO, |state| state.seq());
            let then = self.state_as_of(&stream, to.body.to).await?;
            let set = |(key, json): (&Key, &Json)| (key.clone(), Some(json.clone()));
            let command = Command {
                request: to.request,
                principal: to.principal.clone(),
                trace: to.trace.clone(),
                body: SessionCommand::Rewind {
                    to: to.body.to,
                    expected: to.body.expected,
                    state: Delta(then.state().0.iter().map(set).collect()),
                    origins: then.origins(),
                    seen,
                },
            };
            attempts += 1;
            match self.ask_session(session, command).await {
                // A payload of the session was erased since it was read.
                Err(EngineError::Rejected(Rejection::Woken { .. })) if attempts < ATTEMPTS_MAX => {}
                answer => return answer,
            }
        }
    }

    /// The session as it was after an entry, or at the end where there is no such entry.
    async fn state_as_of(&self, stream: &StreamId, to: Seq) -> Result<Session, EngineError> {
        let mut then = Session::default();
        while then.seq() < to {
            let left = to.0 - then.seq().0;
            let limit = u32::try_from(left).unwrap_or(u32::MAX).min(PAGE_ENTRIES_MAX);
            let page = self.store.read(stream, then.seq(), limit).await?;
            if page.is_empty() {
                break;
            }
            for stored in &page {
                let entry = decode(stored).map_err(|error| damaged(stream, error))?;
                then.apply(&entry).map_err(|error| damaged(stream, error))?;
            }
        }
        Ok(then)
    }

    pub(super) async fn session_state(
        &self,
        session: &SessionId,
    ) -> Result<Option<SessionState>, EngineError> {
        self.merge(session).await?;
        let state = self.sessions.state(&StreamId::Session(session.clone())).await?;
        let Some(state) = state.filter(|state| state.id().is_some()) else {
            return Ok(None);
        };
        let app = self.shared_state(session, None).await?;
        let user = self.shared_state(session, Some(session.user.clone())).await?;
        Ok(Some(SessionState {
            session: state,
            app,
            user,
        }))
    }

    async fn shared_state(&self, session: &SessionId, user: Option<User>) -> Result<State, EngineError> {
        let shared = self.shared.state(&shared_stream(session, user)).await?;
        Ok(shared.map(|shared| shared.state().clone()).unwrap_or_default())
    }

    /// Carries what is pending over, oldest first. Safe to repeat and to race: each change counts once. A change that shared state refuses
    /// is recorded as refused, so that the session continues.
    pub(super) async fn merge(&self, session: &SessionId) -> Result<(), EngineError> {
        let stream = StreamId::Session(session.clone());
        let Some(state) = self.sessions.state(&stream).await? else {
            return Ok(());
        };
        let Some(last) = state.pending().back() else {
            return Ok(());
        };
        let (last, at) = (last.source, last.at);
        let mut refused = Vec::new();
        for pending in state.pending() {
            self.merge_one(session, pending, &mut refused).await?;
        }
        for refused in &refused {
            tracing::warn!(session = %stream, source = %refused.source, problem = refused.problem, "a change of shared state was refused");
        }
        let mark = SessionCommand::MarkMerged {
            through: last,
            refused,
        };
        self.sessions
            .command(&stream, Command::new(request(session, last, at, "marked"), mark))
            .await
            .map(drop)
    }

    async fn merge_one(
        &self,
        session: &SessionId,
        pending: &PendingMerge,
        refused: &mut Vec<RefusedMerge>,
    ) -> Result<(), EngineError> {
        let user = Some(session.user.clone());
        for (delta, user, scope) in [
            (&pending.app, None, StateScope::App),
            (&pending.user, user, StateScope::User),
        ] {
            if delta.is_empty() {
                continue;
            }
            let source = pending.source;
            let stream = shared_stream(session, user);
            let request = request(session, source, pending.at, scope.prefix());
            match self.carry_over(session, pending, delta, &stream, request).await {
                Ok(()) => {}
                Err(EngineError::Rejected(rejection)) => refused.push(RefusedMerge {
                    source,
                    scope,
                    problem: rejection.to_string(),
                }),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Carries a change over once. Where a change is so old that the shared state may have forgotten it, its entries are searched first.
    async fn carry_over(
        &self,
        session: &SessionId,
        pending: &PendingMerge,
        delta: &Delta,
        stream: &StreamId,
        request: RequestId,
    ) -> Result<(), EngineError> {
        let mut searched = Seq::ZERO;
        loop {
            let merge = SharedCommand::Merge {
                session: session.clone(),
                source: pending.source,
                recorded_at: pending.at,
                delta: delta.clone(),
                searched,
            };
            match self.shared.command(stream, Command::new(request, merge)).await {
                Err(EngineError::Rejected(Rejection::RequestTooOld { .. })) => {}
                carried => return carried.map(drop),
            }
            match self
                .find_change(session, pending.source, stream, searched)
                .await?
            {
                Some(end) => searched = end,
                None => return Ok(()),
            }
        }
    }

    /// Searches for a change in the entries of shared state after `after`. Returns none where the change is found, else the last entry.
    async fn find_change(
        &self,
        session: &SessionId,
        source: Seq,
        stream: &StreamId,
        after: Seq,
    ) -> Result<Option<Seq>, EngineError> {
        let mut end = after;
        loop {
            let page = self.store.read(stream, end, PAGE_ENTRIES_MAX).await?;
            let Some(last) = page.last() else {
                return Ok(Some(end));
            };
            end = last.seq;
            for stored in &page {
                let entry = decode(stored).map_err(|error| damaged(stream, error))?;
                if let EntryBody::SharedMerged(merged) = &entry.body
                    && merged.source == source
                    && merged.session == *session
                {
                    return Ok(None);
                }
            }
        }
    }
}

fn damaged(stream: &StreamId, source: impl std::error::Error + Send + Sync + 'static) -> EngineError {
    EngineError::Damaged {
        stream: stream.clone(),
        source: Arc::new(source),
    }
}

/// The change that comes with a command, where it changes shared state.
fn changed_shared_state(command: &SessionCommand) -> Option<&Delta> {
    let (SessionCommand::Create { state: delta, .. } | SessionCommand::Append { delta, .. }) = command else {
        return None;
    };
    let shared = |key: &Key| matches!(StateScope::of(key), StateScope::App | StateScope::User);
    delta.0.keys().any(shared).then_some(delta)
}

pub(super) fn shared_stream(session: &SessionId, user: Option<User>) -> StreamId {
    StreamId::Shared {
        tenant: session.tenant.clone(),
        app: session.app.clone(),
        user,
    }
}

/// The id of the request that carries this change over; every server derives the same one. The change itself says whether it was carried
/// over before, not the id.
fn request(session: &SessionId, source: Seq, at: Timestamp, word: &str) -> RequestId {
    let digest = ContentDigest::of(&("tape merge", session, source, word)).0;
    RequestId::new(at, u128::from_be_bytes(digest))
}

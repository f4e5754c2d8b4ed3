//! Lists of sessions and of values, by their names.

use super::looks::{Looked, look_at};
use super::{Engine, Parts};
use crate::journal::failure::of_store;
use crate::stream_service::{EngineError, damaged};
use std::sync::Arc;
use tape_api::JournalError;
use tape_api::argument::{self, SESSIONS, VALUES};
use tape_api::query::{SessionPage, SessionQuery, SessionSummary, ValuePage, ValueQuery, ValueSummary};
use tape_core::decider::Decider as _;
use tape_core::id::{Seq, SessionId, StreamId, StreamPrefix, User, ValueName};
use tape_core::time::Timestamp;
use tape_store::contract::{NamePage, PageToken};
use tape_store::error::StoreError;

impl Engine {
    /// A page of sessions, in the order of their names. Looks at `limit` names, so a page may be short, or empty, and not be the last.
    ///
    /// Reads the state and the last entry of each session it looks at. The cost is that of the sessions that the tenant, the app and, with
    /// an app, the user have; deleted ones are among them.
    ///
    /// # Errors
    /// [`JournalError::Invalid`] where the token is not of this list. A session that is damaged is in the page as such.
    pub async fn list_sessions(
        &self,
        query: &SessionQuery,
        from: Option<&str>,
        limit: u32,
    ) -> Result<SessionPage, JournalError> {
        let of = query.app.as_ref().map(|app| (app, query.user.as_ref()));
        let prefix = StreamPrefix::sessions(&query.tenant, of);
        let mut names = self
            .0
            .named(&prefix, from, SESSIONS.of(limit))
            .await
            .map_err(of_store)?;
        names
            .streams
            .retain(|stream| is_of_user(stream, query.user.as_ref()));
        let look = async |stream| self.0.session_summary(&stream, query.deleted).await;
        let Looked { seen, damaged } = look_at(names.streams, look).await?;
        Ok(SessionPage {
            sessions: seen,
            damaged,
            next: names.next.map(|token| token.0),
        })
    }

    /// A page of values, in the order of their names, deleted ones too. Looks at `limit` names, so a page may be short, or empty, and not be
    /// the last.
    ///
    /// Reads the state and one entry of each value. The cost is that of the values with the prefix.
    ///
    /// # Errors
    /// [`JournalError::Invalid`] where the token is not of this list. A value that is damaged is in the page as such.
    pub async fn list_values(
        &self,
        query: &ValueQuery,
        from: Option<&str>,
        limit: u32,
    ) -> Result<ValuePage, JournalError> {
        let prefix = StreamPrefix::values(&query.tenant, query.prefix.as_ref());
        let names = self
            .0
            .named(&prefix, from, VALUES.of(limit))
            .await
            .map_err(of_store)?;
        let look = async |stream| self.0.value_summary(&stream).await;
        let Looked { seen, damaged } = look_at(names.streams, look).await?;
        Ok(ValuePage {
            values: seen,
            damaged,
            next: names.next.map(|token| token.0),
        })
    }
}

fn is_of_user(stream: &StreamId, user: Option<&User>) -> bool {
    let of = |session: &SessionId| user.is_none_or(|user| *user == session.user);
    matches!(stream, StreamId::Session(session) if of(session))
}

impl Parts {
    async fn named(
        &self,
        prefix: &StreamPrefix,
        from: Option<&str>,
        limit: u32,
    ) -> Result<NamePage, StoreError> {
        let from = argument::token(from).map(|from| PageToken(from.to_owned()));
        self.store.named(prefix, from.as_ref(), limit).await
    }

    /// A session in a list; none where the list leaves it out.
    async fn session_summary(
        &self,
        stream: &StreamId,
        with_deleted: bool,
    ) -> Result<Option<SessionSummary>, EngineError> {
        let (StreamId::Session(session), Some(state)) = (stream, self.sessions.state(stream).await?) else {
            return Ok(None);
        };
        let deleted = state.id().is_none();
        if deleted && !with_deleted {
            return Ok(None);
        }
        Ok(Some(SessionSummary {
            session: session.clone(),
            seq: state.seq(),
            changed_at: self.recorded_at(stream, state.seq()).await?,
            deleted,
        }))
    }

    async fn value_summary(&self, stream: &StreamId) -> Result<Option<ValueSummary>, EngineError> {
        let (StreamId::Value { name, .. }, Some(state)) = (stream, self.values.state(stream).await?) else {
            return Ok(None);
        };
        let name: ValueName = name.clone();
        let current = state.current_in();
        Ok(Some(ValueSummary {
            name,
            version: state.version(),
            changed_at: self
                .recorded_at(stream, current.unwrap_or_else(|| state.seq()))
                .await?,
            deleted: current.is_none(),
        }))
    }

    /// When an entry of a stream was recorded.
    pub(super) async fn recorded_at(&self, stream: &StreamId, seq: Seq) -> Result<Timestamp, EngineError> {
        let entry = self.entry(stream, seq).await?;
        let missing = || {
            let problem = format!("entry {seq} is not there");
            damaged(stream, Arc::new(StoreError::corrupt(stream.to_string(), problem)))
        };
        Ok(entry.ok_or_else(missing)?.at)
    }
}

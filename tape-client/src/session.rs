//! Sessions: the events of a conversation, and its state.

use crate::client::Tape;
use crate::error::Error;
use crate::retry::until_answered;
use tape_api::query::{OlderEvents, SessionEvents, SessionView};
use tape_core::command::{Rewind, SessionCommand};
use tape_core::id::{EventId, Invocation, Seq, SessionId};
use tape_core::payload::Payload;
use tape_core::state::Delta;

/// A conversation of a user with an app.
#[derive(Clone, Debug)]
pub struct Session {
    tape: Tape,
    id: SessionId,
}

/// An event to append to a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    id: EventId,
    author: String,
    content: Payload,
    delta: Delta,
    invocation: Option<Invocation>,
    expected: Option<Seq>,
}

impl Event {
    /// An event by `author`: `user`, or the name of an agent. Its id is to be unique in the session: an event whose id is one of the last
    /// [`REMEMBERED_EVENTS_MAX`](tape_core::limits::REMEMBERED_EVENTS_MAX) counts once.
    #[must_use]
    pub fn new(id: EventId, author: &str, content: Payload) -> Self {
        let (author, delta) = (author.to_owned(), Delta::default());
        Self {
            id,
            author,
            content,
            delta,
            invocation: None,
            expected: None,
        }
    }

    /// The change of state that comes with it. `app:` and `user:` keys are shared, `temp:` keys are not recorded.
    #[must_use]
    pub fn delta(mut self, delta: Delta) -> Self {
        self.delta = delta;
        self
    }

    /// The invocation it is part of.
    #[must_use]
    pub fn invocation(mut self, invocation: Invocation) -> Self {
        self.invocation = Some(invocation);
        self
    }

    /// Refuses the event if a newer event than this entry exists.
    #[must_use]
    pub const fn expect(mut self, seq: Seq) -> Self {
        self.expected = Some(seq);
        self
    }
}

impl Session {
    pub(crate) const fn new(tape: Tape, id: SessionId) -> Self {
        Self { tape, id }
    }

    /// Begins the session.
    ///
    /// # Errors
    /// [`Error::Rejected`] where it exists.
    pub async fn create(&self, state: Delta) -> Result<Seq, Error> {
        self.command(SessionCommand::Create {
            session: self.id.clone(),
            state,
        })
        .await
    }

    /// Appends an event; one that has the id of a remembered one returns its place.
    ///
    /// # Errors
    /// [`Error::Rejected`] where there is no such session, or it has a newer event than expected.
    pub async fn append(&self, event: Event) -> Result<Seq, Error> {
        let Event {
            id,
            author,
            content,
            delta,
            invocation,
            expected,
        } = event;
        self.command(SessionCommand::Append {
            event: id,
            expected,
            invocation,
            author,
            delta,
            content,
        })
        .await
    }

    /// The session as it is now, with at most `events_max` of its newest events; none where there is no such session.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where the journal is out of reach.
    pub async fn get(&self, events_max: u32) -> Result<Option<SessionView>, Error> {
        let journal = &self.tape.journal;
        until_answered(self.tape.tries(), || journal.session_view(&self.id, events_max)).await
    }

    /// At most `events_max` events that are older than those of an earlier view or page.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where the journal is out of reach.
    pub async fn older(&self, from: &OlderEvents, events_max: u32) -> Result<SessionEvents, Error> {
        let journal = &self.tape.journal;
        until_answered(self.tape.tries(), || {
            journal.session_events(&self.id, from.clone(), events_max)
        })
        .await
    }

    /// Rewinds the session to how it was after the entry `to`. Changes of shared state by later events stay.
    ///
    /// # Errors
    /// [`Error::Rejected`] where there is no such entry.
    pub async fn rewind(&self, to: Seq) -> Result<Seq, Error> {
        self.put_back(Rewind { to, expected: None }).await
    }

    /// As [`Session::rewind`], unless an event newer than the entry `expected` exists.
    ///
    /// # Errors
    /// [`Error::Rejected`] where there is no such entry, the session has a newer event than expected, or ends before the expected entry.
    pub async fn rewind_expecting(&self, to: Seq, expected: Seq) -> Result<Seq, Error> {
        let expected = Some(expected);
        self.put_back(Rewind { to, expected }).await
    }

    async fn put_back(&self, rewind: Rewind) -> Result<Seq, Error> {
        let command = self.tape.stamp(rewind);
        let send = |command| self.tape.journal.rewind(&self.id, command);
        Ok(self.tape.execute(command, send).await?.seq)
    }

    /// Deletes the session.
    ///
    /// # Errors
    /// [`Error::Rejected`] where there is no such session.
    pub async fn delete(&self) -> Result<Seq, Error> {
        self.command(SessionCommand::Delete).await
    }

    async fn command(&self, body: SessionCommand) -> Result<Seq, Error> {
        let command = self.tape.stamp(body);
        let send = |command| self.tape.journal.session(&self.id, command);
        Ok(self.tape.execute(command, send).await?.seq)
    }
}

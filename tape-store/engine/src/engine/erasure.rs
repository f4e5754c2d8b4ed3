//! Erasing payloads on request.
//!
//! The stream's own entry is the intent. The store's bytes are erased after it, and then an entry says that they are gone. If any step in
//! between is interrupted, the agenda has the work, and repeating it changes nothing more.
//!
//! Bytes that are not what was written are never destroyed: they are the proof that they were changed.

use super::Parts;
use crate::stream_service::{EngineError, damaged};
use std::collections::BTreeSet;
use std::sync::Arc;
use tape_core::codec::decode;
use tape_core::command::Command;
use tape_core::entry::{Entry, EntryBody};
use tape_core::erasure::{Erasure, ErasureCommand, PendingErasure};
use tape_core::id::{Principal, RequestId, Seq, SessionId, StreamId, User};
use tape_core::limits::{ERASED_AT_ONCE_MAX, PAGE_ENTRIES_MAX};
use tape_core::reply::{Rejection, Reply};
use tape_core::session::Session;
use tape_core::state::{Delta, StateScope};

/// How often an erasure is prepared again because the stream moved on meanwhile.
const ATTEMPTS_MAX: u32 = 16;

/// Entries that repeat the bytes of others, and how far the search for them came.
#[derive(Default)]
struct Copies {
    entries: BTreeSet<Seq>,
    seen: Seq,
}

impl Parts {
    pub(super) async fn erase(
        &self,
        stream: &StreamId,
        command: Command<Erasure>,
    ) -> Result<Reply, EngineError> {
        // More entries than these are refused.
        let looked_at = command.body.entries.iter().take(ERASED_AT_ONCE_MAX);
        let looked_at: Vec<Seq> = looked_at.copied().collect();
        self.check_payloads(stream, &looked_at).await?;
        let mut attempts = 0;
        let reply = loop {
            if let StreamId::Session(session) = stream {
                self.merge_before(session, &command.body.entries).await?;
            }
            let copies = self.copies(stream, &command.body.entries).await?;
            let Erasure { entries, reason } = command.body.clone();
            let ask = Command {
                request: command.request,
                principal: command.principal.clone(),
                trace: command.trace.clone(),
                body: ErasureCommand::Erase {
                    entries,
                    copies: copies.entries.into_iter().collect(),
                    seen: copies.seen,
                    reason,
                },
            };
            attempts += 1;
            match self.ask_erasure(stream, ask).await {
                Err(EngineError::Rejected(Rejection::Woken { .. } | Rejection::Unsettled { .. }))
                    if attempts < ATTEMPTS_MAX => {}
                answer => break answer?,
            }
        };
        let finished = self.finish_erasures(stream).await;
        finished.map(|()| reply).map_err(|error| match error {
            EngineError::OutcomeUnknown { .. } | EngineError::Damaged { .. } => error,
            other => EngineError::OutcomeUnknown {
                stream: stream.clone(),
                source: Arc::new(other),
            },
        })
    }

    /// Carries over changes of shared state that are to be erased: carried over later, the bytes would come back. Damaged shared state
    /// blocks only such changes.
    async fn merge_before(&self, session: &SessionId, entries: &[Seq]) -> Result<(), EngineError> {
        let Err(error) = self.merge(session).await else {
            return Ok(());
        };
        let state = self.sessions.state(&StreamId::Session(session.clone())).await?;
        let waits = |session: &Session| {
            session
                .pending()
                .iter()
                .any(|merge| entries.contains(&merge.source))
        };
        if state.is_some_and(|session| waits(&session)) {
            return Err(error);
        }
        Ok(())
    }

    async fn ask_erasure(
        &self,
        stream: &StreamId,
        command: Command<ErasureCommand>,
    ) -> Result<Reply, EngineError> {
        match stream {
            StreamId::Run(_) => self.runs.erase(stream, command).await,
            StreamId::Session(_) => self.sessions.erase(stream, command).await,
            StreamId::Shared { .. } => self.shared.erase(stream, command).await,
            StreamId::Value { .. } => self.values.erase(stream, command).await,
            StreamId::KeyOwner { .. } => self.claims.erase(stream, command).await,
            StreamId::Relay(_) => self.relays.erase(stream, command).await,
        }
    }

    /// The erasures of a stream whose bytes the store still has.
    async fn pending_erasures(&self, stream: &StreamId) -> Result<Vec<PendingErasure>, EngineError> {
        fn of<S: tape_core::decider::Decider>(state: Option<Arc<S>>) -> Vec<PendingErasure> {
            let erasures = state.as_ref().and_then(|state| state.erasures());
            erasures.map_or_else(Vec::new, |erasures| erasures.pending().iter().cloned().collect())
        }
        Ok(match stream {
            StreamId::Run(_) => of(self.runs.state(stream).await?),
            StreamId::Session(_) => of(self.sessions.state(stream).await?),
            StreamId::Shared { .. } => of(self.shared.state(stream).await?),
            StreamId::Value { .. } => of(self.values.state(stream).await?),
            StreamId::Relay(_) => of(self.relays.state(stream).await?),
            StreamId::KeyOwner { .. } => Vec::new(),
        })
    }

    pub(super) async fn finish_erasures(&self, stream: &StreamId) -> Result<(), EngineError> {
        let StreamId::Session(session) = stream else {
            return self.finish_own(stream).await;
        };
        // Shared state that is damaged does not block the erasure of the session's own bytes; the copies in shared state stay due work.
        let (mut through, mut failed) = (None, None);
        for pending in self.pending_erasures(stream).await? {
            if let Err(error) = self.erase_shared(session, stream, &pending).await {
                failed.get_or_insert(error);
            }
            self.destroy(stream, &pending.entries).await?;
            if failed.is_none() {
                through = Some(pending.entry);
            }
        }
        if let Some(through) = through {
            self.finish(stream, through).await?;
        }
        failed.map_or(Ok(()), Err)
    }

    /// Erases the bytes of one stream.
    async fn finish_own(&self, stream: &StreamId) -> Result<(), EngineError> {
        let pending = self.pending_erasures(stream).await?;
        let Some(through) = pending.last().map(|pending| pending.entry) else {
            return Ok(());
        };
        let entries: BTreeSet<Seq> = pending.into_iter().flat_map(|pending| pending.entries).collect();
        let entries: Vec<Seq> = entries.into_iter().collect();
        self.destroy(stream, &entries).await?;
        self.finish(stream, through).await
    }

    /// Erases the bytes of intact entries. A damaged entry keeps its bytes, and its erasure stays due work until a person
    /// has looked.
    async fn destroy(&self, stream: &StreamId, entries: &[Seq]) -> Result<(), EngineError> {
        self.check_payloads(stream, entries).await?;
        Ok(self.store.erase(stream, entries).await?)
    }

    /// Records that the bytes of all erasures through an entry are gone.
    async fn finish(&self, stream: &StreamId, through: Seq) -> Result<(), EngineError> {
        let finish = Command::new(self.request(), ErasureCommand::Finish { through });
        self.ask_erasure(stream, finish).await?;
        if let StreamId::Run(_) = stream
            && let Some(retired) = self.runs.state(stream).await?.and_then(|run| run.retired_in())
        {
            // Labels that change bring a retired run back into lists.
            self.drop_retired(stream, retired).await?;
        }
        Ok(())
    }

    /// Drops the entries of a retired run before the one that stands for it. A damaged run stays, and retention reports it.
    async fn drop_retired(&self, stream: &StreamId, retired: Seq) -> Result<(), EngineError> {
        match self.audit(stream).await {
            Ok(_) => Ok(self.store.drop_before(&[(stream.clone(), retired)]).await?),
            Err(error) if error.is_damage() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Entries that repeat the bytes of others without a record of it in the folded state.
    async fn copies(&self, stream: &StreamId, entries: &[Seq]) -> Result<Copies, EngineError> {
        let mut copies = Copies::default();
        match stream {
            StreamId::Session(_) => {
                let Some(mut after) = entries.iter().min().copied() else {
                    return Ok(copies);
                };
                loop {
                    copies.seen = copies.seen.max(after);
                    let page = self.decoded(stream, after).await?;
                    let Some(last) = page.last().map(|entry| entry.seq) else {
                        return Ok(copies);
                    };
                    let repeats = page.iter().filter(|entry| repeats(entry, entries));
                    copies.entries.extend(repeats.map(|entry| entry.seq));
                    after = last;
                }
            }
            StreamId::Value { .. } => {
                for seq in entries {
                    let next = self.entry(stream, seq.next()).await?;
                    copies
                        .entries
                        .extend(next.filter(has_previous).map(|entry| entry.seq));
                }
                Ok(copies)
            }
            StreamId::Run(_) | StreamId::Shared { .. } | StreamId::KeyOwner { .. } | StreamId::Relay(_) => {
                Ok(copies)
            }
        }
    }

    /// Erases what events of a session changed in shared state.
    async fn erase_shared(
        &self,
        session: &SessionId,
        stream: &StreamId,
        pending: &PendingErasure,
    ) -> Result<(), EngineError> {
        let Some(recorded) = self.entry(stream, pending.entry).await? else {
            return Ok(());
        };
        let EntryBody::PayloadErased(erased) = &recorded.body else {
            return Ok(());
        };
        for scope in [StateScope::App, StateScope::User] {
            let mut sources = BTreeSet::new();
            for seq in &pending.entries {
                let entry = self.entry(stream, *seq).await?;
                if entry.is_some_and(|entry| changes(&entry, scope)) {
                    sources.insert(*seq);
                }
            }
            if !sources.is_empty() {
                let user = (scope == StateScope::User).then(|| session.user.clone());
                let who = (recorded.principal.as_ref(), erased.reason.as_str());
                self.erase_carried_over(session, user, &sources, who).await?;
            }
        }
        Ok(())
    }

    async fn erase_carried_over(
        &self,
        session: &SessionId,
        user: Option<User>,
        sources: &BTreeSet<Seq>,
        (principal, reason): (Option<&Principal>, &str),
    ) -> Result<(), EngineError> {
        let stream = super::sessions::shared_stream(session, user);
        // An erasure that was begun before needs no second entry.
        self.finish_own(&stream).await?;
        let mut found = Vec::new();
        let mut after = Seq::ZERO;
        loop {
            let page = self.store.read(&stream, after, PAGE_ENTRIES_MAX).await?;
            let Some(last) = page.last().map(|stored| stored.seq) else {
                break;
            };
            for stored in page.iter().filter(|stored| stored.payload.is_some()) {
                let entry = decode(stored).map_err(|error| damaged(&stream, Arc::new(error)))?;
                if let EntryBody::SharedMerged(merged) = &entry.body
                    && merged.session == *session
                    && sources.contains(&merged.source)
                {
                    found.push(entry.seq);
                }
            }
            after = last;
        }
        for entries in found.chunks(ERASED_AT_ONCE_MAX) {
            let command = Command {
                request: self.request(),
                principal: principal.cloned(),
                trace: None,
                body: ErasureCommand::Erase {
                    entries: entries.to_vec(),
                    copies: Vec::new(),
                    seen: after,
                    reason: reason.to_owned(),
                },
            };
            self.ask_erasure(&stream, command).await?;
            self.finish_own(&stream).await?;
        }
        Ok(())
    }

    /// A fresh id for a request that is never sent again.
    fn request(&self) -> RequestId {
        RequestId::new(self.clock.read().at(), self.clock.environment().random())
    }

    async fn decoded(&self, stream: &StreamId, after: Seq) -> Result<Vec<Entry>, EngineError> {
        let page = self.store.read(stream, after, PAGE_ENTRIES_MAX).await?;
        let entries = page.iter().map(decode).collect::<Result<_, _>>();
        entries.map_err(|error| damaged(stream, Arc::new(error)))
    }
}

/// Whether an entry rewinds a session to a state that has values of the entries `others`.
fn repeats(entry: &Entry, others: &[Seq]) -> bool {
    match &entry.body {
        EntryBody::SessionRewound(rewound) => {
            // An entry of version 1 does not say from which entries its values come.
            let unsaid = rewound.origins.is_empty() && !rewound.state.is_empty();
            unsaid || rewound.origins.values().any(|origin| others.contains(origin))
        }
        _ => false,
    }
}

/// Whether an entry of version 1 repeats the value before.
fn has_previous(entry: &Entry) -> bool {
    match &entry.body {
        EntryBody::ValuePut(put) => put.previous.is_some(),
        EntryBody::ValueDeleted(deleted) => deleted.previous.is_some(),
        _ => false,
    }
}

/// Whether an entry of a session changes shared state. The keys of a change stay when its values are erased.
fn changes(entry: &Entry, scope: StateScope) -> bool {
    let delta: &Delta = match &entry.body {
        EntryBody::SessionCreated(created) => &created.state,
        EntryBody::SessionEventAppended(event) => &event.delta,
        _ => return false,
    };
    delta.0.keys().any(|key| StateScope::of(key) == scope)
}

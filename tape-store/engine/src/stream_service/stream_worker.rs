//! Serves the requests that queued for one stream.

use super::EngineError;
use super::loaded::{Extension, Loaded, damaged};
use crate::committer::Committer;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tape_core::codec::Stamp;
use tape_core::command::{Command, CommandBody};
use tape_core::decider::Decider;
use tape_core::erasure::ErasureCommand;
use tape_core::id::StreamId;
use tape_core::limits::{BATCH_BYTES_MAX, BATCH_ENTRIES_MAX};
use tape_core::reply::{Decided, Limit, Rejection, Reply};
use tape_core::time::Now;
use tape_store::clock::Clock;
use tape_store::contract::{Batch, BatchId, CommitOutcome, JournalStore};
use tape_store::error::{CommitError, Source, StoreError};
use tokio::sync::oneshot;

/// How often a command is decided at most, where others change its stream.
const ATTEMPTS_MAX: u32 = 64;
/// How often a batch with a lost answer is resolved, and for how long at most: callers wait meanwhile.
const LOOKUPS_MAX: u32 = 6;
const LOOKING_MAX: Duration = Duration::from_secs(10);
/// How much an entry may grow where it names a snapshot.
const SNAPSHOT_NAME_BYTES: usize = 128;
/// The first wait between two attempts; it doubles each time, up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(100);
/// What is added to a wait at most.
const JITTER_MAX: Duration = Duration::from_millis(1);

pub(super) enum Request<S: Decider> {
    Command {
        command: Command<S::Command>,
        answer: oneshot::Sender<Result<Reply, EngineError>>,
    },
    Erasure {
        command: Command<ErasureCommand>,
        answer: oneshot::Sender<Result<Reply, EngineError>>,
    },
    State {
        answer: oneshot::Sender<Result<Option<Arc<S>>, EngineError>>,
    },
}

impl<S: Decider> Request<S> {
    fn begins(&self) -> bool {
        matches!(self, Self::Command { command, .. } if S::begins(&command.body))
    }

    fn refuse(self, error: EngineError) {
        // A caller that is gone needs no answer.
        match self {
            Self::Command { answer, .. } | Self::Erasure { answer, .. } => drop(answer.send(Err(error))),
            Self::State { answer } => drop(answer.send(Err(error))),
        }
    }
}

/// What is needed to serve a stream.
pub(super) struct StreamWorker {
    pub(super) store: Arc<dyn JournalStore>,
    pub(super) committer: Committer,
    pub(super) clock: Arc<dyn Clock>,
}

/// Requests that were decided on one working state, with their outcomes once it is durable.
struct DecisionBatch<S: Decider> {
    decided: Vec<(Request<S>, Outcome)>,
    extension: Extension,
    /// A command whose entries do not fit the state that they were decided on, which is a bug of its decider. The working
    /// state is spoiled.
    broken: Option<(Request<S>, Source)>,
}

enum Outcome {
    Reply(Result<Reply, Rejection>),
    State,
}

/// The result of a round.
enum Settled {
    Committed,
    /// Decide again.
    Lost,
    Failed(EngineError),
}

impl StreamWorker {
    /// Serves all `requests`. Returns the state as it is in the store, or none where the state is not known.
    pub(super) async fn serve<S: Decider>(
        &self,
        stream: &StreamId,
        mut cached: Option<Loaded<S>>,
        mut requests: VecDeque<Request<S>>,
    ) -> Option<Loaded<S>> {
        let mut attempts = 0;
        // Whether the state is known to match the store at a time after the requests arrived.
        let mut current = false;
        // Whether the stream is taken not to be there, without a look and once: where it is there, the commit is refused.
        let mut assume_new = cached.is_none() && requests.front().is_some_and(Request::begins);
        while !requests.is_empty() {
            let assumed = std::mem::take(&mut assume_new);
            let known = if assumed {
                Some(Loaded::new(stream))
            } else {
                cached.take()
            };
            let mut loaded = match self.take_up(stream, known, attempts, &mut current).await {
                Ok(loaded) => loaded,
                Err(error) => return refuse(requests, &error),
            };
            if let Err(error) = self.know_the_time(&requests).await {
                return refuse(requests, &error);
            }
            let before = loaded.is_shared().then(|| loaded.clone());
            let mut round = DecisionBatch::decide(&mut loaded, &mut requests, self.clock.read());
            if let Some((request, source)) = round.broken.take() {
                tracing::error!(%stream, %source, "a decider made entries that its state refuses");
                request.refuse(damaged(stream, source));
                round.undo(&mut requests);
                continue;
            }
            if round.extension.entries.is_empty() && assumed {
                round.undo(&mut requests);
                continue;
            }
            if round.extension.entries.is_empty() && !current {
                round.undo(&mut requests);
                match loaded.refresh(self.store.as_ref(), stream).await {
                    Ok(()) => (current, cached) = (true, Some(loaded)),
                    Err(error) => return refuse(requests, &error),
                }
                continue;
            }
            match self.settle(stream, &mut loaded, &mut round).await {
                Settled::Committed => {
                    round.answer(&loaded);
                    (attempts, current, cached) = (0, true, Some(loaded));
                }
                Settled::Failed(error) => {
                    let _: Option<Loaded<S>> =
                        refuse(round.decided.into_iter().map(|(request, _)| request), &error);
                    current = false;
                }
                Settled::Lost => {
                    round.undo(&mut requests);
                    attempts += 1;
                    (current, cached) = (false, before);
                    if attempts == ATTEMPTS_MAX {
                        return refuse(
                            requests,
                            &EngineError::Contended {
                                stream: stream.clone(),
                                attempts,
                            },
                        );
                    }
                    self.pause(attempts - 1).await;
                }
            }
        }
        cached
    }

    /// Waits until the time is known, where a command that needs the time is decided first.
    async fn know_the_time<S: Decider>(&self, requests: &VecDeque<Request<S>>) -> Result<(), EngineError> {
        let commands = requests
            .iter()
            .any(|request| matches!(request, Request::Command { .. }));
        match self.clock.unsettled().filter(|_| commands) {
            Some(settle) => Ok(settle.await?),
            None => Ok(()),
        }
    }

    async fn take_up<S: Decider>(
        &self,
        stream: &StreamId,
        cached: Option<Loaded<S>>,
        attempts: u32,
        current: &mut bool,
    ) -> Result<Loaded<S>, EngineError> {
        let Some(mut loaded) = cached else {
            let shared = attempts > 0;
            *current = true;
            return Loaded::load(self.store.as_ref(), stream, shared).await;
        };
        // A commit that was decided on an old state is refused after its wait: reading the head is cheaper.
        if loaded.is_shared() && !*current {
            loaded.refresh(self.store.as_ref(), stream).await?;
            *current = true;
        }
        Ok(loaded)
    }

    /// Commits the entries of a round.
    async fn settle<S: Decider>(
        &self,
        stream: &StreamId,
        loaded: &mut Loaded<S>,
        round: &mut DecisionBatch<S>,
    ) -> Settled {
        if round.extension.entries.is_empty() {
            return self.confirm(stream, round).await;
        }
        let extension = std::mem::replace(&mut round.extension, loaded.extend());
        let id = BatchId::random(self.clock.environment().random());
        self.commit(loaded.batch(id, stream, extension)).await
    }

    /// Makes sure that what the round acknowledges without a commit is durable: the entries were only read.
    async fn confirm<S: Decider>(&self, stream: &StreamId, round: &DecisionBatch<S>) -> Settled {
        let acknowledges = |(_, outcome): &(_, Outcome)| matches!(outcome, Outcome::Reply(Ok(_)));
        if !round.decided.iter().any(acknowledges) {
            return Settled::Committed;
        }
        match self.store.barrier().await {
            Ok(()) => Settled::Committed,
            Err(error) => Settled::Failed(EngineError::OutcomeUnknown {
                stream: stream.clone(),
                source: Arc::new(error),
            }),
        }
    }

    async fn commit(&self, batch: Batch) -> Settled {
        let source = match self.committer.commit(batch.clone()).await {
            Ok(_) => return Settled::Committed,
            Err(CommitError::Conflict { .. } | CommitError::Fenced { .. }) => return Settled::Lost,
            Err(CommitError::Store(error)) => return Settled::Failed(error.into()),
            Err(CommitError::OutcomeUnknown { source, .. }) => source,
        };
        let give_up = tokio::time::Instant::now() + LOOKING_MAX;
        for attempt in 0..LOOKUPS_MAX {
            match self.store.resolve(&batch).await {
                Ok(CommitOutcome::Committed(_)) => return Settled::Committed,
                Ok(CommitOutcome::NotCommitted) => return Settled::Lost,
                Err(StoreError::Unavailable { .. }) if tokio::time::Instant::now() < give_up => {
                    self.pause(attempt + 2).await;
                }
                Ok(CommitOutcome::Unknown) | Err(_) => break,
            }
        }
        Settled::Failed(EngineError::OutcomeUnknown {
            stream: batch.stream,
            source,
        })
    }

    async fn pause(&self, attempt: u32) {
        // The first try again is at once: mostly the other's commit is over by then.
        if attempt > 0 {
            let wait = (PAUSE_MIN * (1 << (attempt - 1).min(10))).min(PAUSE_MAX);
            let jitter = JITTER_MAX.mul_f64(self.clock.environment().chance());
            tokio::time::sleep(wait + jitter).await;
        }
    }
}

fn refuse<S: Decider>(
    requests: impl IntoIterator<Item = Request<S>>,
    error: &EngineError,
) -> Option<Loaded<S>> {
    for request in requests {
        request.refuse(error.clone());
    }
    None
}

impl<S: Decider> DecisionBatch<S> {
    /// Decides requests one after the other until one batch is full.
    fn decide(loaded: &mut Loaded<S>, requests: &mut VecDeque<Request<S>>, now: Now) -> Self {
        let mut round = Self {
            decided: Vec::new(),
            extension: loaded.extend(),
            broken: None,
        };
        while let Some(request) = requests.pop_front() {
            let taken = match &request {
                Request::State { .. } => {
                    round.decided.push((request, Outcome::State));
                    continue;
                }
                Request::Command { command, .. } => {
                    let decided = loaded.state().decide(command, now);
                    round.take(loaded, command, decided, now)
                }
                Request::Erasure { command, .. } => {
                    let decided = loaded.state().decide_erasure(command, now);
                    round.take(loaded, command, decided, now)
                }
            };
            match taken {
                Taken::Full => {
                    requests.push_front(request);
                    break;
                }
                Taken::Outcome(outcome) => round.decided.push((request, Outcome::Reply(outcome))),
                Taken::Broken(source) => {
                    round.broken = Some((request, source));
                    break;
                }
            }
        }
        round
    }

    fn take<B: CommandBody>(
        &mut self,
        loaded: &mut Loaded<S>,
        command: &Command<B>,
        decided: Result<Decided, Rejection>,
        now: Now,
    ) -> Taken {
        let decided = match decided {
            Ok(decided) => decided,
            Err(rejection) => return Taken::Outcome(Err(rejection)),
        };
        if decided.entries.is_empty() {
            return Taken::Outcome(Ok(decided.reply));
        }
        let sealed = loaded.seal(&Stamp::of(command, now.at()), decided.entries);
        if let Some(rejection) = too_large(sealed.len(), sealed.bytes()) {
            return Taken::Outcome(Err(rejection));
        }
        let entries = self.extension.entries.len() + sealed.len();
        // A batch that erases something reserves room to name the snapshot that replaces the last one.
        let bytes_max = match self.extension.erases || sealed.erases() {
            true if !self.extension.entries.is_empty() => BATCH_BYTES_MAX - SNAPSHOT_NAME_BYTES,
            _ => BATCH_BYTES_MAX,
        };
        if entries > BATCH_ENTRIES_MAX || self.extension.bytes + sealed.bytes() > bytes_max {
            return Taken::Full;
        }
        match loaded.push(&mut self.extension, sealed) {
            Ok(()) => Taken::Outcome(Ok(decided.reply)),
            Err(source) => Taken::Broken(source),
        }
    }

    /// Puts the requests back, in their order, to be decided again.
    fn undo(self, requests: &mut VecDeque<Request<S>>) {
        for (request, _) in self.decided.into_iter().rev() {
            requests.push_front(request);
        }
    }

    fn answer(self, loaded: &Loaded<S>) {
        let state = (loaded.seq().0 > 0).then(|| loaded.state());
        for (request, outcome) in self.decided {
            match (request, outcome) {
                (
                    Request::Command { answer, .. } | Request::Erasure { answer, .. },
                    Outcome::Reply(reply),
                ) => {
                    drop(answer.send(reply.map_err(EngineError::from)));
                }
                (Request::State { answer }, _) => drop(answer.send(Ok(state.cloned()))),
                (Request::Command { .. } | Request::Erasure { .. }, Outcome::State) => {
                    unreachable!("a command comes to a reply")
                }
            }
        }
    }
}

enum Taken {
    Outcome(Result<Reply, Rejection>),
    /// The batch has no room for the command's entries.
    Full,
    Broken(Source),
}

/// The rejection of a command whose entries alone are more than one commit may have.
fn too_large(entries: usize, bytes: usize) -> Option<Rejection> {
    let over = |limit, given: usize, max: usize| Rejection::LimitExceeded {
        limit,
        max: max as u64,
        given: given as u64,
    };
    if entries > BATCH_ENTRIES_MAX {
        return Some(over(Limit::CommandEntries, entries, BATCH_ENTRIES_MAX));
    }
    (bytes > BATCH_BYTES_MAX).then(|| over(Limit::CommandBytes, bytes, BATCH_BYTES_MAX))
}

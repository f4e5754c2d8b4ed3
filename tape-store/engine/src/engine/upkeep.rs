//! The indexes, compared with what the streams imply, and put right.
//!
//! First, each stream is compared with the indexes: what the stream implies must be in them. Then the hints of each queue are compared with
//! the streams: each hint must be one that its stream implies. A finding counts only where the stream did not move on meanwhile, so commits
//! may continue and every finding is real.

use super::{Engine, Parts};
use crate::stream_service::EngineError;
use std::sync::Arc;
use std::time::Duration;
use tape_api::query::DueFilter;
use tape_core::agenda::{self, Agenda, AgendaChange, Item, Queue};
use tape_core::causes::Causes;
use tape_core::decider::Decider;
use tape_core::id::{Seq, StreamId};
use tape_core::limits::INDEX_PAGE_MAX;
use tape_core::status::Summary;
use tape_core::time::Timestamp;
use tape_store::contract::{Head, Hint, PageToken};
use tape_store::error::StoreError;
use tape_store::upkeep::{Correction, End, StreamPage};

/// How often a stream that moves on meanwhile is compared again.
const LOOKS_MAX: u32 = 8;
/// The pause before another pass over indexes that had to be corrected.
const PASS_PAUSE: Duration = Duration::from_secs(60);
/// The pause after a pass that failed.
const FAILURE_PAUSE: Duration = Duration::from_secs(30);

/// The findings of one page of a check of the indexes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IndexPage {
    /// Streams and hints that were looked at.
    pub looked_at: u64,
    /// The differences between the indexes and the streams.
    pub findings: Vec<IndexFinding>,
    /// Where the next page begins; none at the end.
    pub next: Option<PageToken>,
}

/// A difference between the indexes and a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexFinding {
    /// The stream.
    pub stream: String,
    /// What is wrong.
    pub problem: IndexProblem,
    /// Whether it was corrected.
    pub corrected: bool,
}

/// The kinds of difference between the indexes and a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IndexProblem {
    /// Due work that the stream implies is not in the index.
    Missing {
        /// Whose work it is.
        queue: Queue,
        /// Which item.
        item: Item,
        /// When it is due.
        due: Timestamp,
    },
    /// The index has due work that the stream does not imply.
    Stale {
        /// Whose work it is.
        queue: Queue,
        /// Which item.
        item: Item,
        /// When it is due by the index.
        due: Timestamp,
    },
    /// Lists show the stream wrongly, or not at all.
    Listed,
    /// The stream cannot be read.
    Unreadable {
        /// Why.
        problem: String,
    },
    /// The stream changed too often to be compared.
    Busy,
}

impl IndexProblem {
    /// The name of the kind of problem.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "missing",
            Self::Stale { .. } => "stale",
            Self::Listed => "listed",
            Self::Unreadable { .. } => "unreadable",
            Self::Busy => "busy",
        }
    }
}

impl std::fmt::Display for IndexProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing { queue, item, due } => {
                write!(
                    f,
                    "{item} of the queue {queue}, due at {due}, is missing from the index"
                )
            }
            Self::Stale { queue, item, due } => {
                write!(
                    f,
                    "{item} of the queue {queue}, due at {due}, is in the index for nothing"
                )
            }
            Self::Listed => f.write_str("the lists show it otherwise"),
            Self::Unreadable { problem } => write!(f, "it cannot be read: {problem}"),
            Self::Busy => f.write_str("it is written to all the while, and was not compared"),
        }
    }
}

/// What a stream implies, and where it ends.
struct Implied {
    agenda: Agenda,
    /// None where lists need not show it.
    summary: Option<Summary>,
    seq: Seq,
}

impl Implied {
    /// What a stream in this state implies; nothing where there is no such stream.
    fn by<S: Decider>(state: Option<Arc<S>>) -> Self {
        Self {
            agenda: state.as_ref().map(|state| state.agenda()).unwrap_or_default(),
            summary: state.as_ref().and_then(|state| state.summary()),
            seq: state.map_or(Seq::ZERO, |state| state.seq()),
        }
    }
}

/// Where a check of the indexes continues: among the streams, or among a queue's hints.
enum Place {
    Streams(Option<PageToken>),
    Hints(Queue, Option<PageToken>),
}

impl Place {
    fn read(token: &PageToken) -> Result<Self, StoreError> {
        let invalid = || StoreError::Invalid {
            what: "page token",
            problem: "it was not made here".to_owned(),
        };
        let (phase, rest) = token.0.split_once(' ').ok_or_else(invalid)?;
        let from = (!rest.is_empty()).then(|| PageToken(rest.to_owned()));
        if phase == "streams" {
            // The first page has no token.
            return from.map(|from| Self::Streams(Some(from))).ok_or_else(invalid);
        }
        let queue = Queue::ALL.into_iter().find(|queue| queue.as_str() == phase);
        Ok(Self::Hints(queue.ok_or_else(invalid)?, from))
    }

    fn token(phase: &str, from: Option<&PageToken>) -> PageToken {
        PageToken(format!("{phase} {}", from.map_or("", |from| &from.0)))
    }

    /// Where to continue after a page of a phase.
    fn after(&self, next: Option<PageToken>) -> Option<PageToken> {
        if let Some(next) = next {
            let phase = match self {
                Self::Streams(_) => "streams",
                Self::Hints(queue, _) => queue.as_str(),
            };
            return Some(Self::token(phase, Some(&next)));
        }
        let queue = match self {
            Self::Streams(_) => Queue::ALL.first(),
            Self::Hints(queue, _) => Queue::ALL.iter().skip_while(|other| *other != queue).nth(1),
        };
        queue.map(|queue| Self::token(queue.as_str(), None))
    }
}

impl Engine {
    /// A page of all streams, of all tenants and kinds, at most `limit` of them.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] where the token is not of this journal; otherwise the store's error.
    pub async fn streams(&self, from: Option<&PageToken>, limit: u32) -> Result<StreamPage, StoreError> {
        self.store().upkeep().streams(from, limit).await
    }

    /// Compares a page of the indexes of due work and of runs with what the streams imply, and corrects differences where `correct` is set.
    /// Looks at `limit` streams or hints at most, and at most at [`INDEX_PAGE_MAX`].
    ///
    /// It may be interrupted anywhere, repeated, and run by several processes at once, while others write.
    ///
    /// # Errors
    /// [`EngineError::Store`] where the indexes cannot be read. What is wrong with a single stream is a finding.
    pub async fn check_index(
        &self,
        from: Option<&PageToken>,
        limit: u32,
        correct: bool,
    ) -> Result<IndexPage, EngineError> {
        let place = from.map_or(Ok(Place::Streams(None)), Place::read)?;
        let limit = limit.clamp(1, INDEX_PAGE_MAX);
        let mut page = IndexPage::default();
        let next = match &place {
            Place::Streams(from) => {
                self.0
                    .check_streams(&mut page, from.as_ref(), limit, correct)
                    .await?
            }
            Place::Hints(queue, from) => {
                self.0
                    .check_hints(&mut page, *queue, from.as_ref(), limit, correct)
                    .await?
            }
        };
        page.next = place.after(next);
        Ok(page)
    }

    /// Makes the indexes agree with the computation of this build, where they last agreed with an earlier one. Returns once they agree;
    /// drop the future to end earlier.
    ///
    /// Passes over the indexes repeat until one finds nothing: as long as servers of an earlier build run, they write by their computation,
    /// and a stream under constant writes is compared in a later pass. A stream that cannot be read is reported and left as it is: once an
    /// operator has repaired it, `tape agenda rebuild` compares it.
    pub async fn keep_index_current(&self) {
        loop {
            match self.is_index_current().await {
                Ok(true) => return,
                Ok(false) => match self.correct_index().await {
                    Ok(0) => match self.store().upkeep().set_index_version(agenda::VERSION).await {
                        Ok(()) => return,
                        Err(error) => tracing::warn!(%error, "the version of the indexes is not written"),
                    },
                    Ok(open) => {
                        tracing::info!(
                            open,
                            "the indexes did not agree with this build: they are looked over once more"
                        );
                        tokio::time::sleep(PASS_PAUSE).await;
                        continue;
                    }
                    Err(error) => tracing::warn!(%error, "the indexes are not compared with the streams"),
                },
                Err(error) => tracing::warn!(%error, "the version of the indexes is not read"),
            }
            tokio::time::sleep(FAILURE_PAUSE).await;
        }
    }

    /// Whether the indexes agree with the computation of this build or of a later one.
    ///
    /// # Errors
    /// The store's error.
    pub async fn is_index_current(&self) -> Result<bool, StoreError> {
        Ok(self.store().upkeep().index_version().await? >= agenda::VERSION)
    }

    /// One pass over all indexes; returns how many differences were found or streams could not be compared.
    async fn correct_index(&self) -> Result<u64, EngineError> {
        let (mut from, mut open) = (None, 0);
        loop {
            let page = self.check_index(from.as_ref(), INDEX_PAGE_MAX, true).await?;
            for finding in &page.findings {
                let (stream, problem) = (&finding.stream, &finding.problem);
                tracing::info!(stream, %problem, corrected = finding.corrected, "the indexes differed from the stream");
            }
            let counts =
                |finding: &&IndexFinding| !matches!(finding.problem, IndexProblem::Unreadable { .. });
            open += page.findings.iter().filter(counts).count() as u64;
            from = page.next;
            if from.is_none() {
                return Ok(open);
            }
            tokio::task::yield_now().await;
        }
    }
}

impl IndexPage {
    fn find(&mut self, stream: &StreamId, problem: IndexProblem, corrected: bool) {
        self.findings.push(IndexFinding {
            stream: stream.to_string(),
            problem,
            corrected,
        });
    }
}

impl Parts {
    async fn check_streams(
        &self,
        page: &mut IndexPage,
        from: Option<&PageToken>,
        limit: u32,
        correct: bool,
    ) -> Result<Option<PageToken>, EngineError> {
        let found = self.store.upkeep().streams(from, limit).await?;
        for name in found.unreadable {
            let problem = "that is no name of a stream".to_owned();
            page.findings.push(IndexFinding {
                stream: name,
                problem: IndexProblem::Unreadable { problem },
                corrected: false,
            });
        }
        for stream in found.streams {
            page.looked_at += 1;
            // There are many owners of business keys, and none of them has due work or is listed.
            if !matches!(stream, StreamId::KeyOwner { .. }) {
                self.compare(page, &stream, &[], correct).await?;
            }
        }
        Ok(found.next)
    }

    async fn check_hints(
        &self,
        page: &mut IndexPage,
        queue: Queue,
        from: Option<&PageToken>,
        limit: u32,
        correct: bool,
    ) -> Result<Option<PageToken>, EngineError> {
        let all = DueFilter::default();
        let due = self.due_page(queue, &all, Timestamp::MAX, from, limit).await?;
        for hint in due.hints {
            page.looked_at += 1;
            let stream = hint.stream.clone();
            self.compare(page, &stream, &[hint], correct).await?;
        }
        Ok(due.next)
    }

    /// Compares the indexes of a stream with what the stream implies; where hints are given, only whether the stream implies those.
    async fn compare(
        &self,
        page: &mut IndexPage,
        stream: &StreamId,
        hints: &[Hint],
        correct: bool,
    ) -> Result<(), EngineError> {
        for _ in 0..LOOKS_MAX {
            let implied = match self.implied(stream).await {
                Ok(implied) => implied,
                Err(EngineError::Store(error @ StoreError::Unavailable { .. })) => return Err(error.into()),
                Err(error) => {
                    let problem = Causes(&error).to_string();
                    page.find(stream, IndexProblem::Unreadable { problem }, false);
                    return Ok(());
                }
            };
            let (problems, correction) = if hints.is_empty() {
                self.missing(stream, &implied).await?
            } else {
                self.stale(stream, hints, &implied).await?
            };
            if problems.is_empty() {
                return Ok(());
            }
            // The reads in between belong to the same end only if the stream still ends there.
            let head = self.store.head(stream).await?;
            let Some(head) = head.filter(|head| head.seq == implied.seq) else {
                continue;
            };
            let corrected = correct && !correction.is_empty();
            if corrected
                && !self
                    .store
                    .upkeep()
                    .reindex(stream, end(&head), &correction)
                    .await?
            {
                continue;
            }
            for problem in problems {
                page.find(stream, problem, corrected);
            }
            return Ok(());
        }
        page.find(stream, IndexProblem::Busy, false);
        Ok(())
    }

    async fn implied(&self, stream: &StreamId) -> Result<Implied, EngineError> {
        Ok(match stream {
            StreamId::Run(_) => {
                let run = self.runs.state(stream).await?;
                // A retired run leaves the lists when its entries are dropped.
                let is_retired = run.as_ref().is_some_and(|run| run.is_retired());
                let implied = Implied::by(run);
                Implied {
                    summary: implied.summary.filter(|_| !is_retired),
                    ..implied
                }
            }
            StreamId::Session(_) => Implied::by(self.sessions.state(stream).await?),
            StreamId::Shared { .. } => Implied::by(self.shared.state(stream).await?),
            StreamId::Value { .. } => Implied::by(self.values.state(stream).await?),
            StreamId::KeyOwner { .. } => Implied::by(self.claims.state(stream).await?),
            StreamId::Relay(_) => Implied::by(self.relays.state(stream).await?),
        })
    }

    /// What a stream implies and the indexes lack.
    async fn missing(
        &self,
        stream: &StreamId,
        implied: &Implied,
    ) -> Result<(Vec<IndexProblem>, Correction), StoreError> {
        let hint = |(queue, item, due): (Queue, &Item, Timestamp)| Hint {
            queue,
            stream: stream.clone(),
            item: item.clone(),
            due,
        };
        let hints: Vec<Hint> = implied.agenda.iter().map(hint).collect();
        let indexed = self.store.upkeep().indexed(stream, &hints).await?;
        let (mut problems, mut correction) = (Vec::new(), Correction::default());
        for (hint, is_there) in hints.into_iter().zip(indexed.due) {
            if is_there {
                continue;
            }
            let (queue, item, due) = (hint.queue, hint.item, hint.due);
            correction.agenda.push(AgendaChange {
                queue,
                item: item.clone(),
                was: None,
                due: Some(due),
            });
            problems.push(IndexProblem::Missing { queue, item, due });
        }
        if implied.summary.is_some() && implied.summary != indexed.summary {
            correction.summary.clone_from(&implied.summary);
            problems.push(IndexProblem::Listed);
        }
        if !indexed.named && implied.seq > Seq::ZERO {
            correction.named = true;
            problems.push(IndexProblem::Listed);
        }
        Ok((problems, correction))
    }

    /// Which hints the index still has that the stream does not imply.
    async fn stale(
        &self,
        stream: &StreamId,
        hints: &[Hint],
        implied: &Implied,
    ) -> Result<(Vec<IndexProblem>, Correction), StoreError> {
        let is_implied = |hint: &&Hint| implied.agenda.due(hint.queue, &hint.item) == Some(hint.due);
        let stale: Vec<Hint> = hints.iter().filter(|hint| !is_implied(hint)).cloned().collect();
        if stale.is_empty() {
            return Ok(Default::default());
        }
        let indexed = self.store.upkeep().indexed(stream, &stale).await?;
        let (mut problems, mut correction) = (Vec::new(), Correction::default());
        let there = stale
            .into_iter()
            .zip(indexed.due)
            .filter(|(_, is_there)| *is_there);
        for (hint, _) in there {
            let (queue, item, due) = (hint.queue, hint.item, hint.due);
            correction.agenda.push(AgendaChange {
                queue,
                item: item.clone(),
                was: Some(due),
                due: None,
            });
            problems.push(IndexProblem::Stale { queue, item, due });
        }
        Ok((problems, correction))
    }
}

const fn end(head: &Head) -> End {
    End {
        seq: head.seq,
        epoch: head.epoch,
        digest: head.digest,
    }
}

#[cfg(test)]
mod tests;

//! Which entries a relay delivers: those whose subject fits a pattern, and for which a predicate in CEL is true.

mod cost;
mod evaluator;
mod fence;
mod predicate;
mod variables;

pub use evaluator::FilterError;
pub use predicate::{InvalidPredicate, Predicate};

use tape_core::codec::{StoredEntry, kind};
use tape_core::id::{Seq, StreamId};
use tape_core::subject::{Pattern, Subject};

/// Longest source of a predicate, in bytes.
pub const SOURCE_BYTES_MAX: usize = 2 * 1024;
/// How deep the parts of a predicate may stand within one another.
pub const DEPTH_MAX: usize = 128;
/// How deep loops (`all`, `exists`, `exists_one`, `map`, `filter`) of a predicate may stand within one another.
pub const LOOP_DEPTH_MAX: usize = 2;
/// Most elements of a list or map that a predicate sees.
pub const ELEMENTS_MAX: usize = 512;
/// Most bytes of the JSON text of an envelope or payload that a predicate sees.
pub const JSON_BYTES_MAX: usize = 64 * 1024;

/// Chooses entries.
#[derive(Clone, Debug)]
pub struct Filter {
    pattern: Pattern,
    predicate: Option<Predicate>,
}

/// What a filter says of some entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chosen {
    /// Whether each of the entries is chosen, in their order.
    pub matches: Vec<bool>,
    /// Entries that are not chosen because the predicate failed on them.
    pub failed: u64,
    /// The last of these failures.
    pub failure: Option<Failure>,
}

/// A predicate that failed on an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The stream.
    pub stream: StreamId,
    /// The entry.
    pub seq: Seq,
    /// What happened. It has no value of the entry.
    pub problem: &'static str,
}

/// What a predicate says of one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is chosen.
    Match,
    /// It is not.
    NoMatch,
    /// The predicate has no value that says so.
    Failed(&'static str),
}

impl Filter {
    /// Entries whose subjects fit a pattern, and for which the predicate is true where there is one.
    #[must_use]
    pub const fn new(pattern: Pattern, predicate: Option<Predicate>) -> Self {
        Self { pattern, predicate }
    }

    /// Every entry.
    #[must_use]
    pub fn all() -> Self {
        Self::new(Pattern::all(), None)
    }

    /// The pattern, for a reader of the feed that can leave out others early.
    #[must_use]
    pub const fn pattern(&self) -> &Pattern {
        &self.pattern
    }

    /// Which of some entries are chosen. An entry that cannot be read is chosen, so that the relay finds the damage instead of passing it
    /// over. An entry on which the predicate fails is not chosen and is counted.
    ///
    /// Dropping the future does no harm.
    ///
    /// # Errors
    /// [`FilterError`] where the predicate gave no answer: nothing is known of the entries, and the call can be repeated.
    pub async fn choose(&self, entries: &[(StreamId, StoredEntry)]) -> Result<Chosen, FilterError> {
        let mut chosen = Chosen {
            matches: entries
                .iter()
                .map(|(stream, entry)| self.fits(stream, entry))
                .collect(),
            ..Chosen::default()
        };
        let Some(predicate) = &self.predicate else {
            return Ok(chosen);
        };
        let fitting: Vec<usize> = (0..entries.len()).filter(|&n| chosen.matches[n]).collect();
        let mut outcomes: Vec<Outcome> = Vec::with_capacity(fitting.len());
        while outcomes.len() < fitting.len() {
            let rest = fitting[outcomes.len()..].iter().map(|&n| entries[n].clone());
            outcomes.extend(predicate.evaluate(rest.collect()).await?);
        }
        for (n, outcome) in fitting.into_iter().zip(outcomes) {
            chosen.matches[n] = outcome == Outcome::Match;
            if let Outcome::Failed(problem) = outcome {
                chosen.failed += 1;
                let (stream, entry) = &entries[n];
                let (stream, seq) = (stream.clone(), entry.seq);
                chosen.failure = Some(Failure { stream, seq, problem });
            }
        }
        Ok(chosen)
    }

    fn fits(&self, stream: &StreamId, entry: &StoredEntry) -> bool {
        if self.pattern == Pattern::all() {
            return true;
        }
        kind(entry).map_or(true, |kind| self.pattern.matches(&Subject::new(stream, &kind)))
    }
}

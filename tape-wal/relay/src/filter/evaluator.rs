//! A thread that evaluates a predicate, so that neither its time nor its stack is that of the relay.
//!
//! An evaluation cannot be interrupted. What it may cost is bounded before, by [`fence`](super::fence) and [`cost`](super::cost). The time
//! limit here is the second line: a caller gives up, and nothing else is evaluated until the thread is done, so that a predicate never
//! occupies more than one thread.

use super::Outcome;
use std::io;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tape_core::codec::StoredEntry;
use tape_core::id::StreamId;
use tape_environment::Environment;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// The stack of the thread, in bytes. Evaluating calls itself as deep as the predicate is nested: 90 levels overflow 512 KiB in an optimised
/// build, and a debug build needs many times that. The memory is taken only as far as it is used.
const STACK_BYTES: usize = 16 * 1024 * 1024;
/// How long a caller waits for answers, unless told otherwise.
pub(crate) const TIME_LIMIT: Duration = Duration::from_secs(10);
/// How many times as long a caller waits for its turn.
const TURNS: u32 = 16;
/// After this time the thread gives the answers that it has, so that a large batch does not look like one that never ends.
const ANSWER_AFTER: Duration = Duration::from_secs(2);

/// Why a filter has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FilterError {
    /// An evaluation takes longer than the time limit. The relay must not pass the entry: it is tried again, and a person looks at the
    /// predicate where this repeats.
    #[error("the predicate of the filter has evaluated for {} ms without an answer: make it simpler", .limit.as_millis())]
    Overrun {
        /// The limit.
        limit: Duration,
    },
    /// The thread that evaluates is gone, which is a defect.
    #[error("the thread that evaluates the predicate of the filter ended")]
    Stopped,
}

type Entries = Vec<(StreamId, StoredEntry)>;

/// Evaluates one batch at a time in a thread of its own, which ends with the evaluator.
#[derive(Clone, Debug)]
pub(crate) struct Evaluator {
    jobs: mpsc::Sender<Job>,
    /// One permit, which a job has until the thread is done with it.
    idle: Arc<Semaphore>,
    limit: Duration,
}

struct Job {
    entries: Entries,
    answer: oneshot::Sender<Vec<Outcome>>,
    _busy: OwnedSemaphorePermit,
}

impl Evaluator {
    /// Starts a thread that evaluates entries by a function.
    ///
    /// # Errors
    /// That of the system, where it gives no thread.
    pub(crate) fn start(
        environment: Arc<dyn Environment>,
        limit: Duration,
        evaluate: impl FnMut(&StreamId, &StoredEntry) -> Outcome + Send + 'static,
    ) -> io::Result<Self> {
        let (jobs, todo) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("tape-filter".to_owned())
            .stack_size(STACK_BYTES);
        thread.spawn(move || work(&*environment, &todo, evaluate))?;
        let idle = Arc::new(Semaphore::new(1));
        Ok(Self { jobs, idle, limit })
    }

    /// The outcomes of the first of some entries, in order, at least of one.
    pub(crate) async fn evaluate(&self, entries: Entries) -> Result<Vec<Outcome>, FilterError> {
        let limit = self.limit;
        let overrun = |_| FilterError::Overrun { limit };
        // Several parts of a relay wait for their turn here, each for as long as the others may take.
        let turn = tokio::time::timeout(limit * TURNS, Arc::clone(&self.idle).acquire_owned()).await;
        let _busy = turn.map_err(overrun)?.map_err(|_| FilterError::Stopped)?;
        let work = async {
            let (answer, outcomes) = oneshot::channel();
            let job = Job {
                entries,
                answer,
                _busy,
            };
            self.jobs.send(job).map_err(|_| FilterError::Stopped)?;
            outcomes.await.map_err(|_| FilterError::Stopped)
        };
        tokio::time::timeout(limit, work).await.map_err(overrun)?
    }
}

fn work(
    environment: &dyn Environment,
    todo: &mpsc::Receiver<Job>,
    mut evaluate: impl FnMut(&StreamId, &StoredEntry) -> Outcome,
) {
    while let Ok(job) = todo.recv() {
        let begun = environment.elapsed();
        let mut outcomes = Vec::with_capacity(job.entries.len());
        for (stream, entry) in &job.entries {
            outcomes.push(evaluate(stream, entry));
            let over = environment.elapsed().saturating_sub(begun) > ANSWER_AFTER;
            if over || job.answer.is_closed() {
                break;
            }
        }
        // A caller that gave up does not want them.
        drop(job.answer.send(outcomes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::pen::Pen;
    use tape_core::payload::Payload;

    fn entries(n: usize) -> Entries {
        let mut pen = Pen::new("acme/value/rate");
        (0..n)
            .map(|_| (pen.stream().clone(), pen.put(Payload::empty())))
            .collect()
    }

    /// A function that waits for the test before each answer.
    fn gated(limit: Duration) -> (Evaluator, mpsc::Sender<()>, mpsc::Receiver<()>) {
        let (open, gate) = mpsc::channel();
        let (arrive, arrived) = mpsc::channel();
        let evaluate = move |_: &StreamId, _: &StoredEntry| {
            arrive.send(()).unwrap();
            gate.recv().map_or(Outcome::NoMatch, |()| Outcome::Match)
        };
        let evaluator = Evaluator::start(tape_environment::machine(), limit, evaluate).unwrap();
        (evaluator, open, arrived)
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_gives_up_and_one_thread_at_most_is_occupied() {
        let limit = TIME_LIMIT;
        let (evaluator, open, arrived) = gated(limit);
        // The clock of the test jumps to the limit, since nothing else is to be done.
        assert_eq!(
            evaluator.evaluate(entries(1)).await,
            Err(FilterError::Overrun { limit })
        );
        arrived.recv().unwrap();
        assert_eq!(
            evaluator.evaluate(entries(1)).await,
            Err(FilterError::Overrun { limit })
        );
        // The second batch was never begun.
        assert!(arrived.try_recv().is_err());
        tokio::time::resume();
        open.send(()).unwrap();
        open.send(()).unwrap();
        assert_eq!(evaluator.evaluate(entries(1)).await, Ok(vec![Outcome::Match]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_is_waited_for_as_long_as_the_others_before_may_take_and_no_longer() {
        let (evaluator, open, arrived) = gated(TIME_LIMIT);
        let overrun = Err(FilterError::Overrun { limit: TIME_LIMIT });
        let first = evaluator.evaluate(entries(1));
        assert_eq!(first.await, overrun);
        arrived.recv().unwrap();
        // The thread is busy with it: the next one waits for its turn.
        let begun = tokio::time::Instant::now();
        assert_eq!(evaluator.evaluate(entries(1)).await, overrun);
        assert_eq!(begun.elapsed(), TIME_LIMIT * TURNS);
        // A turn that comes before that time is over is taken.
        let waits = evaluator.evaluate(entries(1));
        let opens = async {
            tokio::time::sleep(TIME_LIMIT * (TURNS - 1)).await;
            tokio::time::resume();
            (0..2).for_each(|_| open.send(()).unwrap());
        };
        let (answer, ()) = tokio::join!(waits, opens);
        assert_eq!(answer, Ok(vec![Outcome::Match]));
    }

    #[tokio::test]
    async fn answers_come_in_order_and_the_thread_ends_with_its_evaluator() {
        let (evaluator, open, arrived) = gated(TIME_LIMIT);
        (0..3).for_each(|_| open.send(()).unwrap());
        assert_eq!(evaluator.evaluate(entries(3)).await, Ok(vec![Outcome::Match; 3]));
        drop(evaluator);
        let begun = std::iter::from_fn(|| arrived.recv().ok());
        assert_eq!(begun.count(), 3, "the channel closes when the thread ends");
    }

    #[tokio::test]
    async fn a_function_that_panics_ends_the_thread_and_says_so() {
        let evaluate = |_: &StreamId, _: &StoredEntry| -> Outcome { panic!("a test's own") };
        let evaluator = Evaluator::start(tape_environment::machine(), TIME_LIMIT, evaluate).unwrap();
        assert_eq!(evaluator.evaluate(entries(1)).await, Err(FilterError::Stopped));
    }
}

//! The one connection that writes, and how a group of batches becomes one transaction.

use super::connect::{MAY_WRITE, beside, writes_a_page, writes_much};
use super::error::{Poison, is_busy, is_definite, is_misfit};
use super::names::Names;
use super::place::Place;
use super::read;
use super::transaction::{self, Numbers, Sorted};
use crate::contract::{Batch, BatchId, CommitOutcome, Committed, StoreTime};
use crate::error::{CommitError, StoreError};
use crate::group::{Answer, admit};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tape_core::id::Seq;
use tape_environment::Environment;

/// How long SQLite waits for other processes between two tries to begin: it retries after 1 ms, 2 ms more and 5 ms more.
const TURN: Duration = Duration::from_millis(8);

/// Runs what begins a transaction, as soon as no other process writes. SQLite's own backoff grows up to 100 ms, however short the commits
/// of others are: of many writing processes, most would be asleep whenever the file is free.
macro_rules! in_turn {
    ($busy_timeout:expr, $begin:expr) => {{
        let give_up = std::time::Instant::now() + $busy_timeout;
        loop {
            match $begin.await {
                // Nothing was begun.
                Err(error)
                    if $crate::sqlite::error::is_busy(&error) && std::time::Instant::now() < give_up => {}
                begun => break begun,
            }
        }
    }};
}
pub(super) use in_turn;

/// Writes to the file. Other processes may commit in between: the condition in the statement decides.
#[derive(Debug)]
pub(super) struct Writer {
    options: SqliteConnectOptions,
    /// How long it waits for the commits of other processes.
    busy_timeout: Duration,
    connection: Option<SqliteConnection>,
    /// Whether the connection may have been left amid a transaction, by an error or by a dropped call.
    doubtful: bool,
    poison: Arc<Poison>,
    path: PathBuf,
    /// The log that the connection writes to. As long as there is a connection, SQLite leaves it where it is.
    log: Option<Place>,
}

/// A batch on its way.
pub(super) struct Candidate {
    /// Its place in the call.
    place: usize,
    pub(super) batch: Batch,
    /// The number of its stream, where it is known.
    pub(super) stream: Option<i64>,
}

impl Candidate {
    /// The name of its stream, where the number is not known.
    pub(super) fn name(&self) -> Option<String> {
        self.stream.is_none().then(|| self.batch.stream.to_string())
    }
}

impl Writer {
    pub(super) fn new(
        path: &Path,
        options: SqliteConnectOptions,
        busy_timeout: Duration,
        poison: Arc<Poison>,
    ) -> Self {
        Self {
            options,
            busy_timeout,
            connection: None,
            doubtful: false,
            poison,
            path: path.to_owned(),
            log: None,
        }
    }

    /// Refuses calls after a failure of the disk, or after the file is gone.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        self.poison.check_file()
    }

    /// The error for a failed write.
    pub(super) fn failed(&self, doing: &'static str, error: sqlx::Error) -> StoreError {
        self.poison.write_failed(doing, error)
    }

    pub(super) const fn busy_timeout(&self) -> Duration {
        self.busy_timeout
    }

    /// Commits batches in one transaction. Answers in their order.
    pub(super) async fn commit(&mut self, batches: Vec<Batch>, names: &Names) -> Vec<Answer> {
        let ids: Vec<BatchId> = batches.iter().map(|batch| batch.id).collect();
        let mut answers: Vec<Option<Answer>> = ids.iter().map(|_| None).collect();
        if let Err(error) = self.check() {
            refuse_open(&mut answers, &ids, true, error);
        }
        let batches = if answers.iter().all(Option::is_none) {
            admit(batches, &mut answers)
        } else {
            Vec::new()
        };
        if !batches.is_empty()
            && let Err(error) = self.commit_admitted(batches, names, &mut answers).await
        {
            let definite = is_definite(&error);
            refuse_open(&mut answers, &ids, definite, self.failed("commits", error));
            // An open transaction would hold up other processes.
            self.clear().await;
        }
        let answered = |answer: Option<Answer>| answer.expect("every batch of the group was answered");
        let mut answers: Vec<Answer> = answers.into_iter().map(answered).collect();
        if answers.iter().any(Result::is_ok)
            && let Err(error) = self.check_written()
        {
            doubt(&mut answers, &ids, &error);
        }
        answers
    }

    /// Checks that the paths still lead to the files just written, so that the next process to open them finds the write. Runs before every
    /// acknowledgement.
    pub(super) fn check_written(&mut self) -> Result<(), StoreError> {
        self.check()?;
        let log = self.log.as_mut().map_or(Ok(()), Place::settle);
        log.map_err(|lost| self.poison.lost("looks for its log", lost))
    }

    /// What became of a batch. No process writes while the batch is compared, and a transaction left open is rolled back: where nothing is
    /// at its place, nothing can arrive there later.
    pub(super) async fn resolve(&mut self, batch: &Batch) -> Result<CommitOutcome, StoreError> {
        const DOING: &str = "looks for a batch";
        self.check()?;
        let busy_timeout = self.busy_timeout;
        let connection = match self.connection().await {
            Ok(connection) => connection,
            Err(error) => return Err(self.failed(DOING, error)),
        };
        let compared = compare(connection, busy_timeout, batch).await;
        self.settled(matches!(compared, Ok(Ok(_)))).await;
        let fate = compared.map_err(|error| self.failed(DOING, error))??;
        self.check_written()?;
        Ok(fate.unwrap_or(CommitOutcome::NotCommitted))
    }

    /// Whether a commit would be taken: a page is written as by a commit; where there was no room lately, as much as by the largest one.
    pub(super) async fn probe(&mut self) -> Result<(), StoreError> {
        self.check()?;
        let busy_timeout = self.busy_timeout;
        let is_full = self.poison.is_full();
        let statement = if is_full { writes_much() } else { writes_a_page() };
        let probed = async {
            let connection = self.connection().await?;
            in_turn!(
                busy_timeout,
                connection.execute(sqlx::AssertSqlSafe(statement.as_str()))
            )
        };
        let probed = probed.await;
        self.settled(probed.is_ok()).await;
        probed.map_err(|error| self.failed("asks for room to write", error))?;
        if is_full {
            self.poison.has_room();
        }
        self.check_written()
    }

    /// Sets the time of the journal anew.
    pub(super) async fn set_time(&mut self, environment: &dyn Environment) -> Result<StoreTime, StoreError> {
        const DOING: &str = super::clock::DOING;
        self.check()?;
        let busy_timeout = self.busy_timeout;
        let begun = async {
            let connection = self.connection().await?;
            in_turn!(busy_timeout, connection.execute("BEGIN IMMEDIATE"))?;
            Ok(connection)
        };
        let connection = match begun.await {
            Ok(connection) => connection,
            Err(error) => return Err(self.failed(DOING, error)),
        };
        let time = super::clock::set(connection, environment).await?;
        let committed = connection.execute("COMMIT").await;
        committed.map_err(|error| self.failed(DOING, error))?;
        self.doubtful = false;
        Ok(time)
    }

    /// Writes the log to the file and empties it, unless a reader uses it for longer than a short turn. Returns whether it is empty.
    pub(super) async fn empty_log(&mut self) -> Result<bool, StoreError> {
        self.check()?;
        let emptied = async {
            let connection = self.connection().await?;
            connection.execute(MAY_WRITE).await?;
            let emptied = sqlx::query_scalar::<_, i64>("PRAGMA wal_checkpoint(TRUNCATE)");
            emptied.fetch_one(connection).await
        };
        let busy = match emptied.await {
            Err(error) if is_busy(&error) => 1,
            emptied => emptied.map_err(|error| self.failed("empties the log", error))?,
        };
        self.doubtful = false;
        Ok(busy == 0)
    }

    /// A number that changes with each commit of another connection, not with commits of this one.
    pub(super) async fn data_version(&mut self) -> Option<i64> {
        self.check().ok()?;
        let connection = self.connection().await.ok()?;
        let version = sqlx::query_scalar("PRAGMA data_version");
        let version = version.fetch_one(connection).await.ok()?;
        self.doubtful = false;
        Some(version)
    }

    /// The connection, outside any transaction. It counts as doubtful until the caller says otherwise.
    pub(super) async fn connection(&mut self) -> Result<&mut SqliteConnection, sqlx::Error> {
        if std::mem::replace(&mut self.doubtful, true) {
            self.clear().await;
        }
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let mut connection = self.options.connect().await?;
                wait_for(&mut connection, TURN).await?;
                self.log = Some(Place::of(beside(&self.path, "-wal")));
                connection
            }
        };
        Ok(self.connection.insert(connection))
    }

    /// Ends a transaction that the caller began. If it failed, a transaction left open must not block other processes.
    pub(super) async fn settled(&mut self, done: bool) {
        if done {
            self.doubtful = false;
        } else {
            self.clear().await;
        }
    }

    async fn clear(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.connection = clear(connection).await;
        }
    }

    async fn commit_admitted(
        &mut self,
        batches: Vec<(usize, Batch)>,
        names: &Names,
        answers: &mut [Option<Answer>],
    ) -> Result<(), sqlx::Error> {
        let candidate = |(place, batch): (usize, Batch)| Candidate {
            place,
            stream: names.get(&batch.stream),
            batch,
        };
        let candidates: Vec<_> = batches.into_iter().map(candidate).collect();
        let busy_timeout = self.busy_timeout;
        let connection = self.connection().await?;
        let sorted = match transaction::commit_all(connection, busy_timeout, &candidates).await {
            Ok(numbers) => Sorted {
                committed: candidates,
                refused: Vec::new(),
                numbers,
            },
            Err(error) if is_misfit(&error) => {
                let connection = self.connection().await?;
                transaction::commit_fitting(connection, busy_timeout, candidates).await?
            }
            Err(error) => return Err(error),
        };
        self.doubtful = false;
        answer(sorted, names, answers);
        Ok(())
    }
}

fn answer(sorted: Sorted, names: &Names, answers: &mut [Option<Answer>]) {
    for candidate in sorted.committed {
        note(&candidate, &sorted.numbers, names);
        let seq = candidate.batch.last();
        answers[candidate.place] = Some(Ok(Committed { seq }));
    }
    for (candidate, error) in sorted.refused {
        answers[candidate.place] = Some(Err(error));
    }
}

/// Remembers the number of a stream that has a durable entry.
fn note(candidate: &Candidate, numbers: &Numbers, names: &Names) {
    let stream = &candidate.batch.stream;
    let begun = || numbers.get(&stream.to_string()).copied();
    if let Some(number) = candidate.stream.or_else(begun) {
        names.put(stream, number);
    }
}

/// Turns acknowledgements into unknown outcomes: what was committed may be lost. A later `resolve` answers from the file that is there
/// then.
fn doubt(answers: &mut [Answer], ids: &[BatchId], error: &StoreError) {
    for (answer, id) in answers.iter_mut().zip(ids) {
        if answer.is_ok() {
            *answer = Err(CommitError::outcome_unknown(*id, error.clone()));
        }
    }
}

/// Compares a batch with what its stream has at its place, within a transaction; none where nothing is there.
async fn compare(
    connection: &mut SqliteConnection,
    busy_timeout: Duration,
    batch: &Batch,
) -> Result<Result<Option<CommitOutcome>, StoreError>, sqlx::Error> {
    in_turn!(busy_timeout, connection.execute("BEGIN IMMEDIATE"))?;
    let before = Seq(batch.last().0.saturating_sub(1));
    let read = async {
        let head = read::head(&mut *connection, &batch.stream).await?;
        let entry = read::entries(&mut *connection, &batch.stream, before, 1).await?;
        let end = head.map_or(Seq::ZERO, |head| head.seq);
        Ok(batch.compare(end, entry.first()).outcome(batch))
    };
    let read = read.await;
    connection.execute("ROLLBACK").await?;
    Ok(read)
}

/// Answers all batches that have no answer yet with the error.
fn refuse_open(answers: &mut [Option<Answer>], ids: &[BatchId], definite: bool, error: StoreError) {
    for (answer, id) in answers.iter_mut().zip(ids) {
        answer.get_or_insert_with(|| {
            Err(if definite {
                CommitError::Store(error.clone())
            } else {
                CommitError::outcome_unknown(*id, error.clone())
            })
        });
    }
}

/// Ends a transaction that may be open; none where the connection can no longer be used. A command that its caller abandoned is over when
/// this returns, since a connection runs one command after the other.
async fn clear(mut connection: SqliteConnection) -> Option<SqliteConnection> {
    match connection.execute("ROLLBACK").await {
        Ok(_) => Some(connection),
        Err(error) if super::error::is_no_transaction(&error) => Some(connection),
        Err(_) => {
            // Closing waits for the thread beneath; an error of closing does not matter.
            let _ = connection.close().await;
            None
        }
    }
}

/// How long SQLite itself waits for others.
async fn wait_for(connection: &mut SqliteConnection, busy_timeout: Duration) -> Result<(), sqlx::Error> {
    let statement = format!("PRAGMA busy_timeout = {}", busy_timeout.as_millis());
    connection.execute(sqlx::AssertSqlSafe(statement)).await.map(drop)
}

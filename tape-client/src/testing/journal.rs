//! The journal as one process sees it, until it dies.

use super::course::Course;
use super::disturbance::Disturbance;
use async_trait::async_trait;
use std::future::pending;
use std::sync::Arc;
use tape_api::{Journal, JournalError, Layer};
use tape_core::command::{Command, Rewind, RunCommand, SessionCommand, ValueCommand};
use tape_core::erasure::Erasure;
use tape_core::id::{RunId, Seq, SessionId, StreamId, Tenant, ValueName};
use tape_core::reply::Reply;
use tape_engine::Engine;
use tokio::sync::watch;

/// A layer over the engine for one process. A process that has died writes nothing any more.
#[derive(Clone, Debug)]
pub(super) struct Mortal {
    engine: Engine,
    course: Arc<Course>,
    dead: watch::Sender<bool>,
}

impl Mortal {
    pub(super) fn new(engine: Engine, course: Arc<Course>) -> Self {
        Self {
            engine,
            course,
            dead: watch::Sender::new(false),
        }
    }

    /// Ends the process.
    pub(super) fn die(&self) {
        self.dead.send_replace(true);
    }

    /// Completes once the process is dead.
    pub(super) async fn died(&self) {
        let mut dead = self.dead.subscribe();
        // The sender lives as long as this.
        let _ = dead.wait_for(|dead| *dead).await;
    }

    async fn write<T>(&self, sent: impl Future<Output = Result<T, JournalError>>) -> Result<T, JournalError> {
        if *self.dead.borrow() {
            return pending().await;
        }
        match self.course.write() {
            Disturbance::KilledBeforeWrite(_) => {
                self.die();
                pending().await
            }
            Disturbance::KilledAfterWrite(_) => {
                let _ = sent.await;
                self.die();
                pending().await
            }
            Disturbance::WriteLost(_) => Err(JournalError::Unavailable("the request was lost".into())),
            Disturbance::WriteAnswerLost(_) => {
                sent.await?;
                Err(JournalError::Unavailable("the answer was lost".into()))
            }
            _ => sent.await,
        }
    }
}

#[async_trait]
impl Layer for Mortal {
    fn inner(&self) -> &dyn Journal {
        &self.engine
    }

    async fn run(&self, run: &RunId, command: Command<RunCommand>) -> Result<Reply, JournalError> {
        self.write(Journal::run(&self.engine, run, command)).await
    }

    async fn session(
        &self,
        session: &SessionId,
        command: Command<SessionCommand>,
    ) -> Result<Reply, JournalError> {
        self.write(Journal::session(&self.engine, session, command)).await
    }

    async fn rewind(&self, session: &SessionId, to: Command<Rewind>) -> Result<Reply, JournalError> {
        self.write(Journal::rewind(&self.engine, session, to)).await
    }

    async fn value(
        &self,
        tenant: &Tenant,
        name: &ValueName,
        command: Command<ValueCommand>,
    ) -> Result<Reply, JournalError> {
        self.write(Journal::value(&self.engine, tenant, name, command))
            .await
    }

    async fn erase(&self, stream: &StreamId, command: Command<Erasure>) -> Result<Seq, JournalError> {
        self.write(Journal::erase(&self.engine, stream, command)).await
    }
}

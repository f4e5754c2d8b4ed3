//! A journal that a test meddles with.

use crate::world::World;
use async_trait::async_trait;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;
use tape_api::query::Versioned;
use tape_api::relays::{ClaimAnswer, Control, Controlled, MoveAnswer, PlacePage, PlaceQuery};
use tape_api::{Journal, JournalError, Layer, Relays};
use tape_core::command::{Command, RelayCommand, RunCommand};
use tape_core::id::{Epoch, Holder, RelayId, RelayPart, RelayStream, RunId, Tenant, ValueName};
use tape_core::relay::Progress;
use tape_core::reply::{Field, Rejection, Reply};
use tape_core::time::Timestamp;
use tape_environment::Environment;
use tokio::sync::watch;

#[derive(Debug)]
pub(crate) struct Meddled {
    inner: Arc<dyn Journal>,
    environment: Arc<dyn Environment>,
    /// Whether it refuses the labels that a run has from a reaction, as servers of earlier builds do.
    pub(crate) knows_no_reactions: AtomicBool,
    /// The value that cannot be read.
    damaged: Option<ValueName>,
    /// Whether the next call that claims or forgets a part is held.
    holds: watch::Sender<bool>,
    /// Whether one is held now.
    held: watch::Sender<bool>,
}

impl Meddled {
    pub(crate) fn of(world: &World) -> Self {
        Self {
            environment: world.engine.environment(),
            inner: world.journal(),
            knows_no_reactions: AtomicBool::new(false),
            damaged: None,
            holds: watch::Sender::new(false),
            held: watch::Sender::new(false),
        }
    }

    /// The clock on the wall of its process is wrong by so many milliseconds.
    pub(crate) fn with_clock(self, wrong_by_ms: i64) -> Self {
        let environment = Arc::new(WrongClock {
            right: self.environment,
            wrong_by_ms,
        });
        Self { environment, ..self }
    }

    /// A value cannot be read.
    pub(crate) fn with_damage_of(self, value: ValueName) -> Self {
        Self {
            damaged: Some(value),
            ..self
        }
    }

    /// Holds the next call that claims or forgets a part, until [`Meddled::let_go`].
    pub(crate) fn hold(&self) {
        self.holds.send_replace(true);
    }

    pub(crate) async fn has_held(&self) {
        self.held.subscribe().wait_for(|held| *held).await.unwrap();
    }

    pub(crate) fn let_go(&self) {
        self.holds.send_replace(false);
    }

    async fn wait(&self) {
        if *self.holds.borrow() {
            self.held.send_replace(true);
            self.holds.subscribe().wait_for(|holds| !holds).await.unwrap();
        }
    }
}

#[async_trait]
impl Layer for Meddled {
    fn inner(&self) -> &dyn Journal {
        self.inner.as_ref()
    }

    fn environment(&self) -> Arc<dyn Environment> {
        Arc::clone(&self.environment)
    }

    async fn run(&self, run: &RunId, command: Command<RunCommand>) -> Result<Reply, JournalError> {
        if self.knows_no_reactions.load(SeqCst)
            && let RunCommand::Begin(begin) = &command.body
            && begin
                .create
                .as_ref()
                .is_some_and(|create| !create.labels.is_empty())
        {
            let problem = "'tape.reaction' is a name of the journal's own".to_owned();
            let field = Field::Label;
            return Err(Rejection::Invalid { field, problem }.into());
        }
        self.inner.run(run, command).await
    }

    async fn value_state(
        &self,
        tenant: &Tenant,
        name: &ValueName,
    ) -> Result<Option<Versioned>, JournalError> {
        if self.damaged.as_ref() == Some(name) {
            return Err(JournalError::damaged("its entries cannot be read"));
        }
        self.inner.value_state(tenant, name).await
    }

    fn relays(&self) -> &dyn Relays {
        self
    }
}

#[async_trait]
impl Relays for Meddled {
    async fn claim(
        &self,
        part: &RelayPart,
        holder: &Holder,
        lease: Duration,
    ) -> Result<ClaimAnswer, JournalError> {
        self.wait().await;
        self.inner.relays().claim(part, holder, lease).await
    }

    async fn advance(
        &self,
        part: &RelayPart,
        epoch: Epoch,
        progress: Progress,
        lease: Duration,
    ) -> Result<MoveAnswer, JournalError> {
        self.inner.relays().advance(part, epoch, progress, lease).await
    }

    async fn release(&self, part: &RelayPart, epoch: Epoch) -> Result<(), JournalError> {
        self.inner.relays().release(part, epoch).await
    }

    async fn places(
        &self,
        query: &PlaceQuery,
        from: Option<&str>,
        limit: u32,
    ) -> Result<PlacePage, JournalError> {
        self.inner.relays().places(query, from, limit).await
    }

    async fn control(&self, relay: &RelayId, control: &Control) -> Result<Controlled, JournalError> {
        self.wait().await;
        self.inner.relays().control(relay, control).await
    }

    async fn forget_record(&self, name: &str) -> Result<bool, JournalError> {
        self.inner.relays().forget_record(name).await
    }

    async fn record(
        &self,
        stream: &RelayStream,
        command: Command<RelayCommand>,
    ) -> Result<Reply, JournalError> {
        self.inner.relays().record(stream, command).await
    }
}

#[derive(Debug)]
struct WrongClock {
    right: Arc<dyn Environment>,
    wrong_by_ms: i64,
}

impl Environment for WrongClock {
    fn wall(&self) -> Timestamp {
        Timestamp::from_micros(self.right.wall().as_micros() + self.wrong_by_ms * 1_000)
    }

    fn elapsed(&self) -> Duration {
        self.right.elapsed()
    }

    fn boot(&self) -> Option<String> {
        self.right.boot()
    }

    fn process(&self) -> u32 {
        self.right.process()
    }

    fn random(&self) -> u128 {
        self.right.random()
    }
}

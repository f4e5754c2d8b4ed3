//! Carries the reactions of some tenants, as their definitions come and go.

use super::defined::incarnation;
use super::{Definition, Reaction, reaction_of, relay_id};
use crate::{Incarnation, Running, Settings};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tape_api::query::{ValueQuery, ValueSummary};
use tape_api::relays::{ClaimAnswer, Control};
use tape_api::{Journal, JournalError};
use tape_core::causes::Causes;
use tape_core::id::{Holder, ReactionName, RelayId, RelayPart, Tenant, ValueName};
use tape_core::outage::Outage;
use tape_core::reaction;
use tape_core::relay::Held;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How often definitions are looked at, unless told otherwise.
pub const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Most reactions of one tenant. Each follows the feed by itself.
pub const REACTIONS_MAX: usize = 256;
/// Most definitions, removed ones too, that are looked at of one tenant.
const DEFINITIONS_MAX: usize = 16 * REACTIONS_MAX;
/// Definitions in a page of a list.
const PAGE: u32 = 256;
/// How often the log repeats that the definitions cannot be read.
const SAID_AGAIN: Duration = Duration::from_secs(60);

/// The reactions that a process carries, beside others that carry the same.
#[derive(Debug)]
pub struct Reactions {
    shared: Arc<Shared>,
    stop: CancellationToken,
    /// Cancelled once the task is gone.
    ended: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

/// What became of the definitions that a process knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReactionCounts {
    /// Reactions that it carries, or stands by to carry.
    pub carried: u64,
    /// Reactions that rest.
    pub paused: u64,
    /// Definitions that are not valid. The log says why.
    pub invalid: u64,
    /// How often it looked at the definitions of all its tenants.
    pub looks: u64,
}

#[derive(Debug, Default)]
struct Shared {
    known: Mutex<BTreeMap<RelayId, Known>>,
    looks: AtomicU64,
}

/// A definition that was looked at.
#[derive(Debug)]
struct Known {
    version: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    Carried(Arc<Running>),
    Paused,
    Invalid,
    /// There is no room for it until another one is removed.
    TooMany,
    Removed,
}

impl Reactions {
    /// Starts carrying the reactions of tenants under the name `holder`, which no other process has. Definitions are looked at each `every`.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn start(
        journal: Arc<dyn Journal>,
        holder: Holder,
        tenants: Vec<Tenant>,
        settings: Settings,
        every: Duration,
    ) -> Self {
        let (stop, ended) = (CancellationToken::new(), CancellationToken::new());
        let shared = Arc::new(Shared::default());
        let carrier = Carrier {
            journal,
            holder,
            settings,
            shared: Arc::clone(&shared),
        };
        let (told, end) = (stop.clone(), ended.clone().drop_guard());
        let task = tokio::spawn(async move {
            carrier.follow(&tenants, every, &told).await;
            drop(end);
        });
        Self {
            shared,
            stop,
            ended,
            task,
        }
    }

    /// The relays of the reactions that it carries now.
    #[must_use]
    pub fn running(&self) -> Vec<(RelayId, Arc<Running>)> {
        let known = self.shared.known();
        let running = known.iter().filter_map(|(relay, known)| match &known.state {
            State::Carried(running) => Some((relay.clone(), Arc::clone(running))),
            _ => None,
        });
        running.collect()
    }

    /// What became of the definitions.
    #[must_use]
    pub fn counts(&self) -> ReactionCounts {
        let looks = self.shared.looks.load(Relaxed);
        let mut counts = ReactionCounts {
            looks,
            ..ReactionCounts::default()
        };
        for known in self.shared.known().values() {
            match known.state {
                State::Carried(_) => counts.carried += 1,
                State::Paused => counts.paused += 1,
                State::Invalid | State::TooMany => counts.invalid += 1,
                State::Removed => {}
            }
        }
        counts
    }

    /// Looks at definitions no more, and gives all reactions back, so that other processes take over at once.
    pub async fn drain(&self) {
        self.stop.cancel();
        self.ended.cancelled().await;
        let running = self.running();
        futures::future::join_all(running.iter().map(|(_, running)| running.drain())).await;
    }
}

impl Drop for Reactions {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn known(&self) -> std::sync::MutexGuard<'_, BTreeMap<RelayId, Known>> {
        self.known
            .lock()
            .expect("nothing panics while it holds the reactions")
    }
}

struct Carrier {
    journal: Arc<dyn Journal>,
    holder: Holder,
    settings: Settings,
    shared: Arc<Shared>,
}

impl Carrier {
    async fn follow(&self, tenants: &[Tenant], every: Duration, stop: &CancellationToken) {
        let mut outage = Outage::new(SAID_AGAIN);
        loop {
            let looked = async {
                let mut looked = Ok(());
                for tenant in tenants {
                    looked = one_after_another(looked, self.look(tenant).await)?;
                }
                looked
            };
            let looked = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                looked = looked => looked,
            };
            let now = Instant::now().into_std();
            match looked {
                Ok(()) => {
                    self.shared.looks.fetch_add(1, Relaxed);
                    if let Some(spell) = outage.back(now) {
                        tracing::info!(%spell, "the reactions are looked at again");
                    }
                }
                Err(error) => {
                    let error = Causes(&error).to_string();
                    if let Some(spell) = outage.lost(now, &error) {
                        tracing::warn!(error, %spell, "the reactions cannot be looked at; trying again");
                    }
                }
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(every) => {}
            }
        }
    }

    /// Does what the definitions of a tenant say that changed since the last look.
    async fn look(&self, tenant: &Tenant) -> Result<(), JournalError> {
        let mut looked = Ok(());
        for found in self.list(tenant).await? {
            let Some(name) = reaction_of(&found.name) else {
                continue;
            };
            let relay = relay_id(tenant, &name);
            // A list that a server answered late may be older than what is known.
            let is_full = self.carries_too_many(tenant);
            let is_done = |known: &Known| {
                known.version >= found.version && (is_full || !matches!(known.state, State::TooMany))
            };
            let is_known = self.shared.known().get(&relay).is_some_and(is_done);
            if !is_known {
                looked = one_after_another(looked, self.change(tenant, &name, &relay, &found).await)?;
            }
        }
        looked
    }

    async fn list(&self, tenant: &Tenant) -> Result<Vec<ValueSummary>, JournalError> {
        let prefix = ValueName::new(reaction::VALUES).map_err(JournalError::damaged)?;
        let query = ValueQuery {
            tenant: tenant.clone(),
            prefix: Some(prefix),
        };
        let (mut all, mut from) = (Vec::new(), None);
        loop {
            let page = self.journal.values(&query, from.as_deref(), PAGE).await?;
            for damaged in page.damaged {
                tracing::error!(stream = %damaged.stream, problem = damaged.problem, "a definition cannot be read");
            }
            all.extend(page.values);
            from = page.next;
            if all.len() > DEFINITIONS_MAX {
                tracing::error!(%tenant, limit = DEFINITIONS_MAX, "the tenant has more definitions than are looked at");
                return Ok(all);
            }
            if from.is_none() {
                return Ok(all);
            }
        }
    }

    async fn change(
        &self,
        tenant: &Tenant,
        name: &ReactionName,
        relay: &RelayId,
        found: &ValueSummary,
    ) -> Result<(), JournalError> {
        let Some(value) = self.journal.value_state(tenant, &found.name).await? else {
            return Ok(());
        };
        self.rest(relay).await;
        let state = match &value.value {
            None => {
                self.forget(relay, Incarnation(value.version)).await?;
                tracing::info!(%relay, "the reaction is removed");
                State::Removed
            }
            Some(definition) => match Definition::read(tenant, definition) {
                Ok(definition) => self.state(&Reaction {
                    tenant: tenant.clone(),
                    name: name.clone(),
                    definition,
                    incarnation: incarnation(self.journal.as_ref(), tenant, &found.name, value.version)
                        .await?,
                }),
                Err(invalid) => {
                    tracing::error!(%relay, problem = %Causes(&invalid), "the reaction is not valid, and is not carried");
                    State::Invalid
                }
            },
        };
        let version = value.version;
        self.shared
            .known()
            .insert(relay.clone(), Known { version, state });
        Ok(())
    }

    /// Forgets the place of a reaction that was removed, unless it is that of one that was added under the name since: `next` is the first that
    /// can be. While this process has the part, no other begins there. Where another has it, that one learns of the removal too; and the place
    /// that it leaves behind if it dies is forgotten by the one that is added next.
    async fn forget(&self, relay: &RelayId, next: Incarnation) -> Result<(), JournalError> {
        let relays = self.journal.relays();
        let part = RelayPart {
            relay: relay.clone(),
            part: 0,
        };
        match relays.claim(&part, &self.holder, self.settings.lease).await? {
            ClaimAnswer::Claimed { epoch, place } => {
                let is_later = Incarnation::of(&place).is_some_and(|of| of >= next);
                if is_later {
                    relays.release(&part, epoch).await
                } else {
                    relays.control(relay, &Control::Forget).await.map(drop)
                }
            }
            ClaimAnswer::Held(Held::Disabled(_)) => relays.control(relay, &Control::Forget).await.map(drop),
            ClaimAnswer::Held(_) => Ok(()),
        }
    }

    /// Stops carrying a reaction as it was. Its place stays.
    async fn rest(&self, relay: &RelayId) {
        let before = match self.shared.known().get(relay).map(|known| &known.state) {
            Some(State::Carried(running)) => Arc::clone(running),
            _ => return,
        };
        before.drain().await;
    }

    fn state(&self, reaction: &Reaction) -> State {
        let relay = relay_id(&reaction.tenant, &reaction.name);
        if reaction.definition.paused {
            tracing::info!(%relay, "the reaction rests");
            return State::Paused;
        }
        if self.carries_too_many(&reaction.tenant) {
            tracing::error!(%relay, limit = REACTIONS_MAX, "the tenant has too many reactions; this one is not carried");
            return State::TooMany;
        }
        match reaction.relay(&self.journal, &self.holder, self.settings) {
            Ok(carried) => {
                let running = carried.start(Arc::clone(&self.journal), self.holder.clone());
                State::Carried(Arc::new(running))
            }
            Err(invalid) => {
                tracing::error!(%relay, problem = %Causes(&invalid), "the reaction is not valid, and is not carried");
                State::Invalid
            }
        }
    }

    fn carries_too_many(&self, tenant: &Tenant) -> bool {
        let known = self.shared.known();
        let of = known.iter().filter(|(relay, known)| {
            relay.tenant.as_ref() == Some(tenant) && matches!(known.state, State::Carried(_))
        });
        of.count() >= REACTIONS_MAX
    }
}

/// What came of two looks, where the second one was made after the first: where the journal is out of reach nothing more is looked at, and what
/// is wrong with one definition holds up no other.
///
/// # Errors
/// That the journal is out of reach.
fn one_after_another(
    before: Result<(), JournalError>,
    looked: Result<(), JournalError>,
) -> Result<Result<(), JournalError>, JournalError> {
    match looked {
        Err(error @ JournalError::Unavailable(_)) => Err(error),
        looked => Ok(before.and(looked)),
    }
}

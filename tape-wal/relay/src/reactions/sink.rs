//! A reaction as the sink of a relay.

use super::act::{Actor, payload};
use super::ancestry::{Ancestry, Leads};
use super::bounds::{Bounds, Room};
use super::clock::Clock;
use super::debounce::Debounce;
use super::definition::{Definition, InvalidDefinition, Target, Then, relay_id};
use super::names::Names;
use super::order::Order;
use super::{Reaction, format};
use crate::by_stream::by_stream;
use crate::event::Event;
use crate::filter::Filter;
use crate::sink::{Sink, SinkError};
use crate::{Relay, Settings};
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::sync::Arc;
use tape_api::Journal;
use tape_core::id::{App, Holder, Key, ReactionName, RunId, StreamId, Tenant, User};
use tape_core::payload::Payload;
use tape_core::reaction::{self, Origin};
use tape_core::time::Timestamp;

/// Streams whose events are reacted to at once.
const STREAMS_AT_ONCE: usize = 16;

/// Reacts to events, each once: what it does has names that follow from the event.
#[derive(Debug)]
pub(super) struct ReactionSink {
    reaction: ReactionName,
    then: Then,
    actor: Actor,
    ancestry: Ancestry,
    bounds: Bounds,
    clock: Arc<Clock>,
    debounce: Option<Debounce>,
}

impl ReactionSink {
    /// The sink of a reaction whose definition was read of its tenant.
    pub(super) fn new(
        journal: &Arc<dyn Journal>,
        holder: Holder,
        (tenant, reaction): (Tenant, ReactionName),
        definition: &Definition,
        filter: Filter,
    ) -> Self {
        let clock = Arc::new(Clock::new(journal.environment()));
        let debounce = definition.debounce_ms.map(|millis| Debounce {
            journal: Arc::clone(journal),
            clock: Arc::clone(&clock),
            filter,
            millis,
        });
        Self {
            then: definition.then.clone(),
            actor: Actor {
                journal: Arc::clone(journal),
                holder,
                clock: Arc::clone(&clock),
            },
            ancestry: Ancestry::new(Arc::clone(journal), reaction.clone(), definition.repeats),
            bounds: Bounds::new(
                (Arc::clone(journal), Arc::clone(&clock)),
                (tenant, reaction.clone()),
                definition,
            ),
            clock,
            debounce,
            reaction,
        }
    }

    async fn react(&self, event: &Event, later: &[Event], room: &Room) -> Result<(), SinkError> {
        // What is on record of a relay may be a refusal of this very reaction.
        if matches!(event.stream(), StreamId::Relay(_)) {
            return Ok(());
        }
        if let Some(debounce) = &self.debounce
            && !debounce.counts(event, later).await?
        {
            return Ok(());
        }
        match &self.then {
            Then::Begin { app, user, labels } => {
                let begun = Begun {
                    app,
                    user: user.as_ref(),
                    labels,
                };
                self.begin(event, begun, room, payload).await
            }
            Then::Outbox {
                connector,
                operation,
                non_idempotent,
                request,
            } => {
                let app = App::new(reaction::APP).map_err(SinkError::refused)?;
                let begun = Begun {
                    app: &app,
                    user: None,
                    labels: &BTreeMap::new(),
                };
                let order = |event: &Event| {
                    let names = Names::new(&self.reaction, event.stream(), event.seq());
                    let order = Order {
                        connector: connector.clone(),
                        operation: operation.clone(),
                        business_key: names.business_key(),
                        non_idempotent: *non_idempotent,
                        request: Order::request(request.as_deref(), event)?,
                    };
                    order.input()
                };
                self.begin(event, begun, room, order).await
            }
            Then::Signal { gate, run } => {
                let run = signalled(event, run)?;
                let names = Names::new(&self.reaction, event.stream(), event.seq());
                self.actor.signal(run, gate, &names, payload(event)?).await
            }
        }
    }

    async fn begin(
        &self,
        event: &Event,
        begun: Begun<'_>,
        room: &Room,
        input: impl FnOnce(&Event) -> Result<Payload, SinkError>,
    ) -> Result<(), SinkError> {
        let names = Names::new(&self.reaction, event.stream(), event.seq());
        let run = names.run(begun.app, begun.user);
        if self.actor.is_begun(&run).await? {
            self.bounds.answered(&run);
            return Ok(());
        }
        let Leads::To(depth) = self.ancestry.of_event(event).await? else {
            return Ok(());
        };
        let origin = Origin {
            reaction: self.reaction.clone(),
            depth,
            cause: event.id().to_owned(),
        };
        let mut labels = begun.labels.clone();
        labels.extend(origin.labels());
        let input = input(event)?;
        self.bounds.take(room, &run).await?;
        let answer = self.actor.begin(&run, labels, input).await;
        if !matches!(answer, Err(SinkError::Unavailable { .. })) {
            self.bounds.answered(&run);
        }
        answer
    }
}

/// What a run is begun as.
struct Begun<'a> {
    app: &'a App,
    user: Option<&'a User>,
    labels: &'a BTreeMap<Key, String>,
}

#[async_trait]
impl Sink for ReactionSink {
    fn claimed(&self, at: Timestamp) {
        self.clock.learn(at);
    }

    async fn deliver(&self, events: &[Event]) -> Vec<Result<(), SinkError>> {
        let room = Room::default();
        let numbered: BTreeMap<&str, usize> = events
            .iter()
            .enumerate()
            .map(|(n, event)| (event.id(), n))
            .collect();
        by_stream(events, STREAMS_AT_ONCE, |event| {
            let after = numbered.get(event.id()).map_or(events.len(), |n| n + 1);
            self.react(event, &events[after..], &room)
        })
        .await
    }
}

fn signalled<'a>(event: &'a Event, target: &'a Target) -> Result<&'a RunId, SinkError> {
    match (target, event.stream()) {
        (Target::Run(run), _) | (Target::Same, StreamId::Run(run)) => Ok(run),
        (Target::Same, stream) => Err(SinkError::refused(format!(
            "the reaction signals the run of the event, and {stream} is no run"
        ))),
    }
}

impl Reaction {
    /// The relay that carries the reaction, for a process of a name. The definition says where it begins, and it is carried as one part.
    ///
    /// # Errors
    /// [`InvalidDefinition`] where the predicate does not compile.
    pub fn relay(
        &self,
        journal: &Arc<dyn Journal>,
        holder: &Holder,
        settings: Settings,
    ) -> Result<Relay, InvalidDefinition> {
        let filter = self.definition.filter(&journal.environment())?;
        let sink = ReactionSink::new(
            journal,
            holder.clone(),
            (self.tenant.clone(), self.name.clone()),
            &self.definition,
            filter.clone(),
        );
        Ok(Relay {
            id: relay_id(&self.tenant, &self.name),
            filter,
            format: format(),
            sink: Arc::new(sink),
            settings: self.settings(settings),
        })
    }
}

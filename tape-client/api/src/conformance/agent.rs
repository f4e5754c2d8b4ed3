//! An agent that drives a run, command by command.

use crate::{Journal, JournalError};
use std::collections::BTreeMap;
use std::sync::Arc;
use tape_core::command::{Begin, Command, Create, DriverCommand, RecordDecision, RunCommand, WorkerCommand};
use tape_core::effect::{EffectPolicy, EffectSpec, Mode, Semantics, Undo};
use tape_core::entry::decision::Usage;
use tape_core::fingerprint::Fingerprint;
use tape_core::id::{
    BusinessKey, ConnectorName, EffectId, Epoch, Holder, Key, Operation, Position, RunId, Scope, StreamId,
    Tenant,
};
use tape_core::payload::Payload;
use tape_core::reply::{Reply, ReplyResult};
use tape_core::time::Deadline;

pub(super) fn run_id(tenant: &str, name: &str) -> RunId {
    RunId::new(tenant, "app", "user", "session", name).unwrap()
}

pub(super) fn text(text: &str) -> Payload {
    Payload::new("text/plain", text.to_owned()).unwrap()
}

pub(super) fn holder(name: &str) -> Holder {
    Holder::new(name).unwrap()
}

/// Tenants whose names begin with each other, and whose escaped names look like each other's names.
pub(super) const TENANTS: [&str; 4] = ["a", "ab", "a/b", "a%2Fb"];

pub(super) fn tenant(name: &str) -> Tenant {
    Tenant::new(name).unwrap()
}

pub(super) fn begin(run: &RunId, topic: &str) -> RunCommand {
    begin_as(run, topic, "driver")
}

fn begin_as(run: &RunId, topic: &str, driver: &str) -> RunCommand {
    RunCommand::Begin(Begin {
        run: run.clone(),
        create: Some(Create {
            labels: BTreeMap::from([(Key::new("topic").unwrap(), topic.to_owned())]),
            input: text("go"),
            forked_from: None,
        }),
        holder: holder(driver),
        lease_ms: 600_000,
        adopt: None,
        recovery: false,
    })
}

pub(super) async fn ask(
    journal: &Arc<dyn Journal>,
    run: &RunId,
    body: RunCommand,
) -> Result<Reply, JournalError> {
    let command = Command::new(journal.request_id(), body);
    journal.run(run, command).await
}

/// A run that is driven.
#[derive(Clone, Debug)]
pub(super) struct Driven {
    pub(super) journal: Arc<dyn Journal>,
    pub(super) run: RunId,
    epoch: Epoch,
}

impl Driven {
    pub(super) async fn begin(journal: &Arc<dyn Journal>, run: RunId, topic: &str) -> Self {
        Self::begin_as(journal, run, topic, "driver").await
    }

    pub(super) async fn begin_as(journal: &Arc<dyn Journal>, run: RunId, topic: &str, driver: &str) -> Self {
        let reply = ask(journal, &run, begin_as(&run, topic, driver)).await.unwrap();
        let ReplyResult::Leased { epoch, .. } = reply.result else {
            panic!("it was not begun: {reply:?}");
        };
        Self {
            journal: journal.clone(),
            run,
            epoch,
        }
    }

    pub(super) fn stream(&self) -> StreamId {
        StreamId::Run(self.run.clone())
    }

    pub(super) async fn drive(&self, command: DriverCommand) -> Reply {
        let command = RunCommand::Drive(self.epoch, command);
        ask(&self.journal, &self.run, command).await.unwrap()
    }

    /// Lets the run wait without a driver.
    pub(super) async fn suspend(&self) {
        let (seen, _) = self.journal.head(&self.run).await.unwrap().unwrap();
        let resume = Some(Deadline::InMs(600_000));
        self.drive(DriverCommand::Suspend { seen, resume }).await;
    }

    pub(super) async fn work(&self, command: WorkerCommand) -> Reply {
        ask(&self.journal, &self.run, RunCommand::Work(command))
            .await
            .unwrap()
    }

    pub(super) async fn decide(&self) -> Reply {
        self.drive(DriverCommand::RecordDecision(RecordDecision {
            position: first(),
            fingerprint: Fingerprint::of_bytes(b"asked"),
            response: text("answered"),
            model: "m".to_owned(),
            usage: Usage::default(),
            rationale: None,
            policy_version: String::new(),
            spent: Vec::new(),
        }))
        .await
    }

    /// Begins an effect that a worker carries out and that can be undone.
    pub(super) async fn effect(&self, call: u16) -> EffectId {
        self.effect_with_key(call, None).await
    }

    /// The same with a business key.
    pub(super) async fn effect_with_key(&self, call: u16, key: Option<&str>) -> EffectId {
        let effect = EffectId {
            position: first(),
            call,
        };
        let spec = EffectSpec {
            connector: ConnectorName::new("bank").unwrap(),
            operation: Operation::new("pay").unwrap(),
            semantics: Semantics::Idempotent,
            mode: Mode::Outbox,
            args: text("args"),
            business_key: key.map(|key| BusinessKey::new(key).unwrap()),
            undo: Some(Undo {
                operation: Operation::new("refund").unwrap(),
                args: text("args"),
            }),
            reserve: Vec::new(),
            policy: EffectPolicy::default(),
        };
        let begin = DriverCommand::BeginEffect {
            effect: effect.clone(),
            spec,
        };
        self.drive(begin).await;
        effect
    }
}

fn first() -> Position {
    Position {
        scope: Scope::root(),
        k: 0,
    }
}

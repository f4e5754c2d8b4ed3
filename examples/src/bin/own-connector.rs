//! A connector of one's own: mails are files, named by the effect's key. docs/reactors.md explains it.
#![expect(clippy::print_stdout, reason = "a demonstration speaks on standard output")]

use anyhow::{Result, bail};
use async_trait::async_trait;
use serde_json::{Value, json};
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;
use tape_client::core::command::AttemptOutcome;
use tape_client::core::id::{ConnectorName as Name, Holder};
use tape_client::{Answer, Begun, Payload, RunId, Tape};
use tape_engine::Engine;
use tape_reactors::api::Journal;
use tape_reactors::{Call, Connector, Connectors, NotUndone, Observation, Outbox, Runner, Worker};
use tape_store::memory::MemoryStore;
use tokio_util::sync::CancellationToken;

struct Mailbox(PathBuf);

#[async_trait]
impl Connector for Mailbox {
    async fn dispatch(&self, call: &Call) -> AttemptOutcome {
        // The same mail goes to the same file: sent twice under one key, it is there once.
        let text = call.args.bytes().map(AsRef::as_ref).unwrap_or_default();
        match std::fs::write::<_, &[u8]>(self.0.join(&call.key), text) {
            Ok(()) => AttemptOutcome::confirmed(Payload::json(&json!({ "mail": call.key }))),
            // A part of it may be there.
            Err(error) => AttemptOutcome::unknown(error),
        }
    }

    async fn observe(&self, call: &Call) -> Observation {
        match self.0.join(&call.key).try_exists() {
            Ok(true) => Observation::found(Payload::json(&json!({ "mail": call.key }))),
            Ok(false) => Observation::Absent,
            Err(error) => Observation::inconclusive(error),
        }
    }

    async fn compensate(&self, call: &Call) -> Result<Payload, NotUndone> {
        // An undo has a key of its own: the mail is under the key of the effect.
        match std::fs::remove_file(self.0.join(call.effect.idempotency_key(&call.run))) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(NotUndone::unknown(error)),
            _ => Ok(Payload::empty()),
        }
    }

    async fn observe_undo(&self, call: &Call) -> Option<Observation> {
        Some(
            match self.0.join(call.effect.idempotency_key(&call.run)).try_exists() {
                Ok(true) => Observation::Absent,
                Ok(false) => Observation::found(Payload::empty()),
                Err(error) => Observation::inconclusive(error),
            },
        )
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let engine = Engine::start(Arc::new(MemoryStore::new()));
    let tape = Tape::over(engine.clone()).connect().await?;
    let journal: Arc<dyn Journal> = Arc::new(engine);
    // Four mails at a time, at most.
    let connectors = Connectors::new().with(Name::new("mail")?, Mailbox(dir.path().to_owned()), 4);
    let worker = Worker::new(
        journal.clone(),
        connectors,
        Holder::new("mailer")?,
        Default::default(),
    );
    let outbox = Runner::new(journal, Arc::new(Outbox::new(worker)), Default::default());
    let stop = CancellationToken::new();
    let outbox = tokio::spawn(outbox.run(stop.clone()));

    let id = RunId::new("demo", "greeter", "ann", "s1", "i1")?;
    let Begun::Driving(run) = tape.run(id).begin().await? else {
        bail!("the run has ended");
    };
    let ask = async || Answer::json(&json!("ann"));
    let decision = run.decide(&"whom to greet?", ask).await?;
    let mail = run.effect(&decision, "mail", "send").args(&"hello").outbox();
    let receipt: Value = mail.settled().await?;
    run.complete(&receipt).await?;
    println!("sent: {receipt}");
    stop.cancel();
    Ok(outbox.await?)
}

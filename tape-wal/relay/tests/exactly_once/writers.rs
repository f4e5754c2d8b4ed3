//! The writers: each writes values and runs of its own, side by side.

use crate::consumer::Consumer;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tape_client::{RunId, Tape};
use tape_core::id::{Tenant, ValueName};
use tape_core::payload::Payload;
use tape_engine::Engine;
use tokio::sync::watch;
use tokio::task::JoinSet;

const WRITERS: usize = 32;
/// How many values each writer has.
const VALUES: u64 = 4;
/// How many values are put before a run is written.
const PUTS_PER_RUN: u64 = 24;
/// How many checkpoints a run has.
const CHECKPOINTS: u64 = 3;
/// Writers stay no more entries ahead of the consumer than so many. So what fails does so while they write.
const AHEAD_MAX: u64 = 2_000;

/// Writes at least so many entries. The future ends once they are all durable.
pub(crate) fn start(journal: &Engine, entries: u64, consumer: &Consumer) -> impl Future<Output = ()> + use<> {
    let mut writers = JoinSet::new();
    let written = Arc::new(AtomicU64::new(0));
    for n in 0..WRITERS {
        let writer = Writer {
            n,
            journal: journal.clone(),
            written: Arc::clone(&written),
            seen: consumer.progress(),
        };
        writers.spawn(writer.write(entries));
    }
    async move {
        writers.join_all().await;
    }
}

struct Writer {
    n: usize,
    journal: Engine,
    /// How many entries all writers have written.
    written: Arc<AtomicU64>,
    seen: watch::Receiver<u64>,
}

impl Writer {
    async fn write(mut self, entries: u64) {
        let tape = Tape::over(self.journal.clone()).connect().await.unwrap();
        let tenant = Tenant::new("acme").unwrap();
        for round in 0_u64.. {
            let written = self.written.load(Ordering::SeqCst);
            if written >= entries {
                return;
            }
            let near = self.seen.wait_for(|seen| *seen + AHEAD_MAX >= written).await;
            near.expect("the consumer goes on");
            let name = ValueName::new(format!("writer-{}-{}", self.n, round % VALUES)).unwrap();
            let value = Payload::json(&json!({ "writer": self.n, "round": round }));
            tape.value(tenant.clone(), name).put(value).await.unwrap();
            self.written.fetch_add(1, Ordering::SeqCst);
            if round % PUTS_PER_RUN == PUTS_PER_RUN - 1 {
                let written = self.run(&tape, round).await;
                self.written.fetch_add(written, Ordering::SeqCst);
            }
        }
    }

    /// Writes a run. Returns how many entries it has.
    async fn run(&self, tape: &Tape, round: u64) -> u64 {
        let id = RunId::new(
            "acme",
            "proof",
            &format!("writer-{}", self.n),
            "s1",
            &format!("i{round}"),
        );
        let id = id.unwrap();
        let begun = tape.run(id.clone()).input_json(&round).begin().await;
        let run = begun.unwrap().driving().unwrap();
        for n in 0..CHECKPOINTS {
            run.checkpoint("progress", &n).await.unwrap();
        }
        run.complete(&round).await.unwrap();
        let (last, _) = tape.head(&id).await.unwrap().unwrap();
        last.0
    }
}

//! Costs that must not grow with the history: finding due work, opening a run, waiting.

use crate::figure::{Figures, p50_ms};
use crate::work::{self, Caller};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tape_core::agenda::{Agenda, Queue};
use tape_core::chain::StreamTag;
use tape_core::codec::{Stamp, seal};
use tape_core::command::{Begin, Command, Create, DriverCommand, RunCommand};
use tape_core::decider::Decider as _;
use tape_core::entry::EntryBody;
use tape_core::id::{Epoch, Holder, RequestId, RunId, Seq, StreamId};
use tape_core::payload::{Digest, Payload};
use tape_core::replay::Replay;
use tape_core::run::Run;
use tape_core::time::Timestamp;
use tape_engine::Engine;
use tape_environment::{Environment as _, Machine};
use tape_store::clock::{Clock as _, SystemClock};
use tape_store::contract::{Batch, BatchId, JournalStore, Shard, SnapshotChange};

/// Due runs that are to be found.
const DUE: u32 = 10;
/// Batches in one commit while a store is filled.
const GROUP: usize = 256;
/// The number of searches or openings for each median.
const TRIES: usize = 200;
/// Steps of the journal that is replayed.
const REPLAYED_STEPS: u32 = 5_000;

/// Measures on new SQLite files in `dir`.
pub(crate) async fn measure(dir: &Path, figures: &mut Figures) {
    if figures.wants("due_10_among_1000000_finished") {
        let few = due(dir, 1_000).await;
        figures.say("due_10_among_1000_finished", few, "ms", few);
        figures.say(
            "due_10_among_1000000_finished",
            due(dir, 1_000_000).await,
            "ms",
            few,
        );
    }
    if figures.wants("open_run_of_1000000_entries") {
        let short = opening(dir, 1_000).await;
        figures.say("open_run_of_1000_entries", short, "ms", short);
        figures.say(
            "open_run_of_1000000_entries",
            opening(dir, 1_000_000).await,
            "ms",
            short,
        );
    }
    if figures.wants("local_replay") {
        figures.say("local_replay", local_replay(), "steps/s", 100_000.0);
    }
}

async fn new_store(dir: &Path, name: &str) -> Arc<dyn JournalStore> {
    let url = format!("sqlite:{}", dir.join(name).display());
    tape_store::open::open(&url).await.expect("the store opens")
}

/// The time to find ten due runs among `finished` finished ones.
async fn due(dir: &Path, finished: u32) -> f64 {
    let store = new_store(dir, &format!("due-{finished}.db")).await;
    let mut group = Vec::with_capacity(GROUP);
    for n in 0..finished + DUE {
        // The due ones come last, in the table and in time.
        group.push(batch(&format!("i{n}"), n < finished));
        if group.len() == GROUP || n + 1 == finished + DUE {
            let answers = store.commit(std::mem::take(&mut group)).await;
            assert!(answers.iter().all(Result::is_ok), "nothing else writes");
        }
    }
    let mut times = Vec::with_capacity(TRIES);
    for _ in 0..TRIES {
        let began = Instant::now();
        let hints = store
            .due(Queue::Recovery, Shard(0), Timestamp::MAX, None, DUE)
            .await
            .expect("the store answers");
        times.push(began.elapsed());
        assert_eq!(hints.len(), 10);
    }
    p50_ms(times)
}

/// A run from its beginning: to its end, or to where its driver vanished.
fn batch(invocation: &str, ends: bool) -> Batch {
    let run = RunId::new("bench", "bench", "user", "session", invocation).expect("these are names");
    let begin = Begin {
        run: run.clone(),
        create: Some(Create {
            labels: [].into(),
            input: Payload::empty(),
            forked_from: None,
        }),
        holder: Holder::new("bench").expect("a name"),
        lease_ms: 1_000,
        adopt: None,
        recovery: false,
    };
    let complete = DriverCommand::Complete {
        output: Payload::empty(),
    };
    let commands = [RunCommand::Begin(begin), RunCommand::Drive(Epoch(1), complete)];
    let tag = StreamTag::of(&run.clone().into());
    let (now, mut state, mut entries, mut digest) =
        (SystemClock.now(), Run::default(), Vec::new(), Digest::default());
    for body in commands.into_iter().take(if ends { 2 } else { 1 }) {
        let command = Command::new(SystemClock.request_id(), body);
        let stamp = Stamp::of(&command, now);
        for body in state.decide(&command, now).expect("the rules take it").entries {
            let (entry, stored) = seal(&tag, &digest, state.seq().next(), &stamp, body);
            state.apply(&entry).expect("what was decided folds");
            digest = stored.digest;
            entries.push(stored);
        }
    }
    Batch {
        id: BatchId(Machine.uuid()),
        stream: StreamId::Run(run),
        expected: Seq::ZERO,
        before: Digest::default(),
        epoch: Epoch::default(),
        next_epoch: state.epoch(),
        entries,
        agenda: Agenda::default().changes_to(&state.agenda()),
        snapshot: SnapshotChange::Keep,
        summary: state.summary(),
    }
}

/// The time to open a run of `entries` entries from the store, without a cached state.
async fn opening(dir: &Path, entries: u32) -> f64 {
    let store = new_store(dir, &format!("open-{entries}.db")).await;
    let caller = Caller::Embedded(Engine::new(Arc::clone(&store), Arc::new(SystemClock)));
    let run = caller.begin().await;
    let appending: Vec<_> = (0..250_u32)
        .map(|i| {
            let (caller, run) = (caller.clone(), run.clone());
            let share = entries / 250 + u32::from(i < entries % 250);
            tokio::spawn(async move {
                for _ in 0..share {
                    caller.append(&run).await;
                }
            })
        })
        .collect();
    for task in appending {
        task.await.expect("no append panics");
    }
    let mut times = Vec::with_capacity(TRIES);
    for _ in 0..TRIES {
        let engine = Engine::new(Arc::clone(&store), Arc::new(SystemClock));
        let began = Instant::now();
        let state = engine
            .run_state(&run)
            .await
            .expect("it is readable")
            .expect("it is there");
        times.push(began.elapsed());
        assert!(state.seq().0 >= u64::from(entries));
    }
    p50_ms(times)
}

/// Steps a second that a re-drive gets from its journal, once it is read.
fn local_replay() -> f64 {
    let (mut replay, mut seq, mut digest) = (Replay::default(), Seq::ZERO, Digest::default());
    let tag = StreamTag::of(&"acme/value/rate".parse().expect("a stream"));
    let mut push = |body: EntryBody| {
        seq = seq.next();
        let stamp = Stamp {
            at: SystemClock.now(),
            request: RequestId::from_u128(u128::from(seq.0)),
            principal: None,
            trace: None,
            command: None,
        };
        let (entry, stored) = seal(&tag, &digest, seq, &stamp, body);
        digest = stored.digest;
        replay.apply(entry).expect("it is a journal");
    };
    let steps: Vec<_> = (0..REPLAYED_STEPS).map(work::recorded_step).collect();
    for step in &steps {
        step.entries().into_iter().for_each(&mut push);
    }
    let began = Instant::now();
    for step in &steps {
        let next = replay
            .decide(&step.position.scope, &step.fingerprint)
            .expect("it is what was asked");
        assert!(next.recorded.is_some());
        let record = replay
            .ask_effect(&step.effect, &step.spec)
            .expect("it is what was asked");
        assert!(record.is_some_and(|record| record.settled.is_some()));
    }
    f64::from(REPLAYED_STEPS) / began.elapsed().max(Duration::from_nanos(1)).as_secs_f64()
}

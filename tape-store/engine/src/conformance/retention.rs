//! Retirement of runs, through engines over the store.

use super::tampered::{Damage, Tampered};
use crate::EngineError;
use crate::{Engine, RetiredPage, Retirement};
use std::collections::BTreeMap;
use std::sync::Arc;
use tape_core::chain::Verifier;
use tape_core::codec::decode;
use tape_core::command::{Begin, Command, Create, DriverCommand, ExternalCommand, RunCommand};
use tape_core::decider::Decider as _;
use tape_core::entry::EntryBody;
use tape_core::entry::run::RunOutcome;
use tape_core::erasure::Erasure;
use tape_core::id::{Holder, Key, RunId, Seq, StreamId, Tenant};
use tape_core::payload::Payload;
use tape_core::reply::{Reply, ReplyResult};
use tape_core::time::Timestamp;
use tape_store::clock::{Clock as _, ManualClock};
use tape_store::conformance::Fixture;
use tape_store::conformance::pen::{all, run};
use tape_store::contract::{JournalStore, RunFilter};
use tape_store::layer::{Fault, FaultyStore, Point};

const HOUR_MS: u64 = 3_600_000;

/// Runs over a store, with a manual clock.
struct World {
    store: Arc<dyn JournalStore>,
    clock: Arc<ManualClock>,
    engine: Engine,
}

impl World {
    fn new(store: &Arc<dyn JournalStore>) -> Self {
        let clock = Arc::new(ManualClock::at(Timestamp::from_micros(1_000_000)));
        Self {
            store: Arc::clone(store),
            engine: Engine::new(Arc::clone(store), Arc::clone(&clock) as _),
            clock,
        }
    }

    /// Another process.
    fn another(&self, store: Arc<dyn JournalStore>) -> Engine {
        Engine::new(store, Arc::clone(&self.clock) as _)
    }

    async fn begin(&self, run: &RunId) -> ReplyResult {
        begin(&self.engine, run).await
    }

    async fn drive(&self, run: &RunId, command: DriverCommand) {
        let epoch = self.engine.run_state(run).await.unwrap().unwrap().epoch();
        ask(&self.engine, run, RunCommand::Drive(epoch, command)).await;
    }

    /// Runs that ended each in a different way, and one that goes on.
    async fn runs(&self, n: usize) -> Vec<(RunId, Option<RunOutcome>)> {
        let mut runs = Vec::new();
        for n in 0..n {
            let run = run(&format!("run-{n}"));
            self.begin(&run).await;
            let checkpoint = DriverCommand::Checkpoint {
                label: Key::new("n").unwrap(),
                state: text("state"),
            };
            self.drive(&run, checkpoint).await;
            let ended = match n % 4 {
                0 => {
                    self.drive(
                        &run,
                        DriverCommand::Complete {
                            output: text("output"),
                        },
                    )
                    .await;
                    Some(RunOutcome::Completed)
                }
                1 => {
                    let error = "no money".to_owned();
                    self.drive(&run, DriverCommand::Fail { error: error.clone() })
                        .await;
                    Some(RunOutcome::Failed { error })
                }
                2 => {
                    let reason = "no time".to_owned();
                    let cancel = ExternalCommand::Cancel {
                        reason: reason.clone(),
                    };
                    ask(&self.engine, &run, RunCommand::External(cancel)).await;
                    self.drive(&run, DriverCommand::AcceptCancel).await;
                    Some(RunOutcome::Cancelled { reason })
                }
                _ => None,
            };
            runs.push((run, ended));
        }
        runs
    }

    fn retirement(&self) -> Retirement {
        Retirement {
            tenant: Tenant::new("t").unwrap(),
            ended_before: self.clock.now(),
            principal: None,
            reason: "old".to_owned(),
            dry_run: false,
        }
    }

    /// Every run that ended is retired and says how it ended; the others are unchanged.
    async fn check(&self, runs: &[(RunId, Option<RunOutcome>)]) {
        let fresh = self.another(Arc::clone(&self.store));
        for (run, ended) in runs {
            let stream = StreamId::Run(run.clone());
            let entries = all(self.store.as_ref(), &stream).await;
            let mut verifier = Verifier::new(&stream, None);
            entries.iter().for_each(|entry| verifier.check(entry).unwrap());
            let Some(ending) = ended else {
                assert!(entries[0].seq == Seq(1), "what goes on is whole");
                continue;
            };
            assert_eq!(entries.len(), 1, "{run:?}");
            let EntryBody::RunRetired(retired) = decode(&entries[0]).unwrap().body else {
                panic!("{:?}", entries[0])
            };
            assert_eq!((&retired.ending, &retired.run), (ending, run));
            let output = (*ending == RunOutcome::Completed).then(|| text("output"));
            assert_eq!(retired.output, output);
            let ended = ReplyResult::Ended {
                ending: ending.clone(),
            };
            assert_eq!(begin(&fresh, run).await, ended, "the end is the end");
            assert_eq!(self.begin(run).await, ended, "also to who remembers the run");
        }
        let going: Vec<_> = runs.iter().filter(|(_, ended)| ended.is_none()).collect();
        let filter = RunFilter::all(Tenant::new("t").unwrap());
        assert_eq!(
            self.store.runs(&filter, None, 1_000).await.unwrap().runs.len(),
            going.len()
        );
    }
}

fn text(text: &str) -> Payload {
    Payload::new("text/plain", text.to_owned()).expect("a test's payloads are small")
}

async fn ask(engine: &Engine, run: &RunId, command: RunCommand) -> ReplyResult {
    let request = engine.request_id();
    let reply = engine.run(run, Command::new(request, command)).await;
    reply.expect("the command is taken").result
}

async fn begin(engine: &Engine, run: &RunId) -> ReplyResult {
    let begin = Begin {
        run: run.clone(),
        create: Some(Create {
            labels: BTreeMap::new(),
            input: text("go"),
            forked_from: None,
        }),
        holder: Holder::new("driver").expect("it is a name"),
        lease_ms: HOUR_MS,
        adopt: None,
        recovery: false,
    };
    ask(engine, run, RunCommand::Begin(begin)).await
}

async fn erase(engine: &Engine, stream: &StreamId, entry: Seq) -> Result<Reply, EngineError> {
    let erasure = Erasure {
        entries: vec![entry],
        reason: "asked for".to_owned(),
    };
    engine
        .erase(stream, Command::new(engine.request_id(), erasure))
        .await
}

/// All pages, one after the other.
pub(super) async fn retire_all(
    engine: &Engine,
    retirement: &Retirement,
    limit: u32,
) -> Result<RetiredPage, EngineError> {
    let mut sum = RetiredPage::default();
    loop {
        let page = engine.retire_page(retirement, sum.next.as_ref(), limit).await?;
        sum.runs += page.runs;
        sum.entries += page.entries;
        sum.failed.extend(page.failed);
        sum.next = page.next;
        if sum.next.is_none() {
            return Ok(sum);
        }
    }
}

pub(super) async fn a_retired_run_says_how_it_ended(fixture: Fixture) {
    let world = World::new(&fixture.store);
    let mut runs = world.runs(23).await;
    let too_early = retire_all(&world.engine, &world.retirement(), 5).await.unwrap();
    assert_eq!(too_early.runs, 0, "nothing ended before it ended");
    let late = run("late");
    world.begin(&late).await;
    world.clock.advance_ms(1);
    world
        .drive(
            &late,
            DriverCommand::Complete {
                output: text("output"),
            },
        )
        .await;
    let dry = Retirement {
        dry_run: true,
        ..world.retirement()
    };
    let would = retire_all(&world.engine, &dry, 5).await.unwrap();
    let ended = runs.iter().filter(|(_, ended)| ended.is_some()).count() as u64;
    assert_eq!(would.runs, ended);
    let retired = retire_all(&world.engine, &world.retirement(), 5).await.unwrap();
    assert_eq!((retired.runs, retired.entries), (would.runs, would.entries));
    assert_eq!(retired.failed.len(), 0, "{:?}", retired.failed);
    // What began before the horizon and ended after it is left.
    runs.push((late, None));
    world.check(&runs).await;
    let again = retire_all(&world.engine, &world.retirement(), 5).await.unwrap();
    assert_eq!((again.runs, again.entries), (0, 0), "once is enough");
}

/// Another server has the run in its cache as of any of its entries.
pub(super) async fn a_run_retired_behind_a_cache_says_how_it_ended(fixture: Fixture) {
    let world = World::new(&fixture.store);
    let run = run("run");
    let mut caches = vec![world.another(Arc::clone(&fixture.store))];
    world.begin(&run).await;
    for n in 0..4 {
        let cached = world.another(Arc::clone(&fixture.store));
        assert!(cached.run_state(&run).await.unwrap().is_some());
        caches.push(cached);
        let command = match n {
            3 => DriverCommand::Complete {
                output: text("output"),
            },
            _ => DriverCommand::Checkpoint {
                label: Key::new("n").unwrap(),
                state: text("state"),
            },
        };
        world.drive(&run, command).await;
    }
    world.clock.advance_ms(1);
    let retired = retire_all(&world.engine, &world.retirement(), 5).await.unwrap();
    assert_eq!((retired.runs, retired.failed.len()), (1, 0));
    for (n, cached) in caches.iter().enumerate() {
        let begun = begin(cached, &run).await;
        let ended = ReplyResult::Ended {
            ending: RunOutcome::Completed,
        };
        assert_eq!(begun, ended, "cache {n}");
    }
}

/// At whatever step retention dies, the next pass finishes the work.
pub(super) async fn retention_that_dies_at_any_step_is_finished_by_the_next(fixture: Fixture) {
    let world = World::new(&fixture.store);
    let runs = world.runs(12).await;
    world.clock.advance_ms(1);
    let points = [
        Point::Runs,
        Point::Head,
        Point::Read,
        Point::BeforeCommit,
        Point::AfterCommit,
        Point::Drop,
    ];
    for (n, point) in points.into_iter().cycle().take(18).enumerate() {
        let faulty = Arc::new(FaultyStore::new(Arc::clone(&fixture.store)));
        for _ in 0..n / points.len() {
            faulty.plan(point, Fault::None);
        }
        faulty.plan(point, Fault::Unavailable);
        // Its answer is lost with it, and so is its cache.
        let dying = world.another(faulty);
        let _ = dying.retire_page(&world.retirement(), None, 2).await;
    }
    let rest = retire_all(&world.engine, &world.retirement(), 3).await.unwrap();
    assert_eq!(rest.failed.len(), 0, "{:?}", rest.failed);
    world.check(&runs).await;
}

pub(super) async fn several_retire_the_same_runs_at_once(fixture: Fixture) {
    let world = World::new(&fixture.store);
    let runs = world.runs(40).await;
    world.clock.advance_ms(1);
    let retire = |n: u32| {
        let (engine, retirement) = (world.another(Arc::clone(&fixture.store)), world.retirement());
        tokio::spawn(async move { retire_all(&engine, &retirement, 4 + n).await })
    };
    for done in futures::future::join_all((0..4).map(retire)).await {
        let done = done.unwrap().unwrap();
        assert_eq!(done.failed.len(), 0, "{:?}", done.failed);
    }
    world.check(&runs).await;
}

/// A run that an engine has cached, and an entry of it that was tampered with since: the proof of the tampering stays.
pub(super) async fn a_damaged_run_is_left_as_it_is(fixture: Fixture) {
    let tampered = Tampered::new(&fixture.store);
    let world = World::new(&(Arc::clone(&tampered) as Arc<dyn JournalStore>));
    let run = run("run");
    let stream = StreamId::Run(run.clone());
    world.begin(&run).await;
    for n in 0..4 {
        let state = text(&format!("state {n}"));
        let label = Key::new("n").unwrap();
        world
            .drive(&run, DriverCommand::Checkpoint { label, state })
            .await;
    }
    let output = text("output");
    world.drive(&run, DriverCommand::Complete { output }).await;
    // A payload erased on request is no damage.
    erase(&world.engine, &stream, Seq(3)).await.unwrap();
    world.clock.advance_ms(1);
    let before = all(fixture.store.as_ref(), &stream).await;
    for damage in Damage::ALL {
        for dry_run in [true, false] {
            tampered.damage(&stream, Seq(4), damage);
            let retirement = Retirement {
                dry_run,
                ..world.retirement()
            };
            let page = retire_all(&world.engine, &retirement, 5).await.unwrap();
            assert_eq!((page.runs, page.entries), (0, 0), "{damage:?} {dry_run}");
            assert!(
                matches!(&page.failed[..], [(left, EngineError::Damaged { .. })] if *left == run),
                "{damage:?} {dry_run}: {:?}",
                page.failed
            );
            tampered.mend();
            assert_eq!(all(fixture.store.as_ref(), &stream).await, before, "{damage:?}");
        }
    }
    let retired = retire_all(&world.engine, &world.retirement(), 5).await.unwrap();
    assert_eq!(
        (retired.runs, retired.failed.len()),
        (1, 0),
        "{:?}",
        retired.failed
    );
    world.check(&[(run, Some(RunOutcome::Completed))]).await;
}

/// Retention that died before it dropped anything is finished only where the entries that it would drop are intact.
pub(super) async fn a_run_that_was_damaged_after_it_was_retired_is_left_as_it_is(fixture: Fixture) {
    let tampered = Tampered::new(&fixture.store);
    let world = World::new(&(Arc::clone(&tampered) as Arc<dyn JournalStore>));
    let runs = world.runs(1).await;
    let stream = StreamId::Run(runs[0].0.clone());
    world.clock.advance_ms(1);
    let faulty = Arc::new(FaultyStore::new(Arc::clone(&fixture.store)));
    faulty.plan(Point::Drop, Fault::Unavailable);
    let dying = world.another(faulty);
    dying
        .retire_page(&world.retirement(), None, 5)
        .await
        .expect_err("it died before it dropped anything");
    let before = all(fixture.store.as_ref(), &stream).await;
    let (retired, dropped) = before.split_last().unwrap();
    assert!(!dropped.is_empty(), "nothing was dropped");
    assert!(world.engine.run_state(&runs[0].0).await.unwrap().is_some());
    tampered.damage(&stream, Seq(3), Damage::Payload);
    let left = retire_all(&world.engine, &world.retirement(), 5).await.unwrap();
    assert_eq!((left.runs, left.failed.len()), (0, 1));
    // Nor does an erasure of the remaining payloads drop it.
    let erased = erase(&world.engine, &stream, retired.seq).await;
    erased.expect("the entry that is left is whole");
    tampered.mend();
    let now = all(fixture.store.as_ref(), &stream).await;
    let kept = now
        .iter()
        .zip(dropped)
        .filter(|(now, before)| now.seq == before.seq);
    assert_eq!(kept.count(), dropped.len(), "what was written first is there");
    let rest = retire_all(&world.engine, &world.retirement(), 5).await.unwrap();
    assert_eq!((rest.runs, rest.failed.len()), (1, 0), "{:?}", rest.failed);
    let kept = all(fixture.store.as_ref(), &stream).await;
    assert_eq!(kept[0].seq, retired.seq, "it is dropped once it is whole");
}

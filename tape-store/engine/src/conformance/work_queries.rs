//! Open gates, owners of business keys and due work, through an engine over the store.

use super::engines::{begin, decision, drive, effect, spec, text};
use super::run_queries::{TENANTS, by_hand, suspend, tenant};
use crate::Engine;
use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use tape_api::JournalError;
use tape_api::query::{DueFilter, GateQuery, OpenGate, QueueSummary};
use tape_core::agenda::{AgendaChange, Item, Queue};
use tape_core::codec::decode;
use tape_core::command::{Command, DriverCommand, ExternalCommand, RunCommand};
use tape_core::entry::EntryBody;
use tape_core::id::{
    App, BusinessKey, ConnectorName, Epoch, GateName, RunId, Seq, SignalId, StreamId, TimerName,
};
use tape_core::limits::{HINTS_COUNTED_MAX, PAGE_ENTRIES_MAX};
use tape_core::time::{Deadline, Timestamp};
use tape_store::conformance::Fixture;
use tape_store::conformance::pen::{Pen, all};
use tape_store::contract::{Batch, Hint, PageToken, Shard};
use tape_store::error::StoreError;

fn run(tenant: &str, app: &str, invocation: &str) -> RunId {
    RunId::new(tenant, app, "ann", "s/1", invocation).unwrap()
}

fn gate(name: &str) -> GateName {
    GateName::new(name).unwrap()
}

async fn open(engine: &Engine, run: &RunId, epoch: Epoch, name: &str, deadline: Option<Deadline>) {
    let open = DriverCommand::OpenGate {
        gate: gate(name),
        deadline,
    };
    drive(engine, run, epoch, open).await.unwrap();
}

async fn external(engine: &Engine, run: &RunId, command: ExternalCommand) {
    let command = Command::new(engine.request_id(), RunCommand::External(command));
    engine.run(run, command).await.unwrap();
}

/// The gates of a run that were opened, as its entries say.
async fn opened(fixture: &Fixture, run: &RunId, names: &[&str], suspended: bool) -> Vec<OpenGate> {
    let entries = all(fixture.store.as_ref(), &StreamId::Run(run.clone())).await;
    let entries = entries.iter().map(|stored| decode(stored).unwrap());
    let gates = entries.filter_map(|entry| match entry.body {
        EntryBody::GateOpened(opened) if names.contains(&opened.gate.as_str()) => Some(OpenGate {
            run: run.clone(),
            gate: opened.gate,
            opened: entry.seq,
            opened_at: entry.at,
            deadline: opened.deadline,
            suspended,
        }),
        _ => None,
    });
    gates.collect()
}

async fn gates(engine: &Engine, query: &GateQuery, limit: u32) -> Vec<OpenGate> {
    let (mut gates, mut from) = (Vec::new(), None);
    loop {
        let page = engine.open_gates(query, from.as_deref(), limit).await.unwrap();
        assert!(page.damaged.is_empty());
        gates.extend(page.gates);
        assert!(gates.len() <= 100, "the pages come to an end");
        from = page.next;
        if from.is_none() {
            return gates;
        }
    }
}

/// The gates of running and suspended runs of one tenant, and neither answered ones nor those of runs that are ending or have ended.
pub(super) async fn gates_that_wait_are_listed(fixture: Fixture) {
    let (engine, clock) = by_hand(&fixture);
    for tenant in TENANTS {
        for name in [
            "running",
            "suspended",
            "answered",
            "completed",
            "cancelled",
            "two",
        ] {
            clock.advance_ms(1);
            let app = if name == "two" { "books" } else { "pay/roll" };
            let run = run(tenant, app, name);
            let epoch = begin(&engine, &run, "driver").await;
            open(&engine, &run, epoch, "approve", Some(Deadline::InMs(60_000))).await;
            match name {
                "suspended" => suspend(&engine, &run, epoch).await,
                "answered" => {
                    let signal = ExternalCommand::Signal {
                        gate: gate("approve"),
                        id: SignalId::new("s").unwrap(),
                        answer: text("yes"),
                        seen: None,
                    };
                    external(&engine, &run, signal).await;
                }
                "completed" => {
                    let complete = DriverCommand::Complete { output: text("done") };
                    drive(&engine, &run, epoch, complete).await.unwrap();
                }
                "cancelled" => {
                    let reason = "asked for".to_owned();
                    external(&engine, &run, ExternalCommand::Cancel { reason }).await;
                }
                "two" => open(&engine, &run, epoch, "pay", None).await,
                _ => {}
            }
        }
    }
    for name in TENANTS {
        let expected = [
            opened(&fixture, &run(name, "books", "two"), &["approve", "pay"], false).await,
            opened(&fixture, &run(name, "pay/roll", "suspended"), &["approve"], true).await,
            opened(&fixture, &run(name, "pay/roll", "running"), &["approve"], false).await,
        ]
        .concat();
        assert_eq!(expected.len(), 4);
        let query = |app: Option<&str>| GateQuery {
            tenant: tenant(name),
            app: app.map(|app| App::new(app).unwrap()),
        };
        for limit in [1, 2, 3, 100] {
            assert_eq!(
                gates(&engine, &query(None), limit).await,
                expected,
                "in pages of {limit}"
            );
        }
        let books: Vec<OpenGate> = expected[..2].to_vec();
        assert_eq!(gates(&engine, &query(Some("books")), 100).await, books);
        assert_eq!(gates(&engine, &query(Some("book")), 100).await, []);
        let refused = engine.open_gates(&query(None), Some("ended"), 1).await;
        assert!(matches!(refused, Err(JournalError::Invalid(_))), "{refused:?}");
    }
}

pub(super) async fn the_owner_of_a_business_key_is_told(fixture: Fixture) {
    let (engine, clock) = by_hand(&fixture);
    let (bank, key) = (
        ConnectorName::new("bank").unwrap(),
        BusinessKey::new("invoice/7 *").unwrap(),
    );
    for name in ["acme", "acme2"] {
        clock.advance_ms(1);
        assert_eq!(
            engine.key_owner(&tenant(name), &bank, &key).await.unwrap(),
            None,
            "of {name}"
        );
        let run = run(name, "pay", "i");
        let epoch = begin(&engine, &run, "driver").await;
        drive(&engine, &run, epoch, decision(0)).await.unwrap();
        let begin = DriverCommand::BeginEffect {
            effect: effect(0),
            spec: spec(Some(key.as_str()), vec![]),
        };
        drive(&engine, &run, epoch, begin).await.unwrap();
        let owner = engine
            .key_owner(&tenant(name), &bank, &key)
            .await
            .unwrap()
            .unwrap();
        assert_eq!((owner.run, owner.effect, owner.taken), (run, effect(0), Seq(1)));
        assert_eq!(owner.taken_at, engine.now().await.unwrap());
    }
    let other = ConnectorName::new("bank2").unwrap();
    assert_eq!(
        engine.key_owner(&tenant("acme"), &other, &key).await.unwrap(),
        None
    );
}

/// Runs of several tenants and apps whose leases are over; returns them.
async fn abandoned(engine: &Engine, advance: impl Fn(u64)) -> Vec<RunId> {
    let mut runs = Vec::new();
    for n in 0..3 {
        for tenant in TENANTS {
            for app in ["pay", "pay/roll"] {
                let run = run(tenant, app, &format!("i{n}"));
                begin(engine, &run, "driver").await;
                advance(1);
                runs.push(run);
            }
        }
    }
    advance(10_000);
    runs
}

pub(super) async fn due_work_is_found_by_tenant_and_app(fixture: Fixture) {
    let (engine, clock) = by_hand(&fixture);
    let runs = abandoned(&engine, |ms| clock.advance_ms(ms)).await;
    let until = engine.due_until().await.unwrap();
    let (acme, roll) = (Some(tenant("acme")), Some(App::new("pay/roll").unwrap()));
    let filters = [
        (None, None),
        (acme.clone(), None),
        (None, roll.clone()),
        (acme, roll),
        (Some(tenant("acm")), None),
    ];
    for (tenant, app) in filters {
        let filter = DueFilter { tenant, app };
        let fits = |run: &&RunId| {
            filter.tenant.as_ref().is_none_or(|tenant| *tenant == run.tenant)
                && filter.app.as_ref().is_none_or(|app| *app == run.app)
        };
        let expected: BTreeSet<RunId> = runs.iter().filter(fits).cloned().collect();
        let (mut found, mut from) = (Vec::new(), None);
        loop {
            let page = engine
                .due_page_of(Queue::Recovery, &filter, until, from.as_ref(), 2)
                .await
                .unwrap();
            assert!(page.hints.len() <= 2 * usize::from(fixture.store.capabilities().shards));
            found.extend(
                page.hints
                    .into_iter()
                    .filter_map(|hint| hint.stream.as_run().cloned()),
            );
            from = page.next;
            if from.is_none() {
                break;
            }
        }
        assert_eq!(found.len(), expected.len(), "each is found once: {filter:?}");
        assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expected, "{filter:?}");
    }
}

fn timer_due(n: u32) -> Option<Timestamp> {
    Some(Timestamp::from_micros(i64::from(n)))
}

/// Writes a stream with these timers, each due at the microsecond of its number.
async fn set_timers(fixture: &Fixture, stream: &StreamId, timers: RangeInclusive<u32>) {
    let change = |n: u32| AgendaChange {
        queue: Queue::Timers,
        item: Item::Timer(TimerName::new(format!("t{n}")).unwrap()),
        was: None,
        due: timer_due(n),
    };
    let mut pen = Pen::on(stream.clone());
    let batch = Batch {
        agenda: timers.map(change).collect(),
        ..pen.batch(&["timers"])
    };
    pen.put(fixture.store.as_ref(), batch).await;
}

/// The hints and the tokens of all pages of the timers of a tenant.
async fn timers_of(engine: &Engine, name: &str, limit: u32) -> (Vec<Hint>, Vec<PageToken>) {
    let filter = DueFilter {
        tenant: Some(tenant(name)),
        app: None,
    };
    let (mut hints, mut tokens): (Vec<Hint>, Vec<PageToken>) = (Vec::new(), Vec::new());
    loop {
        let page = engine
            .due_page_of(Queue::Timers, &filter, Timestamp::MAX, tokens.last(), limit)
            .await
            .unwrap();
        hints.extend(page.hints);
        match page.next {
            Some(next) => tokens.push(next),
            None => return (hints, tokens),
        }
    }
}

pub(super) async fn tokens_of_due_work_name_nothing_of_others(fixture: Fixture) {
    let (engine, _) = by_hand(&fixture);
    let streams = ["secret", "acme"].map(|name| StreamId::Run(run(name, "app", "i")));
    // The other tenant has more due work than a page looks at, before, at and after the times of the tenant's.
    set_timers(&fixture, &streams[0], 1..=PAGE_ENTRIES_MAX + 10).await;
    let own = PAGE_ENTRIES_MAX - 3..=PAGE_ENTRIES_MAX + 4;
    set_timers(&fixture, &streams[1], own.clone()).await;
    for limit in [1, 3, 100] {
        let (hints, tokens) = timers_of(&engine, "acme", limit).await;
        let due = hints.iter().map(|hint| Some(hint.due));
        assert!(due.eq(own.clone().map(timer_due)), "each once: {hints:?}");
        assert!(!tokens.is_empty());
        assert!(
            tokens.iter().all(|token| !token.0.contains("secret")),
            "{tokens:?}"
        );
        let mut others = vec![(Queue::Outbox, "acme"), (Queue::Timers, "nobody")];
        others.push((Queue::Timers, "secret"));
        for (queue, name) in others {
            let filter = DueFilter {
                tenant: Some(tenant(name)),
                app: None,
            };
            let found = engine
                .due_page_of(queue, &filter, Timestamp::MAX, tokens.first(), limit)
                .await;
            assert!(matches!(found, Err(StoreError::Invalid { .. })), "{found:?}");
        }
    }
    let (hints, tokens) = timers_of(&engine, "nobody", 1).await;
    assert_eq!(hints, []);
    assert!(
        tokens.iter().all(|token| !token.0.contains("secret")),
        "{tokens:?}"
    );
}

pub(super) async fn queues_are_summed_up(fixture: Fixture) {
    let (engine, clock) = by_hand(&fixture);
    let first_lease_ends = engine.now().await.unwrap().plus_millis(1_000);
    let runs = abandoned(&engine, |ms| clock.advance_ms(ms)).await;
    // More timers of one tenant than are counted: they are due longer than any other's.
    let busy = StreamId::Run(run("busy", "app", "i"));
    set_timers(&fixture, &busy, 1..=HINTS_COUNTED_MAX + 1).await;
    let other = StreamId::Run(run("acme", "app", "timers"));
    set_timers(&fixture, &other, HINTS_COUNTED_MAX + 2..=HINTS_COUNTED_MAX + 4).await;
    let shards = fixture.store.capabilities().shards;
    let shard = |stream: &StreamId| Shard::of(stream, shards);
    for (name, many) in [
        (None, runs.len()),
        (Some("acme"), 6),
        (Some("acme/x"), 6),
        (Some("acm"), 0),
    ] {
        let of = name.map(tenant);
        let queues = engine.queues(of.as_ref()).await.unwrap();
        assert_eq!(
            queues.iter().map(|summary| summary.queue).collect::<Vec<_>>(),
            Queue::ALL
        );
        for summary in queues {
            let is_all = name.is_none();
            let counted = u64::from(HINTS_COUNTED_MAX);
            let other_shard = if shard(&busy) == shard(&other) { 0 } else { 3 };
            let expected = match summary.queue {
                Queue::Recovery => (many as u64, false, summary.oldest_due.filter(|_| many > 0)),
                Queue::Timers if is_all => (counted + other_shard, true, timer_due(1)),
                Queue::Timers if name == Some("acme") => (3, false, timer_due(HINTS_COUNTED_MAX + 2)),
                _ => (0, false, None),
            };
            let QueueSummary {
                due,
                more,
                oldest_due,
                ..
            } = summary;
            assert_eq!((due, more, oldest_due), expected, "{name:?} {:?}", summary.queue);
            if summary.queue == Queue::Recovery && is_all {
                assert_eq!(oldest_due, Some(first_lease_ends));
            }
        }
    }
}

//! Due work: found when it is due, passed over while a worker has it.

use super::agent::{Driven, holder, run_id, text};
use crate::Journal;
use crate::due::{DueWork, PendingWork};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tape_core::agenda::{Item, Queue};
use tape_core::command::{AttemptOutcome, DriverCommand, WorkerCommand};
use tape_core::entry::obligation::ObligationId;
use tape_core::id::{EffectId, TimerName};
use tape_core::payload::Payload;
use tape_core::time::{Deadline, Timestamp};

pub(super) const CLAIM_MS: u64 = 600_000;

/// All that is due, in pages of one piece a shard.
async fn due(journal: &Arc<dyn Journal>, queue: Queue) -> Vec<DueWork> {
    let (mut work, mut from): (Vec<DueWork>, Option<String>) = (Vec::new(), None);
    loop {
        let page = journal
            .due(queue, Duration::ZERO, from.as_deref(), 1)
            .await
            .unwrap();
        work.extend(page.work.into_iter().filter(|work| work.due_in.is_zero()));
        from = page.next;
        if from.is_none() {
            return work;
        }
    }
}

fn claim(effect: &EffectId) -> WorkerCommand {
    WorkerCommand::ClaimEffect {
        effect: effect.clone(),
        holder: holder("worker"),
        claim_ms: CLAIM_MS,
    }
}

/// The work is due at the time of the entry, which a server's clock may reach a moment later.
pub(super) async fn until_due(journal: &Arc<dyn Journal>, queue: Queue, pieces: usize) -> Vec<DueWork> {
    loop {
        let work = due(journal, queue).await;
        if work.len() >= pieces {
            return work;
        }
        tokio::task::yield_now().await;
    }
}

pub(super) async fn due_work_is_found_and_passed_over_while_a_worker_has_it(journal: Arc<dyn Journal>) {
    let run = Driven::begin(&journal, run_id("t", "i"), "x").await;
    run.decide().await;
    let effect = run.effect(0).await;
    let work = until_due(&journal, Queue::Outbox, 1).await;
    assert_eq!(work[0].stream, run.stream());
    assert_eq!(work[0].item, Item::Effect(effect.clone()));
    let known = journal.due_effect(&run.run, &effect).await.unwrap().unwrap();
    assert_eq!(known.connector.as_str(), "bank");
    assert_eq!(known.begun, journal.head(&run.run).await.unwrap().unwrap().0);
    let other = EffectId {
        call: 7,
        ..effect.clone()
    };
    assert_eq!(journal.due_effect(&run.run, &other).await.unwrap(), None);
    let nothing = run_id("t", "nothing");
    assert_eq!(journal.due_effect(&nothing, &effect).await.unwrap(), None);
    run.work(claim(&effect)).await;
    assert_eq!(journal.due_effect(&run.run, &effect).await.unwrap(), None);
    assert_eq!(due(&journal, Queue::Outbox).await, []);
}

pub(super) async fn an_undo_is_found_and_passed_over_while_a_worker_has_it(journal: Arc<dyn Journal>) {
    let run = Driven::begin(&journal, run_id("t", "i"), "x").await;
    run.decide().await;
    let effect = run.effect(0).await;
    let begun = journal.head(&run.run).await.unwrap().unwrap().0;
    run.work(claim(&effect)).await;
    let confirmed = AttemptOutcome::Confirmed {
        result: text("done"),
        undo: None,
        spent: None,
    };
    run.work(WorkerCommand::FinishClaimed {
        effect: effect.clone(),
        holder: holder("worker"),
        attempt: 1,
        ending: confirmed,
    })
    .await;
    assert_eq!(
        journal.due_effect(&run.run, &effect).await.unwrap(),
        None,
        "it is settled"
    );
    let error = "it went wrong".to_owned();
    run.drive(DriverCommand::Fail { error }).await;
    let obligation = ObligationId { effect, copy: 0 };
    let work = until_due(&journal, Queue::Compensation, 1).await;
    assert_eq!(work[0].item, Item::Obligation(obligation.clone()));
    let known = journal
        .due_obligation(&run.run, &obligation)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(known.connector.as_str(), "bank");
    assert_eq!((known.source, known.begun), (begun, Some(begun)));
    run.work(WorkerCommand::ClaimObligation {
        obligation: obligation.clone(),
        holder: holder("worker"),
        claim_ms: CLAIM_MS,
    })
    .await;
    assert_eq!(journal.due_obligation(&run.run, &obligation).await.unwrap(), None);
}

pub(super) async fn pages_of_due_work_follow_each_other(journal: Arc<dyn Journal>) {
    let mut begun = BTreeSet::new();
    for name in ["i", "j"] {
        let run = Driven::begin(&journal, run_id("t", name), "x").await;
        run.decide().await;
        for call in 0..5 {
            let effect = run.effect(call).await;
            begun.insert((run.stream(), Item::Effect(effect).to_string()));
        }
    }
    let work = until_due(&journal, Queue::Outbox, begun.len()).await;
    assert_eq!(work.len(), begun.len(), "each once");
    let found = work.into_iter().map(|work| (work.stream, work.item.to_string()));
    assert_eq!(found.collect::<BTreeSet<_>>(), begun);
}

/// All timers, in pages of one piece a shard.
async fn timers(journal: &Arc<dyn Journal>) -> Vec<PendingWork> {
    let (mut work, mut from): (Vec<PendingWork>, Option<String>) = (Vec::new(), None);
    loop {
        let page = journal.pending(Queue::Timers, from.as_deref(), 1).await.unwrap();
        work.extend(page.work);
        from = page.next;
        if from.is_none() {
            work.sort_by_key(|work| work.due);
            return work;
        }
    }
}

pub(super) async fn what_becomes_due_later_is_pending(journal: Arc<dyn Journal>) {
    const YEAR_MS: u64 = 365 * 24 * 3_600_000;
    let run = Driven::begin(&journal, run_id("t", "i"), "x").await;
    let year = |years: u64| Timestamp::from_micros(1).plus_millis((100 + years) * YEAR_MS);
    for years in 1..=5 {
        let timer = TimerName::new(format!("t-{years}")).unwrap();
        let (due, note) = (Deadline::At(year(years)), Payload::empty());
        run.drive(DriverCommand::SetTimer { timer, due, note }).await;
    }
    let timer = TimerName::new("t-3").unwrap();
    run.drive(DriverCommand::CancelTimer { timer }).await;
    let pending = [1, 2, 4, 5].map(|years| PendingWork {
        stream: run.stream(),
        item: Item::Timer(TimerName::new(format!("t-{years}")).unwrap()),
        due: year(years),
    });
    assert_eq!(timers(&journal).await, pending);
    assert_eq!(due(&journal, Queue::Timers).await, [], "none of them is due");
}

pub(super) async fn what_is_written_wakes_a_worker(journal: Arc<dyn Journal>) {
    let run = Driven::begin(&journal, run_id("t", "i"), "x").await;
    run.decide().await;
    let changed = journal.changed(Queue::Outbox);
    assert_eq!(due(&journal, Queue::Outbox).await, []);
    run.effect(0).await;
    changed.await;
    assert_eq!(until_due(&journal, Queue::Outbox, 1).await.len(), 1);
}

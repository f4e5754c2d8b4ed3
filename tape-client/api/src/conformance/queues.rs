//! How much work is due.

use super::agent::{Driven, TENANTS, run_id, tenant};
use super::due::until_due;
use crate::Journal;
use crate::query::QueueSummary;
use std::sync::Arc;
use tape_core::agenda::Queue;

pub(super) async fn what_is_due_is_summed_up_by_queue_and_tenant(journal: Arc<dyn Journal>) {
    let nothing = |queue| QueueSummary {
        queue,
        due: 0,
        more: false,
        oldest_due: None,
    };
    let idle: Vec<QueueSummary> = Queue::ALL.map(nothing).into();
    assert_eq!(journal.queues(None).await.unwrap(), idle);
    let mut begun = 0;
    for (n, name) in (1..).zip(TENANTS) {
        let run = Driven::begin(&journal, run_id(name, "i"), "x").await;
        run.decide().await;
        for call in 0..n {
            run.effect(call).await;
            begun += 1;
        }
    }
    until_due(&journal, Queue::Outbox, begun).await;
    let outbox = async |name: Option<&str>| {
        let of = name.map(tenant);
        let queues = journal.queues(of.as_ref()).await.unwrap();
        for (summary, idle) in queues.iter().zip(&idle) {
            assert_eq!(summary.queue, idle.queue);
            assert!(summary.queue == Queue::Outbox || summary == idle, "{summary:?}");
        }
        assert_eq!(queues.len(), Queue::ALL.len());
        queues.into_iter().nth(1).unwrap()
    };
    let of_all = outbox(None).await;
    assert_eq!((of_all.due, of_all.more), (begun as u64, false));
    let mut oldest = Vec::new();
    for (n, name) in (1..).zip(TENANTS) {
        let of_one = outbox(Some(name)).await;
        assert_eq!((of_one.due, of_one.more), (n, false), "{name}");
        oldest.push(of_one.oldest_due.unwrap());
    }
    assert!(oldest.is_sorted(), "{oldest:?}");
    assert_eq!(of_all.oldest_due, oldest.first().copied());
    assert_eq!(outbox(Some("t")).await, idle[1]);
}

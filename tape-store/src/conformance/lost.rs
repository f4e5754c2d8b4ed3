//! Commits that were acknowledged and then lost: with a failed primary, or because a backup was restored beneath running servers.

use super::Fixture;
use super::pen::{Pen, all, commit};
use crate::contract::{Batch, CommitOutcome, Committed};
use crate::error::CommitError;
use tape_core::agenda::{AgendaChange, Item, Queue};
use tape_core::id::Seq;
use tape_core::time::Timestamp;

/// Whatever the content of the batch, and whether it comes alone.
pub(super) async fn a_batch_on_an_entry_that_was_lost_conflicts(fixture: Fixture) {
    let store = fixture.store.as_ref();
    let (mut pen, mut lost) = (Pen::new("a"), Pen::new("a"));
    lost.advance(&lost.batch(&["lost"]));
    pen.write(store, &["kept"]).await;
    let work = AgendaChange {
        queue: Queue::Timers,
        item: Item::Run,
        was: None,
        due: Some(Timestamp::from_micros(1)),
    };
    let with_work = Batch {
        agenda: vec![work],
        ..lost.batch(&["with work"])
    };
    for batch in [lost.batch(&["one"]), lost.batch(&["two", "three"]), with_work] {
        let mut other = Pen::new(&format!("other-{}", batch.id.0));
        let good = other.batch(&["good"]);
        assert_conflict(&commit(store, batch.clone()).await);
        let answers = store.commit(vec![batch.clone(), good.clone()]).await;
        assert_conflict(&answers[0]);
        assert!(answers[1].is_ok(), "its neighbour fits: {:?}", answers[1]);
        other.advance(&good);
        assert_eq!(all(store, &other.stream).await, good.entries);
        assert_eq!(store.resolve(&batch).await.unwrap(), CommitOutcome::NotCommitted);
    }
    assert_eq!(all(store, &pen.stream).await.len(), 1);
    pen.write(store, &["two"]).await;
    pen.write(store, &["three", "four"]).await;
    let head = store.head(&pen.stream).await.unwrap().unwrap();
    assert_eq!((head.seq, head.digest), (Seq(4), pen.digest));
}

fn assert_conflict(answer: &Result<Committed, CommitError>) {
    let fits = matches!(answer, Err(CommitError::Conflict { expected, current, .. }) if (*expected, *current) == (Seq(1), Seq(1)));
    assert!(
        fits,
        "the last entry has the number that the batch says, and another digest: {answer:?}"
    );
}

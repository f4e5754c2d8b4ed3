//! Commands: one outcome each, and refusals.

use super::agent::{Driven, ask, begin, run_id, text};
use crate::{Journal, JournalError};
use std::sync::Arc;
use tape_core::command::{Command, DriverCommand, RunCommand};
use tape_core::entry::EntryBody;
use tape_core::erasure::Erasure;
use tape_core::id::{Epoch, Key, Principal, Seq};
use tape_core::reply::Rejection;

fn checkpoint(at: &str) -> RunCommand {
    let state = text(at);
    let label = Key::new("k").unwrap();
    RunCommand::Drive(Epoch(1), DriverCommand::Checkpoint { label, state })
}

pub(super) async fn a_request_has_one_outcome(journal: Arc<dyn Journal>) {
    let run = run_id("t", "i");
    ask(&journal, &run, begin(&run, "x")).await.unwrap();
    let command = Command::new(journal.request_id(), checkpoint("here"));
    let first = journal.run(&run, command.clone()).await.unwrap();
    let again = journal.run(&run, command.clone()).await.unwrap();
    assert_eq!(first, again);
    let other = Command::new(command.request, checkpoint("elsewhere"));
    let refused = journal.run(&run, other).await;
    assert!(
        matches!(
            refused,
            Err(JournalError::Rejected(Rejection::RequestReused { .. }))
        ),
        "{refused:?}"
    );
    let (seq, _) = journal.head(&run).await.unwrap().unwrap();
    assert_eq!(seq, first.seq, "it is written once");
}

pub(super) async fn what_the_rules_refuse_is_rejected(journal: Arc<dyn Journal>) {
    let run = run_id("t", "i");
    let refused = ask(&journal, &run, checkpoint("here")).await;
    assert!(matches!(refused, Err(JournalError::Rejected(_))), "{refused:?}");
    assert_eq!(journal.head(&run).await.unwrap(), None, "nothing is written");
    let run = Driven::begin(&journal, run, "x").await;
    let again = ask(&journal, &run.run, begin(&run.run, "x")).await;
    assert!(
        matches!(again, Err(JournalError::Rejected(Rejection::LeaseHeld { .. }))),
        "{again:?}"
    );
    let stale = RunCommand::Drive(Epoch(0), DriverCommand::AcceptCancel);
    let refused = ask(&journal, &run.run, stale).await;
    assert!(matches!(refused, Err(JournalError::Rejected(_))), "{refused:?}");
}

pub(super) async fn a_payload_is_erased_and_an_entry_says_so(journal: Arc<dyn Journal>) {
    let run = Driven::begin(&journal, run_id("t", "i"), "x").await;
    run.decide().await;
    let erasing = |entry: u64| Command {
        principal: Some(Principal::new("olga").unwrap()),
        ..Command::new(
            journal.request_id(),
            Erasure {
                entries: vec![Seq(entry)],
                reason: "asked for".to_owned(),
            },
        )
    };
    for beyond in [99, u64::MAX - 1, u64::MAX] {
        let refused = journal.erase(&run.stream(), erasing(beyond)).await;
        assert!(matches!(refused, Err(JournalError::Rejected(_))), "{refused:?}");
    }
    let said = journal.erase(&run.stream(), erasing(1)).await.unwrap();
    journal.finish_erasures(&run.stream()).await.unwrap();
    let first = journal.read(&run.run, Seq::ZERO, 1).await.unwrap();
    assert_eq!(first[0].payload, None);
    let entry = journal.read(&run.run, Seq(said.0 - 1), 1).await.unwrap();
    let entry = tape_core::codec::decode(&entry[0]).unwrap();
    assert!(matches!(entry.body, EntryBody::PayloadErased(_)), "{entry:?}");
    assert_eq!(entry.principal.unwrap().as_str(), "olga");
}

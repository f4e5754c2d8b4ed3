//! Values: versions and transitions.

use super::agent::text;
use crate::{Journal, JournalError};
use futures::StreamExt as _;
use std::sync::Arc;
use tape_core::command::{Command, ValueCommand};
use tape_core::erasure::Erasure;
use tape_core::id::{Seq, StreamId, Tenant, ValueName};
use tape_core::reply::{Rejection, ReplyResult};

pub(super) async fn each_change_of_a_value_is_seen_once_and_in_order(journal: Arc<dyn Journal>) {
    let (tenant, name) = (Tenant::new("t").unwrap(), ValueName::new("rate").unwrap());
    assert_eq!(journal.value_state(&tenant, &name).await.unwrap(), None);
    let change = async |body: ValueCommand| {
        let command = Command::new(journal.request_id(), body);
        journal.value(&tenant, &name, command).await
    };
    let put = |value: &str, expected| ValueCommand::Put {
        value: text(value),
        expected,
    };
    for (n, value) in ["a", "b"].into_iter().enumerate() {
        let reply = change(put(value, None)).await.unwrap();
        let version = n as u64 + 1;
        assert_eq!(reply.result, ReplyResult::Version { version });
    }
    let refused = change(put("x", Some(1))).await;
    assert!(
        matches!(
            refused,
            Err(JournalError::Rejected(Rejection::VersionConflict { .. }))
        ),
        "{refused:?}"
    );
    let mut changes = journal.watch(&tenant, &name, 1);
    let second = changes.next().await.unwrap().unwrap();
    assert_eq!((second.version, second.value), (2, Some(text("b"))));
    assert_eq!(second.previous, Some(text("a")));
    change(ValueCommand::Delete { expected: Some(2) }).await.unwrap();
    let third = changes.next().await.unwrap().unwrap();
    assert_eq!((third.version, third.value), (3, None));
    assert_eq!(third.previous, Some(text("b")));
    let state = journal.value_state(&tenant, &name).await.unwrap().unwrap();
    assert_eq!((state.version, state.value), (3, None));
}

pub(super) async fn a_value_that_was_erased_is_seen_as_erased(journal: Arc<dyn Journal>) {
    let (tenant, name) = (Tenant::new("t").unwrap(), ValueName::new("rate").unwrap());
    for value in ["a", ""] {
        let (value, expected) = (text(value), None);
        let command = Command::new(journal.request_id(), ValueCommand::Put { value, expected });
        journal.value(&tenant, &name, command).await.unwrap();
    }
    let erasure = Erasure {
        entries: vec![Seq(1)],
        reason: "asked for".to_owned(),
    };
    let stream = StreamId::Value {
        tenant: tenant.clone(),
        name: name.clone(),
    };
    let command = Command::new(journal.request_id(), erasure);
    journal.erase(&stream, command).await.unwrap();
    journal.finish_erasures(&stream).await.unwrap();
    let mut changes = journal.watch(&tenant, &name, 0);
    let first = changes.next().await.unwrap().unwrap();
    assert_eq!((first.version, first.value, first.erased), (1, None, true));
    let second = changes.next().await.unwrap().unwrap();
    // An empty value is none that was erased.
    assert_eq!((second.value, second.erased), (Some(text("")), false));
    assert_eq!(second.previous, None, "it was erased");
}

//! Arguments at and beyond their bounds: every journal takes and refuses the same, and says the same of what it refuses.

use super::agent::{Driven, ask, begin, run_id};
use super::sessions::{append, create};
use crate::argument::{DUE, ENTRIES, EVENTS, RUNS};
use crate::query::{
    GatePage, GateQuery, OlderEvents, Retirement, RunQuery, SessionPage, SessionQuery, ValuePage, ValueQuery,
};
use crate::{Journal, JournalError};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;
use tape_core::agenda::Queue;
use tape_core::id::{RunId, Seq, Tenant};
use tape_core::state::Delta;

/// Sizes for which a whole list is returned where it has no more than the largest page.
const LARGE: [u32; 2] = [4_097, u32::MAX];
/// What no list gives out as a token.
const GARBLED: [&str; 12] = [
    "-1",
    "+1",
    "+1.1",
    "01.1",
    "1.01",
    "completed:",
    "garbled",
    "[]",
    "[{}]",
    "1.-1",
    "99999999999999999999",
    "\u{e4}",
];

fn acme() -> Tenant {
    Tenant::new("t").unwrap()
}

fn gates() -> GateQuery {
    GateQuery {
        tenant: acme(),
        app: None,
    }
}

fn values() -> ValueQuery {
    ValueQuery {
        tenant: acme(),
        prefix: None,
    }
}

/// A run with one entry and one effect more than a page of the usual size has.
async fn with_effects(journal: &Arc<dyn Journal>) -> Driven {
    let run = Driven::begin(journal, run_id("t", "i"), "x").await;
    run.decide().await;
    for call in 0..=u16::try_from(DUE.usual).unwrap() {
        run.effect(call).await;
    }
    run
}

pub(super) async fn a_page_of_size_zero_is_the_usual_one(journal: Arc<dyn Journal>) {
    let run = with_effects(&journal).await;
    let entries = journal.read(&run.run, Seq::ZERO, 0).await.unwrap();
    assert_eq!(entries.len(), ENTRIES.usual as usize);
    loop {
        let due = journal.due(Queue::Outbox, Duration::ZERO, None, 0).await.unwrap();
        assert!(due.work.len() <= DUE.usual as usize);
        // A server's clock may reach the time of the last piece a moment later.
        if due.next.is_some() {
            assert_eq!(due.work.len(), DUE.usual as usize);
            break;
        }
        tokio::task::yield_now().await;
    }
    for n in 0..RUNS.usual {
        let run = run_id("t", &format!("run-{n}"));
        ask(&journal, &run, begin(&run, "x")).await.unwrap();
    }
    let runs = journal.runs(&RunQuery::all(acme()), None, 0).await.unwrap();
    assert_eq!(runs.runs.len(), RUNS.usual as usize);
    assert!(runs.next.is_some());
}

pub(super) async fn no_events_are_asked_for_with_a_state_alone(journal: Arc<dyn Journal>) {
    let session = run_id("t", "i").session();
    create(&journal, &session).await;
    for n in 0..=EVENTS.usual {
        append(&journal, &session, &format!("e{n}"), Delta::default()).await;
    }
    let view = journal.session_view(&session, 0).await.unwrap().unwrap();
    assert_eq!((view.events.len(), view.older), (0, None));
    let first = OlderEvents(String::new());
    let page = journal.session_events(&session, first.clone(), 0).await.unwrap();
    assert_eq!(page.events.len(), EVENTS.usual as usize);
    let rest = journal
        .session_events(&session, page.older.unwrap(), 0)
        .await
        .unwrap();
    assert_eq!((rest.events.len(), rest.older), (1, None));
    for size in LARGE {
        let view = journal.session_view(&session, size).await.unwrap().unwrap();
        let page = journal
            .session_events(&session, first.clone(), size)
            .await
            .unwrap();
        assert_eq!((&view.events, &view.older), (&page.events, &page.older));
        assert_eq!((page.events.len(), page.older), (EVENTS.usual as usize + 1, None));
    }
}

pub(super) async fn a_page_that_is_too_large_is_the_largest(journal: Arc<dyn Journal>) {
    let run = Driven::begin(&journal, run_id("t", "i"), "x").await;
    for size in LARGE {
        let entries = journal.read(&run.run, Seq::ZERO, size).await.unwrap();
        assert_eq!(entries.len(), 2);
        let runs = journal.runs(&RunQuery::all(acme()), None, size).await.unwrap();
        assert_eq!((runs.runs.len(), runs.next), (1, None));
        let gates = journal.open_gates(&gates(), None, size).await.unwrap();
        assert_eq!(gates, GatePage::default());
        let sessions = journal.sessions(&SessionQuery::all(acme()), None, size).await;
        assert_eq!(sessions.unwrap(), SessionPage::default());
        let values = journal.values(&values(), None, size).await.unwrap();
        assert_eq!(values, ValuePage::default());
        let due = journal
            .due(Queue::Outbox, Duration::ZERO, None, size)
            .await
            .unwrap();
        assert_eq!((due.work.len(), due.next), (0, None));
    }
}

pub(super) async fn an_empty_token_is_that_of_the_first_page(journal: Arc<dyn Journal>) {
    let run = with_effects(&journal).await;
    let (all, first) = (RunQuery::all(acme()), Some(""));
    assert_eq!(
        journal.runs(&all, first, 10).await.unwrap(),
        journal.runs(&all, None, 10).await.unwrap()
    );
    assert_eq!(
        journal.count_runs(&all, first).await.unwrap(),
        journal.count_runs(&all, None).await.unwrap()
    );
    assert!(journal.open_gates(&gates(), first, 10).await.is_ok());
    assert!(
        journal
            .sessions(&SessionQuery::all(acme()), first, 10)
            .await
            .is_ok()
    );
    assert!(journal.values(&values(), first, 10).await.is_ok());
    let due = async |from| journal.due(Queue::Outbox, Duration::ZERO, from, 1).await.unwrap();
    let named = |page: crate::due::DuePage| page.work.into_iter().map(|work| work.item).next();
    assert_eq!(named(due(first).await), named(due(None).await));
    assert_eq!(
        journal.streams(first).await.unwrap(),
        journal.streams(None).await.unwrap()
    );
    assert_eq!(
        journal.check_index(first, false).await.unwrap(),
        journal.check_index(None, false).await.unwrap()
    );
    let retired = journal.retire(&retirement("old"), None, first).await.unwrap();
    assert_eq!(retired.runs, 0);
    assert!(journal.head(&run.run).await.unwrap().is_some());
}

fn retirement(reason: &str) -> Retirement {
    Retirement {
        tenant: acme(),
        older_than: Duration::from_secs(3_600),
        reason: reason.to_owned(),
        dry_run: false,
    }
}

fn refused<T: Debug>(told: Result<T, JournalError>, argument: &str, given: &str) {
    let Err(JournalError::Invalid(problem)) = &told else {
        panic!("{given:?}: {told:?}");
    };
    assert!(
        problem.starts_with(&format!("{argument}: ")),
        "{given:?}: {problem}"
    );
}

pub(super) async fn a_garbled_token_is_refused_by_every_list(journal: Arc<dyn Journal>) {
    let session = run_id("t", "i").session();
    create(&journal, &session).await;
    let missing = RunId::new("t", "app", "user", "missing", "i").unwrap().session();
    let all = RunQuery::all(acme());
    for garbled in GARBLED {
        let (token, from) = ("page_token", Some(garbled));
        refused(journal.runs(&all, from, 10).await, token, garbled);
        refused(journal.count_runs(&all, from).await, token, garbled);
        refused(journal.open_gates(&gates(), from, 10).await, token, garbled);
        let sessions = SessionQuery::all(acme());
        refused(journal.sessions(&sessions, from, 10).await, token, garbled);
        refused(journal.values(&values(), from, 10).await, token, garbled);
        refused(journal.streams(from).await, token, garbled);
        let retired = journal.retire(&retirement("old"), None, from).await;
        refused(retired, token, garbled);
        let due = journal.due(Queue::Outbox, Duration::ZERO, from, 1).await;
        refused(due, token, garbled);
        refused(journal.check_index(from, false).await, token, garbled);
        let within = format!("streams {garbled}");
        let checked = journal.check_index(Some(&within), false).await;
        refused(checked, token, &within);
        // What is wrong with the arguments is said before what is not there.
        for session in [&session, &missing] {
            let from = OlderEvents(garbled.to_owned());
            let events = journal.session_events(session, from, 1).await;
            refused(events, token, garbled);
        }
    }
}

pub(super) async fn a_reason_is_checked_before_a_token(journal: Arc<dyn Journal>) {
    for reason in ["", &"x".repeat(8_193)] {
        for token in [None, Some("garbled")] {
            let told = journal.retire(&retirement(reason), None, token).await;
            refused(told, "reason", reason);
        }
    }
    let longest = retirement(&"x".repeat(8_192));
    assert!(journal.retire(&longest, None, None).await.is_ok());
}

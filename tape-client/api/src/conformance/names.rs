//! Lists of sessions and of values, by their names.

use super::agent::{TENANTS, tenant, text};
use super::sessions::{append, ask, create};
use crate::Journal;
use crate::query::{SessionQuery, SessionSummary, ValueQuery, ValueSummary};
use std::sync::Arc;
use tape_core::codec::decode;
use tape_core::command::{Command, SessionCommand, ValueCommand};
use tape_core::id::{App, RunId, Seq, SessionId, StreamId, Tenant, User, ValueName};
use tape_core::state::Delta;
use tape_core::time::Timestamp;

fn session(tenant: &str, (app, user, name): (&str, &str, &str)) -> SessionId {
    RunId::new(tenant, app, user, name, "i").unwrap().session()
}

/// All sessions, in pages of one.
async fn sessions(journal: &Arc<dyn Journal>, query: &SessionQuery) -> Vec<SessionSummary> {
    let (mut sessions, mut from): (Vec<SessionSummary>, Option<String>) = (Vec::new(), None);
    loop {
        let page = journal.sessions(query, from.as_deref(), 1).await.unwrap();
        assert!(page.sessions.len() <= 1, "a page has at most what was asked for");
        assert_eq!(page.damaged, []);
        sessions.extend(page.sessions);
        from = page.next;
        if from.is_none() {
            return sessions;
        }
    }
}

/// When an entry of a stream was recorded.
async fn recorded_at(journal: &Arc<dyn Journal>, stream: &StreamId, seq: Seq) -> Timestamp {
    let mut pages = journal.stream_entries(stream);
    while let Some(page) = futures::StreamExt::next(&mut pages).await {
        if let Some(entry) = page.unwrap().iter().find(|entry| entry.seq == seq) {
            return decode(entry).unwrap().at;
        }
    }
    panic!("entry {seq} of {stream} is not there");
}

/// In the order of their names with escapes: `%` comes before `/` and letters.
const SESSIONS: [(&str, &str, &str); 6] = [
    ("a/p", "ann", "s"),
    ("ap", "ann", "s"),
    ("app", "an.n", "s 1"),
    ("app", "an", "s"),
    ("app", "ann", "s"),
    ("app", "ann", "s2"),
];

pub(super) async fn sessions_are_listed_in_the_order_of_their_names(journal: Arc<dyn Journal>) {
    for of in SESSIONS.iter().rev() {
        for name in TENANTS {
            create(&journal, &session(name, *of)).await;
        }
    }
    for name in TENANTS {
        let all = SessionQuery::all(tenant(name));
        let is = async |app: Option<&str>, user: Option<&str>, fit: &[usize]| {
            let query = SessionQuery {
                app: app.map(|app| App::new(app).unwrap()),
                user: user.map(|user| User::new(user).unwrap()),
                ..all.clone()
            };
            let found = sessions(&journal, &query).await;
            let found: Vec<SessionId> = found.into_iter().map(|found| found.session).collect();
            let fit: Vec<SessionId> = fit.iter().map(|n| session(name, SESSIONS[*n])).collect();
            assert_eq!(found, fit, "{query:?}");
        };
        is(None, None, &[0, 1, 2, 3, 4, 5]).await;
        is(Some("app"), None, &[2, 3, 4, 5]).await;
        is(Some("app"), Some("an"), &[3]).await;
        is(Some("app"), Some("an.n"), &[2]).await;
        is(None, Some("ann"), &[0, 1, 4, 5]).await;
        is(Some("a/p"), None, &[0]).await;
        is(Some("a"), None, &[]).await;
    }
    let changed = session("ab", SESSIONS[2]);
    let seq = append(&journal, &changed, "e", Delta::default()).await;
    let gone = session("ab", SESSIONS[4]);
    let deleted = ask(&journal, &gone, SessionCommand::Delete).await.unwrap();
    let left = sessions(&journal, &SessionQuery::all(tenant("ab"))).await;
    assert_eq!(left.len(), 5);
    assert!(left.iter().all(|left| left.session != gone && !left.deleted));
    let query = SessionQuery {
        deleted: true,
        ..SessionQuery::all(tenant("ab"))
    };
    let found = sessions(&journal, &query).await;
    assert_eq!(found.len(), 6);
    for (n, session, seq, is_deleted) in [(2, changed, seq, false), (4, gone, deleted.seq, true)] {
        let at = recorded_at(&journal, &StreamId::Session(session.clone()), seq).await;
        let summary = SessionSummary {
            session,
            seq,
            changed_at: at,
            deleted: is_deleted,
        };
        assert_eq!(found[n], summary);
    }
}

async fn change(journal: &Arc<dyn Journal>, tenant: &Tenant, name: &ValueName, body: ValueCommand) {
    let command = Command::new(journal.request_id(), body);
    journal.value(tenant, name, command).await.unwrap();
}

/// All values, in pages of one.
async fn values(journal: &Arc<dyn Journal>, query: &ValueQuery) -> Vec<ValueSummary> {
    let (mut values, mut from): (Vec<ValueSummary>, Option<String>) = (Vec::new(), None);
    loop {
        let page = journal.values(query, from.as_deref(), 1).await.unwrap();
        assert!(page.values.len() <= 1, "a page has at most what was asked for");
        assert_eq!(page.damaged, []);
        values.extend(page.values);
        from = page.next;
        if from.is_none() {
            return values;
        }
    }
}

pub(super) async fn values_are_listed_in_the_order_of_their_names(journal: Arc<dyn Journal>) {
    let names = ["100%", "rate", "rate/eur", "rate/usd", "rates"].map(|name| ValueName::new(name).unwrap());
    let put = |value: &str| ValueCommand::Put {
        value: text(value),
        expected: None,
    };
    for name in names.iter().rev() {
        for tenant in TENANTS.map(tenant) {
            change(&journal, &tenant, name, put("a")).await;
        }
    }
    for tenant in TENANTS.map(tenant) {
        for (prefix, fit) in [
            (None, &[0, 1, 2, 3, 4][..]),
            (Some("rate"), &[1, 2, 3, 4]),
            (Some("rate/"), &[2, 3]),
            (Some("rate/usd"), &[3]),
            (Some("1"), &[0]),
            (Some("%"), &[]),
        ] {
            let query = ValueQuery {
                tenant: tenant.clone(),
                prefix: prefix.map(|prefix| ValueName::new(prefix).unwrap()),
            };
            let found = values(&journal, &query).await;
            let found: Vec<ValueName> = found.into_iter().map(|found| found.name).collect();
            let fit: Vec<ValueName> = fit.iter().map(|n: &usize| names[*n].clone()).collect();
            assert_eq!(found, fit, "{query:?}");
        }
    }
    let tenant = tenant("ab");
    change(&journal, &tenant, &names[1], put("b")).await;
    let delete = ValueCommand::Delete { expected: None };
    change(&journal, &tenant, &names[4], delete).await;
    let query = ValueQuery {
        tenant: tenant.clone(),
        prefix: None,
    };
    let found = values(&journal, &query).await;
    for (n, deleted) in [(1, false), (4, true)] {
        let name = names[n].clone();
        let stream = StreamId::Value {
            tenant: tenant.clone(),
            name: name.clone(),
        };
        let seq = journal.stream_end(&stream).await.unwrap().unwrap().seq;
        let summary = ValueSummary {
            name,
            version: 2,
            changed_at: recorded_at(&journal, &stream, seq).await,
            deleted,
        };
        assert_eq!(found[n], summary);
    }
}

//! Lists of sessions and of values, through an engine over the store.

use super::engines::text;
use super::run_queries::{TENANTS, by_hand, tenant};
use crate::Engine;
use std::collections::BTreeMap;
use tape_api::JournalError;
use tape_api::query::{SessionQuery, SessionSummary, ValueQuery, ValueSummary};
use tape_core::codec::decode;
use tape_core::command::{Command, SessionCommand, ValueCommand};
use tape_core::id::{App, EventId, RunId, Seq, SessionId, StreamId, User, ValueName};
use tape_core::state::Delta;
use tape_core::time::Timestamp;
use tape_store::conformance::Fixture;
use tape_store::conformance::pen::all;

/// App, user and name of the sessions of each tenant, and whether each is deleted in the end.
const SESSIONS: [([&str; 3], bool); 7] = [
    (["pay", "ann", "s1"], false),
    (["pay", "ann", "s 10"], true),
    (["pay", "ann", "s2"], false),
    (["pay", "anne", "s1"], false),
    (["pay/roll", "ann", "s1"], false),
    (["pay.2", "a*>", "100%"], true),
    (["Pay", "ann", "s1"], false),
];

const VALUES: [(&str, bool); 6] = [
    ("rates", false),
    ("rates/eur", false),
    ("rates/usd", true),
    ("Rates", false),
    ("ratés", false),
    ("100% *", true),
];

fn session(tenant: &str, [app, user, name]: [&str; 3]) -> SessionId {
    RunId::new(tenant, app, user, name, "i").unwrap().session()
}

async fn ask(engine: &Engine, session: &SessionId, body: SessionCommand) {
    let command = Command::new(engine.request_id(), body);
    engine.session(session, command).await.unwrap();
}

/// The last entry of a stream, and when it was recorded, by the entries.
async fn end(fixture: &Fixture, stream: &StreamId) -> (Seq, Timestamp) {
    let entries = all(fixture.store.as_ref(), stream).await;
    let last = decode(entries.last().unwrap()).unwrap();
    (last.seq, last.at)
}

async fn listed(engine: &Engine, query: &SessionQuery, limit: u32) -> Vec<SessionSummary> {
    let (mut sessions, mut from) = (Vec::new(), None);
    loop {
        let page = engine.list_sessions(query, from.as_deref(), limit).await.unwrap();
        assert!(page.sessions.len() <= limit as usize && page.damaged.is_empty());
        sessions.extend(page.sessions);
        from = page.next;
        if from.is_none() {
            return sessions;
        }
    }
}

pub(super) async fn sessions_are_listed(fixture: Fixture) {
    let (engine, clock) = by_hand(&fixture);
    let mut known: BTreeMap<String, SessionSummary> = BTreeMap::new();
    for tenant in TENANTS {
        for (parts, deleted) in SESSIONS {
            let session = session(tenant, parts);
            let create = SessionCommand::Create {
                session: session.clone(),
                state: Delta::default(),
            };
            ask(&engine, &session, create).await;
            clock.advance_ms(1);
            let append = SessionCommand::Append {
                event: EventId::new("e").unwrap(),
                expected: None,
                invocation: None,
                author: "user".to_owned(),
                delta: Delta::default(),
                content: text("hello"),
            };
            ask(&engine, &session, append).await;
            clock.advance_ms(1);
            if deleted {
                ask(&engine, &session, SessionCommand::Delete).await;
            }
            let stream = StreamId::Session(session.clone());
            let (seq, changed_at) = end(&fixture, &stream).await;
            let summary = SessionSummary {
                session,
                seq,
                changed_at,
                deleted,
            };
            known.insert(stream.to_string(), summary);
        }
    }
    let (app, user) = (App::new("pay").unwrap(), User::new("ann").unwrap());
    for name in TENANTS {
        for of_app in [None, Some(&app)] {
            for of_user in [None, Some(&user)] {
                for deleted in [false, true] {
                    let query = SessionQuery {
                        app: of_app.cloned(),
                        user: of_user.cloned(),
                        deleted,
                        ..SessionQuery::all(tenant(name))
                    };
                    let fits = |known: &&SessionSummary| {
                        known.session.tenant == query.tenant
                            && of_app.is_none_or(|app| *app == known.session.app)
                            && of_user.is_none_or(|user| *user == known.session.user)
                            && (deleted || !known.deleted)
                    };
                    let expected: Vec<SessionSummary> = known.values().filter(fits).cloned().collect();
                    assert!(!expected.is_empty());
                    for limit in [1, 3, 100] {
                        assert_eq!(listed(&engine, &query, limit).await, expected, "{query:?}");
                    }
                }
            }
        }
    }
    let all = SessionQuery::all(tenant("acme"));
    let refused = engine.list_sessions(&all, Some("acme2/session/a/b/c"), 10).await;
    assert!(matches!(refused, Err(JournalError::Invalid(_))), "{refused:?}");
}

pub(super) async fn values_are_listed(fixture: Fixture) {
    let (engine, clock) = by_hand(&fixture);
    let mut known: BTreeMap<String, (StreamId, ValueSummary)> = BTreeMap::new();
    for name in TENANTS {
        let tenant = tenant(name);
        for (name, deleted) in VALUES {
            let name = ValueName::new(name).unwrap();
            let mut commands = vec![
                ValueCommand::Put {
                    value: text("old"),
                    expected: None,
                },
                ValueCommand::Put {
                    value: text("new"),
                    expected: None,
                },
            ];
            commands.extend(deleted.then_some(ValueCommand::Delete { expected: None }));
            let version = commands.len() as u64;
            for command in commands {
                clock.advance_ms(1);
                let command = Command::new(engine.request_id(), command);
                engine.value(&tenant, &name, command).await.unwrap();
            }
            let stream = StreamId::Value {
                tenant: tenant.clone(),
                name: name.clone(),
            };
            let (_, changed_at) = end(&fixture, &stream).await;
            let summary = ValueSummary {
                name,
                version,
                changed_at,
                deleted,
            };
            known.insert(stream.to_string(), (stream, summary));
        }
    }
    for name in TENANTS {
        for prefix in [None, Some("rates"), Some("rates/"), Some("100% "), Some("z")] {
            let query = ValueQuery {
                tenant: tenant(name),
                prefix: prefix.map(|prefix| ValueName::new(prefix).unwrap()),
            };
            let fits = |(stream, known): &&(StreamId, ValueSummary)| {
                *stream.tenant() == query.tenant
                    && known.name.as_str().starts_with(prefix.unwrap_or_default())
            };
            let expected = known.values().filter(fits).map(|(_, summary)| summary.clone());
            let expected: Vec<ValueSummary> = expected.collect();
            for limit in [1, 100] {
                let (mut values, mut from) = (Vec::new(), None);
                loop {
                    let page = engine.list_values(&query, from.as_deref(), limit).await.unwrap();
                    values.extend(page.values);
                    from = page.next;
                    if from.is_none() {
                        break;
                    }
                }
                assert_eq!(values, expected, "{query:?}");
            }
        }
    }
}

//! Lists of sessions and values by name.

use super::Fixture;
use super::pen::Pen;
use crate::contract::{JournalStore, PageToken};
use crate::error::StoreError;
use tape_core::id::{App, StreamId, StreamPrefix, Tenant, User, ValueName};

/// Of three tenants whose names begin alike, in no order. Some names have characters that are escaped, or several bytes long.
const STREAMS: [&str; 26] = [
    "acme/value/rates",
    "acme2/session/app/ann/s1",
    "acme/session/app/ann/s2",
    "acme/session/app/ann/s1",
    "acme/session/app/ann/s10",
    "acme/session/app/ann/S1",
    "acme/session/app/anne/s1",
    "acme/session/app/ann%2Fe/s1",
    "acme/session/app2/ann/s1",
    "acme/session/app%2F/ann/s1",
    "acme/session/app%2E%2A%3E/%25/a%20b",
    "acme/session/äpp/ann/s1",
    "acme/session/~/ann/s1",
    "acme%2F/session/app/ann/s1",
    "acme%2Fsession/value/app",
    "acme/run/app/ann/s1/i1",
    "acme/shared/app",
    "acme/claim/bank/session",
    "acme/value/rates%2Feur",
    "acme/value/Rates",
    "acme/value/ratés",
    "acme/value/rate",
    "acme/value/rates0",
    "acme/value/session",
    "acme2/value/rates",
    "session/session/session/session/session",
];

fn tenant(name: &str) -> Tenant {
    Tenant::new(name).expect("it is a name")
}

/// The streams with a prefix, as their names say, in the order of their bytes.
fn expected(prefix: &StreamPrefix) -> Vec<String> {
    let names = STREAMS.iter().filter(|name| name.starts_with(prefix.as_str()));
    let mut names: Vec<String> = names.map(|name| (*name).to_owned()).collect();
    names.sort_unstable();
    names
}

async fn listed(store: &dyn JournalStore, prefix: &StreamPrefix, limit: u32) -> Vec<String> {
    let (mut names, mut from) = (Vec::new(), None);
    loop {
        let page = store.named(prefix, from.as_ref(), limit).await;
        let page = page.expect("they are listed");
        assert!(
            page.streams.len() <= limit as usize,
            "a page has at most what was asked for"
        );
        names.extend(page.streams.iter().map(ToString::to_string));
        from = page.next;
        if from.is_none() {
            return names;
        }
        assert!(names.len() <= STREAMS.len(), "the pages come to an end");
    }
}

fn prefixes() -> Vec<StreamPrefix> {
    let (acme, app) = (tenant("acme"), App::new("app").expect("it is a name"));
    let (escaped, user) = (
        App::new("app.*>").expect("it is a name"),
        User::new("ann").expect("it is a name"),
    );
    let percent = User::new("%").expect("it is a name");
    let name = |name: &str| ValueName::new(name).expect("it is a name");
    vec![
        StreamPrefix::sessions(&acme, None),
        StreamPrefix::sessions(&acme, Some((&app, None))),
        StreamPrefix::sessions(&acme, Some((&app, Some(&user)))),
        StreamPrefix::sessions(&acme, Some((&escaped, Some(&percent)))),
        StreamPrefix::sessions(&tenant("acme2"), None),
        StreamPrefix::sessions(&tenant("acme/"), None),
        StreamPrefix::sessions(&tenant("acm"), None),
        StreamPrefix::sessions(&tenant("session"), None),
        StreamPrefix::values(&acme, None),
        StreamPrefix::values(&acme, Some(&name("rates"))),
        StreamPrefix::values(&acme, Some(&name("rates/"))),
        StreamPrefix::values(&acme, Some(&name("rat"))),
        StreamPrefix::values(&acme, Some(&name("z"))),
        StreamPrefix::values(&tenant("acme/session"), None),
    ]
}

pub(super) async fn streams_are_listed_by_their_names(fixture: Fixture) {
    let store = fixture.store.as_ref();
    for name in STREAMS {
        let mut pen = Pen::on(name.parse::<StreamId>().expect("it is a stream"));
        pen.write(store, &["one"]).await;
        pen.write(store, &["two", "three"]).await;
    }
    for prefix in prefixes() {
        for limit in [1, 2, 100] {
            let found = listed(store, &prefix, limit).await;
            assert_eq!(found, expected(&prefix), "{prefix:?} in pages of {limit}");
        }
    }
    assert_eq!(expected(&prefixes()[0]).len(), 11, "the test lists something");
}

pub(super) async fn a_page_of_names_begins_where_its_own_list_stopped(fixture: Fixture) {
    let store = fixture.store.as_ref();
    for name in ["t/value/a", "t/value/b", "t/value/d"] {
        let mut pen = Pen::on(name.parse::<StreamId>().expect("it is a stream"));
        pen.write(store, &["one"]).await;
    }
    let values = StreamPrefix::values(&tenant("t"), None);
    let first = store.named(&values, None, 2).await.expect("they are listed");
    let next = first.next.expect("there is another page");
    // What comes before the place is not seen, and what comes after is, whenever it was made.
    for name in ["t/value/aa", "t/value/c"] {
        let mut pen = Pen::on(name.parse::<StreamId>().expect("it is a stream"));
        pen.write(store, &["one"]).await;
    }
    let rest = store
        .named(&values, Some(&next), 10)
        .await
        .expect("they are listed");
    let rest: Vec<String> = rest.streams.iter().map(ToString::to_string).collect();
    assert_eq!(rest, ["t/value/c", "t/value/d"]);
    let sessions = StreamPrefix::sessions(&tenant("t"), None);
    for (prefix, token) in [
        (&sessions, next.clone()),
        (&values, PageToken("not a token".to_owned())),
    ] {
        let refused = store.named(prefix, Some(&token), 10).await;
        assert!(matches!(refused, Err(StoreError::Invalid { .. })), "{refused:?}");
    }
}

//! The list of streams, for the comparison with the indexes.

use super::Fixture;
use super::pen::{Pen, run};
use crate::contract::PageToken;
use crate::error::StoreError;
use std::collections::BTreeSet;
use tape_core::id::StreamId;

pub(super) async fn every_stream_is_found_once(fixture: Fixture) {
    let store = fixture.store.as_ref();
    let mut names: BTreeSet<StreamId> = (0..7).map(|n| StreamId::Run(run(&format!("r/{n}")))).collect();
    let others = [
        "t/session/app/user/session",
        "t/shared/app",
        "t/value/v",
        "u/value/v",
        "t/claim/bank/invoice-7",
    ];
    names.extend(others.map(|name| name.parse::<StreamId>().expect("it is a stream")));
    for stream in &names {
        let mut pen = Pen::on(stream.clone());
        // More than one: some stores keep long streams in several rows.
        for _ in 0..3 {
            pen.write(store, &["one", "two"]).await;
        }
    }
    let (mut found, mut from): (Vec<StreamId>, Option<PageToken>) = (Vec::new(), None);
    loop {
        let page = store
            .upkeep()
            .streams(from.as_ref(), 3)
            .await
            .expect("they are read");
        assert!(page.streams.len() <= 3, "a page has at most what was asked for");
        assert_eq!(page.unreadable, Vec::<String>::new());
        found.extend(page.streams);
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    assert_eq!(found.len(), names.len(), "each is found once: {found:?}");
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), names);
    for foreign in ["not a token", "", "+1", " 1", "0x1"] {
        let foreign = PageToken(foreign.to_owned());
        let refused = store.upkeep().streams(Some(&foreign), 3).await;
        assert!(
            matches!(refused, Err(StoreError::Invalid { .. })),
            "{foreign:?}: {refused:?}"
        );
    }
}

//! Business keys.

use super::agent::{Driven, TENANTS, run_id, tenant};
use crate::Journal;
use crate::query::KeyOwnership;
use std::sync::Arc;
use tape_core::id::{BusinessKey, ConnectorName, StreamId};

const KEY: &str = "invoice 7/a.b%2F";

pub(super) async fn a_business_key_has_one_owner(journal: Arc<dyn Journal>) {
    let owner = async |name: &str, connector: &str, key: &str| {
        let (connector, key) = (ConnectorName::new(connector), BusinessKey::new(key));
        journal
            .key_owner(&tenant(name), &connector.unwrap(), &key.unwrap())
            .await
            .unwrap()
    };
    for (n, name) in TENANTS.into_iter().enumerate() {
        assert_eq!(owner(name, "bank", KEY).await, None, "{n} others have it");
        let run = Driven::begin(&journal, run_id(name, "i"), "x").await;
        run.decide().await;
        run.effect(0).await;
        let effect = run.effect_with_key(1, Some(KEY)).await;
        let stream = StreamId::KeyOwner {
            tenant: tenant(name),
            connector: ConnectorName::new("bank").unwrap(),
            key: BusinessKey::new(KEY).unwrap(),
        };
        let taken = journal.stream_end(&stream).await.unwrap().unwrap().seq;
        let owned = owner(name, "bank", KEY).await.unwrap();
        let expected = KeyOwnership {
            run: run.run,
            effect,
            taken,
            taken_at: owned.taken_at,
        };
        assert_eq!(owned, expected);
    }
    assert_eq!(owner("t", "bank", KEY).await, None);
    assert_eq!(owner("a", "ban", KEY).await, None);
    assert_eq!(owner("a", "bank", "invoice 7").await, None);
    assert_eq!(owner("a", "bank", "invoice 7/a.b/").await, None);
}

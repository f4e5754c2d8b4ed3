//! Tables whose families have rules by which the service deletes cells.

use super::bigtable_emulator;
use crate::bigtable::append::{BATCHES, ENTRIES};
use crate::bigtable::links::Access;
use crate::bigtable::{BigtableStore, Target, migrate};
use crate::error::StoreError;
use crate::migrated::Migrated;
use admin::gc_rule::Rule;
use admin::modify_column_families_request::{Modification, modification::Mod};
use googleapis_tonic_google_bigtable_admin_v2::google::bigtable::admin::v2 as admin;
use std::collections::HashMap;

fn aged() -> Rule {
    let week = std::time::Duration::from_secs(7 * 24 * 60 * 60);
    Rule::MaxAge(week.try_into().unwrap())
}

fn with(rule: Rule) -> admin::ColumnFamily {
    admin::ColumnFamily {
        gc_rule: Some(admin::GcRule { rule: Some(rule) }),
        ..Default::default()
    }
}

/// Gives a family of a table a rule.
async fn rule(target: &Target, family: &str, rule: Rule) {
    let access = Access::new(target).unwrap();
    let modification = Modification {
        id: family.to_owned(),
        r#mod: Some(Mod::Update(with(rule))),
        ..Default::default()
    };
    let message = admin::ModifyColumnFamiliesRequest {
        name: target.table_name(),
        modifications: vec![modification],
        ..Default::default()
    };
    let request = access.request("", message).await.unwrap();
    let mut client = migrate::client(&access).unwrap();
    client.modify_column_families(request).await.unwrap();
}

/// The rules of the families of a table.
async fn rules(target: &Target) -> HashMap<String, Option<Rule>> {
    let access = Access::new(target).unwrap();
    let mut client = migrate::client(&access).unwrap();
    let table = migrate::describe(target, &access, &mut client).await.unwrap();
    let families = table.column_families.into_iter();
    let rule = |family: admin::ColumnFamily| family.gc_rule.and_then(|rule| rule.rule);
    families.map(|(name, family)| (name, rule(family))).collect()
}

/// A server does not open a table whose rules delete acknowledged entries. A migration corrects such rules, and keeps rules that do no
/// harm.
#[tokio::test]
async fn a_rule_of_age_is_refused_and_put_right() {
    let Some(table) = bigtable_emulator::Table::new() else {
        return;
    };
    let target: Target = table.url().parse().unwrap();
    BigtableStore::open(&target).await.unwrap();
    rule(&target, BATCHES, Rule::MaxNumVersions(3)).await;
    BigtableStore::open(&target).await.unwrap();
    rule(&target, ENTRIES, aged()).await;
    let refused = BigtableStore::open(&target).await;
    assert!(
        matches!(&refused, Err(StoreError::Invalid { problem, .. }) if problem.contains("family 'e'")),
        "{refused:?}"
    );
    let same = Migrated { from: 2, to: 2 };
    assert_eq!(migrate(&target, true).await.unwrap(), same);
    assert_eq!(rules(&target).await[ENTRIES], Some(aged()));
    assert_eq!(migrate(&target, false).await.unwrap(), same);
    let rules = rules(&target).await;
    assert_eq!(rules[ENTRIES], Some(Rule::MaxNumVersions(1)));
    assert_eq!(rules[BATCHES], Some(Rule::MaxNumVersions(3)));
    BigtableStore::open(&target).await.unwrap();
}

/// In a table made elsewhere, a migration adds missing families and corrects harmful rules.
#[tokio::test]
async fn a_table_that_somebody_made_is_put_right() {
    let Some(table) = bigtable_emulator::Table::new() else {
        return;
    };
    let target: Target = table.url().parse().unwrap();
    let access = Access::new(&target).unwrap();
    let message = admin::CreateTableRequest {
        parent: target.instance_name(),
        table_id: target.table.clone(),
        table: Some(admin::Table {
            column_families: HashMap::from([(ENTRIES.to_owned(), with(aged()))]),
            ..Default::default()
        }),
        ..Default::default()
    };
    let request = access.request("", message).await.unwrap();
    let mut client = migrate::client(&access).unwrap();
    client.create_table(request).await.unwrap();
    BigtableStore::open(&target).await.unwrap();
    let rules = rules(&target).await;
    assert_eq!(rules.len(), 8);
    assert!(rules.values().all(|rule| *rule == Some(Rule::MaxNumVersions(1))));
}

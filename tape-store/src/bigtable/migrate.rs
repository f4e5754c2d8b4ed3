//! The table, its families and its version.
//!
//! Every family keeps the newest cell of a column: only that is ever read. The store itself deletes cells that are no longer needed. No
//! rule of age may delete any, since entries are kept for ever and timestamps here are no times.

use super::append::{AGENDA, BATCHES, ENTRIES, ERASED, PAYLOADS};
use super::end::{ABOUT, LOGGED};
use super::error::{Failure, corrupt};
use super::hint::HINTS;
use super::keys;
use super::links::{Access, Links};
use super::settings::Target;
use super::table::{self, Check, Rows, Table};
use crate::error::StoreError;
use crate::migrated::Migrated;
use admin::bigtable_table_admin_client::BigtableTableAdminClient;
use admin::modify_column_families_request::{Modification, modification::Mod};
use bytes::Bytes;
use googleapis_tonic_google_bigtable_admin_v2::google::bigtable::admin::v2 as admin;
use std::collections::HashMap;
use std::time::Duration;
use tonic::Code;
use tonic::transport::Channel;

/// The version of the table that this build makes: from 2 on, head cells have the digest.
const VERSION: u32 = 2;
/// The number of shards of agenda, feed and lists in a new table.
const SHARDS: u16 = 8;

const FAMILIES: [&str; 8] = [ABOUT, LOGGED, ENTRIES, PAYLOADS, ERASED, BATCHES, AGENDA, HINTS];
pub(super) const COLUMN: &[u8] = b"version";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// How often the families are read again while other processes add some.
const ATTEMPTS_MAX: u32 = 8;
const DOING: &str = "migrates the table";

pub(super) type Client = BigtableTableAdminClient<Channel>;

/// The version row of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Version {
    version: u32,
    /// The oldest version of a build that works with it.
    compatible_from: u32,
    /// Fixed when the table is made.
    pub(super) shards: u16,
}

impl Version {
    const NEW: Self = Self {
        version: VERSION,
        compatible_from: VERSION,
        shards: SHARDS,
    };

    fn check(self) -> Result<Self, StoreError> {
        if self.compatible_from > VERSION {
            return Err(StoreError::NewerSchema {
                found: self.version,
                known: VERSION,
            });
        }
        Ok(self)
    }
}

/// Makes the table, or the families that it lacks, and corrects rules by which the service would delete cells that are needed. With
/// `dry_run`, only says what would be done.
///
/// # Errors
/// [`StoreError::NewerSchema`] where a newer build made the table for newer builds only; [`StoreError::Unavailable`] where the
/// service cannot be reached or does not allow it.
pub async fn migrate(target: &Target, dry_run: bool) -> Result<Migrated, StoreError> {
    let access = Access::new(target)?;
    let links = Links::new(target, &access)?;
    let found = look(&links).await?;
    let from = found.map_or(0, |found| found.version);
    if !dry_run && from < VERSION {
        make(target, &access, &links).await?;
    } else if !dry_run {
        let mended = mend(target, &access, &mut client(&access)?).await;
        mended.map_err(|failure| failure.store_error(DOING))?;
    }
    Ok(Migrated {
        from,
        to: from.max(VERSION),
    })
}

/// The version row of the table; makes the table first where it does not exist and the settings allow it.
pub(super) async fn prepare(target: &Target, access: &Access, links: &Links) -> Result<Version, StoreError> {
    let found = look(links).await?;
    if let Some(found) = found.filter(|found| found.version >= VERSION) {
        check_rules(target, access).await?;
        return Ok(found);
    }
    if !target.settings.migrate {
        let problem = "its table is not there or older than this build: run 'tape-server migrate'";
        return Err(StoreError::Invalid {
            what: "store",
            problem: problem.to_owned(),
        });
    }
    make(target, access, links).await
}

/// The version row of the table; none where there is no table, or where no process has finished making it.
async fn look(links: &Links) -> Result<Option<Version>, StoreError> {
    let meta = Rows::Keys(vec![Bytes::from_static(keys::META)]);
    let cells = table::any_of([table::columns(ABOUT, COLUMN, COLUMN)]);
    let rows = match links.read(meta, cells, 1).await {
        Ok(rows) => rows,
        Err(Failure::Refused(status)) if status.code() == Code::NotFound => return Ok(None),
        Err(failure) => return Err(failure.store_error("opens the table")),
    };
    let Some(cell) = rows.first().and_then(|row| row.cell(ABOUT, COLUMN)) else {
        return Ok(None);
    };
    let damaged = |error: serde_json::Error| corrupt("the table's version", error.to_string());
    let found: Version = serde_json::from_slice(&cell.value).map_err(damaged)?;
    found.check().map(Some)
}

/// Makes what is missing, and writes the version row. Of several processes at the same time, the first one's row stays.
async fn make(target: &Target, access: &Access, links: &Links) -> Result<Version, StoreError> {
    let made = create(target, access, &mut client(access)?).await;
    made.map_err(|failure| failure.store_error(DOING))?;
    let value = serde_json::to_vec(&Version::NEW).expect("a version has a JSON form");
    let check = Check {
        key: Bytes::from_static(keys::META),
        predicate: table::columns(ABOUT, COLUMN, COLUMN),
        then: Vec::new(),
        otherwise: vec![table::set(ABOUT, COLUMN, value)],
    };
    let written = links.check_and_mutate(check).await;
    written.map_err(|failure| failure.store_error(DOING))?;
    let missing = || corrupt("the table's version", "it was written and is not there");
    let mut found = look(links).await?.ok_or_else(missing)?;
    if found.version < VERSION {
        raise(links, found).await?;
        found = look(links).await?.ok_or_else(missing)?;
    }
    tracing::info!(version = found.version, "the table was made or migrated");
    Ok(found)
}

/// Sets the version to this build's, unless another process changed the version row meanwhile.
async fn raise(links: &Links, found: Version) -> Result<(), StoreError> {
    let value = |version: Version| serde_json::to_vec(&version).expect("a version has a JSON form");
    let raised = Version {
        shards: found.shards,
        ..Version::NEW
    };
    let check = Check {
        key: Bytes::from_static(keys::META),
        predicate: table::exactly(ABOUT, COLUMN, value(found)),
        then: vec![table::set(ABOUT, COLUMN, value(raised))],
        otherwise: Vec::new(),
    };
    let written = links.check_and_mutate(check).await;
    written.map(drop).map_err(|failure| failure.store_error(DOING))
}

/// A client of the admin service.
pub(super) fn client(access: &Access) -> Result<Client, StoreError> {
    Ok(BigtableTableAdminClient::new(access.admin()?))
}

fn family() -> admin::ColumnFamily {
    let rule = admin::gc_rule::Rule::MaxNumVersions(1);
    admin::ColumnFamily {
        gc_rule: Some(admin::GcRule { rule: Some(rule) }),
        ..Default::default()
    }
}

async fn create(target: &Target, access: &Access, client: &mut Client) -> Result<(), Failure> {
    let families = FAMILIES.map(|name| (name.to_owned(), family()));
    let parent = target.instance_name();
    let message = admin::CreateTableRequest {
        parent: parent.clone(),
        table_id: target.table.clone(),
        table: Some(admin::Table {
            column_families: HashMap::from(families),
            change_stream_config: target.settings.change_stream_days.map(change_stream),
            ..Default::default()
        }),
        ..Default::default()
    };
    let request = access.request(&format!("parent={parent}"), message).await?;
    match access.answer(client.create_table(request)).await {
        Err(Failure::Refused(status)) if status.code() == Code::AlreadyExists => {
            mend(target, access, client).await
        }
        outcome => outcome.map(drop),
    }
}

fn change_stream(days: u32) -> admin::ChangeStreamConfig {
    admin::ChangeStreamConfig {
        retention_period: (DAY * days).try_into().ok(),
    }
}

/// The table as the admin service describes it.
pub(super) async fn describe(
    target: &Target,
    access: &Access,
    client: &mut Client,
) -> Result<admin::Table, Failure> {
    let name = target.table_name();
    let message = admin::GetTableRequest {
        name: name.clone(),
        view: admin::table::View::SchemaView.into(),
    };
    let request = access.request(&format!("name={name}"), message).await?;
    Ok(access.answer(client.get_table(request)).await?.into_inner())
}

/// Refuses a table whose rules would delete entries. An account that may not read the rules relies on the migration.
async fn check_rules(target: &Target, access: &Access) -> Result<(), StoreError> {
    let found = match describe(target, access, &mut client(access)?).await {
        Ok(found) => found,
        Err(failure) => {
            tracing::warn!(error = %failure, "the rules by which the table deletes cells are unknown");
            return Ok(());
        }
    };
    let mut names = FAMILIES.iter();
    let Some(name) = names.find(|name| !is_kept(&found, name)) else {
        return Ok(());
    };
    let problem = format!(
        "the table deletes what is kept in the column family '{name}', by its garbage collection rule: run 'tape-server migrate'"
    );
    Err(StoreError::Invalid {
        what: "store",
        problem,
    })
}

/// Whether the newest cells of a family's columns stay; also where there is no such family.
fn is_kept(table: &admin::Table, name: &str) -> bool {
    let family = table.column_families.get(name);
    family
        .and_then(|family| family.gc_rule.as_ref())
        .is_none_or(keeps_newest)
}

/// Whether a rule leaves the newest cell of a column alone, however old it is.
fn keeps_newest(rule: &admin::GcRule) -> bool {
    use admin::gc_rule::Rule;
    match &rule.rule {
        None | Some(Rule::MaxNumVersions(_)) => true,
        Some(Rule::MaxAge(_)) => false,
        // Deletes what all of them delete.
        Some(Rule::Intersection(all)) => all.rules.iter().any(keeps_newest),
        // Deletes what any of them deletes.
        Some(Rule::Union(any)) => any.rules.iter().all(keeps_newest),
    }
}

/// Adds the families that a table made elsewhere lacks, and replaces rules that would delete cells that are needed. Other rules are the
/// operator's choice, and do no harm.
async fn mend(target: &Target, access: &Access, client: &mut Client) -> Result<(), Failure> {
    let mut attempts = 0;
    loop {
        let modifications = lacking(&describe(target, access, client).await?);
        if modifications.is_empty() {
            return Ok(());
        }
        attempts += 1;
        match modify(target, access, client, modifications).await {
            // Another process has just added one, so nothing was done.
            Err(Failure::Refused(status))
                if status.code() == Code::AlreadyExists && attempts < ATTEMPTS_MAX => {}
            outcome => return outcome,
        }
    }
}

/// The changes that the families of a table need.
fn lacking(table: &admin::Table) -> Vec<Modification> {
    let modification = |name: &&str| {
        let change = if !table.column_families.contains_key(*name) {
            Mod::Create(family())
        } else if !is_kept(table, name) {
            tracing::warn!(
                family = name,
                "the rule of a family is put right; what it has deleted is lost"
            );
            Mod::Update(family())
        } else {
            return None;
        };
        Some(Modification {
            id: (*name).to_owned(),
            r#mod: Some(change),
            ..Default::default()
        })
    };
    FAMILIES.iter().filter_map(modification).collect()
}

async fn modify(
    target: &Target,
    access: &Access,
    client: &mut Client,
    modifications: Vec<Modification>,
) -> Result<(), Failure> {
    let name = target.table_name();
    let about = format!("name={name}");
    let message = admin::ModifyColumnFamiliesRequest {
        name,
        modifications,
        ..Default::default()
    };
    let request = access.request(&about, message).await?;
    access
        .answer(client.modify_column_families(request))
        .await
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use admin::GcRule;
    use admin::gc_rule::{Intersection, Rule, Union};

    #[test]
    fn a_rule_by_which_the_newest_cell_goes_is_known() {
        let rule = |rule| GcRule { rule: Some(rule) };
        let (aged, newest) = (
            || rule(Rule::MaxAge(DAY.try_into().unwrap())),
            || rule(Rule::MaxNumVersions(1)),
        );
        let both = |rules| rule(Rule::Intersection(Intersection { rules }));
        let any = |rules| rule(Rule::Union(Union { rules }));
        for kept in [GcRule::default(), newest(), both(vec![aged(), newest()])] {
            assert!(keeps_newest(&kept), "{kept:?}");
        }
        for lost in [aged(), any(vec![newest(), aged()]), both(vec![aged(), aged()])] {
            assert!(!keeps_newest(&lost), "{lost:?}");
        }
    }
}

//! The table, its families and its version.
//!
//! Every family keeps the newest cell of a column: that is all that is ever read. What a row has too much of, or what is of no use any more, the
//! store deletes itself; no rule of age may, since entries are kept for ever and timestamps here are no times.

use super::append::{AGENDA, BATCHES, ENTRIES, ERASED, PAYLOADS};
use super::end::{ABOUT, LOGGED};
use super::error::{Failure, corrupt};
use super::hint::HINTS;
use super::keys;
use super::links::{Access, Links};
use super::settings::Target;
use super::table::{self, Check, Rows, Table};
use crate::error::StoreError;
use crate::open::Migrated;
use admin::bigtable_table_admin_client::BigtableTableAdminClient;
use admin::modify_column_families_request::{Modification, modification::Mod};
use bytes::Bytes;
use googleapis_tonic_google_bigtable_admin_v2::google::bigtable::admin::v2 as admin;
use std::collections::HashMap;
use std::time::Duration;
use tonic::Code;
use tonic::transport::Channel;

/// The version of the table that this build makes.
const VERSION: u32 = 1;
/// In how many parts a new table keeps agenda, feed and lists.
const SHARDS: u16 = 8;

const FAMILIES: [&str; 8] = [ABOUT, LOGGED, ENTRIES, PAYLOADS, ERASED, BATCHES, AGENDA, HINTS];
const COLUMN: &[u8] = b"version";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const DOING: &str = "migrates the table";

pub(super) type Client = BigtableTableAdminClient<Channel>;

/// What a table says of itself.
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

/// Makes the table, or what it lacks; with `dry_run`, only says what would be done.
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
    }
    Ok(Migrated {
        from,
        to: from.max(VERSION),
    })
}

/// What the table says of itself; makes it first where it is not there and the settings allow it.
pub(super) async fn prepare(target: &Target, access: &Access, links: &Links) -> Result<Version, StoreError> {
    let found = look(links).await?;
    if let Some(found) = found.filter(|found| found.version >= VERSION) {
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

/// What the table says of itself; none where there is no table, or nobody has finished making it.
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

/// Makes what is not there, and says so in the table. Of several that do so at the same time, the first has its say.
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
    tracing::info!(version = VERSION, "the table was made");
    look(links)
        .await?
        .ok_or_else(|| corrupt("the table's version", "it was written and is not there"))
}

/// The service for tables.
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
            add_families(target, access, client).await
        }
        outcome => outcome.map(drop),
    }
}

fn change_stream(days: u32) -> admin::ChangeStreamConfig {
    admin::ChangeStreamConfig {
        retention_period: (DAY * days).try_into().ok(),
    }
}

/// The table as the service for tables describes it.
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

/// Adds the families that a table lacks which somebody else made.
async fn add_families(target: &Target, access: &Access, client: &mut Client) -> Result<(), Failure> {
    let name = target.table_name();
    let found = describe(target, access, client).await?;
    let lacking = FAMILIES
        .iter()
        .filter(|name| !found.column_families.contains_key(**name));
    let add = |name: &&str| Modification {
        id: (*name).to_owned(),
        r#mod: Some(Mod::Create(family())),
        ..Default::default()
    };
    let modifications: Vec<Modification> = lacking.map(add).collect();
    if modifications.is_empty() {
        return Ok(());
    }
    let about = format!("name={name}");
    let message = admin::ModifyColumnFamiliesRequest {
        name,
        modifications,
        ..Default::default()
    };
    let request = access.request(&about, message).await?;
    match access.answer(client.modify_column_families(request)).await {
        // Somebody else has just added them.
        Err(Failure::Refused(status)) if status.code() == Code::AlreadyExists => Ok(()),
        outcome => outcome.map(drop),
    }
}

//! Lists of runs. Each filter reads one index from its newest end.

use super::append::signed;
use super::error::store_error;
use super::read::get;
use crate::contract::{PageToken, RunFilter, RunPage};
use crate::error::StoreError;
use crate::listing::{Listed, Place, Row, page};
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{QueryBuilder, Sqlite};
use tape_core::time::Timestamp;

pub(super) async fn runs(
    readers: &SqlitePool,
    filter: &RunFilter,
    from: Option<&PageToken>,
    limit: u32,
) -> Result<RunPage, StoreError> {
    let from = from.map(Place::read).transpose()?;
    let mut query = select(filter, from, limit);
    let rows = query
        .build()
        .fetch_all(readers)
        .await
        .map_err(|error| store_error("lists runs", error))?;
    let listed = rows.iter().map(listed).collect::<Result<Vec<_>, _>>()?;
    Ok(page(listed, limit))
}

/// One row more than asked for says whether there is a next page.
pub(super) fn select(filter: &RunFilter, from: Option<Place>, limit: u32) -> QueryBuilder<Sqlite> {
    let mut query =
        QueryBuilder::new("SELECT r.begun_at, r.stream, s.name, r.status, r.changed_at, r.labels FROM ");
    let index = match (&filter.label, &filter.app, filter.status) {
        (Some((key, value)), _, _) => {
            query.push("label k CROSS JOIN run r ON r.stream = k.stream JOIN stream s ON s.id = r.stream WHERE k.tenant = ");
            query
                .push_bind(filter.tenant.to_string())
                .push(" AND k.key = ")
                .push_bind(key.to_string());
            query.push(" AND k.value = ").push_bind(value.clone());
            "k"
        }
        (None, app, status) => {
            let index = match (app, status) {
                (None, None) => "run_tenant",
                (None, Some(_)) => "run_status",
                (Some(_), None) => "run_app",
                (Some(_), Some(_)) => "run_app_status",
            };
            query.push("run r INDEXED BY ").push(index);
            query
                .push(" JOIN stream s ON s.id = r.stream WHERE r.tenant = ")
                .push_bind(filter.tenant.to_string());
            "r"
        }
    };
    if let Some(app) = &filter.app {
        query.push(" AND r.app = ").push_bind(app.to_string());
    }
    if let Some(status) = filter.status {
        query.push(" AND r.status = ").push_bind(status.as_str());
    }
    let mut bound = |comparison: &str, time: Timestamp| {
        query
            .push(" AND ")
            .push(index)
            .push(".begun_at ")
            .push(comparison)
            .push_bind(time.as_micros());
    };
    if let Some(time) = filter.begun_from {
        bound(">= ", time);
    }
    if let Some(time) = filter.begun_before {
        bound("< ", time);
    }
    if let Some(place) = from {
        query.push(format!(" AND ({index}.begun_at, {index}.stream) < ("));
        query
            .push_bind(place.begun_at.as_micros())
            .push(", ")
            .push_bind(signed(place.stream))
            .push(")");
    }
    query.push(format!(
        " ORDER BY {index}.begun_at DESC, {index}.stream DESC LIMIT "
    ));
    query.push_bind(i64::from(limit) + 1);
    query
}

fn listed(row: &SqliteRow) -> Result<Listed, StoreError> {
    let row = Row {
        begun_at: get(row, 0)?,
        stream: get(row, 1)?,
        name: get(row, 2)?,
        status: get(row, 3)?,
        changed_at: get(row, 4)?,
        labels: get(row, 5)?,
    };
    Ok(row.listed("run"))
}

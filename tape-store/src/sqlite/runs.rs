//! Lists of runs. Each filter reads one index from its newest end.

use super::append::signed;
use super::error::store_error;
use super::read::get;
use crate::contract::{PageToken, RunFilter, RunPage};
use crate::error::StoreError;
use crate::listing::{Listed, Place, Row, page};
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{QueryBuilder, Sqlite};
use std::collections::BTreeSet;
use tape_core::status::RunStatus;
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
    let listed = rows
        .iter()
        .map(|row| listed(row, filter))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(page(listed, limit))
}

/// One row more than asked for says whether there is a next page. Of several statuses each is read in the order of its own index, and
/// SQLite merges them, all as of one moment.
pub(super) fn select(filter: &RunFilter, from: Option<Place>, limit: u32) -> QueryBuilder<Sqlite> {
    let mut query = QueryBuilder::new("");
    if filter.label.is_some() || filter.statuses.is_empty() {
        push_list(&mut query, filter, &filter.statuses, from);
    } else {
        for (nth, status) in filter.statuses.iter().enumerate() {
            query.push(if nth > 0 { " UNION ALL " } else { "" });
            push_list(&mut query, filter, &BTreeSet::from([*status]), from);
        }
    }
    query.push(" ORDER BY 1 DESC, 2 DESC LIMIT ");
    query.push_bind(i64::from(limit) + 1);
    query
}

/// The runs of one index that fit the filter and are in one of these statuses, or in any where there are none.
fn push_list(
    query: &mut QueryBuilder<Sqlite>,
    filter: &RunFilter,
    statuses: &BTreeSet<RunStatus>,
    from: Option<Place>,
) {
    let index = push_index(query, filter, !statuses.is_empty());
    if let Some(app) = &filter.app {
        query.push(" AND r.app = ").push_bind(app.to_string());
    }
    for (nth, status) in statuses.iter().enumerate() {
        query.push(if nth > 0 { ", " } else { " AND r.status IN (" });
        query.push_bind(status.as_str());
    }
    query.push(if statuses.is_empty() { "" } else { ")" });
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
}

/// The beginning of a list's query, up to the tenant and the label. Returns the name of the table whose index has the order.
fn push_index(query: &mut QueryBuilder<Sqlite>, filter: &RunFilter, by_status: bool) -> &'static str {
    let table = if filter.label.is_some() { "k" } else { "r" };
    query.push(format!(
        "SELECT {table}.begun_at, {table}.stream, s.name, r.status, r.changed_at, r.labels FROM "
    ));
    if let Some((key, value)) = &filter.label {
        // A row of a label that has another time than the run is of no list.
        query.push("label k CROSS JOIN run r ON r.stream = k.stream AND r.begun_at = k.begun_at JOIN stream s ON s.id = r.stream WHERE k.tenant = ");
        query
            .push_bind(filter.tenant.to_string())
            .push(" AND k.key = ")
            .push_bind(key.to_string());
        query.push(" AND k.value = ").push_bind(value.clone());
        return table;
    }
    query.push("run r INDEXED BY ");
    query.push(match (&filter.app, by_status) {
        (None, false) => "run_tenant",
        (None, true) => "run_status",
        (Some(_), false) => "run_app",
        (Some(_), true) => "run_app_status",
    });
    query
        .push(" JOIN stream s ON s.id = r.stream WHERE r.tenant = ")
        .push_bind(filter.tenant.to_string());
    table
}

fn listed(row: &SqliteRow, filter: &RunFilter) -> Result<Listed, StoreError> {
    let row = Row {
        begun_at: get(row, 0)?,
        stream: get(row, 1)?,
        name: get(row, 2)?,
        status: get(row, 3)?,
        changed_at: get(row, 4)?,
        labels: get(row, 5)?,
    };
    Ok(row.listed("run", filter))
}

//! Lists of runs. Each filter reads one index from its newest end.

use super::append::{label_key, signed};
use super::links::{Links, Statement};
use super::read::get;
use crate::contract::{PageToken, RunFilter, RunPage};
use crate::error::StoreError;
use crate::listing::{Listed, Place, Row, page};
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgRow;
use tape_core::time::Timestamp;

pub(super) async fn runs(
    links: &Links,
    filter: &RunFilter,
    from: Option<&PageToken>,
    limit: u32,
) -> Result<RunPage, StoreError> {
    let from = from.map(Place::read).transpose()?;
    let text = select(filter);
    let query = || bind(sqlx::query(AssertSqlSafe(text.clone())), filter, from, limit);
    let rows = links.query("lists runs", query).await?;
    let listed = rows
        .iter()
        .map(|row| listed(row, filter))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(page(listed, limit))
}

/// The statement for a filter: of each kind of filter there is one, so that it stays prepared. For times and places that are not given, the
/// least or greatest value is bound.
pub(super) fn select(filter: &RunFilter) -> String {
    let (from, index) = if filter.label.is_some() {
        ("tape_label k JOIN tape_run r USING (stream)", "k")
    } else {
        ("tape_run r", "r")
    };
    let label = if filter.label.is_some() {
        " AND k.label = $8"
    } else {
        " AND $8::bytea IS NULL"
    };
    let app = if filter.app.is_some() {
        " AND r.app = $6"
    } else {
        " AND $6::text IS NULL"
    };
    let is_merged = filter.label.is_none() && filter.statuses.len() > 1;
    let status = match filter.statuses.len() {
        0 => " AND $7::text[] IS NULL",
        1 => " AND r.status = ($7::text[])[1]",
        _ if is_merged => " AND r.status = one.status",
        _ => " AND r.status = ANY($7::text[])",
    };
    let list = format!(
        "SELECT {index}.begun_at, {index}.stream, h.name, r.status, r.changed_at, r.labels FROM {from} \
         JOIN tape_head h ON h.stream = r.stream WHERE {index}.tenant = $1{app}{status}{label} \
         AND {index}.begun_at >= $2 AND {index}.begun_at <= $3 AND ({index}.begun_at, {index}.stream) < ($3, $4) \
         ORDER BY {index}.begun_at DESC, {index}.stream DESC LIMIT $5"
    );
    if !is_merged {
        return list;
    }
    // Each status is read in the order of its index, as far as a page goes.
    format!(
        "SELECT l.* FROM unnest($7::text[]) AS one(status) CROSS JOIN LATERAL ({list}) l \
         ORDER BY l.begun_at DESC, l.stream DESC LIMIT $5"
    )
}

/// One row more than asked for says whether there is a next page.
fn bind<'q>(query: Statement<'q>, filter: &RunFilter, from: Option<Place>, limit: u32) -> Statement<'q> {
    // Runs that began before a time come before the first place of that time.
    let before = filter.begun_before.map(|time| (time.as_micros(), 0));
    let from = from.map(|place| (place.begun_at.as_micros(), signed(place.stream)));
    let (begun_at, stream) = [before, from]
        .into_iter()
        .flatten()
        .min()
        .unwrap_or((i64::MAX, i64::MAX));
    let label = filter
        .label
        .as_ref()
        .map(|(key, value)| label_key(key.as_str(), value));
    let statuses: Vec<String> = filter
        .statuses
        .iter()
        .map(|status| status.as_str().to_owned())
        .collect();
    query
        .bind(filter.tenant.to_string())
        .bind(filter.begun_from.map_or(i64::MIN, Timestamp::as_micros))
        .bind(begun_at)
        .bind(stream)
        .bind(i64::from(limit) + 1)
        .bind(filter.app.as_ref().map(ToString::to_string))
        .bind((!statuses.is_empty()).then_some(statuses))
        .bind(label)
}

fn listed(row: &PgRow, filter: &RunFilter) -> Result<Listed, StoreError> {
    let row = Row {
        begun_at: get(row, 0)?,
        stream: get(row, 1)?,
        name: get(row, 2)?,
        status: get(row, 3)?,
        changed_at: get(row, 4)?,
        labels: get(row, 5)?,
    };
    Ok(row.listed("tape_run", filter))
}

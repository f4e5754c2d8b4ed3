//! Lists of runs. Each filter reads one index from its newest end.

use super::append::signed;
use super::error::{corrupt, store_error};
use super::read::get;
use crate::contract::{PageToken, RunFilter, RunPage};
use crate::error::StoreError;
use crate::listing::Place;
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{QueryBuilder, Sqlite};
use tape_core::id::{RunId, StreamId};
use tape_core::stream::{RunStatus, Summary};
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
    let limit = limit as usize;
    let next = (listed.len() > limit).then(|| listed[limit - 1].0.token());
    Ok(RunPage {
        runs: listed.into_iter().take(limit).map(|(_, run)| run).collect(),
        next,
    })
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

fn listed(row: &SqliteRow) -> Result<(Place, (RunId, Summary)), StoreError> {
    let (begun_at, stream): (i64, i64) = (get(row, 0)?, get(row, 1)?);
    let (name, status): (String, String) = (get(row, 2)?, get(row, 3)?);
    let (changed_at, labels): (i64, String) = (get(row, 4)?, get(row, 5)?);
    let bad = |problem: String| corrupt("run", stream, problem);
    let Ok(StreamId::Run(run)) = name.parse() else {
        return Err(bad(format!("its stream is {name}")));
    };
    let known = RunStatus::ALL.into_iter().find(|known| known.as_str() == status);
    let status = known.ok_or_else(|| bad(format!("its status is {status}")))?;
    let labels =
        serde_json::from_str(&labels).map_err(|error| bad(format!("its labels do not read: {error}")))?;
    let begun_at = Timestamp::from_micros(begun_at);
    let summary = Summary {
        status,
        labels,
        begun_at,
        changed_at: Timestamp::from_micros(changed_at),
    };
    Ok((
        Place {
            begun_at,
            stream: stream.unsigned_abs(),
        },
        (run, summary),
    ))
}

//! Lists of runs. Each filter reads one index. Filters without a label, and with one status or none, read it from the newest end, as far as
//! the page goes.

use super::append::label_key;
use super::link::{Link, Question};
use super::read::get;
use crate::contract::{PageToken, RunFilter, RunPage};
use crate::error::StoreError;
use crate::listing;
use google_cloud_spanner::result::Row;
use google_cloud_spanner::statement::{Statement, StatementBuilder};
use google_cloud_spanner::types;
use google_cloud_spanner::value::Timestamp as CommitTime;
use tape_core::id::RunId;
use tape_core::status::Summary;

/// The place of a run in the list of runs. The list is read from its newest end.
#[derive(Clone, Debug)]
struct Place {
    begun_at: i64,
    made: CommitTime,
    id: Vec<u8>,
}

impl Place {
    fn token(&self) -> PageToken {
        let (seconds, nanos) = (self.made.seconds(), self.made.nanos());
        PageToken(format!(
            "{}.{seconds}.{nanos}.{}",
            self.begun_at,
            hex::encode(&self.id)
        ))
    }

    fn read(token: &PageToken) -> Result<Self, StoreError> {
        let place = Self::parse(&token.0).filter(|place| place.token() == *token);
        place.ok_or_else(|| StoreError::Invalid {
            what: "page token",
            problem: "it was not made by this store".to_owned(),
        })
    }

    fn parse(token: &str) -> Option<Self> {
        let parts: Vec<&str> = token.split('.').collect();
        let [begun_at, seconds, nanos, id] = parts[..] else {
            return None;
        };
        Some(Self {
            begun_at: begun_at.parse().ok()?,
            made: CommitTime::new(seconds.parse().ok()?, nanos.parse().ok()?).ok()?,
            id: hex::decode(id).ok()?,
        })
    }
}

pub(super) async fn runs(
    link: &Link,
    filter: &RunFilter,
    from: Option<&PageToken>,
    limit: u32,
) -> Result<RunPage, StoreError> {
    let from = from.map(Place::read).transpose()?;
    let query = Statement::builder(select(filter, from.is_some()));
    // One row more than asked for says whether there is a next page.
    let query = query.add_typed_param("limit", i64::from(limit) + 1, types::int64());
    let query = bind_place(bind_filter(query, filter), from);
    let listed = |row: &Row| listed(row, filter);
    let listed = link
        .ask("lists runs", Question::Query(query.build()), listed)
        .await?;
    let limit = limit as usize;
    let next = (listed.len() > limit).then(|| listed[limit - 1].0.token());
    Ok(RunPage {
        runs: listed
            .into_iter()
            .take(limit)
            .filter_map(|(_, run)| run)
            .collect(),
        next,
    })
}

/// The statement for a filter: of each kind of filter there is one, so that its plan is made once.
fn select(filter: &RunFilter, from: bool) -> String {
    // Rows with nulls are not in these indexes, which Spanner infers from the conditions; the emulator needs them explicitly.
    let index = |name: &str| {
        format!(
            "tape_stream@{{FORCE_INDEX={name},spanner_emulator.disable_query_null_filtered_index_check=true}} r"
        )
    };
    let source = match (&filter.label, &filter.app, filter.statuses.is_empty()) {
        (Some(_), _, _) => {
            "tape_label@{FORCE_INDEX=tape_label_run} l JOIN tape_stream r ON r.id = l.id".to_owned()
        }
        (None, None, true) => index("tape_run_tenant"),
        (None, Some(_), true) => index("tape_run_app"),
        (None, None, false) => index("tape_run_status"),
        (None, Some(_), false) => index("tape_run_app_status"),
    };
    let mut conditions = vec![if filter.label.is_some() {
        "l.tenant = @tenant AND l.label = @label"
    } else {
        "r.tenant = @tenant AND r.begun_at IS NOT NULL"
    }];
    let names: Vec<String> = (0..filter.statuses.len())
        .map(|nth| format!("@status{nth}"))
        .collect();
    let several = format!("r.status IN ({})", names.join(", "));
    let wanted = [
        (filter.app.is_some(), "r.app = @app"),
        (filter.statuses.len() == 1, "r.status = @status0"),
        (filter.statuses.len() > 1, several.as_str()),
        (filter.begun_from.is_some(), "r.begun_at >= @begun_from"),
        (filter.begun_before.is_some(), "r.begun_at < @begun_before"),
        (
            from,
            "r.begun_at <= @begun AND (r.begun_at < @begun OR r.made < @made OR (r.made = @made AND r.id > @id))",
        ),
    ];
    conditions.extend(
        wanted
            .into_iter()
            .filter(|(wanted, _)| *wanted)
            .map(|(_, condition)| condition),
    );
    format!(
        "SELECT r.begun_at, r.made, r.id, r.name, r.status, r.changed_at, r.labels FROM {source} \
         WHERE {} ORDER BY r.begun_at DESC, r.made DESC, r.id LIMIT @limit",
        conditions.join(" AND ")
    )
}

fn bind_filter(query: StatementBuilder, filter: &RunFilter) -> StatementBuilder {
    let mut query = query.add_typed_param("tenant", filter.tenant.to_string(), types::string());
    if let Some((key, value)) = &filter.label {
        query = query.add_typed_param("label", label_key(key.as_str(), value), types::bytes());
    }
    if let Some(app) = &filter.app {
        query = query.add_typed_param("app", app.to_string(), types::string());
    }
    for (nth, status) in filter.statuses.iter().enumerate() {
        query = query.add_typed_param(
            format!("status{nth}"),
            status.as_str().to_owned(),
            types::string(),
        );
    }
    if let Some(time) = filter.begun_from {
        query = query.add_typed_param("begun_from", time.as_micros(), types::int64());
    }
    if let Some(time) = filter.begun_before {
        query = query.add_typed_param("begun_before", time.as_micros(), types::int64());
    }
    query
}

fn bind_place(query: StatementBuilder, from: Option<Place>) -> StatementBuilder {
    let Some(place) = from else { return query };
    query
        .add_typed_param("begun", place.begun_at, types::int64())
        .add_typed_param("made", place.made, types::timestamp())
        .add_typed_param("id", place.id, types::bytes())
}

/// An unreadable row has only its place.
fn listed(row: &Row, filter: &RunFilter) -> Result<(Place, Option<(RunId, Summary)>), StoreError> {
    let place = Place {
        begun_at: get(row, 0)?,
        made: get(row, 1)?,
        id: get(row, 2)?,
    };
    let stored = listing::Row {
        begun_at: place.begun_at,
        // Streams have keys here, and no numbers.
        stream: 0,
        name: get(row, 3)?,
        status: get(row, 4)?,
        changed_at: get(row, 5)?,
        labels: get(row, 6)?,
    };
    let (_, run) = stored.listed("tape_stream", filter);
    Ok((place, run))
}

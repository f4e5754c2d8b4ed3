//! Cursors and lists of runs of stores that number streams and entries in sequence.

use crate::contract::{Cursor, PageToken, RunFilter, RunPage};
use crate::error::StoreError;
use bytes::Bytes;
use tape_core::id::RunId;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "spanner"))]
use tape_core::id::StreamId;
use tape_core::status::RunStatus;
use tape_core::status::Summary;
use tape_core::time::Timestamp;

/// The place of a run in the list of runs. The list is read from the greatest place down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) begun_at: Timestamp,
    pub(crate) stream: u64,
}

impl Place {
    pub(crate) fn token(self) -> PageToken {
        PageToken(format!("{}.{}", self.begun_at.as_micros(), self.stream))
    }

    pub(crate) fn read(token: &PageToken) -> Result<Self, StoreError> {
        let place = token.0.split_once('.').and_then(|(begun_at, stream)| {
            let begun_at = Timestamp::from_micros(begun_at.parse().ok()?);
            Some(Self {
                begun_at,
                stream: stream.parse().ok()?,
            })
        });
        // Numbers are read in more ways than they are written.
        let place = place.filter(|place| place.token() == *token);
        let problem = || "it was not made by this store".to_owned();
        place.ok_or_else(|| StoreError::Invalid {
            what: "page token",
            problem: problem(),
        })
    }
}

/// A run in a list, with its place there; none where the row cannot be read.
pub(crate) type Listed = (Place, Option<(RunId, Summary)>);

/// The page of the first `limit` rows. One row more says that there is a next page.
pub(crate) fn page(listed: Vec<Listed>, limit: u32) -> RunPage {
    let limit = limit as usize;
    let next = (listed.len() > limit).then(|| listed[limit - 1].0.token());
    RunPage {
        runs: listed
            .into_iter()
            .take(limit)
            .filter_map(|(_, run)| run)
            .collect(),
        next,
    }
}

/// A run as a row of a table.
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "spanner"))]
pub(crate) struct Row {
    pub(crate) begun_at: i64,
    pub(crate) stream: i64,
    pub(crate) name: String,
    pub(crate) status: String,
    pub(crate) changed_at: i64,
    /// A JSON object.
    pub(crate) labels: String,
}

#[cfg(any(feature = "sqlite", feature = "postgres", feature = "spanner"))]
impl Row {
    /// The run with its place in a list. A row that cannot be read is passed over, and one that the list has wrongly: by its name the run is
    /// of another tenant or app, or by its row it has other labels.
    pub(crate) fn listed(self, table: &'static str, filter: &RunFilter) -> Listed {
        let place = Place {
            begun_at: Timestamp::from_micros(self.begun_at),
            stream: self.stream.unsigned_abs(),
        };
        let run = self
            .run()
            .and_then(|run| fitting(run, filter))
            .inspect_err(|problem| crate::unreadable::pass_over(table, &self.name, problem));
        (place, run.ok())
    }

    /// The run; else what is wrong with the row.
    fn run(&self) -> Result<(RunId, Summary), String> {
        let Ok(StreamId::Run(run)) = self.name.parse() else {
            return Err(format!("its stream is {}", self.name));
        };
        Ok((run, self.summary()?))
    }

    /// The summary in the row; else what is wrong with the row.
    pub(crate) fn summary(&self) -> Result<Summary, String> {
        let known = RunStatus::ALL
            .into_iter()
            .find(|known| known.as_str() == self.status);
        let status = known.ok_or_else(|| format!("its status is {}", self.status))?;
        let labels = serde_json::from_str(&self.labels);
        let labels = labels.map_err(|error| format!("its labels do not read: {error}"))?;
        Ok(Summary {
            status,
            labels,
            begun_at: Timestamp::from_micros(self.begun_at),
            changed_at: Timestamp::from_micros(self.changed_at),
        })
    }
}

/// The run, if it belongs in the list; else what is wrong with the row.
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "spanner"))]
fn fitting((run, summary): (RunId, Summary), filter: &RunFilter) -> Result<(RunId, Summary), String> {
    match run.tenant == filter.tenant && filter.fits(&run, &summary) {
        true => Ok((run, summary)),
        false => Err(format!("{run} does not belong in the list that has it")),
    }
}

/// The number that the next page begins after, by the token of a store that numbers its streams; zero for the first page.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(crate) fn number(token: Option<&PageToken>) -> Result<i64, StoreError> {
    let read = |token: &PageToken| {
        let number = token.0.parse().ok();
        // Streams are numbered from 1.
        number.filter(|number: &i64| *number > 0 && number.to_string() == token.0)
    };
    let number = token.map_or(Some(0), read);
    number.ok_or_else(|| StoreError::Invalid {
        what: "page token",
        problem: "it was not made by this store".to_owned(),
    })
}

/// The page of streams that has these rows, each with its number.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(crate) fn stream_page(rows: Vec<(i64, String)>, limit: u32) -> crate::upkeep::StreamPage {
    let rows = rows.into_iter().map(|(number, name)| (number.to_string(), name));
    named_page(rows.collect(), limit)
}

/// The page of streams that has these rows, each with the token of the page after it. A page with fewer rows than `limit` is the last.
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "spanner"))]
pub(crate) fn named_page(rows: Vec<(String, String)>, limit: u32) -> crate::upkeep::StreamPage {
    let last = rows.last().filter(|_| rows.len() == limit as usize);
    let mut page = crate::upkeep::StreamPage {
        next: last.map(|(token, _)| PageToken(token.clone())),
        ..Default::default()
    };
    for (_, name) in rows {
        match name.parse() {
            Ok(stream) => page.streams.push(stream),
            Err(_) => page.unreadable.push(name),
        }
    }
    page
}

/// The cursor after the feed's entry at `position`.
pub(crate) fn cursor(position: u64) -> Cursor {
    Cursor(Bytes::copy_from_slice(&position.to_be_bytes()))
}

/// The position of a cursor; zero is the beginning.
pub(crate) fn read_cursor(cursor: &Cursor) -> Result<u64, StoreError> {
    if cursor.0.is_empty() {
        return Ok(0);
    }
    let bytes = <[u8; 8]>::try_from(cursor.0.as_ref()).map(u64::from_be_bytes);
    let problem = || "it was not made by this store".to_owned();
    // Positions are kept as signed integers in some stores.
    let position = bytes.ok().filter(|position| i64::try_from(*position).is_ok());
    position.ok_or_else(|| StoreError::Invalid {
        what: "cursor",
        problem: problem(),
    })
}

impl RunFilter {
    /// Whether a run of the filter's tenant fits it.
    #[must_use]
    pub fn fits(&self, run: &RunId, summary: &Summary) -> bool {
        let label = |(key, value): &(_, String)| summary.labels.get(key) == Some(value);
        self.app.as_ref().is_none_or(|app| *app == run.app)
            && (self.statuses.is_empty() || self.statuses.contains(&summary.status))
            && self.label.as_ref().is_none_or(label)
            && self.begun_from.is_none_or(|from| summary.begun_at >= from)
            && self.begun_before.is_none_or(|before| summary.begun_at < before)
    }
}

/// A filter of each kind, for tests of the queries.
#[cfg(all(test, any(feature = "sqlite", feature = "postgres")))]
pub(crate) fn filters_of_each_kind() -> Vec<RunFilter> {
    use tape_core::id::{App, Key, Tenant};
    let all = RunFilter::all(Tenant::new("t").expect("a name"));
    let app = Some(App::new("a").expect("a name"));
    let statuses = [
        vec![],
        vec![RunStatus::Completed],
        vec![RunStatus::Running, RunStatus::Suspended, RunStatus::Completed],
    ];
    let label = Some((Key::new("k").expect("a name"), "v".to_owned()));
    let mut filters = Vec::new();
    for chosen in 0..4 {
        filters.extend(statuses.iter().map(|statuses| RunFilter {
            app: app.clone().filter(|_| chosen & 1 > 0),
            statuses: statuses.iter().copied().collect(),
            label: label.clone().filter(|_| chosen & 2 > 0),
            ..all.clone()
        }));
    }
    filters
}

#[cfg(all(test, any(feature = "sqlite", feature = "postgres")))]
mod tests {
    use super::{Place, number};
    use crate::contract::PageToken;

    #[test]
    fn tokens_are_read_as_they_are_written() {
        let place = |text: &str| Place::read(&PageToken(text.to_owned())).is_ok();
        assert!(place("-5.7"));
        for text in ["+5.7", "05.7", "5.+7", "5.07", "-0.7", "5.7 ", "5", "5.7.1", ""] {
            assert!(!place(text), "{text}");
        }
        let number = |text: &str| number(Some(&PageToken(text.to_owned()))).is_ok();
        assert!(number("1"));
        for text in ["0", "+1", "01", "-1", " 1", ""] {
            assert!(!number(text), "{text}");
        }
    }
}

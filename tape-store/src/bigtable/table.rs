//! The calls of a table: three, each atomic within one row and not beyond it.

use super::error::Failure;
use async_trait::async_trait;
use bytes::Bytes;
use googleapis_tonic_google_bigtable_v2::google::bigtable::v2 as proto;
use proto::mutation::Mutation as Kind;
use proto::row_filter::{Chain, Filter, Interleave};
use proto::{ColumnRange, RowRange, RowSet, ValueRange, column_range, row_range, value_range};

use tape_core::time::Timestamp;

pub(super) use proto::{Mutation, RowFilter};

/// A table of rows. Calls that change rows one by one may be repeated; [`check_and_mutate`](Table::check_and_mutate) may not.
#[async_trait]
pub(super) trait Table: Send + Sync {
    /// Rows that have cells left after the filter, in the order of their keys, at most `limit`; each as it was at one moment.
    async fn read(&self, rows: Rows, filter: RowFilter, limit: usize) -> Result<Vec<Row>, Failure>;

    /// Changes rows independently. Returns the result for each, in their order.
    async fn mutate(&self, changes: Vec<Change>) -> Vec<Result<(), Failure>>;

    /// Changes one row in one of two ways. Returns whether the filter left a cell of it, which decides the way.
    async fn check_and_mutate(&self, check: Check) -> Result<bool, Failure>;
}

/// Which rows to read.
#[derive(Clone, Debug)]
pub(super) enum Rows {
    /// The rows with these keys.
    Keys(Vec<Bytes>),
    /// The rows from the first key on and before the second.
    Range(Bytes, Bytes),
}

impl From<Rows> for RowSet {
    fn from(rows: Rows) -> Self {
        let (row_keys, row_ranges) = match rows {
            Rows::Keys(keys) => (keys, Vec::new()),
            Rows::Range(from, until) => {
                let range = RowRange {
                    start_key: Some(row_range::StartKey::StartKeyClosed(from)),
                    end_key: Some(row_range::EndKey::EndKeyOpen(until)),
                };
                (Vec::new(), vec![range])
            }
        };
        Self { row_keys, row_ranges }
    }
}

/// A row as it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) key: Bytes,
    pub(super) cells: Vec<Cell>,
}

/// The newest cell of a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) family: String,
    pub(super) qualifier: Bytes,
    pub(super) ordinal: u64,
    pub(super) value: Bytes,
}

impl Row {
    /// The cells of a family.
    pub(super) fn family<'a>(&'a self, family: &'a str) -> impl Iterator<Item = &'a Cell> {
        self.cells.iter().filter(move |cell| cell.family == family)
    }

    pub(super) fn cell(&self, family: &str, qualifier: &[u8]) -> Option<&Cell> {
        self.cells
            .iter()
            .find(|cell| cell.family == family && cell.qualifier == qualifier)
    }
}

/// Changes of a row, in order and atomic.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) key: Bytes,
    pub(super) mutations: Vec<Mutation>,
}

/// A change that depends on the content of the row.
#[derive(Clone, Debug)]
pub(super) struct Check {
    pub(super) key: Bytes,
    pub(super) predicate: RowFilter,
    /// The changes where the predicate leaves a cell.
    pub(super) then: Vec<Mutation>,
    /// The changes where it leaves none.
    pub(super) otherwise: Vec<Mutation>,
}

/// Cells carry ordinals, which are no times, as their timestamps; timestamps must be whole milliseconds.
const MICROS_PER_ORDINAL: i64 = 1_000;

const fn micros(ordinal: u64) -> i64 {
    const MAX: i64 = i64::MAX / MICROS_PER_ORDINAL;
    let ordinal = if ordinal > MAX.unsigned_abs() {
        MAX
    } else {
        ordinal.cast_signed()
    };
    ordinal * MICROS_PER_ORDINAL
}

/// The ordinal of a timestamp.
pub(super) const fn ordinal(micros: i64) -> u64 {
    (micros / MICROS_PER_ORDINAL).unsigned_abs()
}

const fn mutation(kind: Kind) -> Mutation {
    Mutation { mutation: Some(kind) }
}

/// Sets a column that has one cell, whatever its present value.
pub(super) fn set(family: &str, qualifier: impl Into<Bytes>, value: impl Into<Bytes>) -> Mutation {
    set_at(family, qualifier, 0, value)
}

/// Sets a column as of an ordinal: reads return the cell with the greatest ordinal, whichever arrived last.
pub(super) fn set_at(
    family: &str,
    qualifier: impl Into<Bytes>,
    ordinal: u64,
    value: impl Into<Bytes>,
) -> Mutation {
    mutation(Kind::SetCell(proto::mutation::SetCell {
        family_name: family.to_owned(),
        column_qualifier: qualifier.into(),
        timestamp_micros: micros(ordinal),
        value: value.into(),
    }))
}

/// Sets a column as of the time by the service's clock, in whole milliseconds.
pub(super) fn set_now(family: &str, qualifier: impl Into<Bytes>, value: impl Into<Bytes>) -> Mutation {
    /// The service replaces this by its own time.
    const BY_THE_SERVICE: i64 = -1;
    mutation(Kind::SetCell(proto::mutation::SetCell {
        family_name: family.to_owned(),
        column_qualifier: qualifier.into(),
        timestamp_micros: BY_THE_SERVICE,
        value: value.into(),
    }))
}

/// The time at which [`set_now`] set a cell.
pub(super) fn time_of(cell: &Cell) -> Timestamp {
    let micros = i64::try_from(cell.ordinal).unwrap_or(i64::MAX);
    Timestamp::from_micros(micros.saturating_mul(MICROS_PER_ORDINAL))
}

/// Whether a change sets this column.
pub(super) fn sets(mutation: &Mutation, family: &str, qualifier: &[u8]) -> bool {
    matches!(&mutation.mutation, Some(Kind::SetCell(cell))
        if cell.family_name == family && cell.column_qualifier == qualifier)
}

/// Empties a column.
pub(super) fn unset(family: &str, qualifier: impl Into<Bytes>) -> Mutation {
    mutation(Kind::DeleteFromColumn(proto::mutation::DeleteFromColumn {
        family_name: family.to_owned(),
        column_qualifier: qualifier.into(),
        time_range: None,
    }))
}

/// Deletes the cells of a column up to an ordinal; later ones stay.
pub(super) fn unset_up_to(family: &str, qualifier: impl Into<Bytes>, ordinal: u64) -> Mutation {
    mutation(Kind::DeleteFromColumn(proto::mutation::DeleteFromColumn {
        family_name: family.to_owned(),
        column_qualifier: qualifier.into(),
        time_range: Some(proto::TimestampRange {
            start_timestamp_micros: 0,
            end_timestamp_micros: micros(ordinal.saturating_add(1)),
        }),
    }))
}

/// Empties a family.
pub(super) fn unset_family(family: &str) -> Mutation {
    mutation(Kind::DeleteFromFamily(proto::mutation::DeleteFromFamily {
        family_name: family.to_owned(),
    }))
}

/// Deletes the whole row.
pub(super) const fn unset_row() -> Mutation {
    mutation(Kind::DeleteFromRow(proto::mutation::DeleteFromRow {}))
}

const fn filter(filter: Filter) -> RowFilter {
    RowFilter { filter: Some(filter) }
}

/// Applies all filters, one after the other.
fn chain(filters: impl IntoIterator<Item = RowFilter>) -> RowFilter {
    let filters = filters.into_iter().collect();
    filter(Filter::Chain(Chain { filters }))
}

/// Passes cells that any of the filters passes, of each column the newest cell. The filters must not overlap.
pub(super) fn any_of(filters: impl IntoIterator<Item = RowFilter>) -> RowFilter {
    let mut filters: Vec<RowFilter> = filters.into_iter().collect();
    // The service requires at least two alternatives.
    let choice = if filters.len() == 1 {
        filters.remove(0)
    } else {
        filter(Filter::Interleave(Interleave { filters }))
    };
    chain([choice, filter(Filter::CellsPerColumnLimitFilter(1))])
}

/// The columns of a family from one to another, both included.
pub(super) fn columns(family: &str, from: impl Into<Bytes>, to: impl Into<Bytes>) -> RowFilter {
    filter(Filter::ColumnRangeFilter(ColumnRange {
        family_name: family.to_owned(),
        start_qualifier: Some(column_range::StartQualifier::StartQualifierClosed(from.into())),
        end_qualifier: Some(column_range::EndQualifier::EndQualifierClosed(to.into())),
    }))
}

/// All columns of a family.
pub(super) fn family(family: &str) -> RowFilter {
    filter(Filter::ColumnRangeFilter(ColumnRange {
        family_name: family.to_owned(),
        start_qualifier: None,
        end_qualifier: None,
    }))
}

/// Passes the cells of a filter without their values.
pub(super) fn without_values(of: RowFilter) -> RowFilter {
    chain([of, filter(Filter::StripValueTransformer(true))])
}

/// Passes the column where its newest cell has this value.
pub(super) fn exactly(family: &str, qualifier: impl Into<Bytes>, value: impl Into<Bytes>) -> RowFilter {
    let qualifier = qualifier.into();
    chain([
        columns(family, qualifier.clone(), qualifier),
        filter(Filter::CellsPerColumnLimitFilter(1)),
        with_value(value),
    ])
}

/// Cells with this value.
fn with_value(value: impl Into<Bytes>) -> RowFilter {
    let value = value.into();
    filter(Filter::ValueRangeFilter(ValueRange {
        start_value: Some(value_range::StartValue::StartValueClosed(value.clone())),
        end_value: Some(value_range::EndValue::EndValueClosed(value)),
    }))
}

//! The cost of the same rows without a journal, in one append-only table of the same kind of database.

#[cfg(feature = "postgres")]
mod postgres;
mod sqlite;

use crate::figure::{Figures, p50_ms, rate};
use std::path::Path;
use std::time::Duration;

/// Bytes of a row beside its payload: about what an envelope takes.
const ENVELOPE_BYTES: usize = 300;
/// Rows of a transaction.
const ROWS: usize = 64;

/// The results of a raw loop.
pub(crate) struct Rates {
    /// Rows a second in transactions of 64, one after the other.
    pub(crate) rows_in_64: f64,
    /// The median of a commit of one row.
    pub(crate) one_row_p50_ms: f64,
    /// Commits of one row a second by 64 connections at once, where a database takes several.
    pub(crate) one_row_at_once: Option<f64>,
}

/// Measures beside the store of that URL: in a file of its own, or in a table of its own in the same database. Not a
/// number where there is nothing to compare with.
pub(crate) async fn measure(url: &str, dir: &Path, span: Duration, figures: &mut Figures) -> Rates {
    #[cfg(feature = "postgres")]
    if url.starts_with("postgres") {
        return postgres::measure(url, dir, span, figures).await;
    }
    if url.starts_with("sqlite:") {
        return sqlite::measure(dir, span, figures).await;
    }
    Rates {
        rows_in_64: f64::NAN,
        one_row_p50_ms: f64::NAN,
        one_row_at_once: None,
    }
}

/// Prints the result of one connection, from the durations of its commits.
fn say(one: Vec<Duration>, many: &[Duration], span: Duration, figures: &mut Figures) -> Rates {
    let (one_row, one_row_p50_ms) = (rate(one.len(), span), p50_ms(one));
    let rows_in_64 = rate(many.len() * ROWS, span);
    figures.say("raw_one_row_commits", one_row, "rows/s", one_row);
    figures.say("raw_one_row_commit_p50", one_row_p50_ms, "ms", one_row_p50_ms);
    figures.say("raw_rows_in_transactions_of_64", rows_in_64, "rows/s", rows_in_64);
    Rates {
        rows_in_64,
        one_row_p50_ms,
        one_row_at_once: None,
    }
}

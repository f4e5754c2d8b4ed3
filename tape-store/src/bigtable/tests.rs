//! The store over a wire that fails, loses answers, delays calls and counts them.
//!
//! Which test fails without which rule. Each was seen to fail with its rule removed.
//!
//! | rule | without it |
//! |---|---|
//! | a commit tests the head of its stream's row | `late::a_batch_that_was_missed_is_never_committed_later` |
//! | with its digest | `heads::an_end_that_was_lost_is_not_written_on` |
//! | and the generation in it | the same, `late::a_writer_that_was_given_up_tries_again` |
//! | a resolution that does not find a batch raises the generation | `late::a_batch_that_was_missed_is_never_committed_later` |
//! | hints are written before the commit | `crashes::processes_that_die_again_and_again_get_on` |
//! | so is the hint of the pending stream | the same |
//! | a hint is only deleted up to an ordinal | `late::work_that_moves_back_is_found` |
//! | an old hint is settled | `late::what_a_dead_writer_announced_is_cleaned_up` |
//! | by raising the generation | `late::a_writer_that_was_given_up_tries_again` |
//! | the log has one row of a number | `overtaken::who_is_suspended_does_not_make_a_row_of_the_log_again` |
//! | the maker of the next row of the log raises the marks of the last | `crashes::processes_that_die_again_and_again_get_on` |
//! | an empty page is given after the log was read once more | `writers::the_feed_skips_nothing_while_writers_pause` |
//! | a missing row of the log was deleted | `overtaken::a_row_that_is_made_while_the_log_is_read_is_not_passed_over` |
//! | the boundary of a segment is fixed first | `overtaken::a_segment_ends_where_it_was_begun` |
//! | erasing counts in the cell that segments test | `overtaken::who_is_suspended_brings_no_erased_payload_back` |
//! | and is repeated in an existing segment | the same |
//! | a segment is written after another look at the boundary | `overtaken::who_is_suspended_brings_nothing_back_that_was_dropped` |
//! | a row that is reserved is written on condition of the reservation | `overtaken::who_is_suspended_does_not_make_a_row_of_the_log_again` |
//! | after another look at the log | the same |
//! | and all reservations go when it is written | the same |
//! | the first entry kept is moved on condition of the cell it is in | `overtaken::who_is_suspended_brings_nothing_back_that_was_dropped` |
//! | before segments are emptied | `crashes::whenever_a_process_dies_the_next_carries_on` |
//! | and after a segment under way is finished | `overtaken::who_is_suspended_brings_nothing_back_that_was_dropped` |
//! | a run leaves the lists last | `crashes::whenever_a_process_dies_the_next_carries_on` |
//! | with another generation | `late::a_commit_does_not_count_on_places_that_were_taken_away` |
//! | only rows of dropped entries are deleted from the log | `costs::a_piece_of_shortening_the_log_is_bounded` |
//! | and never the last one | `costs::a_piece_of_shortening_the_log_is_bounded` |
//! | a row that was seen reserved loses its reservations and nothing else | `overtaken::a_row_that_is_made_while_the_log_is_shortened_stays` |
//! | and those it does lose | `overtaken::a_claim_that_was_left_behind_goes` |
//! | the search for due work continues after a page of stale hints | `costs::due_work_costs_what_is_due_whatever_has_ended` |
//! | so does a list after a page of stale places | the same |
//! | so does the search for pending streams | `late::pending_streams_of_commits_under_way_hides_no_other` |
//! | a stream is listed by name only if it is there | `named::a_stream_that_was_never_made_is_not_listed` |
//! | a list of names continues after a page of stale hints | the same |
//! | a missing hint of a name is corrected | `named::a_stream_of_an_earlier_build_is_listed_once_that_is_corrected` |
//! | a table that would delete entries is not opened | `rules::a_rule_of_age_is_refused_and_put_right` |
//! | a pushed commit wakes readers, a hint does not | `pushed::commits_wake_and_nothing_else_does` |
//! | commits count as pushed once all partitions are followed | the same |
//! | a stream continues from its token | `pushed::a_stream_that_breaks_goes_on_from_where_it_was` |
//! | a loss is logged, and wakes readers | the same |
//! | merged partitions wait for each other | `pushed::partitions_that_are_merged_are_read_on_once_both_were_closed` |
//! | a refused token restarts the watch | `pushed::a_stream_that_cannot_go_on_begins_anew` |
//! | a silent stream is lost | `pushed::a_stream_that_says_nothing_is_lost` |
//! | entries that the log has and their stream lacks are reported | `lost::the_feed_goes_on_after_a_stream_whose_row_is_lost` |
//! | a record changes under its version, in one call that is not repeated | `records::a_change_that_comes_late_is_made_under_its_version_only` |
//! | its cells have no time | `records::a_record_that_changes_leaves_no_older_cells` |
//! | the watch ends with its store | `pushed::nobody_reads_once_the_watch_is_over` |
//!
//! A reader that makes a row of the log raises its marks before names leave the set of pending streams. This only saves work: no test fails
//! without it, since the maker of the next row raises them in any case.

mod costs;
mod crashes;
mod heads;
mod late;
mod logbook;
mod lost;
mod named;
mod overtaken;
mod pushed;
mod records;
mod rules;
mod service;
mod wire;
mod writers;

#[path = "../../tests/bigtable_emulator/mod.rs"]
mod bigtable_emulator;
#[path = "../../tests/lost_head/mod.rs"]
mod lost_head;
#[path = "../../tests/pen/mod.rs"]
mod pen;

use super::links::{Access, Links};
use super::table::{Row, RowFilter, Rows, Table};
use super::{BigtableStore, Target, migrate};
use crate::contract::JournalStore;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tape_environment::machine;

/// Stores with this setting never take a writer for dead.
const NEVER: Duration = Duration::from_secs(3_600);
const AT_ONCE: Duration = Duration::ZERO;
const SHARDS: u16 = 2;

/// A new empty table; none where the emulator is not installed, which is reported.
async fn table() -> Option<Arc<dyn Table>> {
    let target: Target = bigtable_emulator::Table::new()?.url().parse().unwrap();
    migrate(&target, false).await.unwrap();
    let access = Access::new(&target).unwrap();
    Some(Arc::new(Links::new(&target, &access).unwrap()))
}

/// A store of another process on the same table.
fn store(table: &Arc<dyn Table>, given_up_after: Duration) -> BigtableStore {
    BigtableStore::over(Arc::clone(table), SHARDS, given_up_after, machine())
}

fn shared(table: &Arc<dyn Table>) -> Arc<dyn JournalStore> {
    Arc::new(store(table, NEVER))
}

/// All rows whose keys begin with a byte.
async fn rows_of(table: &dyn Table, kind: u8, cells: RowFilter) -> Vec<Row> {
    let range = Rows::Range(Bytes::from(vec![kind]), Bytes::from(vec![kind + 1]));
    table.read(range, cells, usize::MAX).await.unwrap()
}

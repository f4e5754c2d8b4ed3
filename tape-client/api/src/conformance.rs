//! The tests that every [`Journal`] has to pass, so that a store in the process and a server cannot differ.
//!
//! ```ignore
//! tape_api::conformance!(|| async { Fixture::new(engine) });
//! ```
//!
//! The tests are listed once, below. Each is a plain function that panics where the journal breaks a promise of the trait.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod agent;
mod arguments;
mod commands;
mod due;
mod entries;
mod gates;
mod keys;
mod lists;
mod names;
mod queues;
mod relay_records;
mod relays;
mod runs;
mod sessions;
mod values;

use crate::Journal;
use std::any::Any;
use std::sync::Arc;

/// A journal without entries.
#[derive(Debug)]
pub struct Fixture {
    /// The journal.
    pub journal: Arc<dyn Journal>,
    _kept: Vec<Box<dyn Any + Send + Sync>>,
}

impl Fixture {
    /// A fixture of an empty journal.
    #[must_use]
    pub fn new(journal: impl Journal) -> Self {
        Self {
            journal: Arc::new(journal),
            _kept: Vec::new(),
        }
    }

    /// Keeps a value, such as a temporary directory, as long as the test runs.
    #[must_use]
    pub fn keeping(mut self, kept: impl Any + Send + Sync) -> Self {
        self._kept.push(Box::new(kept));
        self
    }
}

/// Runs a test in a runtime of its own; for the macro.
#[doc(hidden)]
pub fn run<F: Future<Output = Fixture>, T: Future<Output = ()>>(
    factory: impl FnOnce() -> F,
    test: impl FnOnce(Fixture) -> T,
) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime.unwrap().block_on(async { test(factory().await).await });
}

/// The list of tests: `module::name`.
macro_rules! tests {
    ([] $($module:ident :: $name:ident;)*) => {
        $(#[doc = concat!("The test `", stringify!($name), "`.")]
        ///
        /// # Panics
        /// Where the journal breaks a promise.
        pub async fn $name(fixture: Fixture) {
            $module::$name(fixture.journal.clone()).await;
        })*
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __journal_conformance_list {
    (($($with:tt)*) $($arg:tt)*) => {
        $($with)*! { [$($arg)*]
            commands::a_request_has_one_outcome;
            commands::what_the_rules_refuse_is_rejected;
            commands::a_payload_is_erased_and_an_entry_says_so;
            entries::all_ways_to_read_a_run_agree;
            entries::what_is_not_there_reads_as_nothing;
            entries::a_reader_that_stays_is_given_what_comes;
            entries::the_feed_has_what_matches_in_order;
            entries::a_tail_goes_on_at_the_cursors_of_an_earlier_one;
            entries::a_tail_may_be_of_some_shards_alone;
            entries::a_tail_of_a_tenant_has_nothing_of_others;
            entries::cursors_and_shards_that_are_not_of_the_journal_are_refused;
            sessions::a_session_is_what_its_events_made_it;
            sessions::shared_state_is_carried_over;
            values::each_change_of_a_value_is_seen_once_and_in_order;
            values::a_value_that_was_erased_is_seen_as_erased;
            due::due_work_is_found_and_passed_over_while_a_worker_has_it;
            due::an_undo_is_found_and_passed_over_while_a_worker_has_it;
            due::pages_of_due_work_follow_each_other;
            due::what_becomes_due_later_is_pending;
            due::what_is_written_wakes_a_worker;
            arguments::a_page_of_size_zero_is_the_usual_one;
            arguments::no_events_are_asked_for_with_a_state_alone;
            arguments::a_page_that_is_too_large_is_the_largest;
            arguments::an_empty_token_is_that_of_the_first_page;
            arguments::a_garbled_token_is_refused_by_every_list;
            arguments::a_reason_is_checked_before_a_token;
            runs::runs_are_listed_by_every_filter;
            runs::runs_of_other_tenants_are_never_among_them;
            runs::runs_are_listed_by_the_beginning_of_their_names;
            runs::runs_are_listed_by_when_they_began;
            runs::runs_are_listed_by_the_driver_that_has_them_now;
            runs::runs_are_counted_by_every_filter;
            runs::the_counts_of_all_pages_add_up;
            gates::gates_that_wait_are_listed_with_what_an_answer_needs;
            gates::gates_that_take_no_answer_are_not_listed;
            names::sessions_are_listed_in_the_order_of_their_names;
            names::values_are_listed_in_the_order_of_their_names;
            keys::a_business_key_has_one_owner;
            queues::what_is_due_is_summed_up_by_queue_and_tenant;
            relay_records::what_a_relay_reports_is_on_record_once;
            relay_records::what_a_relay_may_not_report_is_refused;
            relay_records::the_reason_of_a_refusal_is_read_and_erased;
            relays::one_process_carries_a_part_of_a_relay;
            relays::a_place_is_what_its_moves_made_it;
            relays::a_relay_that_is_disabled_is_no_process_s;
            relays::a_relay_is_put_at_other_places;
            relays::a_part_of_a_relay_that_never_began_is_put_elsewhere;
            relays::a_relay_whose_place_makes_no_sense_hides_no_other;
            relays::a_relay_of_the_longest_names_has_a_place;
            relays::a_relay_that_is_forgotten_begins_anew;
            relays::relays_are_listed_in_the_order_of_their_names;
            relays::the_lag_of_a_relay_is_what_it_has_not_passed;
            relays::what_is_out_of_bounds_for_a_relay_changes_nothing;
            lists::streams_are_found_and_their_indexes_fit;
            lists::a_run_that_is_retired_says_how_it_ended;
        }
    };
}
crate::__journal_conformance_list! { (tests) }

#[doc(hidden)]
#[macro_export]
macro_rules! __journal_conformance_tests {
    ([$factory:expr] $($module:ident :: $name:ident;)*) => {
        $(#[test]
        fn $name() {
            $crate::conformance::run($factory, $crate::conformance::$name);
        })*
    };
}

/// Makes a `#[test]` for each conformance test. Takes an asynchronous factory of fixtures.
#[macro_export]
macro_rules! conformance {
    ($factory:expr) => {
        $crate::__journal_conformance_list! { ($crate::__journal_conformance_tests) $factory }
    };
}

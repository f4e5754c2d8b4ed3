//! The tests that engines over every store have to pass, beside those of the store itself
//! ([`tape_store::conformance!`]). They are exported so that stores elsewhere can be held to them too.
//!
//! ```no_run
//! use std::sync::Arc;
//! use tape_store::conformance::Fixture;
//! use tape_store::memory::MemoryStore;
//!
//! tape_engine::conformance!(|| async { Fixture::new(Arc::new(MemoryStore::new())) });
//! # fn main() {}
//! ```

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod broken_off;
mod business_keys;
mod dead_owners;
mod engines;
mod erasure;
mod lost;
mod name_queries;
mod relays;
mod retention;
mod run_queries;
mod shared;
mod snapshots;
mod tampered;
mod time;
mod upkeep;
mod work_queries;

use tape_store::conformance::{Test, always};

/// The list of tests: `module::name if condition`.
#[doc(hidden)]
#[macro_export]
macro_rules! __engine_conformance_list {
    (($($with:tt)*) $($arg:tt)*) => {
        $($with)*! { [$($arg)*]
            lost::what_was_lost_is_neither_told_nor_written_on if always;
            snapshots::a_snapshot_that_does_not_read_is_harmless if always;
            engines::a_fenced_driver_with_an_old_state_cannot_write if always;
            engines::lost_answers_do_not_repeat_commands if always;
            engines::a_lost_answer_is_found_behind_much_of_others if always;
            engines::a_command_whose_outcome_is_unknown_is_taken_once if always;
            business_keys::a_business_key_has_one_owner if always;
            business_keys::a_business_key_stays_with_a_run_that_was_retired if always;
            business_keys::a_business_key_of_what_never_happened_is_free if always;
            dead_owners::the_key_of_a_run_that_died_is_taken_over_or_used_but_never_lost if always;
            engines::a_repeated_request_is_never_executed_again if always;
            engines::reservations_never_overspend if always;
            engines::compare_and_sets_have_one_winner_a_version if always;
            engines::a_state_from_a_snapshot_is_the_one_replayed if always;
            erasure::an_erased_value_is_gone_on_every_engine if always;
            erasure::an_erased_event_takes_its_state_along if always;
            erasure::erased_labels_leave_the_list if always;
            erasure::a_retired_run_whose_labels_are_erased_stays_out_of_the_list if always;
            erasure::what_was_changed_is_not_erased if always;
            relays::what_a_relay_reports_again_is_on_record_once if always;
            relays::what_a_relay_reports_stays_in_the_tenant_that_it_is_about if always;
            relays::the_reason_of_a_refusal_is_erased if always;
            relays::a_long_record_of_a_relay_verifies_and_is_remembered if always;
            broken_off::an_erasure_that_dies_at_any_step_is_finished_by_the_next if always;
            broken_off::what_changes_amid_an_erasure_brings_nothing_back if always;
            broken_off::a_change_that_was_not_carried_over_is_erased if always;
            broken_off::what_a_full_state_repeats_is_erased if always;
            broken_off::damaged_shared_state_keeps_no_bytes_of_a_session if always;
            shared::a_change_that_shared_state_cannot_take_is_refused if always;
            shared::a_change_that_lost_its_room_is_recorded_as_refused if always;
            time::work_of_a_clock_that_was_ahead_is_found if always;
            time::processes_share_one_clock if always;
            time::a_right_is_taken_over_when_it_is_over_and_not_before if always;
            time::a_clock_that_is_set_ends_no_right_and_holds_up_no_work if always;
            retention::a_retired_run_says_how_it_ended if always;
            retention::a_run_retired_behind_a_cache_says_how_it_ended if always;
            retention::retention_that_dies_at_any_step_is_finished_by_the_next if always;
            retention::several_retire_the_same_runs_at_once if always;
            retention::a_damaged_run_is_left_as_it_is if always;
            retention::a_run_that_was_damaged_after_it_was_retired_is_left_as_it_is if always;
            upkeep::indexes_that_were_lost_are_put_right if always;
            upkeep::a_correction_of_an_old_end_is_refused if always;
            upkeep::nothing_is_found_while_others_write if always;
            upkeep::indexes_of_an_earlier_computation_are_made_current if always;
            upkeep::a_snapshot_that_was_changed_is_not_believed if always;
            upkeep::a_stream_in_the_place_of_another_is_found if always;
            run_queries::runs_are_found_by_every_part_of_a_query if always;
            run_queries::a_run_that_changes_its_status_is_listed_once if always;
            run_queries::a_page_looks_at_a_bounded_number_of_runs if always;
            name_queries::sessions_are_listed if always;
            name_queries::values_are_listed if always;
            work_queries::gates_that_wait_are_listed if always;
            work_queries::the_owner_of_a_business_key_is_told if always;
            work_queries::due_work_is_found_by_tenant_and_app if always;
            work_queries::tokens_of_due_work_name_nothing_of_others if always;
            work_queries::queues_are_summed_up if always;
        }
    };
}

macro_rules! table {
    ([] $($module:ident :: $name:ident if $condition:ident;)*) => {
        /// All tests.
        pub const TESTS: &[Test] = &[$(Test {
            name: stringify!($name),
            body: |fixture| Box::pin($module::$name(fixture)),
            rules_out: $condition,
        }),*];
    };
}
crate::__engine_conformance_list! { (table) }

#[doc(hidden)]
#[macro_export]
macro_rules! __engine_conformance_tests {
    ([$factory:expr] $($module:ident :: $name:ident if $condition:ident;)*) => {
        $(#[test]
        fn $name() {
            $crate::__run($crate::conformance::TESTS, stringify!($name), $factory);
        })*
    };
}

/// Makes a `#[test]` of each test of the engine. Takes a factory as [`tape_store::conformance!`] does.
#[macro_export]
macro_rules! conformance {
    ($factory:expr) => {
        $crate::__engine_conformance_list! { ($crate::__engine_conformance_tests) $factory }
    };
}

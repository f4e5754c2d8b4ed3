//! The tests that every store has to pass, exported so that stores elsewhere can be held to them too.
//!
//! A store's test file is a factory and one macro call:
//!
//! ```no_run
//! use std::sync::Arc;
//! use tape_store::conformance::Fixture;
//! use tape_store::memory::MemoryStore;
//!
//! tape_store::conformance!(|| async { Fixture::new(Arc::new(MemoryStore::new())) });
//! # fn main() {}
//! ```
//!
//! The tests are listed once, below. A test that a store's [`Capabilities`] rule out says so on standard error and
//! passes. Each test is a plain function that panics where the store breaks its promise, so a deliberately broken
//! store can be seen to fail the test that is named for it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod agenda;
mod append;
mod broken_off;
mod business_keys;
mod commits;
mod durability;
mod engines;
mod erasure;
mod feed;
mod histories;
mod listing;
mod lost;
mod reads;
mod retention;
mod shared;
mod time;
mod upkeep;

use crate::contract::{Capabilities, JournalStore};
use futures::future::BoxFuture;
use std::any::Any;
use std::sync::Arc;

/// Opens the store that a fixture is of once more, as another process would.
pub type Reopen = Arc<dyn Fn() -> BoxFuture<'static, Arc<dyn JournalStore>> + Send + Sync>;

/// A fresh store to be tested.
pub struct Fixture {
    store: Arc<dyn JournalStore>,
    reopen: Option<Reopen>,
    kept: Vec<Box<dyn Any + Send + Sync>>,
}

impl std::fmt::Debug for Fixture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fixture")
            .field("store", &self.store.capabilities())
            .finish_non_exhaustive()
    }
}

impl Fixture {
    /// A fixture of an empty store.
    #[must_use]
    pub fn new(store: Arc<dyn JournalStore>) -> Self {
        Self {
            store,
            reopen: None,
            kept: Vec::new(),
        }
    }

    /// The same with another store around the one that is tested.
    #[must_use]
    pub fn wrapped(mut self, wrap: impl FnOnce(Arc<dyn JournalStore>) -> Arc<dyn JournalStore>) -> Self {
        self.store = wrap(self.store);
        self
    }

    /// Says how the same store is opened once more; needed where the store is durable.
    #[must_use]
    pub fn reopening(mut self, reopen: Reopen) -> Self {
        self.reopen = Some(reopen);
        self
    }

    /// Keeps something, such as a temporary directory, as long as the test runs.
    #[must_use]
    pub fn keeping(mut self, kept: impl Any + Send + Sync) -> Self {
        self.kept.push(Box::new(kept));
        self
    }
}

/// One of the tests.
#[derive(Clone, Copy, Debug)]
pub struct Test {
    /// Its name.
    pub name: &'static str,
    body: fn(Fixture) -> BoxFuture<'static, ()>,
    /// Why a store with such capabilities is not put to the test.
    rules_out: fn(&Capabilities) -> Option<&'static str>,
}

impl Test {
    /// Runs the test on a fresh store.
    ///
    /// # Panics
    /// Where the store breaks a promise.
    pub async fn run(&self, fixture: Fixture) {
        let capabilities = fixture.store.capabilities();
        if let Some(reason) = (self.rules_out)(&capabilities) {
            eprintln!("{} is not run on {}: {reason}", self.name, capabilities.name);
            return;
        }
        (self.body)(fixture).await;
    }
}

/// Runs one test of [`TESTS`] in a runtime of its own; for the macro. Where the factory has no fixture, nothing is tested.
///
/// # Panics
/// Where the store breaks a promise, or there is no such test.
pub fn run<F: Future<Output: Into<Option<Fixture>>>>(name: &str, factory: impl FnOnce() -> F) {
    let test = TESTS
        .iter()
        .find(|test| test.name == name)
        .expect("the macro and the table have the same list");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let runtime = runtime.expect("the machine has room for two threads");
    runtime.block_on(async {
        if let Some(fixture) = factory().await.into() {
            test.run(fixture).await;
        }
    });
}

const fn always(_: &Capabilities) -> Option<&'static str> {
    None
}

fn where_durable(capabilities: &Capabilities) -> Option<&'static str> {
    (!capabilities.durable).then_some("nothing of it outlives the process")
}

/// The list of tests: `module::name`, or `module::name if condition`.
#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_list {
    (($($with:tt)*) $($arg:tt)*) => {
        $($with)*! { [$($arg)*]
            commits::a_batch_is_appended_as_it_is if always;
            commits::a_wrong_end_conflicts if always;
            commits::a_wrong_epoch_is_fenced if always;
            commits::the_epoch_is_checked_before_the_end if always;
            commits::batches_of_a_commit_are_independent if always;
            commits::a_batch_is_never_half_there if always;
            commits::batches_that_no_store_takes_are_refused if always;
            commits::what_became_of_a_batch_is_told_by_its_place if always;
            commits::a_commit_that_was_abandoned_is_there_or_never_comes if always;
            commits::racing_commits_have_one_winner if always;
            commits::after_a_takeover_nothing_of_the_old_driver_is_written if always;
            commits::a_probe_leaves_nothing_behind if always;
            lost::a_batch_on_an_entry_that_was_lost_conflicts if always;
            lost::what_was_lost_is_neither_told_nor_written_on if always;
            agenda::work_is_found_when_it_is_due if always;
            agenda::work_moves_and_goes if always;
            agenda::a_refused_batch_leaves_the_agenda_alone if always;
            agenda::due_work_is_found_among_much_that_is_not if always;
            agenda::pages_of_due_work_follow_each_other if always;
            reads::pages_follow_each_other if always;
            reads::pages_of_large_entries_follow_each_other if always;
            reads::a_snapshot_is_the_one_that_was_put if always;
            reads::a_snapshot_stays_or_is_replaced_or_goes if always;
            reads::a_snapshot_that_does_not_read_is_harmless if always;
            reads::an_erased_payload_leaves_the_chain_whole if always;
            feed::the_feed_has_every_entry_in_order if always;
            feed::the_feed_goes_on_from_every_cursor if always;
            feed::the_feed_skips_nothing_under_writers if always;
            feed::a_cursor_of_another_history_is_refused if always;
            feed::the_end_of_the_feed_is_where_new_entries_come if always;
            feed::a_commit_wakes_who_waits if always;
            listing::runs_are_listed_by_every_filter if always;
            listing::pages_of_runs_follow_each_other if always;
            listing::tenants_are_separate if always;
            histories::random_histories_are_as_in_memory if always;
            engines::a_fenced_driver_with_an_old_state_cannot_write if always;
            engines::lost_answers_do_not_repeat_commands if always;
            engines::a_lost_answer_is_found_behind_much_of_others if always;
            engines::a_command_whose_outcome_is_unknown_is_taken_once if always;
            business_keys::a_business_key_has_one_owner if always;
            business_keys::a_business_key_stays_with_a_run_that_was_retired if always;
            business_keys::a_business_key_of_what_never_happened_is_free if always;
            engines::a_repeated_request_is_never_executed_again if always;
            engines::reservations_never_overspend if always;
            engines::compare_and_sets_have_one_winner_a_version if always;
            engines::a_state_from_a_snapshot_is_the_one_replayed if always;
            erasure::an_erased_value_is_gone_on_every_engine if always;
            erasure::an_erased_event_takes_its_state_along if always;
            erasure::erased_labels_leave_the_list if always;
            erasure::a_retired_run_whose_labels_are_erased_stays_out_of_the_list if always;
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
            retention::what_is_dropped_is_gone_and_the_rest_is_there if always;
            retention::what_became_of_dropped_batches_is_unknown if always;
            retention::the_feed_has_what_is_kept_while_entries_are_dropped if always;
            retention::a_retired_run_says_how_it_ended if always;
            retention::a_run_retired_behind_a_cache_says_how_it_ended if always;
            retention::retention_that_dies_at_any_step_is_finished_by_the_next if always;
            retention::several_retire_the_same_runs_at_once if always;
            upkeep::every_stream_is_found_once if always;
            upkeep::indexes_that_were_lost_are_put_right if always;
            upkeep::a_correction_of_an_old_end_is_refused if always;
            upkeep::nothing_is_found_while_others_write if always;
            upkeep::indexes_of_an_earlier_computation_are_made_current if always;
            upkeep::a_snapshot_that_was_changed_is_not_believed if always;
            upkeep::a_stream_in_the_place_of_another_is_found if always;
            durability::what_is_acknowledged_is_there_after_reopening if where_durable;
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
crate::__conformance_list! { (table) }

#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_tests {
    ([$factory:expr] $($module:ident :: $name:ident if $condition:ident;)*) => {
        $(#[test]
        fn $name() {
            $crate::conformance::run(stringify!($name), $factory);
        })*
    };
}

/// Makes a `#[test]` of each conformance test. Takes an asynchronous factory of fixtures:
/// `|| async { Fixture::new(store) }`. A factory whose store needs a server that is not installed says so, and gives
/// [`None`] instead.
#[macro_export]
macro_rules! conformance {
    ($factory:expr) => {
        $crate::__conformance_list! { ($crate::__conformance_tests) $factory }
    };
}

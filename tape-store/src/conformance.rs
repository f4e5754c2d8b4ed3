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
//! The tests are listed once, below. Where a store's [`Capabilities`] rule out a test, the test says so on standard error and passes. Each
//! test is a plain function that panics where the store breaks its promise, so a deliberately broken store can be seen to fail the test
//! that is named for it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod agenda;
mod commits;
mod cursors;
mod durability;
mod feed;
mod histories;
mod listing;
mod lost;
mod named;
pub mod pen;
mod reads;
mod retention;
mod upkeep;

use crate::contract::{Capabilities, JournalStore};
use futures::future::BoxFuture;
use std::any::Any;
use std::sync::Arc;

/// Opens the store of a fixture once more, as another process would.
pub type Reopen = Arc<dyn Fn() -> BoxFuture<'static, Arc<dyn JournalStore>> + Send + Sync>;

/// A fresh store to be tested.
pub struct Fixture {
    /// The store.
    pub store: Arc<dyn JournalStore>,
    /// Opens it once more; none where it is not durable.
    pub reopen: Option<Reopen>,
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
    /// The test; panics where the store breaks a promise.
    pub body: fn(Fixture) -> BoxFuture<'static, ()>,
    /// Why the test does not apply to a store with such capabilities; none where it applies.
    pub rules_out: fn(&Capabilities) -> Option<&'static str>,
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

/// Runs one of `tests` in a runtime of its own; for the macros. Where the factory has no fixture, nothing is tested.
///
/// # Panics
/// Where the store breaks a promise, or there is no such test.
pub fn run<F: Future<Output: Into<Option<Fixture>>>>(
    tests: &[Test],
    name: &str,
    factory: impl FnOnce() -> F,
) {
    let test = tests
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

/// Rules out no store.
#[must_use]
pub const fn always(_: &Capabilities) -> Option<&'static str> {
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
            commits::a_large_group_commits_what_fits if always;
            commits::a_batch_is_never_half_there if always;
            commits::batches_that_no_store_takes_are_refused if always;
            commits::what_became_of_a_batch_is_told_by_its_place if always;
            commits::a_commit_that_was_abandoned_is_there_or_never_comes if always;
            commits::racing_commits_have_one_winner if always;
            commits::after_a_takeover_nothing_of_the_old_driver_is_written if always;
            commits::a_probe_leaves_nothing_behind if always;
            lost::a_batch_on_an_entry_that_was_lost_conflicts if always;
            agenda::work_is_found_when_it_is_due if always;
            agenda::work_moves_and_goes if always;
            agenda::a_refused_batch_leaves_the_agenda_alone if always;
            agenda::due_work_is_found_among_much_that_is_not if always;
            agenda::pages_of_due_work_follow_each_other if always;
            reads::pages_follow_each_other if always;
            reads::pages_of_large_entries_follow_each_other if always;
            reads::a_snapshot_is_the_one_that_was_put if always;
            reads::a_snapshot_stays_or_is_replaced_or_goes if always;
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
            named::streams_are_listed_by_their_names if always;
            named::a_page_of_names_begins_where_its_own_list_stopped if always;
            histories::random_histories_are_as_in_memory if always;
            retention::what_is_dropped_is_gone_and_the_rest_is_there if always;
            retention::what_became_of_dropped_batches_is_unknown if always;
            retention::the_feed_has_what_is_kept_while_entries_are_dropped if always;
            upkeep::every_stream_is_found_once if always;
            cursors::a_record_changes_under_its_version_only if always;
            cursors::racing_changes_of_a_record_have_one_winner if always;
            cursors::records_are_listed_by_their_names if always;
            cursors::changes_that_no_store_takes_are_refused if always;
            cursors::records_are_there_after_reopening if where_durable;
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
            $crate::conformance::run($crate::conformance::TESTS, stringify!($name), $factory);
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

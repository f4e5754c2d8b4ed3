//! Stores that are broken on purpose: each fails the test of the conformance suite that is named for it, and the same store passes that
//! test without the defect.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[cfg(feature = "bigtable")]
mod bigtable_emulator;
mod broken_store;
#[cfg(feature = "postgres")]
mod postgres_server;
#[cfg(feature = "spanner")]
mod spanner_emulator;

use broken_store::{BrokenStore, Defect};
use futures::future::BoxFuture;
use std::sync::Arc;
use tape_store::conformance::{Fixture, TESTS, Test};
use tape_store::contract::JournalStore;
use tape_store::memory::MemoryStore;

fn test(name: &str) -> &'static Test {
    TESTS
        .iter()
        .chain(tape_engine::conformance::TESTS)
        .find(|test| test.name == name)
        .unwrap_or_else(|| panic!("there is no test {name}"))
}

/// A correct store, and how it is opened once more; none where its server is not installed.
async fn whole(kind: &str) -> Option<Fixture> {
    let fixture = match kind {
        "memory" => {
            let store: Arc<dyn JournalStore> = Arc::new(MemoryStore::with_shards(2));
            let same = Arc::clone(&store);
            Fixture::new(store).reopening(Arc::new(move || {
                let same = Arc::clone(&same);
                Box::pin(async move { same })
            }))
        }
        "sqlite" => {
            let directory = tempfile::tempdir().unwrap();
            let url = format!("sqlite:{}", directory.path().join("tape.db").display());
            opened(url).await.keeping(directory)
        }
        #[cfg(feature = "bigtable")]
        "bigtable" => {
            let table = bigtable_emulator::Table::new()?;
            opened(table.url()).await.keeping(table)
        }
        #[cfg(feature = "postgres")]
        "postgres" => {
            let database = postgres_server::Database::create()?;
            opened(database.url()).await.keeping(database)
        }
        #[cfg(feature = "spanner")]
        "spanner" => {
            let database = spanner_emulator::Database::create()?;
            opened(database.url()).await.keeping(database)
        }
        _ => unreachable!("{kind} is not built"),
    };
    Some(fixture)
}

/// A reopened store lacks what a broken store keeps only in memory.
async fn opened(url: String) -> Fixture {
    let open = move || -> BoxFuture<'static, Arc<dyn JournalStore>> {
        let url = url.clone();
        Box::pin(async move { tape_store::open::open(&url).await.unwrap() })
    };
    Fixture::new(open().await).reopening(Arc::new(open))
}

/// Whether the test passes on such a store; none where its server is not installed.
async fn passes(name: &'static str, kind: &str, defect: Option<Defect>) -> Option<bool> {
    let fixture = whole(kind).await?;
    let fixture = match defect {
        Some(defect) => fixture.wrapped(|store| Arc::new(BrokenStore::new(store, defect))),
        None => fixture,
    };
    Some(tokio::spawn(test(name).run(fixture)).await.is_ok())
}

/// Runs the test on the correct store, which passes, and on the broken one, which fails.
fn caught_on(kind: &str, defect: Defect, by: &'static str) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        assert_ne!(
            passes(by, kind, None).await,
            Some(false),
            "{by} fails on the whole store"
        );
        assert_ne!(
            passes(by, kind, Some(defect)).await,
            Some(true),
            "{by} does not catch a store that {defect:?}"
        );
    });
}

/// The kinds of stores in this build: all, or the named ones.
fn kinds(named: &[&'static str]) -> Vec<&'static str> {
    let kinds = [
        ("memory", true),
        ("sqlite", true),
        ("postgres", cfg!(feature = "postgres")),
        ("bigtable", cfg!(feature = "bigtable")),
        ("spanner", cfg!(feature = "spanner")),
    ];
    let built = kinds
        .into_iter()
        .filter(|(_, built)| *built)
        .map(|(kind, _)| kind);
    built
        .filter(|kind| named.is_empty() || named.contains(kind))
        .collect()
}

macro_rules! caught {
    ($($name:ident: $defect:ident by $test:ident $(on $($kind:literal)and+)?;)+) => {$(
        #[test]
        fn $name() {
            for kind in kinds(&[$($($kind),+)?]) {
                caught_on(kind, Defect::$defect, stringify!($test));
            }
        }
    )+};
}

caught! {
    one_that_ignores_the_epoch: IgnoresEpoch by a_wrong_epoch_is_fenced;
    one_that_ignores_the_epoch_lets_an_old_driver_write: IgnoresEpoch by after_a_takeover_nothing_of_the_old_driver_is_written;
    one_that_fences_by_the_end_alone: IgnoresEpoch by the_epoch_is_checked_before_the_end;
    one_that_ignores_the_expected_end: IgnoresExpectedEnd by a_wrong_end_conflicts;
    one_that_lets_every_racer_win: IgnoresExpectedEnd by racing_commits_have_one_winner;
    one_that_ignores_the_end_overspends: IgnoresExpectedEnd by reservations_never_overspend;
    one_that_ignores_the_digest: IgnoresDigest by a_batch_on_an_entry_that_was_lost_conflicts;
    one_that_ignores_the_digest_links_to_what_it_lost: IgnoresDigest by what_was_lost_is_neither_told_nor_written_on;
    one_that_loses_the_agenda: LosesAgenda by work_is_found_when_it_is_due;
    one_that_never_moves_work: NeverMovesWork by work_moves_and_goes;
    one_that_never_ends_work: NeverEndsWork by work_moves_and_goes;
    one_that_indexes_what_it_refuses: IndexesRefusedBatches by a_refused_batch_leaves_the_agenda_alone;
    one_that_finds_only_the_first_due: FindsOnlyTheFirstDue by due_work_is_found_among_much_that_is_not;
    one_that_passes_work_of_the_same_time: PassesWorkOfTheSameTime by pages_of_due_work_follow_each_other;
    one_that_begins_pages_anew: BeginsPagesAnew by pages_of_due_work_follow_each_other;
    one_that_skips_in_the_feed: SkipsInFeed by the_feed_has_every_entry_in_order;
    one_that_skips_paused_writers: RemembersHighest by the_feed_skips_nothing_under_writers;
    one_that_reorders_the_feed: ReordersFeed by the_feed_has_every_entry_in_order;
    one_whose_cursors_are_pages: ForgetsCursors by the_feed_goes_on_from_every_cursor;
    one_that_believes_any_cursor: BelievesCursors by a_cursor_of_another_history_is_refused;
    one_that_tears_batches: TearsBatches by a_batch_is_never_half_there;
    one_that_answers_early: AnswersEarly by what_is_acknowledged_is_there_after_reopening on "sqlite" and "postgres" and "bigtable" and "spanner";
    one_that_fails_the_neighbours: FailsNeighbours by batches_of_a_commit_are_independent;
    one_that_mixes_tenants: MixesTenants by tenants_are_separate;
    one_that_lists_other_tenants: ListsOtherTenants by tenants_are_separate;
    one_that_finds_every_batch: FindsEveryBatch by what_became_of_a_batch_is_told_by_its_place;
    one_that_finds_no_batch: FindsNoBatch by what_became_of_a_batch_is_told_by_its_place;
    one_that_forgets_batches: ForgetsBatches by what_became_of_a_batch_is_told_by_its_place;
    one_that_forgets_batches_denies_commands: ForgetsBatches by a_lost_answer_is_found_behind_much_of_others;
    one_that_finds_no_batch_denies_commands: FindsNoBatch by a_lost_answer_is_found_behind_much_of_others;
    one_that_misses_what_was_dropped: MissesDroppedBatches by what_became_of_dropped_batches_is_unknown;
    one_that_commits_late: CommitsLate by a_commit_that_was_abandoned_is_there_or_never_comes on "memory";
    one_that_serves_the_snapshot_of_another: SnapshotOfAnother by a_snapshot_is_the_one_that_was_put;
    one_that_gives_snapshots_the_seq_of_the_head: SnapshotAtHead by a_snapshot_is_the_one_that_was_put;
    one_whose_snapshots_are_out_of_place: SnapshotAtHead by random_histories_are_as_in_memory on "memory";
    one_that_keeps_snapshots_of_what_was_erased: KeepsErasedSnapshots by a_snapshot_stays_or_is_replaced_or_goes;
    one_that_keeps_the_snapshot_before_a_large_one: KeepsSnapshotsBeforeLargeOnes by a_snapshot_stays_or_is_replaced_or_goes;
    one_that_gives_entries_alone: GivesEntriesAlone by pages_follow_each_other;
    one_that_ends_pages_early: TruncatesPages by pages_follow_each_other;
    one_that_leaves_large_entries_out: LeavesLargeOut by pages_of_large_entries_follow_each_other;
    one_that_erases_envelopes: ErasesEnvelope by an_erased_payload_leaves_the_chain_whole;
    one_that_erases_nothing: ErasesNothing by an_erased_payload_leaves_the_chain_whole;
    one_that_takes_anything: TakesAnything by batches_that_no_store_takes_are_refused;
    one_that_ignores_the_status: IgnoresStatus by runs_are_listed_by_every_filter;
    one_whose_lists_end_early: EndsListsEarly by pages_of_runs_follow_each_other;
    one_that_keeps_stale_ends: KeepsStaleHeads by a_batch_is_appended_as_it_is;
    one_that_drops_nothing: DropsNothing by what_is_dropped_is_gone_and_the_rest_is_there;
    one_that_drops_nothing_leaves_what_was_retired: DropsNothing by a_retired_run_says_how_it_ended;
    one_that_drops_one_too_many: DropsOneTooMany by what_is_dropped_is_gone_and_the_rest_is_there;
    one_that_drops_ends_too: DropsTheEndToo by what_is_dropped_is_gone_and_the_rest_is_there;
    one_that_keeps_the_snapshots_of_what_it_drops: KeepsSnapshots by what_is_dropped_is_gone_and_the_rest_is_there;
    one_that_lists_what_it_dropped: KeepsListed by what_is_dropped_is_gone_and_the_rest_is_there;
    one_that_ignores_versions_of_records: IgnoresVersion by a_record_changes_under_its_version_only;
    one_that_compares_records_beforehand: ComparesBeforehand by racing_changes_of_a_record_have_one_winner;
    one_that_lists_records_beyond_the_prefix: ListsBeyondPrefix by records_are_listed_by_their_names;
    one_that_lists_records_out_of_order: ListsBackwards by records_are_listed_by_their_names;
    one_that_begins_pages_of_records_anew: BeginsPagesAnew by records_are_listed_by_their_names;
    one_that_takes_any_record: TakesAnything by changes_that_no_store_takes_are_refused;
    one_that_answers_for_records_early: AnswersEarly by records_are_there_after_reopening on "sqlite" and "postgres" and "bigtable" and "spanner";
}

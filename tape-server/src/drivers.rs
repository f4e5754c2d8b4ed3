//! Which runs are driven on which Drive streams, so that the server can release the leases of a client that closed its connection.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use tape_core::command::{DriverCommand, RunCommand};
use tape_core::id::{Epoch, RunId, Seq};
use tape_core::reply::{ClosingPhase, Rejection, Reply, ReplyResult};

/// The drivers of a server. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Drivers(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    streams: AtomicU64,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    drivers: HashMap<RunId, Driver>,
    /// The same by stream: the runs that are driven on it.
    streams: HashMap<u64, BTreeSet<RunId>>,
}

/// The driver of a run, as known to this server.
#[derive(Debug)]
struct Driver {
    seen: Seen,
    /// The streams that the run is driven on: a client that reconnects continues its runs on the new stream.
    on: BTreeSet<u64>,
}

/// The last state of a driver that a server saw. A newer one may exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Its epoch.
    pub(crate) epoch: Epoch,
    /// The last entry that it wrote.
    pub(crate) seq: Seq,
}

/// The runs driven on one Drive stream.
#[derive(Debug)]
pub(crate) struct Driven {
    drivers: Drivers,
    stream: u64,
}

/// Runs whose client closed their last stream. The client keeps them where it drives them on another stream in time.
#[derive(Debug)]
pub(crate) struct Closed {
    drivers: Drivers,
    runs: Vec<(RunId, Seen)>,
}

/// The effect of an accepted command on the driver of its run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LeaseEffect {
    /// The caller becomes the driver.
    Takes,
    /// The caller is the driver.
    Keeps(Epoch),
    /// The caller is no longer the driver.
    Lets(Epoch),
    /// The command does not concern the driver.
    None,
}

impl LeaseEffect {
    pub(crate) const fn of(command: &RunCommand) -> Self {
        use DriverCommand as D;
        match command {
            RunCommand::Begin(_) => Self::Takes,
            RunCommand::Drive(epoch, D::ReleaseLease { .. } | D::Suspend { .. } | D::Complete { .. }) => {
                Self::Lets(*epoch)
            }
            RunCommand::Drive(epoch, D::Fail { .. } | D::AcceptCancel) => Self::Lets(*epoch),
            RunCommand::Drive(epoch, _) => Self::Keeps(*epoch),
            RunCommand::Work(_) | RunCommand::External(_) => Self::None,
        }
    }
}

impl Drivers {
    /// The runs of a new stream: none yet.
    pub(crate) fn stream(&self) -> Driven {
        let stream = self.0.streams.fetch_add(1, Ordering::Relaxed);
        Driven {
            drivers: self.clone(),
            stream,
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0
            .table
            .lock()
            .expect("nothing panics while it holds the drivers")
    }
}

impl Table {
    fn note(&mut self, run: &RunId, seen: Seen, stream: u64) {
        let known = self.drivers.get(run).map(|driver| driver.seen.epoch);
        match known {
            // The streams of an earlier driver do not belong to this one.
            Some(epoch) if epoch < seen.epoch => self.forget(run),
            Some(epoch) if epoch > seen.epoch => return,
            _ => {}
        }
        let driver = self.drivers.entry(run.clone()).or_insert_with(|| Driver {
            seen,
            on: BTreeSet::new(),
        });
        driver.seen.seq = driver.seen.seq.max(seen.seq);
        if driver.on.insert(stream) {
            self.streams.entry(stream).or_default().insert(run.clone());
        }
    }

    fn forget(&mut self, run: &RunId) {
        let Some(driver) = self.drivers.remove(run) else {
            return;
        };
        for stream in driver.on {
            if let Some(runs) = self.streams.get_mut(&stream) {
                runs.remove(run);
            }
        }
    }

    /// Forgets a stream. Returns the runs that were driven on no other one, with their last seen state.
    fn leave(&mut self, stream: u64) -> Vec<(RunId, Seen)> {
        let runs = self.streams.remove(&stream).unwrap_or_default();
        let mut left = Vec::new();
        for run in runs {
            let Some(driver) = self.drivers.get_mut(&run) else {
                continue;
            };
            driver.on.remove(&stream);
            if driver.on.is_empty() {
                let seen = driver.seen;
                self.drivers.remove(&run);
                left.push((run, seen));
            }
        }
        left
    }
}

impl Driven {
    /// Records that a command on a run was accepted.
    pub(crate) fn note(&self, run: &RunId, effect: LeaseEffect, reply: &Reply) {
        let epoch = match (effect, &reply.result) {
            (LeaseEffect::Takes, ReplyResult::Leased { epoch, .. }) => *epoch,
            (LeaseEffect::Keeps(epoch), _) => epoch,
            (LeaseEffect::Lets(epoch), _) => return self.let_go(run, epoch),
            (LeaseEffect::Takes | LeaseEffect::None, _) => return,
        };
        let seen = Seen {
            epoch,
            seq: reply.seq,
        };
        self.drivers.table().note(run, seen, self.stream);
    }

    /// Records that a command on a run was refused. A driver may learn from a refusal that it is no longer the driver; recovery learns so
    /// of every run that its agent has adopted.
    pub(crate) fn note_refusal(&self, run: &RunId, effect: LeaseEffect, rejection: &Rejection) {
        let (LeaseEffect::Keeps(epoch) | LeaseEffect::Lets(epoch)) = effect else {
            return;
        };
        if ends_drive(rejection) {
            self.let_go(run, epoch);
        }
    }

    fn let_go(&self, run: &RunId, epoch: Epoch) {
        let mut table = self.drivers.table();
        // A command from before the run was adopted again says nothing about its present driver.
        if table
            .drivers
            .get(run)
            .is_some_and(|driver| driver.seen.epoch == epoch)
        {
            table.forget(run);
        }
    }

    /// The client closed the stream: the leases of runs driven only on it may be released.
    pub(crate) fn closed(self) -> Closed {
        Closed {
            runs: self.drivers.table().leave(self.stream),
            drivers: self.drivers.clone(),
        }
    }
}

/// A stream that its client did not close says nothing about its drivers.
impl Drop for Driven {
    fn drop(&mut self) {
        self.drivers.table().leave(self.stream);
    }
}

impl Closed {
    /// Whether there is nothing to release.
    pub(crate) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The runs that are not driven on another stream now.
    pub(crate) fn gone(self) -> Vec<(RunId, Seen)> {
        let table = self.drivers.table();
        let gone = |(run, _): &(RunId, Seen)| !table.drivers.contains_key(run);
        self.runs.into_iter().filter(gone).collect()
    }
}

/// Whether this rejection means that no driver holds the run under the rejected epoch.
fn ends_drive(rejection: &Rejection) -> bool {
    match rejection {
        Rejection::Fenced { .. } | Rejection::RunEnded { .. } => true,
        // A run under cancellation still belongs to its driver, which must accept the cancellation.
        Rejection::Closing { phase } => *phase != ClosingPhase::Cancelling,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{Drivers, LeaseEffect, Seen};
    use tape_core::entry::run::RunOutcome;
    use tape_core::id::{Epoch, RunId, Seq};
    use tape_core::reply::{ClosingPhase, Missing, Rejection, Reply, ReplyResult};

    fn run(name: &str) -> RunId {
        RunId::new("t", "a", "u", "s", name).unwrap()
    }

    fn recorded(seq: u64) -> Reply {
        Reply {
            seq: Seq(seq),
            result: ReplyResult::Recorded,
        }
    }

    fn seen(epoch: u64, seq: u64) -> Seen {
        Seen {
            epoch: Epoch(epoch),
            seq: Seq(seq),
        }
    }

    #[test]
    fn runs_driven_elsewhere_since_are_kept() {
        let drivers = Drivers::default();
        let (first, second) = (drivers.stream(), drivers.stream());
        first.note(&run("stays"), LeaseEffect::Keeps(Epoch(1)), &recorded(4));
        first.note(&run("moves"), LeaseEffect::Keeps(Epoch(3)), &recorded(7));
        first.note(&run("ends"), LeaseEffect::Keeps(Epoch(1)), &recorded(4));
        first.note(&run("ends"), LeaseEffect::Lets(Epoch(1)), &recorded(5));
        first.note(&run("comes back"), LeaseEffect::Keeps(Epoch(1)), &recorded(4));
        second.note(&run("moves"), LeaseEffect::Keeps(Epoch(3)), &recorded(8));
        let closed = first.closed();
        second.note(&run("comes back"), LeaseEffect::Keeps(Epoch(1)), &recorded(4));
        assert_eq!(closed.gone(), vec![(run("stays"), seen(1, 4))]);
        let mut left = second.closed().gone();
        left.sort_by_key(|(run, _)| run.clone());
        assert_eq!(
            left,
            vec![(run("comes back"), seen(1, 4)), (run("moves"), seen(3, 8))]
        );
        assert!(drivers.table().drivers.is_empty());
    }

    #[test]
    fn what_was_seen_on_any_stream_counts() {
        let drivers = Drivers::default();
        let (commands, renewals) = (drivers.stream(), drivers.stream());
        commands.note(&run("r"), LeaseEffect::Keeps(Epoch(1)), &recorded(2));
        renewals.note(&run("r"), LeaseEffect::Keeps(Epoch(1)), &recorded(3));
        commands.note(&run("r"), LeaseEffect::Keeps(Epoch(1)), &recorded(9));
        assert_eq!(commands.closed().gone(), vec![]);
        assert_eq!(renewals.closed().gone(), vec![(run("r"), seen(1, 9))]);
    }

    #[test]
    fn a_stream_that_was_not_closed_lets_nothing_go() {
        let drivers = Drivers::default();
        let (silent, closed) = (drivers.stream(), drivers.stream());
        silent.note(&run("r"), LeaseEffect::Keeps(Epoch(1)), &recorded(2));
        closed.note(&run("r"), LeaseEffect::Keeps(Epoch(1)), &recorded(3));
        let gone = closed.closed();
        assert!(gone.is_empty(), "it is driven on the silent one still");
        drop(silent);
        assert!(drivers.table().drivers.is_empty());
    }

    #[test]
    fn a_driver_that_is_told_that_another_drives_its_run_drives_it_no_more() {
        let drivers = Drivers::default();
        let worker = drivers.stream();
        let fenced = Rejection::Fenced {
            given: Epoch(2),
            current: Epoch(3),
        };
        let ended = Rejection::RunEnded {
            ending: RunOutcome::Completed,
        };
        let closing = |phase| Rejection::Closing { phase };
        let gone = [
            ("adopted", LeaseEffect::Keeps(Epoch(2)), fenced.clone()),
            ("released", LeaseEffect::Lets(Epoch(2)), fenced.clone()),
            ("ended", LeaseEffect::Keeps(Epoch(2)), ended),
            (
                "suspended",
                LeaseEffect::Keeps(Epoch(2)),
                closing(ClosingPhase::Suspended),
            ),
        ];
        let held = [
            (
                "cancelled",
                LeaseEffect::Keeps(Epoch(2)),
                closing(ClosingPhase::Cancelling),
            ),
            ("late", LeaseEffect::Keeps(Epoch(1)), fenced),
            (
                "unheard",
                LeaseEffect::Keeps(Epoch(2)),
                Rejection::not_found(Missing::Gate),
            ),
        ];
        for (name, effect, rejection) in gone.iter().chain(&held) {
            worker.note(&run(name), LeaseEffect::Keeps(Epoch(2)), &recorded(1));
            worker.note_refusal(&run(name), *effect, rejection);
        }
        let mut left: Vec<_> = worker.closed().gone().into_iter().map(|(run, _)| run).collect();
        left.sort();
        let mut expected: Vec<_> = held.iter().map(|(name, _, _)| run(name)).collect();
        expected.sort();
        assert_eq!(left, expected);
        assert!(drivers.table().drivers.is_empty());
    }
}

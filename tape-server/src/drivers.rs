//! Which runs are driven on which Drive stream, so that the leases of a client that vanished can be let go.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use tape_core::command::{DriverCommand, RunCommand};
use tape_core::id::{Epoch, RunId};
use tape_core::reply::{Rejection, Reply, ReplyResult};

/// The drivers of a server. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Drivers(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    streams: AtomicU64,
    /// The stream on which a run was last driven: a client that reconnects takes its runs along.
    last: Mutex<HashMap<RunId, u64>>,
}

/// The runs driven on one Drive stream.
#[derive(Debug)]
pub(crate) struct Driven {
    drivers: Drivers,
    stream: u64,
    runs: HashMap<RunId, Epoch>,
}

/// What a command says about who drives its run, once it was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Grip {
    /// The caller becomes the driver.
    Takes,
    /// The caller is the driver.
    Keeps(Epoch),
    /// The caller is the driver no more.
    Lets(Epoch),
    /// Nothing.
    None,
}

impl Grip {
    pub(crate) const fn of(command: &RunCommand) -> Self {
        use DriverCommand as D;
        match command {
            RunCommand::Begin(_) => Self::Takes,
            RunCommand::Drive(epoch, D::ReleaseLease { .. } | D::Suspend { .. } | D::Complete { .. }) => {
                Self::Lets(*epoch)
            }
            RunCommand::Drive(epoch, D::Fail { .. } | D::AcceptCancel) => Self::Lets(*epoch),
            RunCommand::Drive(epoch, _) => Self::Keeps(*epoch),
            RunCommand::Work(_) | RunCommand::Tell(_) => Self::None,
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
            runs: HashMap::new(),
        }
    }

    fn last(&self) -> MutexGuard<'_, HashMap<RunId, u64>> {
        self.0
            .last
            .lock()
            .expect("nothing panics while it holds the drivers")
    }
}

impl Driven {
    /// Notes that a command on a run was taken.
    pub(crate) fn note(&mut self, run: &RunId, grip: Grip, reply: &Reply) {
        let epoch = match (grip, &reply.result) {
            (Grip::Takes, ReplyResult::Leased { epoch, .. }) => *epoch,
            (Grip::Keeps(epoch), _) => epoch,
            (Grip::Lets(_), _) => return self.let_go(run),
            (Grip::Takes | Grip::None, _) => return,
        };
        if self.runs.get(run) != Some(&epoch) {
            self.runs.insert(run.clone(), epoch);
            self.drivers.last().insert(run.clone(), self.stream);
        }
    }

    /// Notes that a command on a run was refused: its driver may learn so that it is the driver no more. Recovery does of every run that
    /// its agent has adopted.
    pub(crate) fn note_refusal(&mut self, run: &RunId, grip: Grip, rejection: &Rejection) {
        let (Grip::Keeps(epoch) | Grip::Lets(epoch)) = grip else {
            return;
        };
        // A command from before it took the run anew says nothing about what it holds now.
        if self.runs.get(run) == Some(&epoch) && ends_drive(rejection) {
            self.let_go(run);
        }
    }

    fn let_go(&mut self, run: &RunId) {
        if self.runs.remove(run).is_some() {
            let mut last = self.drivers.last();
            if last.get(run) == Some(&self.stream) {
                last.remove(run);
            }
        }
    }

    /// The runs whose driver is gone with the stream: those that were not driven on a later one.
    pub(crate) fn end(mut self) -> Vec<(RunId, Epoch)> {
        let (stream, runs) = (self.stream, std::mem::take(&mut self.runs));
        let mut last = self.drivers.last();
        runs.into_iter()
            .filter(|(run, _)| {
                let gone = last.get(run) == Some(&stream);
                if gone {
                    last.remove(run);
                }
                gone
            })
            .collect()
    }
}

/// Whether nobody drives a run under the epoch of whom it is refused.
fn ends_drive(rejection: &Rejection) -> bool {
    match rejection {
        Rejection::Fenced { .. } | Rejection::RunEnded { .. } => true,
        // A run that is being cancelled is its driver's still, which has to accept that.
        Rejection::Closing { phase } => *phase != "cancelling",
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{Drivers, Grip};
    use tape_core::id::{Epoch, RunId, Seq};
    use tape_core::reply::{Ended, Rejection, Reply, ReplyResult};

    fn run(name: &str) -> RunId {
        RunId::new("t", "a", "u", "s", name).unwrap()
    }

    fn recorded() -> Reply {
        Reply {
            seq: Seq(1),
            result: ReplyResult::Recorded,
        }
    }

    #[test]
    fn runs_driven_elsewhere_since_are_kept() {
        let drivers = Drivers::default();
        let (mut first, mut second) = (drivers.stream(), drivers.stream());
        first.note(&run("stays"), Grip::Keeps(Epoch(1)), &recorded());
        first.note(&run("moves"), Grip::Keeps(Epoch(3)), &recorded());
        first.note(&run("ends"), Grip::Keeps(Epoch(1)), &recorded());
        first.note(&run("ends"), Grip::Lets(Epoch(1)), &recorded());
        second.note(&run("moves"), Grip::Keeps(Epoch(3)), &recorded());
        assert_eq!(first.end(), vec![(run("stays"), Epoch(1))]);
        assert_eq!(second.end(), vec![(run("moves"), Epoch(3))]);
        assert!(drivers.last().is_empty());
    }

    #[test]
    fn who_is_told_that_another_drives_a_run_drives_it_no_more() {
        let drivers = Drivers::default();
        let mut worker = drivers.stream();
        let fenced = Rejection::Fenced {
            given: Epoch(2),
            current: Epoch(3),
        };
        let ended = Rejection::RunEnded {
            ending: Ended::Completed,
        };
        let closing = |phase| Rejection::Closing { phase };
        let gone = [
            ("adopted", Grip::Keeps(Epoch(2)), fenced.clone()),
            ("released", Grip::Lets(Epoch(2)), fenced.clone()),
            ("ended", Grip::Keeps(Epoch(2)), ended),
            ("suspended", Grip::Keeps(Epoch(2)), closing("suspended")),
        ];
        let held = [
            ("cancelled", Grip::Keeps(Epoch(2)), closing("cancelling")),
            ("late", Grip::Keeps(Epoch(1)), fenced),
            (
                "unheard",
                Grip::Keeps(Epoch(2)),
                Rejection::NotFound { what: "gate" },
            ),
        ];
        for (name, grip, rejection) in gone.iter().chain(&held) {
            worker.note(&run(name), Grip::Keeps(Epoch(2)), &recorded());
            worker.note_refusal(&run(name), *grip, rejection);
        }
        let mut left: Vec<_> = worker.end().into_iter().map(|(run, _)| run).collect();
        left.sort();
        let mut expected: Vec<_> = held.iter().map(|(name, _, _)| run(name)).collect();
        expected.sort();
        assert_eq!(left, expected);
        assert!(drivers.last().is_empty());
    }
}

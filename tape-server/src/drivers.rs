//! Which runs are driven on which Drive stream, so that the leases of a client that vanished can be let go.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use tape_core::command::{DriverCommand, RunCommand};
use tape_core::id::{Epoch, RunId};
use tape_core::reply::{Reply, ReplyResult};

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
    Lets,
    /// Nothing.
    None,
}

impl Grip {
    pub(crate) const fn of(command: &RunCommand) -> Self {
        use DriverCommand as D;
        match command {
            RunCommand::Begin(_) => Self::Takes,
            RunCommand::Drive(_, D::ReleaseLease { .. } | D::Suspend { .. } | D::Complete { .. }) => {
                Self::Lets
            }
            RunCommand::Drive(_, D::Fail { .. } | D::AcceptCancel) => Self::Lets,
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
            (Grip::Lets, _) => return self.let_go(run),
            (Grip::Takes | Grip::None, _) => return,
        };
        if self.runs.get(run) != Some(&epoch) {
            self.runs.insert(run.clone(), epoch);
            self.drivers.last().insert(run.clone(), self.stream);
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

#[cfg(test)]
mod tests {
    use super::{Drivers, Grip};
    use tape_core::id::{Epoch, RunId, Seq};
    use tape_core::reply::{Reply, ReplyResult};

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
        first.note(&run("ends"), Grip::Lets, &recorded());
        second.note(&run("moves"), Grip::Keeps(Epoch(3)), &recorded());
        assert_eq!(first.end(), vec![(run("stays"), Epoch(1))]);
        assert_eq!(second.end(), vec![(run("moves"), Epoch(3))]);
        assert!(drivers.last().is_empty());
    }
}

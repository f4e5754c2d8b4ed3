//! Tries every sequence of commands on a run, and checks what must hold after each.

use crate::support::names::begin;
use crate::support::run_line;
use crate::support::watch::{Attempt, Watch};
use tape_core::agenda::{Item, Queue};
use tape_core::command::{
    Command, CommandBody as _, DriverCommand, ExternalCommand, RunCommand, WorkerCommand,
};
use tape_core::decider::{Decider as _, restore, snapshot};
use tape_core::effect::{Mode, Status};
use tape_core::entry::Entry;
use tape_core::entry::run::RunOutcome;
use tape_core::id::Epoch;
use tape_core::payload::Digest;
use tape_core::reply::{Decided, Rejection, ReplyResult};
use tape_core::run::{Gate, ObligationStatus, Phase, Run, Timer};
use tape_core::time::Timestamp;

#[derive(Clone, Default)]
struct World {
    run: Run,
    watch: Watch,
    now: Timestamp,
    waited: bool,
    lines: Vec<&'static str>,
}

/// Plays `setup`, then every sequence of at most `depth` commands of `alphabet`; with `TAPE_DEEPER` in the environment, of one
/// more.
pub(crate) fn explore(setup: &[&'static str], alphabet: &[&'static str], depth: usize) {
    let depth = depth + usize::from(std::env::var_os("TAPE_DEEPER").is_some());
    let mut world = World::default();
    for line in setup {
        assert!(world.feed(line), "'{line}' is part of the setup");
    }
    let count = world.walk(alphabet, depth);
    assert!(count > 100, "{count} sequences are too few to tell anything");
}

impl World {
    /// Returns how many sequences changed anything.
    fn walk(&self, alphabet: &[&'static str], depth: usize) -> usize {
        if depth == 0 {
            return 1;
        }
        let mut count = 1;
        for line in alphabet {
            let mut next = self.clone();
            next.lines.push(line);
            let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| next.feed(line)));
            let changed = played.unwrap_or_else(|_| panic!("after {:?}", next.lines));
            // A command that was refused or changed nothing leads to no new state.
            if changed {
                count += next.walk(alphabet, depth - 1);
            }
        }
        count
    }

    /// Plays one line; says whether anything changed.
    fn feed(&mut self, line: &str) -> bool {
        if let Some(millis) = line.strip_prefix("wait ") {
            let first = !std::mem::replace(&mut self.waited, true);
            self.now = self.now.plus_millis(millis.parse().unwrap());
            return first;
        }
        self.waited = false;
        let body = run_line::command(line, &self.run);
        let command = Command::new(
            crate::support::quick::request(u128::from(self.run.seq().0) + 1),
            body,
        );
        let before = self.run.clone();
        match self.run.decide(&command, self.now) {
            Err(rejection) => {
                self.refused(&command.body, &rejection);
                false
            }
            Ok(decided) => {
                self.take(&command, &decided);
                self.accepted(&before, &command.body, &decided);
                self.check();
                !decided.entries.is_empty()
            }
        }
    }

    fn take(&mut self, command: &Command<RunCommand>, decided: &Decided) {
        for body in &decided.entries {
            let entry = Entry {
                seq: self.run.seq().next(),
                at: self.now,
                decided_at: self.now,
                request: command.request,
                principal: None,
                trace: None,
                command: None,
                body: body.clone(),
                digest: Digest::default(),
            };
            self.run.apply(&entry).unwrap();
            self.watch.see(&entry);
        }
        if !(decided.entries.is_empty() || command.body.is_idempotent()) {
            let again = self.run.decide(command, self.now).unwrap();
            assert!(again.entries.is_empty(), "a repeat appends nothing");
            assert_eq!(again.reply, decided.reply, "a repeat gets the first reply");
        }
    }

    /// Checks that the rejection is the right one for the command and the state.
    fn refused(&self, command: &RunCommand, rejection: &Rejection) {
        if let (RunCommand::Drive(epoch, _), Phase::Running) = (command, self.run.phase()) {
            let stale = *epoch != self.run.epoch();
            assert_eq!(
                stale,
                matches!(rejection, Rejection::Fenced { .. }),
                "{rejection}"
            );
        }
        if self.watch.ended {
            assert!(matches!(rejection, Rejection::RunEnded { .. }), "{rejection}");
        } else if let RunCommand::External(ExternalCommand::Retire { .. }) = command {
            assert!(matches!(rejection, Rejection::NotEnded { .. }), "{rejection}");
        }
    }

    fn accepted(&self, before: &Run, command: &RunCommand, decided: &Decided) {
        if let RunCommand::Drive(epoch, _) = command {
            assert_eq!(*epoch, before.epoch(), "one driver");
        }
        if let Phase::Ended { ending } = before.phase() {
            let retires = matches!(command, RunCommand::External(ExternalCommand::Retire { .. }));
            let retires = retires && !before.is_retired();
            assert_eq!(decided.entries.is_empty(), !retires, "the end is the end");
            assert_eq!(self.run.phase(), before.phase(), "it stays as it ended");
            assert_eq!(self.run.summary(), before.summary(), "it is listed as it ended");
            if let RunCommand::Begin(_) | RunCommand::External(ExternalCommand::Retire { .. }) = command {
                let ending = ending.clone();
                assert_eq!(
                    decided.reply.result,
                    ReplyResult::Ended { ending },
                    "it says how it ended"
                );
            }
        }
        if let (RunCommand::Begin(begin), ReplyResult::Leased { epoch, until }) =
            (command, &decided.reply.result)
        {
            assert_eq!(*epoch, self.run.epoch());
            assert_eq!(*until, self.now.plus_millis(begin.lease_ms));
            let adopted = begin.adopt.is_some();
            assert!(
                begin.adopt.is_none_or(|from| from == before.epoch()),
                "one adopts"
            );
            if let tape_core::run::Lease::Held { until, .. } = before.lease() {
                assert!(adopted || *until <= self.now, "a live lease is not taken");
            }
        }
    }

    /// What must hold of every state.
    fn check(&self) {
        self.status();
        self.agenda_is_complete();
        self.due_work_can_be_done();
        self.stale_drivers_are_fenced();
        for (name, budget) in self.run.budgets() {
            assert_eq!(
                (budget.reserved, budget.spent),
                self.watch.budgets()[name],
                "budget {name}"
            );
        }
        if self.run.seq().0.is_multiple_of(7) {
            let restored: Run = restore(&snapshot(&self.run)).unwrap();
            assert_eq!(restored, self.run, "a snapshot is the state");
        }
    }

    fn status(&self) {
        let phase = self.run.phase();
        assert_eq!(self.watch.ended, matches!(phase, Phase::Ended { .. }));
        assert_eq!(
            self.watch.compensating && !self.watch.ended,
            matches!(phase, Phase::Compensating { .. })
        );
        assert_eq!(
            self.watch.suspended && !self.watch.ended,
            matches!(phase, Phase::Suspended { .. })
        );
        if let Phase::Ended {
            ending: RunOutcome::Completed,
        } = phase
        {
            assert!(
                self.run.obligations().is_empty(),
                "a healthy run has nothing left to undo"
            );
        }
        for (id, seen) in self.watch.unsettled() {
            let status = self.run.effects()[id].status;
            let expected: &[Status] = match seen.attempt {
                Attempt::None | Attempt::DidNot => &[Status::Pending],
                Attempt::Running(_) => &[Status::Started],
                Attempt::Lost => &[Status::Unknown, Status::Stuck],
            };
            assert!(
                expected.contains(&status),
                "effect {id} is {status:?}, not {expected:?}"
            );
        }
        for (id, effect) in self.run.effects() {
            assert_eq!(
                effect.status.is_settled(),
                self.watch.effects[id].settled,
                "effect {id}"
            );
        }
    }

    /// Everything under way is on the agenda, or waits for a driver, a signal or a person.
    fn agenda_is_complete(&self) {
        let agenda = self.run.agenda();
        let has = |queue, item: &Item| agenda.due(queue, item).is_some();
        if self.watch.ended {
            assert!(agenda.is_empty(), "nothing is due once a run is over");
            return;
        }
        for (id, effect) in self.run.effects() {
            let item = Item::Effect(id.clone());
            let closing = self.watch.cancelling || self.watch.compensating;
            let sendable = effect.status == Status::Started || (effect.status == Status::Pending && !closing);
            assert_eq!(
                has(Queue::Outbox, &item),
                effect.mode == Mode::Outbox && sendable,
                "effect {id}"
            );
            assert_eq!(
                has(Queue::Reconcile, &item),
                effect.status == Status::Unknown,
                "effect {id}"
            );
            let never = effect.status == Status::Pending && self.watch.compensating;
            assert!(!never, "nothing of a run that is undone waits to be sent");
        }
        let counts = !self.watch.compensating;
        for (name, gate) in self.run.gates() {
            let due = matches!(
                gate,
                Gate::Open {
                    deadline: Some(_),
                    ..
                }
            );
            assert_eq!(
                has(Queue::Timers, &Item::Gate(name.clone())),
                due && counts,
                "gate {name}"
            );
        }
        for (name, timer) in self.run.timers() {
            let due = matches!(timer, Timer::Pending { .. });
            assert_eq!(
                has(Queue::Timers, &Item::Timer(name.clone())),
                due && counts,
                "timer {name}"
            );
        }
        let person = |status: &ObligationStatus| matches!(status, ObligationStatus::Stuck { .. });
        let undo = self
            .run
            .obligations()
            .iter()
            .filter(|undo| undo.status != ObligationStatus::Armed);
        let undo: Vec<_> = undo.collect();
        let waits = undo.iter().any(|undo| person(&undo.status)) || self.watch.unsettled().next().is_some();
        let work = agenda
            .iter()
            .filter(|(queue, _, _)| *queue == Queue::Compensation)
            .count();
        assert!(work <= 1, "one at a time");
        assert!(
            work == 1 || undo.is_empty() || waits,
            "what is to be undone is due"
        );
        if let Phase::Running = self.run.phase() {
            assert_eq!(
                has(Queue::Recovery, &Item::Run),
                !self.watch.stuck,
                "a run is recovered"
            );
        }
        if let Phase::Suspended { woken_at, .. } = self.run.phase() {
            let wakes = woken_at.is_some()
                || !self.watch.open_gates.is_empty()
                || !self.watch.pending_timers.is_empty()
                || self.watch.unsettled().next().is_some()
                || self.watch.stuck;
            assert!(
                wakes || has(Queue::Recovery, &Item::Run),
                "a run that waits is woken"
            );
        }
    }

    /// Due work can be taken when it is due, and not a microsecond earlier.
    fn due_work_can_be_done(&self) {
        for (queue, item, due) in self.run.agenda().iter() {
            let command = Command::new(crate::support::quick::request(u128::MAX), take(queue, item));
            let at = due.max(self.now);
            let decided = self.run.decide(&command, at);
            assert!(
                decided.is_ok_and(|decided| !decided.entries.is_empty()),
                "{queue} {item} can be done"
            );
            let early = Timestamp::from_micros(due.as_micros() - 1);
            // Recovery carries out a cancellation as soon as the run has no driver.
            if early >= self.now && !(queue == Queue::Recovery && self.watch.cancelling) {
                let decided = self.run.decide(&command, early);
                assert!(decided.is_err(), "{queue} {item} is not done early");
            }
        }
    }

    fn stale_drivers_are_fenced(&self) {
        let Epoch(epoch) = self.run.epoch();
        for stale in [epoch.wrapping_sub(1), epoch + 1] {
            for driver in [
                DriverCommand::RenewLease { lease_ms: 1_000 },
                DriverCommand::AcceptCancel,
            ] {
                let body = RunCommand::Drive(Epoch(stale), driver);
                let decided = self.run.decide(
                    &Command::new(crate::support::quick::request(u128::MAX), body),
                    self.now,
                );
                let ended = self.watch.ended;
                assert!(
                    matches!(decided, Err(Rejection::Fenced { .. })) || (ended && decided.is_err()),
                    "a stale driver is fenced: {decided:?}"
                );
            }
        }
    }
}

/// How a worker takes a piece of due work.
fn take(queue: Queue, item: &Item) -> RunCommand {
    let (holder, claim_ms) = (crate::support::names::holder("taker"), 1_000);
    match (queue, item.clone()) {
        (Queue::Recovery, Item::Run) => {
            let mut begin = begin("taker", 1_000);
            begin.recovery = true;
            RunCommand::Begin(begin)
        }
        (Queue::Outbox, Item::Effect(effect)) => RunCommand::Work(WorkerCommand::ClaimEffect {
            effect,
            holder,
            claim_ms,
        }),
        (Queue::Reconcile, Item::Effect(effect)) => RunCommand::Work(WorkerCommand::ClaimObservation {
            effect,
            holder,
            claim_ms,
        }),
        (Queue::Timers, Item::Gate(gate)) => RunCommand::External(ExternalCommand::ExpireGate { gate }),
        (Queue::Timers, Item::Timer(timer)) => RunCommand::External(ExternalCommand::FireTimer { timer }),
        (Queue::Compensation, Item::Obligation(obligation)) => {
            RunCommand::Work(WorkerCommand::ClaimObligation {
                obligation,
                holder,
                claim_ms,
            })
        }
        (queue, item) => panic!("{item} does not belong to {queue}"),
    }
}

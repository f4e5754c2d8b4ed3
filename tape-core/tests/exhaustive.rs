//! All command sequences up to a useful length over small alphabets, one for each family of rules and some mixed ones. With
//! every command a witness that knows the entries only checks the guarantees, and the due work is checked to be
//! complete and to be there for the taking when it is due.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use support::names::begin;
use support::run_line;
use support::watch::{Attempt, Watch};
use tape_core::agenda::{Item, Queue};
use tape_core::command::{
    Command, CommandBody as _, DriverCommand, OutsideCommand, RunCommand, WorkerCommand,
};
use tape_core::effect::{Mode, Status};
use tape_core::entry::Entry;
use tape_core::id::{Epoch, Seq};
use tape_core::payload::Digest;
use tape_core::reply::{Decided, Ended, Rejection, ReplyResult};
use tape_core::run::{Gate, ObligationStatus, Phase, Run, Timer};
use tape_core::stream::{Stream as _, restore, snapshot};
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
fn explore(setup: &[&'static str], alphabet: &[&'static str], depth: usize) {
    let depth = depth + usize::from(std::env::var_os("TAPE_DEEPER").is_some());
    let mut world = World::default();
    for line in setup {
        assert!(world.play(line), "'{line}' is part of the setup");
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
            let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| next.play(line)));
            let changed = played.unwrap_or_else(|_| panic!("after {:?}", next.lines));
            // What was refused or changed nothing leads nowhere new.
            if changed {
                count += next.walk(alphabet, depth - 1);
            }
        }
        count
    }

    /// Plays one line; says whether anything changed.
    fn play(&mut self, line: &str) -> bool {
        if let Some(millis) = line.strip_prefix("wait ") {
            let first = !std::mem::replace(&mut self.waited, true);
            self.now = self.now.plus_millis(millis.parse().unwrap());
            return first;
        }
        self.waited = false;
        let body = run_line::command(line, &self.run);
        let command = Command::new(support::quick::request(u128::from(self.run.seq().0) + 1), body);
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

    /// What must be refused, and how.
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
        } else if let RunCommand::Tell(OutsideCommand::Retire { .. }) = command {
            assert!(matches!(rejection, Rejection::NotEnded { .. }), "{rejection}");
        }
    }

    fn accepted(&self, before: &Run, command: &RunCommand, decided: &Decided) {
        if let RunCommand::Drive(epoch, _) = command {
            assert_eq!(*epoch, before.epoch(), "one driver");
        }
        if let Phase::Ended { ending } = before.phase() {
            let retires = matches!(command, RunCommand::Tell(OutsideCommand::Retire { .. }));
            let retires = retires && !before.is_retired();
            assert_eq!(decided.entries.is_empty(), !retires, "the end is the end");
            assert_eq!(self.run.phase(), before.phase(), "it stays as it ended");
            assert_eq!(self.run.summary(), before.summary(), "it is listed as it ended");
            if let RunCommand::Begin(_) | RunCommand::Tell(OutsideCommand::Retire { .. }) = command {
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
            let adopted = begin.adopt == Some(before.epoch());
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
            ending: Ended::Completed,
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

    /// What is under way is on the agenda, or waits for a driver, a signal or a person.
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

    /// What is due is there for the taking when it is due, and not a microsecond earlier.
    fn due_work_can_be_done(&self) {
        for (queue, item, due) in self.run.agenda().iter() {
            let command = Command::new(support::quick::request(u128::MAX), take(queue, item));
            let at = due.max(self.now);
            let decided = self.run.decide(&command, at);
            assert!(
                decided.is_ok_and(|decided| !decided.entries.is_empty()),
                "{queue} {item} can be done"
            );
            let early = Timestamp::from_micros(due.as_micros() - 1);
            // A request to cancel is carried out as soon as no driver is there to do it.
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
                let decided = self
                    .run
                    .decide(&Command::new(support::quick::request(u128::MAX), body), self.now);
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
    let (holder, claim_ms) = (support::names::holder("taker"), 1_000);
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
        (Queue::Timers, Item::Gate(gate)) => RunCommand::Tell(OutsideCommand::ExpireGate { gate }),
        (Queue::Timers, Item::Timer(timer)) => RunCommand::Tell(OutsideCommand::FireTimer { timer }),
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

#[test]
fn leases() {
    let alphabet = [
        "begin a",
        "begin r recovery",
        "begin b adopt=1",
        "renew",
        "renew epoch=1 lease=2000",
        "release in=100",
        "vanished 1 grace=50",
        "vanished 1 seen=2",
        "vanished 2",
        "checkpoint c",
        "cancel no",
        "accept-cancel",
        "fail no",
        "complete",
        "retry-run go",
        "wait 1000",
        "wait 2000",
    ];
    explore(&[], &alphabet, 5);
}

#[test]
fn runs_that_make_no_progress() {
    let mut setup = vec!["begin a"];
    for _ in 0..20 {
        setup.extend(["wait 600000", "begin r recovery"]);
    }
    setup.push("wait 600000");
    let alphabet = [
        "begin r recovery",
        "begin a",
        "renew",
        "retry-run go",
        "checkpoint c",
        "cancel no",
        "complete",
        "suspend resume=1000",
        "vanished 21",
        "wait 600000",
    ];
    explore(&setup, &alphabet, 5);
}

#[test]
fn inline_effects() {
    let alphabet = [
        "effect #0.0 inline idempotent undo=u attempts=2 observations=2",
        "restart #0.0",
        "finish #0.0 last ok",
        "finish #0.0 last failed no",
        "finish #0.0 last retry busy",
        "finish #0.0 last unknown lost",
        "observe #0.0 o",
        "observed #0.0 o last found",
        "observed #0.0 o last absent",
        "observed #0.0 o last inconclusive",
        "observed #0.0 o last duplicate copy-undo=d",
        "settle #0.0 resend please",
        "settle #0.0 confirmed seen",
        "decide #1",
        "suspend",
        "fail no",
        "complete",
        "begin r recovery",
        "wait 1000",
    ];
    explore(&["begin a", "decide #0"], &alphabet, 5);
}

#[test]
fn reads() {
    let alphabet = [
        "effect #0.0 inline read-only attempts=2",
        "restart #0.0",
        "finish #0.0 last ok",
        "finish #0.0 last failed no",
        "finish #0.0 last retry busy",
        "finish #0.0 last unknown lost",
        "observe #0.0 o",
        "fail no",
        "cancel no",
        "complete",
        "begin r recovery",
        "wait 1000",
    ];
    explore(&["begin a", "decide #0"], &alphabet, 5);
}

const OUTBOX: [&str; 20] = [
    "claim #0.0 w",
    "claim #0.0 v",
    "keep #0.0 w",
    "done #0.0 w last ok",
    "done #0.0 w last failed no",
    "done #0.0 w last retry busy",
    "done #0.0 w last unknown lost",
    "lapse #0.0",
    "observe #0.0 o",
    "observed #0.0 o last found",
    "observed #0.0 o last absent",
    "observed #0.0 o last inconclusive",
    "observed #0.0 o last duplicate copy-undo=d",
    "settle #0.0 resend please",
    "settle #0.0 failed no",
    "suspend",
    "fail no",
    "cancel no",
    "complete",
    "wait 1000",
];

#[test]
fn non_idempotent_effects() {
    let setup = [
        "begin a",
        "decide #0",
        "effect #0.0 outbox non-idempotent undo=u attempts=2 observations=2",
    ];
    explore(&setup, &OUTBOX, 5);
}

#[test]
fn observers_who_vanish() {
    let setup = [
        "begin a",
        "decide #0",
        "effect #0.0 outbox non-idempotent attempts=9 observations=2 resend backoff=100",
        "claim #0.0 w",
        "done #0.0 w 1 unknown lost",
        "wait 1000",
    ];
    let alphabet = [
        "observe #0.0 o",
        "observe #0.0 p",
        "keep #0.0 o",
        "observed #0.0 o last inconclusive",
        "observed #0.0 o last absent",
        "settle #0.0 resend please",
        "claim #0.0 w",
        "fail no",
        "wait 1000",
    ];
    explore(&setup, &alphabet, 7);
}

#[test]
fn non_idempotent_effects_that_may_be_sent_again() {
    let setup = [
        "begin a",
        "decide #0",
        "effect #0.0 outbox non-idempotent resend",
        "claim #0.0 w",
    ];
    explore(&setup, &OUTBOX, 4);
}

#[test]
fn idempotent_effects_of_the_outbox() {
    let setup = [
        "begin a",
        "decide #0",
        "effect #0.0 outbox idempotent undo=u attempts=3",
    ];
    explore(&setup, &OUTBOX, 5);
}

#[test]
fn compensation() {
    let setup = [
        "begin a",
        "decide #0",
        "effect #0.0 inline idempotent undo=u attempts=2",
        "finish #0.0 1 ok",
        "effect #0.1 outbox non-idempotent undo=u",
        "claim #0.1 w",
        "effect #0.2 inline idempotent undo=u",
    ];
    let alphabet = [
        "fail no",
        "finish #0.2 last ok",
        "done #0.1 w last ok",
        "done #0.1 w last retry busy",
        "observe #0.2 o",
        "observed #0.2 o last found",
        "observed #0.2 o last duplicate copy-undo=d",
        "observe #0.1 o",
        "observed #0.1 o last absent",
        "claim #0.1 v",
        "undo #0.0 w",
        "undo #0.1 w",
        "undo #0.2 w",
        "undo #0.2/1 v",
        "undone #0.0 w last ok",
        "undone #0.2 w last ok",
        "wait 1000",
    ];
    explore(&setup, &alphabet, 5);
}

#[test]
fn undoing() {
    let setup = [
        "begin a",
        "decide #0",
        "effect #0.0 inline idempotent undo=u attempts=1",
        "finish #0.0 1 ok",
        "effect #0.1 inline idempotent undo=u attempts=2",
        "finish #0.1 1 ok",
        "fail no",
    ];
    let alphabet = [
        "undo #0.0 w",
        "undo #0.1 w",
        "undo #0.1 v",
        "keep-undo #0.1 w",
        "undone #0.0 w last ok",
        "undone #0.0 w last retry no",
        "undone #0.1 w last ok",
        "undone #0.1 w last retry no",
        "settle-undo #0.0 retry go",
        "settle-undo #0.1 done seen",
        "settle-undo #0.1 retry go",
        "begin r recovery",
        "cancel no",
        "wait 1000",
    ];
    explore(&setup, &alphabet, 6);
}

#[test]
fn duplicates() {
    let setup = [
        "begin a",
        "decide #0",
        "effect #0.0 outbox non-idempotent undo=u",
        "effect #0.1 outbox non-idempotent undo=u",
        "claim #0.0 w",
        "claim #0.1 w",
        "done #0.0 w 1 unknown lost",
        "done #0.1 w 1 unknown lost",
        "wait 500",
        "observe #0.0 o",
        "observe #0.1 o",
    ];
    let alphabet = [
        "observed #0.0 o 1 duplicate copy-undo=d",
        "observed #0.1 o 1 duplicate copy-undo=d",
        "observed #0.1 o 1 found",
        "undo #0.0/1 w",
        "undo #0.1/1 v",
        "undo #0.1 w",
        "undone #0.0/1 w last ok",
        "undone #0.0/1 w last retry no",
        "undone #0.1/1 v last ok",
        "complete",
        "fail no",
        "cancel no",
        "wait 1000",
    ];
    explore(&setup, &alphabet, 6);
}

#[test]
fn waiting() {
    let alphabet = [
        "gate g deadline=1000",
        "gate h",
        "signal g s1",
        "signal g s2",
        "signal h s1",
        "expire g",
        "timer t due=500",
        "untimer t",
        "fire t",
        "suspend",
        "suspend seen=2 resume=1000",
        "begin r recovery",
        "begin a",
        "cancel no",
        "accept-cancel",
        "complete",
        "wait 500",
    ];
    explore(&["begin a"], &alphabet, 4);
}

#[test]
fn budgets() {
    let setup = ["begin a", "decide #0", "budget m 10", "budget p 8 parent=m"];
    let alphabet = [
        "reserve #1 spends=p:6",
        "reserve #1 spends=m:3,p:2",
        "reserve sub#0 spends=m:4",
        "unreserve #1",
        "unreserve sub#0",
        "decide #1 spent=p:7",
        "decide sub#0",
        "effect #0.0 inline idempotent reserve=p:6",
        "effect #0.1 inline idempotent reserve=m:5,p:1",
        "finish #0.0 last ok",
        "finish #0.0 last ok spent=p:9",
        "finish #0.1 last failed no",
        "finish #0.1 last retry busy",
        "restart #0.1",
        "budget p 8 parent=m",
        "fail no",
    ];
    explore(&setup, &alphabet, 4);
}

#[test]
fn decisions_and_samples() {
    let alphabet = [
        "decide #0",
        "decide #1",
        "decide #2",
        "decide sub#0",
        "decide sub#1",
        "sample 0 now",
        "sample 1 now",
        "sample 0 now scope=sub",
        "effect #0.0 inline idempotent",
        "effect #1.0 inline idempotent",
        "effect sub#0.0 inline idempotent",
        "finish #0.0 last ok",
        "complete",
    ];
    explore(&["begin a"], &alphabet, 5);
}

#[test]
fn all_together() {
    let alphabet = [
        "begin a",
        "begin r recovery",
        "decide #1",
        "effect #0.1 outbox idempotent undo=u",
        "claim #0.1 w",
        "done #0.1 w last ok",
        "done #0.0 w last ok",
        "done #0.0 w last unknown lost",
        "claim #0.0 w",
        "observe #0.0 o",
        "observed #0.0 o last absent",
        "gate g deadline=500",
        "signal g s1",
        "expire g",
        "suspend",
        "cancel no",
        "fail no",
        "complete",
        "undo #0.0 w",
        "undone #0.0 w last ok",
        "wait 1000",
    ];
    let setup = ["begin a", "decide #0", "effect #0.0 outbox non-idempotent undo=u"];
    explore(&setup, &alphabet, 4);
}

#[test]
fn retirement() {
    let alphabet = [
        "begin a",
        "begin r recovery",
        "retire old",
        "release",
        "vanished 1",
        "suspend resume=500",
        "cancel no",
        "accept-cancel",
        "fail no",
        "complete",
        "undo #0.0 w",
        "undone #0.0 w last ok",
        "signal g s1",
        "decide #1",
        "wait 1000",
    ];
    let setup = [
        "begin a",
        "decide #0",
        "effect #0.0 inline idempotent undo=u",
        "finish #0.0 1 ok",
    ];
    explore(&setup, &alphabet, 5);
}

#[test]
fn nothing_of_a_run_that_never_was() {
    let run = Run::default();
    for line in [
        "renew",
        "claim #0.0 w",
        "cancel no",
        "signal g s",
        "vanished 0",
        "retry-run go",
        "settle #0.0 failed no",
        "retire old",
    ] {
        let command = Command::new(support::quick::request(1), run_line::command(line, &run));
        let rejection = run.decide(&command, Timestamp::default()).unwrap_err();
        assert_eq!(rejection, Rejection::NotFound { what: "run" }, "{line}");
    }
    assert_eq!(run.seq(), Seq::ZERO);
}

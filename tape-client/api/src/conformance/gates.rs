//! Gates that wait for an answer.

use super::agent::{Driven, TENANTS, ask, run_id, tenant, text};
use crate::Journal;
use crate::query::{GateQuery, OpenGate};
use std::sync::Arc;
use tape_core::codec::decode;
use tape_core::command::{DriverCommand, ExternalCommand, RunCommand};
use tape_core::id::{App, GateName, RunId, Seq, SignalId};
use tape_core::time::{Deadline, Timestamp};

impl Driven {
    /// Opens a gate. Returns the entry that did.
    async fn gate(&self, name: &str, deadline: Option<Deadline>) -> Seq {
        let gate = GateName::new(name).unwrap();
        self.drive(DriverCommand::OpenGate { gate, deadline }).await.seq
    }

    async fn tell(&self, command: ExternalCommand) {
        let command = RunCommand::External(command);
        ask(&self.journal, &self.run, command).await.unwrap();
    }
}

fn of(name: &str) -> GateQuery {
    GateQuery {
        tenant: tenant(name),
        app: None,
    }
}

/// All gates, in pages of one run.
async fn open(journal: &Arc<dyn Journal>, query: &GateQuery) -> Vec<OpenGate> {
    let (mut gates, mut from): (Vec<OpenGate>, Option<String>) = (Vec::new(), None);
    loop {
        let page = journal.open_gates(query, from.as_deref(), 1).await.unwrap();
        let one_run = page.gates.iter().all(|gate| gate.run == page.gates[0].run);
        assert!(one_run, "a page has more than was asked for only of one run");
        assert_eq!(page.damaged, []);
        gates.extend(page.gates);
        from = page.next;
        if from.is_none() {
            return gates;
        }
    }
}

fn named(gates: &[OpenGate]) -> Vec<(RunId, &str)> {
    let named = gates.iter().map(|gate| (gate.run.clone(), gate.gate.as_str()));
    named.collect()
}

pub(super) async fn gates_that_wait_are_listed_with_what_an_answer_needs(journal: Arc<dyn Journal>) {
    for name in TENANTS {
        let run = Driven::begin(&journal, run_id(name, "i"), "x").await;
        run.gate(name, None).await;
    }
    for name in TENANTS {
        let gates = open(&journal, &of(name)).await;
        assert_eq!(named(&gates), [(run_id(name, "i"), name)]);
    }
    let two = Driven::begin(&journal, run_id("t", "two"), "x").await;
    let first = two.gate("first", None).await;
    let at = Timestamp::from_micros(4_000_000_000_000_000);
    let second = two.gate("second", Some(Deadline::At(at))).await;
    let waiting = RunId::new("t", "b.c/d", "u", "s", "100%").unwrap();
    let waiting = Driven::begin(&journal, waiting, "x").await;
    let third = waiting.gate("x  until 2099", None).await;
    waiting.suspend().await;
    let gates = open(&journal, &of("t")).await;
    let newest_first = [
        (waiting.run.clone(), "x  until 2099"),
        (two.run.clone(), "first"),
        (two.run.clone(), "second"),
    ];
    assert_eq!(named(&gates), newest_first);
    let opened: Vec<Seq> = gates.iter().map(|gate| gate.opened).collect();
    assert_eq!(opened, [third, first, second]);
    let rest = gates.iter().map(|gate| (gate.deadline, gate.suspended));
    let rest: Vec<_> = rest.collect();
    assert_eq!(rest, [(None, true), (None, false), (Some(at), false)]);
    for gate in &gates {
        let before = Seq(gate.opened.0 - 1);
        let entry = journal.read(&gate.run, before, 1).await.unwrap();
        assert_eq!(decode(&entry[0]).unwrap().at, gate.opened_at);
    }
    for (app, fit) in [("b.c/d", 1), ("app", 2), ("b", 0)] {
        let query = GateQuery {
            app: Some(App::new(app).unwrap()),
            ..of("t")
        };
        assert_eq!(open(&journal, &query).await.len(), fit, "{app}");
    }
}

pub(super) async fn gates_that_take_no_answer_are_not_listed(journal: Arc<dyn Journal>) {
    let begin = async |name| {
        let run = Driven::begin(&journal, run_id("t", name), "x").await;
        run.gate("approval", None).await;
        run
    };
    let [answered, ended, cancelled, waiting] = [
        begin("answered").await,
        begin("ended").await,
        begin("cancelled").await,
        begin("waiting").await,
    ];
    assert_eq!(open(&journal, &of("t")).await.len(), 4);
    let signal = ExternalCommand::Signal {
        gate: GateName::new("approval").unwrap(),
        id: SignalId::new("s").unwrap(),
        answer: text("yes"),
        seen: None,
    };
    answered.tell(signal).await;
    ended
        .drive(DriverCommand::Complete { output: text("done") })
        .await;
    let reason = "not needed".to_owned();
    cancelled.tell(ExternalCommand::Cancel { reason }).await;
    let gates = open(&journal, &of("t")).await;
    assert_eq!(named(&gates), [(waiting.run, "approval")]);
}

//! Work that was due long ago and that no worker has. If no process has its connector or agent, nothing else reports it.

use crate::name::path;
use crate::remedy::Remedy;
use crate::stuck::{Matter, because, undone, verdicts};
use crate::text::time;
use tape_client::RunId;
use tape_client::core::agenda::{Item, Queue};
use tape_client::core::agent_version;
use tape_client::core::decider::Decider as _;
use tape_client::core::effect::Status;
use tape_client::core::entry::effect::WorkLease;
use tape_client::core::entry::obligation::ObligationId;
use tape_client::core::id::EffectId;
use tape_client::core::run::{ObligationStatus, Run};
use tape_client::core::time::Timestamp;

/// The work of a run that was due before a time.
pub(crate) fn matters(run: &RunId, state: &Run, due_by: Timestamp) -> Vec<Matter> {
    let agenda = state.agenda();
    let overdue = agenda.iter().filter(|(.., due)| *due < due_by);
    overdue
        .filter_map(|(queue, item, due)| matter(run, state, queue, item, due))
        .collect()
}

fn matter(run: &RunId, state: &Run, queue: Queue, item: &Item, due: Timestamp) -> Option<Matter> {
    match item {
        Item::Run => Some(undriven(run, state, due)),
        Item::Effect(id) => effect(&path(run), state, id, due),
        Item::Obligation(id) => obligation(&path(run), state, id, due),
        Item::Gate(name) => Some(unfired(format!("gate {name}"), queue, due)),
        Item::Timer(name) => Some(unfired(format!("timer {name}"), queue, due)),
        Item::Merge | Item::Erasure => Some(unfired(item.to_string(), queue, due)),
    }
}

/// A run that is due to be driven again or ended, and has no driver.
fn undriven(run: &RunId, state: &Run, due: Timestamp) -> Matter {
    let due = time(due);
    let why = match state.cancel_requested() {
        // Recovery ends it, even without an agent for its app.
        Some(reason) => format!(
            "cancellation was asked for ({reason}) and it has had no driver since {due}: it needs a `tape-reactor` that does recovery"
        ),
        None if is_erased(state) => format!(
            "it is to be driven again since {due}, and no worker has taken it: its labels were erased, and with them the version that began \
             it, so that what chooses agents of app '{}' by version leaves it. It needs a `tape-reactor` with one agent for all versions, or \
             its own program to begin it",
            run.app
        ),
        None => format!(
            "it is to be driven again since {due}, and no worker has taken it: it needs a `tape-reactor` with an agent of app '{}', \
             or its own program to begin it",
            run.app
        ),
    };
    Matter {
        what: "the run".to_owned(),
        why,
        remedies: vec![because(Remedy::new("cancel").name(path(run)))],
    }
}

fn is_erased(state: &Run) -> bool {
    state
        .summary()
        .is_some_and(|summary| agent_version::is_erased(&summary.labels))
}

fn effect(run: &str, state: &Run, id: &EffectId, due: Timestamp) -> Option<Matter> {
    let effect = state.effects().get(id)?;
    let release = || Remedy::new("release").name(run).name(id);
    let unknown = effect.status == Status::Unknown;
    let mut remedies = if unknown {
        verdicts(run, id, effect)
    } else {
        Vec::new()
    };
    // An effect that is claimed for an observation can be settled without a release of the claim.
    let claim = effect.claim.as_ref();
    remedies.extend(claim.filter(|_| !unknown).map(|claim| ended(release(), claim)));
    let asked = if unknown { "asked about" } else { "sent" };
    Some(Matter {
        what: format!("effect {id} {} {}", effect.connector, effect.operation),
        why: waiting(asked, claim, &effect.connector, due),
        remedies,
    })
}

fn obligation(run: &str, state: &Run, id: &ObligationId, due: Timestamp) -> Option<Matter> {
    let obligation = state.obligations().iter().find(|it| it.id == *id)?;
    let claim = match &obligation.status {
        ObligationStatus::Started { claim } => Some(claim),
        _ => None,
    };
    let release = || {
        let undo = Remedy::new("release").name(run).name(&id.effect).words("--undo");
        match id.copy {
            0 => undo,
            copy => undo.option("--duplicate", copy),
        }
    };
    let (effect, connector) = (&id.effect, &obligation.connector);
    let mut remedies: Vec<Remedy> = claim.map(|claim| ended(release(), claim)).into_iter().collect();
    remedies.push(undone(run, obligation));
    Some(Matter {
        what: format!("undo of effect {effect} {connector} {}", obligation.operation),
        why: waiting("carried out", claim, connector, due),
        remedies,
    })
}

/// Why the work of a connector waits, as far as the journal shows.
fn waiting(to_be: &str, claim: Option<&WorkLease>, connector: &impl ToString, due: Timestamp) -> String {
    let (due, connector) = (time(due), connector.to_string());
    let since = match claim {
        Some(WorkLease { holder, .. }) => {
            format!("the claim of {holder} ran out at {due}, and no worker has claimed it since")
        }
        None => format!("it is to be {to_be} since {due}, and no worker has claimed it"),
    };
    format!("{since}: it needs a `tape-reactor` with connector '{connector}'")
}

/// The remedy that ends a claim that has run out.
fn ended(release: Remedy, claim: &WorkLease) -> Remedy {
    because(release.option("--until", claim.until.as_micros()))
}

/// Work that only needs a worker of its queue.
fn unfired(what: String, queue: Queue, due: Timestamp) -> Matter {
    let due = time(due);
    Matter {
        what,
        why: format!(
            "it is due since {due}, and no worker has seen to it: it needs a `tape-reactor` that does {queue}"
        ),
        remedies: Vec::new(),
    }
}

//! Entries to read by what the page says: the golden files, and forms that no golden file has.

use serde_json::Value;
use tape_core::chain::Chain;
use tape_core::codec::{Stamp, StoredEntry};
use tape_core::effect::{Outcome, SettledBy};
use tape_core::entry::EntryBody;
use tape_core::entry::effect::{AfterObservation, Confirmed, Observed};
use tape_core::entry::gate::{Answered, AnsweredBy};
use tape_core::entry::obligation::{Done, ObligationId};
use tape_core::entry::value::Deleted;
use tape_core::id::RequestId;
use tape_core::payload::Payload;
use tape_core::time::Timestamp;

pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) envelope: String,
    pub(crate) payload: String,
}

impl Sample {
    fn of(name: &str, stored: &StoredEntry) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Self {
            name: name.to_owned(),
            envelope: text(&stored.envelope),
            payload: text(stored.payload.as_ref().unwrap()),
        }
    }

    pub(crate) fn value(&self) -> Value {
        serde_json::from_str(&self.envelope).unwrap()
    }

    pub(crate) fn kind(&self) -> String {
        self.value()["entry"]["kind"].as_str().unwrap().to_owned()
    }

    pub(crate) fn body(&self) -> Value {
        self.value()["entry"]["body"].take()
    }

    pub(crate) fn version(&self) -> u64 {
        self.value()["v"].as_u64().unwrap()
    }
}

pub(crate) fn all() -> Vec<Sample> {
    let mut all = golden();
    all.extend(further());
    all
}

fn golden() -> Vec<Sample> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
    let files = std::fs::read_dir(directory).unwrap();
    let sample = |path: std::path::PathBuf| {
        let file: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let text = |field: &str| file[field].as_str().unwrap().to_owned();
        Sample {
            name: path.file_stem().unwrap().to_str().unwrap().to_owned(),
            envelope: text("envelope"),
            payload: text("payload"),
        }
    };
    files.map(|file| sample(file.unwrap().path())).collect()
}

fn further() -> Vec<Sample> {
    let stuck = Observed {
        effect: "#0.0".parse().unwrap(),
        outcome: Outcome::Duplicate,
        why: String::new(),
        then: AfterObservation::Stuck {
            reason: "twice".to_owned(),
        },
    };
    let overdue = Answered {
        gate: "approval".parse().unwrap(),
        by: AnsweredBy::Deadline,
        answer: Payload::empty(),
    };
    let deleted = Deleted {
        version: 3,
        previous: None,
    };
    let by = SettledBy::Person {
        reason: "seen".to_owned(),
    };
    let confirmed = Confirmed {
        effect: "#0.0".parse().unwrap(),
        by: by.clone(),
        result: Payload::empty(),
        undo: None,
        spent: None,
    };
    let done = Done {
        obligation: ObligationId {
            effect: "#0.0".parse().unwrap(),
            copy: 0,
        },
        by,
        result: Payload::empty(),
    };
    let mut chain = Chain::new(&"acme/value/rate".parse().unwrap());
    // The last one is decided under a clock that was set back.
    vec![
        Sample::of("stuck", &seal(&mut chain, 9_000, stuck.into())),
        Sample::of("overdue", &seal(&mut chain, 9_000, overdue.into())),
        Sample::of("confirmed", &seal(&mut chain, 9_000, confirmed.into())),
        Sample::of("done", &seal(&mut chain, 9_000, done.into())),
        Sample::of("deleted", &seal(&mut chain, 0, deleted.into())),
    ]
}

fn seal(chain: &mut Chain, at_ms: u64, body: EntryBody) -> StoredEntry {
    let stamp = Stamp {
        at: Timestamp::from_micros(0).plus_millis(at_ms),
        request: RequestId::from_u128(1),
        principal: None,
        trace: None,
        command: None,
    };
    chain.seal(&stamp, body).1
}

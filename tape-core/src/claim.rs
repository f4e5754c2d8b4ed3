//! Claims: one business operation, one owner, whatever runs ask for it.

use crate::command::{ClaimCommand, Command};
use crate::entry::value::ClaimTaken;
use crate::entry::{Entry, EntryBody};
use crate::id::{EffectId, RunId, Seq, StreamId};
use crate::reply::{Decided, Rejection, ReplyResult};
use crate::stream::{Remembered, ReplayError, Stream, already, decided};
use crate::time::Now;
use serde::{Deserialize, Serialize};

/// Who owns a business key. The key is claimed before the intent of its effect is durable, so an owner may turn out to have no such
/// effect; it keeps the key as long as it can still begin it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    seq: Seq,
    owner: Option<(RunId, EffectId)>,
    replies: Remembered,
}

impl Claim {
    /// The owner, once there is one.
    #[must_use]
    pub const fn owner(&self) -> Option<&(RunId, EffectId)> {
        self.owner.as_ref()
    }
}

impl Stream for Claim {
    type Command = ClaimCommand;
    const SNAPSHOT_VERSION: u32 = 1;

    fn accepts(stream: &StreamId) -> bool {
        matches!(stream, StreamId::Claim { .. })
    }

    fn decide(&self, command: &Command<ClaimCommand>, _now: impl Into<Now>) -> Result<Decided, Rejection> {
        if let Some(reply) = self.replies.get(command.request) {
            return Ok(Decided {
                entries: Vec::new(),
                reply,
            });
        }
        let ClaimCommand::Take {
            connector,
            key,
            run,
            effect,
            from,
        } = &command.body;
        match &self.owner {
            Some(owner) if owner.0 == *run && owner.1 == *effect => {
                Ok(already(self.seq, ReplyResult::Recorded))
            }
            Some(owner) if from.as_ref() != Some(owner) => Err(Rejection::BusinessKeyTaken {
                connector: connector.clone(),
                key: key.to_string(),
                run: owner.0.clone(),
                effect: owner.1.clone(),
            }),
            Some(_) | None => {
                let (connector, key, run) = (connector.clone(), key.clone(), run.clone());
                Ok(decided(
                    self.seq,
                    vec![
                        ClaimTaken {
                            connector,
                            key,
                            run,
                            effect: effect.clone(),
                        }
                        .into(),
                    ],
                ))
            }
        }
    }

    fn apply(&mut self, entry: &Entry) -> Result<(), ReplayError> {
        if entry.seq != self.seq.next() {
            return Err(ReplayError::OutOfOrder {
                after: self.seq,
                found: entry.seq,
            });
        }
        let EntryBody::ClaimTaken(taken) = &entry.body else {
            let problem = "it does not belong into a claim".to_owned();
            return Err(ReplayError::Impossible {
                seq: entry.seq,
                kind: entry.body.kind(),
                problem,
            });
        };
        self.owner = Some((taken.run.clone(), taken.effect.clone()));
        self.seq = entry.seq;
        self.replies.note(entry);
        Ok(())
    }

    fn seq(&self) -> Seq {
        self.seq
    }
}

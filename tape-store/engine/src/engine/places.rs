//! Where relays are in the feed: records of the store, changed by the rules of [`tape_core::relay`].

use super::Engine;
use crate::journal::failure::of_store;
use lru::LruCache;
use serde::{Deserialize, Serialize};
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use tape_api::JournalError;
use tape_core::id::{Epoch, InvalidName, RelayPart};
use tape_core::relay::Place;
use tape_core::time::Now;
use tape_store::cursors::{Record, Swap};
use tape_store::error::StoreError;

/// What names of records begin with that are places of relays.
pub(crate) const PREFIX: &str = "relay/";
/// How often a change is made anew on what another process made of the record meanwhile.
const ATTEMPTS: u32 = 8;
/// How many places an engine remembers, so that the move of a part that it carries costs one call of the store.
const KNOWN_MAX: NonZeroUsize = NonZeroUsize::new(1_024).expect("it is not zero");
/// The form of the records that this build writes.
const FORM: u32 = 1;

/// The stored form of a place.
#[derive(Deserialize, Serialize)]
struct Stored {
    form: u32,
    place: Place,
}

/// A place, and the version of its record; zero where there is none.
#[derive(Clone, Debug, Default)]
struct Known {
    version: u64,
    place: Place,
}

/// The places that an engine has seen last. Another process may have moved them since, which the store notices.
#[derive(Debug)]
pub(super) struct Places(Mutex<LruCache<RelayPart, Known>>);

impl Default for Places {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(KNOWN_MAX)))
    }
}

impl Places {
    fn take(&self, part: &RelayPart) -> Option<Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop(part)
    }

    fn keep(&self, part: &RelayPart, known: Known) {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        places.put(part.clone(), known);
    }
}

/// The name of the record of a part.
pub(crate) fn record_name(part: &RelayPart) -> String {
    format!("{PREFIX}{part}")
}

fn part_of(name: &str) -> Result<RelayPart, InvalidName> {
    name.strip_prefix(PREFIX).unwrap_or(name).parse()
}

/// The part and the place of a record.
///
/// # Errors
/// [`JournalError::Damaged`].
pub(crate) fn read_record(name: &str, record: &Record) -> Result<(RelayPart, Place), JournalError> {
    let part = part_of(name).map_err(|problem| unreadable(name, problem))?;
    let stored: Stored =
        serde_json::from_slice(&record.bytes).map_err(|problem| unreadable(name, problem))?;
    if stored.form != FORM {
        let problem = format!("it has the form {}, this build knows {FORM}", stored.form);
        return Err(unreadable(name, problem));
    }
    Ok((part, stored.place))
}

fn unreadable(name: &str, problem: impl Into<tape_api::Source>) -> JournalError {
    let problem = problem.into();
    JournalError::damaged(format!("the record '{name}' cannot be read: {problem}"))
}

impl Engine {
    /// Changes the place of a part by a rule. What the rule refuses is refused on the present place, never on a remembered one.
    pub(crate) async fn change_place<T, E>(
        &self,
        part: &RelayPart,
        rule: impl Fn(&mut Place, Now) -> Result<T, E>,
    ) -> Result<Result<T, E>, JournalError> {
        let mut known = self.0.places.take(part);
        for _ in 0..ATTEMPTS {
            let now = self.read_clock().await.map_err(of_store)?;
            let remembered = known.is_some();
            let mut current = match known.take() {
                Some(known) => known,
                None => self.place_now(part).await?,
            };
            let before = current.version;
            let micros = u64::try_from(now.at().as_micros()).unwrap_or(0);
            if before == 0 {
                // A relay of the name may have been forgotten while a process carried it: its epoch must not come again.
                current.place.epoch = Epoch(micros);
            }
            match rule(&mut current.place, now) {
                Err(_) if remembered => continue,
                Err(refused) => return Ok(Err(refused)),
                Ok(answer) => {
                    current.version = micros.max(before.saturating_add(1));
                    if self.put_place(part, before, &current).await? {
                        self.0.places.keep(part, current);
                        return Ok(Ok(answer));
                    }
                }
            }
        }
        let problem =
            format!("the place of {part} changed each of the {ATTEMPTS} times that it was to be moved");
        Err(JournalError::unavailable(problem))
    }

    /// Removes a record of a relay, also one that cannot be read. Returns whether there was one.
    pub(crate) async fn forget_record(&self, name: &str) -> Result<bool, JournalError> {
        if let Ok(part) = part_of(name) {
            self.0.places.take(&part);
        }
        for _ in 0..ATTEMPTS {
            let record = self.0.store.cursors().record(name).await.map_err(of_store)?;
            let Some(record) = record else {
                return Ok(false);
            };
            let remove = Swap::Remove {
                expected: record.version,
            };
            if self.swap(name, &remove).await.map_err(of_store)? {
                return Ok(true);
            }
        }
        Err(JournalError::unavailable(format!(
            "the record '{name}' is moved all the time"
        )))
    }

    async fn place_now(&self, part: &RelayPart) -> Result<Known, JournalError> {
        let name = record_name(part);
        let record = self.0.store.cursors().record(&name).await.map_err(of_store)?;
        let Some(record) = record else {
            return Ok(Known::default());
        };
        Ok(Known {
            version: record.version,
            place: read_record(&name, &record)?.1,
        })
    }

    async fn put_place(&self, part: &RelayPart, before: u64, next: &Known) -> Result<bool, JournalError> {
        let stored = Stored {
            form: FORM,
            place: next.place.clone(),
        };
        let record = Record {
            version: next.version,
            bytes: serde_json::to_vec(&stored).map_err(JournalError::damaged)?.into(),
        };
        let swap = match before {
            0 => Swap::Make(record),
            expected => Swap::Replace {
                expected,
                next: record,
            },
        };
        self.swap(&record_name(part), &swap).await.map_err(of_store)
    }

    /// Changes a record. Where the answer is lost, the record says whether the change was made.
    async fn swap(&self, name: &str, swap: &Swap) -> Result<bool, StoreError> {
        let cursors = self.0.store.cursors();
        match cursors.swap_record(name, swap).await {
            Err(StoreError::Unavailable { .. }) => {
                let there = cursors.record(name).await?;
                if there.as_ref() == swap.next() {
                    // It was only read, and may not be on the standbys of the store yet.
                    return self.0.store.barrier().await.map(|()| true);
                }
                // The lost change may still arrive. Where it does so first, this one finds its version and is refused, and the rule is
                // applied again to what the lost one made.
                cursors.swap_record(name, swap).await
            }
            answer => answer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::record_name;
    use tape_core::id::{RelayId, RelayName, RelayPart, Tenant};
    use tape_core::limits::NAME_BYTES_MAX;
    use tape_store::cursors::RECORD_NAME_BYTES_MAX;

    #[test]
    fn each_part_of_a_relay_has_a_name_that_stores_take() {
        // Each of these characters is three in the text of a part, which is the most that a byte of a name becomes.
        for character in ["%", "/", ".", "*", ">", " "] {
            let longest = character.repeat(NAME_BYTES_MAX);
            let relay = RelayId {
                tenant: Some(Tenant::new(&longest).unwrap()),
                name: RelayName::new(&longest).unwrap(),
            };
            let part = u16::MAX;
            let name = record_name(&RelayPart { relay, part });
            assert!(name.len() <= RECORD_NAME_BYTES_MAX, "{} bytes", name.len());
        }
    }
}

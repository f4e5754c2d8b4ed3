//! Where relays are in the feed: records of the store, changed by the rules of [`tape_core::relay`].

use super::Engine;
use crate::journal::failure::of_store;
use lru::LruCache;
use serde::{Deserialize, Serialize};
use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tape_api::JournalError;
use tape_core::id::{Epoch, InvalidName, RelayPart};
use tape_core::relay::Place;
use tape_core::time::Now;
use tape_store::cursors::{RECORD_NAME_BYTES_MAX, Record, Swap};
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
#[derive(Serialize)]
struct Stored {
    form: u32,
    place: Place,
}

/// What is read first: a place of another form may be anything.
#[derive(Deserialize)]
struct OfForm {
    form: u32,
}

/// A place in the form of this build.
#[derive(Deserialize)]
struct OfThisForm {
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
pub(super) struct Places {
    known: Mutex<LruCache<RelayPart, Known>>,
    /// One relay at a time is made, so that those that are counted are all.
    making: tokio::sync::Mutex<()>,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            known: Mutex::new(LruCache::new(KNOWN_MAX)),
            making: tokio::sync::Mutex::default(),
        }
    }
}

impl Places {
    fn take(&self, part: &RelayPart) -> Option<Known> {
        self.known().pop(part)
    }

    fn keep(&self, part: &RelayPart, known: Known) {
        self.known().put(part.clone(), known);
    }

    fn known(&self) -> MutexGuard<'_, LruCache<RelayPart, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
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
    let OfForm { form } =
        serde_json::from_slice(&record.bytes).map_err(|problem| unreadable(name, problem))?;
    if form != FORM {
        let problem = format!("it has the form {form}, this build knows {FORM}");
        return Err(unreadable(name, problem));
    }
    let stored: OfThisForm =
        serde_json::from_slice(&record.bytes).map_err(|problem| unreadable(name, problem))?;
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
                    let _making = match before {
                        0 => Some(self.make(part).await?),
                        _ => None,
                    };
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

    /// Checks that a part may be made, and keeps others from being made meanwhile.
    async fn make(&self, part: &RelayPart) -> Result<tokio::sync::MutexGuard<'_, ()>, JournalError> {
        let making = self.0.places.making.lock().await;
        self.check_room(&part.relay).await?;
        Ok(making)
    }

    /// Removes a record that cannot be read, of any name. Returns whether there was one.
    ///
    /// # Errors
    /// [`JournalError::Invalid`] where it is none of a relay, or can be read: then it is forgotten with its relay.
    pub(crate) async fn forget_unreadable(&self, name: &str) -> Result<bool, JournalError> {
        let invalid = |problem: &str| Err(JournalError::Invalid(format!("record: {problem}")));
        if !name.starts_with(PREFIX) || name.len() > RECORD_NAME_BYTES_MAX {
            return invalid("is not the name of a record of a relay");
        }
        let record = self.0.store.cursors().record(name).await.map_err(of_store)?;
        match record.map(|record| read_record(name, &record)) {
            None => Ok(false),
            Some(Ok(_)) => invalid("can be read: forget its relay"),
            Some(Err(_)) => self.forget_record(name).await,
        }
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
    use super::{read_record, record_name};
    use tape_core::id::{RelayId, RelayName, RelayPart, Tenant};
    use tape_core::limits::NAME_BYTES_MAX;
    use tape_store::cursors::{RECORD_NAME_BYTES_MAX, Record};

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
    #[test]
    fn a_record_of_a_newer_form_is_told_from_a_damaged_one_whatever_its_place_is() {
        let problem = |bytes: &'static str| {
            let record = Record {
                version: 1,
                bytes: bytes.into(),
            };
            let error = read_record("relay/t/lake/0", &record).unwrap_err();
            tape_core::causes::Causes(&error).to_string()
        };
        for newer in [r#"{"form":2,"place":[1,2]}"#, r#"{"form":2}"#] {
            let problem = problem(newer);
            assert!(
                problem.contains("it has the form 2, this build knows 1"),
                "{problem}"
            );
        }
        assert!(problem(r#"{"form":1}"#).contains("place"));
    }
}

//! The time of the journal. A file has no clock, but all its processes run on one machine, so the time since the machine started is the
//! same for all of them. The file holds what to add to it.

use super::error::store_error;
use crate::contract::StoreTime;
use crate::error::StoreError;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Executor as _, Row as _};
use tape_core::limits::{CLOCK_ERROR_MS_MAX, LEASE_MS_MAX};
use tape_core::time::Timestamp;
use tape_environment::{Environment, micros};

pub(super) const DOING: &str = "tells the time";
const READ: &str = "SELECT boot, offset, step, stepped FROM clock";
const WRITE: &str = "INSERT OR REPLACE INTO clock VALUES (1, ?, ?, ?, ?)";
/// The journal's time follows a step of the machine's clock that is greater than this.
const TOLERANCE: i64 = millis(CLOCK_ERROR_MS_MAX);
/// For how long a step is reported.
const STEP_COUNTS: i64 = millis(LEASE_MS_MAX);

const fn millis(millis: u64) -> i64 {
    millis.saturating_mul(1_000).cast_signed()
}

/// What the clocks of the environment show, in microseconds.
#[derive(Clone, Debug)]
pub(super) struct Clocks {
    boot: String,
    passed: i64,
    wall: i64,
}

impl Clocks {
    /// As it is now; none where the system does not say when it started.
    pub(super) fn look(environment: &dyn Environment) -> Option<Self> {
        Some(Self {
            boot: environment.boot()?,
            passed: micros(environment.elapsed()),
            wall: environment.wall().as_micros(),
        })
    }
}

/// What stands in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Anchor {
    boot: String,
    offset: i64,
    step: i64,
    stepped: i64,
}

impl Anchor {
    fn of(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            boot: row.try_get(0)?,
            offset: row.try_get(1)?,
            step: row.try_get(2)?,
            stepped: row.try_get(3)?,
        })
    }

    /// The anchor that should stand in the file where this one stands there, or none.
    fn next(before: Option<Self>, now: &Clocks) -> Self {
        let fresh = Self {
            boot: now.boot.clone(),
            offset: now.wall.saturating_sub(now.passed),
            step: 0,
            stepped: now.passed,
        };
        match before.filter(|before| before.boot == now.boot) {
            None => fresh,
            Some(before) => {
                let step = fresh.offset.saturating_sub(before.offset).saturating_abs();
                if step <= TOLERANCE {
                    return before;
                }
                let earlier = before.step_at(now.passed);
                Self {
                    step: step.saturating_add(earlier),
                    ..fresh
                }
            }
        }
    }

    fn step_at(&self, passed: i64) -> i64 {
        if passed.saturating_sub(self.stepped) < STEP_COUNTS {
            self.step
        } else {
            0
        }
    }

    fn time(&self, now: &Clocks) -> StoreTime {
        StoreTime {
            at: Timestamp::from_micros(now.passed.saturating_add(self.offset)),
            step_ms: self.step_at(now.passed).unsigned_abs().div_ceil(1_000),
        }
    }
}

/// The time, where what stands in the file holds.
pub(super) fn told(before: Option<&Anchor>, now: &Clocks) -> Option<StoreTime> {
    let before = before?;
    (Anchor::next(Some(before.clone()), now) == *before).then(|| before.time(now))
}

pub(super) async fn read<'c>(
    connection: impl sqlx::Executor<'c, Database = sqlx::Sqlite>,
) -> Result<Option<Anchor>, sqlx::Error> {
    let row = connection.fetch_optional(READ).await?;
    row.as_ref().map(Anchor::of).transpose()
}

/// Sets the time of the journal where nothing stands in the file, the machine was started anew or its clock was set. Within a transaction
/// that writes: of several processes, one does it.
pub(super) async fn set(
    connection: &mut SqliteConnection,
    environment: &dyn Environment,
) -> Result<StoreTime, StoreError> {
    let failed = |error| store_error(DOING, error);
    let now = Clocks::look(environment)
        .ok_or_else(|| StoreError::unavailable(DOING, "the system does not say when it started"))?;
    let before = read(&mut *connection).await.map_err(failed)?;
    let anchor = Anchor::next(before, &now);
    let write = sqlx::query(WRITE)
        .bind(anchor.boot.as_str())
        .bind(anchor.offset)
        .bind(anchor.step)
        .bind(anchor.stepped);
    connection.execute(write).await.map_err(failed)?;
    Ok(anchor.time(&now))
}

#[cfg(test)]
mod tests {
    use super::{Anchor, Clocks, told};

    const SECOND: i64 = 1_000_000;

    fn machine(passed: i64, wall: i64) -> Clocks {
        Clocks {
            boot: "one".to_owned(),
            passed: passed * SECOND,
            wall: wall * SECOND,
        }
    }

    #[test]
    fn the_time_goes_on_with_the_machine_and_follows_a_step_that_it_tells() {
        let anchor = Anchor::next(None, &machine(10, 1_000));
        let time = told(Some(&anchor), &machine(15, 1_005)).unwrap();
        assert_eq!((time.at.as_micros(), time.step_ms), (1_005 * SECOND, 0));
        // Time synchronisation moves it a little: the journal's goes on.
        let time = told(Some(&anchor), &machine(15, 1_006)).unwrap();
        assert_eq!(time.at.as_micros(), 1_005 * SECOND);
        // It is set by an hour: the anchor in the file does not hold.
        let set = machine(20, 4_610);
        assert_eq!(told(Some(&anchor), &set), None);
        let anchor = Anchor::next(Some(anchor), &set);
        let time = told(Some(&anchor), &machine(3_619, 8_209)).unwrap();
        assert_eq!((time.at.as_micros(), time.step_ms), (8_209 * SECOND, 3_600_000));
        assert_eq!(told(Some(&anchor), &machine(3_620, 8_210)).unwrap().step_ms, 0);
    }

    #[test]
    fn a_machine_that_was_started_anew_has_its_own_time() {
        let anchor = Anchor::next(None, &machine(10_000, 11_000));
        let other = Clocks {
            boot: "two".to_owned(),
            ..machine(5, 12_000)
        };
        assert_eq!(told(Some(&anchor), &other), None);
        let anchor = Anchor::next(Some(anchor), &other);
        let time = told(Some(&anchor), &other).unwrap();
        assert_eq!((time.at.as_micros(), time.step_ms), (12_000 * SECOND, 0));
    }
}

//! Points in time, as people write them.

use crate::age::age;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use tape_client::core::time::Timestamp;

/// A point in time: by the calendar, in UTC, or so long ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    At(Timestamp),
    Ago { ms: u64 },
}

impl Moment {
    /// The time, where it is `now`.
    pub(crate) fn from(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::Ago { ms } => now.minus_millis(ms),
        }
    }
}

/// Reads a time in UTC as the command prints it, such as 2026-11-22 12:00:00.750, as much of it as is written from the left, or an age, such as
/// 90d.
pub(crate) fn moment(text: &str) -> Result<Moment, String> {
    let form = "a time is in UTC, such as 2026-11-22 or '2026-11-22 12:00:00', or an age, such as 12h";
    if let Ok(age) = age(text) {
        let ms = u64::try_from(age.duration.as_millis()).unwrap_or(u64::MAX);
        return Ok(Moment::Ago { ms });
    }
    let at = instant(text).ok_or(form)?;
    Ok(Moment::At(Timestamp::from_micros(at.as_microsecond())))
}

fn instant(text: &str) -> Option<jiff::Timestamp> {
    // With an offset, such as Z.
    if let Ok(at) = text.parse() {
        return Some(at);
    }
    // The name of a time zone would be passed over.
    let read: DateTime = Some(text).filter(|text| !text.contains('['))?.parse().ok()?;
    TimeZone::UTC.to_timestamp(read).ok()
}

#[cfg(test)]
mod tests {
    use super::{Moment, moment};
    use tape_client::core::time::Timestamp;

    #[test]
    fn a_moment_is_a_time_in_utc_or_an_age() {
        let noon = 1_795_348_800_000_000;
        for (text, micros) in [
            ("2026-11-22", noon - 43_200_000_000),
            ("2026-11-22 12:00", noon),
            ("2026-11-22T12:00:00", noon),
            ("2026-11-22T12:00:00Z", noon),
            ("2026-11-22T14:00:00+02:00", noon),
            ("2026-11-22 12:00:00.750", noon + 750_000),
            ("12h", noon - 43_200_000_000),
            ("0s", noon),
        ] {
            let at = moment(text).unwrap().from(Timestamp::from_micros(noon));
            assert_eq!(at.as_micros(), micros, "{text}");
        }
        assert_eq!(moment("1s").unwrap(), Moment::Ago { ms: 1_000 });
        for text in [
            "",
            "noon",
            "2026-13-01",
            "12:00",
            "2026-11-22 12:00 x",
            "2026-11-22[Europe/Rome]",
            "-1h",
            "1795348800",
        ] {
            moment(text).unwrap_err();
        }
    }
}

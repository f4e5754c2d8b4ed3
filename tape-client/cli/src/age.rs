//! Lengths of time, as people write them.

use std::time::Duration;

/// A length of time with the text that it was given as.
#[derive(Clone, Debug)]
pub(crate) struct Age {
    pub(crate) given: String,
    pub(crate) duration: Duration,
}

/// Reads a number with a unit, such as 90d.
pub(crate) fn age(text: &str) -> Result<Age, String> {
    let form = || "an age is a number with d, h, m or s, such as 90d".to_owned();
    let unit = text.chars().next_back().ok_or_else(form)?;
    let seconds = match unit {
        'd' => 86_400,
        'h' => 3_600,
        'm' => 60,
        's' => 1,
        _ => return Err(form()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| form())?;
    let seconds = number.checked_mul(seconds).ok_or_else(form)?;
    Ok(Age {
        given: text.to_owned(),
        duration: Duration::from_secs(seconds),
    })
}

#[cfg(test)]
mod tests {
    use super::age;
    use std::time::Duration;

    #[test]
    fn ages_are_numbers_with_a_unit() {
        for (text, seconds) in [("90d", 7_776_000), ("12h", 43_200), ("5m", 300), ("0s", 0)] {
            assert_eq!(age(text).unwrap().duration, Duration::from_secs(seconds));
        }
        for text in [
            "",
            "d",
            "90",
            "-1d",
            "1.5h",
            "1w",
            "9é",
            "99999999999999999999d",
            "999999999999999999d",
        ] {
            age(text).unwrap_err();
        }
    }
}

//! The letters of what is written: a rule of Tape's own, so that another release of a library does not change the digests of an agent's
//! values.

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};
use std::fmt::LowerExp;
use std::io::{self, Write};
use std::str::FromStr;

/// The JSON text of a value: without white space, floats by the rule that `docs/format.md` states under *Canonical JSON*. The members of
/// objects are in the order of the value.
///
/// ```
/// use tape_core::json::text;
/// assert_eq!(text(&(1.0, 1e16, 1.5e-7, 0.1_f32)).unwrap(), "[1.0,1e+16,1.5e-7,0.1]");
/// ```
///
/// # Errors
/// Where the value has no JSON form.
pub fn text(value: &(impl Serialize + ?Sized)) -> Result<String, serde_json::Error> {
    let mut text = Vec::new();
    value.serialize(&mut Serializer::with_formatter(&mut text, Floats))?;
    String::from_utf8(text).map_err(serde::ser::Error::custom)
}

/// Writes floats by Tape's rule, and all else as `serde_json` does. A number that is kept as a text stays as it is.
struct Floats;

impl Formatter for Floats {
    fn write_f32<W: ?Sized + Write>(&mut self, to: &mut W, value: f32) -> io::Result<()> {
        to.write_all(letters(&shortest(value)).as_bytes())
    }

    fn write_f64<W: ?Sized + Write>(&mut self, to: &mut W, value: f64) -> io::Result<()> {
        to.write_all(letters(&shortest(value)).as_bytes())
    }
}

/// The first power of ten that is written with an exponent.
const EXPONENT_FROM: i32 = 16;
/// The lowest power of ten that is written without one.
const PLAIN_FROM: i32 = -5;

/// The fewest digits that read back as a float, those nearest to it, in scientific notation, such as `-1.5e-7`. Where two are as near, the
/// last one is even: the standard library leaves that open unless it is told how many digits to write.
fn shortest<F: LowerExp + FromStr + PartialEq + Copy>(value: F) -> String {
    let some = format!("{value:e}");
    let number = some.split('e').next().unwrap_or_default();
    let digits = number.bytes().filter(u8::is_ascii_digit).count();
    let nearest = format!("{value:.places$e}", places = digits.saturating_sub(1));
    let reads_back = nearest.parse().is_ok_and(|read: F| read == value);
    if reads_back { nearest } else { some }
}

/// The letters of a float in scientific notation.
fn letters(scientific: &str) -> String {
    let (number, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let (sign, number) = match number.strip_prefix('-') {
        Some(number) => ("-", number),
        None => ("", number),
    };
    if !(PLAIN_FROM..EXPONENT_FROM).contains(&exponent) {
        return format!("{sign}{number}e{exponent:+}");
    }
    let digits = number.replace('.', "");
    match usize::try_from(exponent) {
        Err(_) => format!(
            "{sign}0.{digits:0>width$}",
            width = digits.len() + zeros_before(exponent)
        ),
        Ok(last) if digits.len() > last + 1 => {
            let (whole, fraction) = digits.split_at(last + 1);
            format!("{sign}{whole}.{fraction}")
        }
        Ok(last) => format!("{sign}{digits:0<width$}.0", width = last + 1),
    }
}

/// The zeros between the point and the first digit of a number below 1.
fn zeros_before(exponent: i32) -> usize {
    usize::try_from(-1 - exponent).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The fewest digits that read back as the value, the nearest to it where there are several, and the power of ten of the first.
    /// Found from the exact decimal digits of the value.
    fn by_its_digits<F: LowerExp + FromStr + PartialEq + Copy>(value: F) -> (String, i32) {
        let exact = format!("{value:.800e}");
        let (digits, exponent) = exact.split_once('e').unwrap();
        let (digits, exponent) = (digits.replace('.', ""), exponent.parse::<i32>().unwrap());
        for len in 1..=17 {
            let (start, rest) = digits.split_at(len);
            let below: u64 = start.parse().unwrap();
            let reads_back = |digits: &u64| {
                let text = format!("{digits}e{}", exponent - i32::try_from(len).unwrap() + 1);
                text.parse().is_ok_and(|read: F| read == value)
            };
            let half = format!("{:0<width$}", "5", width = rest.len());
            let nearer_above = (rest, below % 2) > (half.as_str(), 0);
            let mut candidates = if nearer_above {
                [below + 1, below]
            } else {
                [below, below + 1]
            }
            .into_iter();
            if let Some(found) = candidates.find(reads_back) {
                let carried = i32::from(found == 10_u64.pow(u32::try_from(len).unwrap()));
                return (
                    found.to_string().trim_end_matches('0').to_owned(),
                    exponent + carried,
                );
            }
        }
        panic!("17 digits read back")
    }

    /// What the page says of a float that is above 0, said in another way: the digits are shifted within a row of zeros.
    fn by_the_page(digits: &str, exponent: i32) -> String {
        if !(-5..16).contains(&exponent) {
            let (first, rest) = digits.split_at(1);
            let point = if rest.is_empty() { "" } else { "." };
            let sign = if exponent < 0 { "-" } else { "+" };
            return format!("{first}{point}{rest}e{sign}{}", exponent.abs());
        }
        let row = format!("{}{digits}{}", "0".repeat(5), "0".repeat(17));
        let point = usize::try_from(5 + exponent + 1).unwrap();
        let (whole, fraction) = row.split_at(point);
        let whole = whole.trim_start_matches('0');
        let fraction = fraction.trim_end_matches('0');
        let or_zero = |part: &str| {
            if part.is_empty() {
                "0".to_owned()
            } else {
                part.to_owned()
            }
        };
        format!("{}.{}", or_zero(whole), or_zero(fraction))
    }

    fn follows_the_rule_64(value: f64) {
        let letters = text(&value).unwrap();
        let sign = if value.is_sign_negative() { "-" } else { "" };
        let expected = match value.abs() {
            0.0 => "0.0".to_owned(),
            value => {
                let (digits, exponent) = by_its_digits(value);
                by_the_page(&digits, exponent)
            }
        };
        assert_eq!(letters, format!("{sign}{expected}"));
        let read: f64 = serde_json::from_str(&letters).unwrap();
        assert_eq!(read.to_bits(), value.to_bits(), "{letters}");
    }

    fn around(value: f64) {
        let bits = value.to_bits().max(1);
        (bits - 1..=bits + 1).for_each(|bits| follows_the_rule_64(f64::from_bits(bits)));
    }

    fn follows_the_rule_32(value: f32) {
        if value > 0.0 {
            let (digits, exponent) = by_its_digits(value);
            assert_eq!(text(&value).unwrap(), by_the_page(&digits, exponent));
        }
    }

    proptest! {
        #[test]
        fn floats_of_any_bits_follow_the_rule(bits in any::<u64>()) {
            let value = f64::from_bits(bits);
            if value.is_finite() {
                follows_the_rule_64(value);
            } else {
                prop_assert_eq!(text(&value).unwrap(), "null");
            }
        }

        #[test]
        fn small_floats_of_any_bits_follow_the_rule(bits in any::<u32>()) {
            let value = f32::from_bits(bits);
            if value.is_finite() {
                follows_the_rule_32(value);
            }
        }

        #[test]
        fn floats_that_people_write_follow_the_rule(units in -10_000_000_000_i64..10_000_000_000, places in 0..12) {
            #[expect(clippy::cast_precision_loss, reason = "any float will do")]
            follows_the_rule_64(units as f64 / 10_f64.powi(places));
        }
    }

    /// At powers of two the floats below are nearer than those above; at powers of ten the form changes.
    #[test]
    fn floats_at_powers_follow_the_rule() {
        for power in -1074..1024 {
            around(2_f64.powi(power));
        }
        for power in -320..308 {
            around(format!("1e{power}").parse().unwrap());
        }
        follows_the_rule_64(-0.0);
    }

    #[test]
    fn all_else_is_written_as_serde_json_writes_it() {
        let value = serde_json::json!({
            "text": "\u{1}\"\\/ä\u{7f}", "list": [1, -2, true, null, {}, []], "a": {"y": [], "x": u64::MAX}
        });
        assert_eq!(text(&value).unwrap(), serde_json::to_string(&value).unwrap());
        let kept: Box<serde_json::value::RawValue> = serde_json::from_str("[1.10, 1E400]").unwrap();
        assert_eq!(text(&kept).unwrap(), "[1.10, 1E400]");
    }
}

//! Whole numbers of entries, which can also be read by a `serde_json` that keeps numbers as texts.
//!
//! Another crate of the same program may switch on `serde_json/arbitrary_precision`, which then holds for all of them. A number within an
//! internally tagged or flattened value then arrives as a map with one text, which serde does not accept as a whole number.

use serde::de::Error;
use serde::{Deserialize, Deserializer};
use serde_json::Number;

/// Reads a number that is not negative.
pub(crate) fn unsigned<'de, T, D>(from: D) -> Result<T, D::Error>
where
    T: TryFrom<u64>,
    D: Deserializer<'de>,
{
    let number = Number::deserialize(from)?;
    let whole = number.as_u64().and_then(|whole| T::try_from(whole).ok());
    whole.ok_or_else(|| out_of_range(&number))
}

/// Reads a whole number.
pub(crate) fn signed<'de, D>(from: D) -> Result<i64, D::Error>
where
    D: Deserializer<'de>,
{
    let number = Number::deserialize(from)?;
    number.as_i64().ok_or_else(|| out_of_range(&number))
}

fn out_of_range<E: Error>(number: &Number) -> E {
    E::custom(format_args!(
        "invalid number {number}: it is not whole or out of range"
    ))
}

//! How a message's fields are read, and how a wrong one is named.

use std::borrow::Cow;
use std::str::FromStr;
use tape_core::id::InvalidName;

/// A field of a message is missing, unknown or out of its bounds.
///
/// ```
/// use tape_core::id::RunId;
/// use tape_proto::v1;
/// let run = v1::RunId { tenant: "acme".into(), ..Default::default() };
/// let error = RunId::try_from(run).unwrap_err();
/// assert_eq!(error.to_string(), "app: is empty");
/// assert_eq!(error.within("run").path, "run.app");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct InvalidField {
    /// Its path from the request's message down, such as `drive.begin_effect.spec.connector`.
    pub path: String,
    /// What is wrong with it.
    pub problem: Cow<'static, str>,
}

impl InvalidField {
    /// A field and what is wrong with it.
    pub fn new(field: impl Into<String>, problem: impl Into<Cow<'static, str>>) -> Self {
        Self {
            path: field.into(),
            problem: problem.into(),
        }
    }

    /// A required field that is not there.
    #[must_use]
    pub fn missing(field: &str) -> Self {
        Self::new(field, "is missing")
    }

    /// The same field, seen from the message whose field `outer` holds it.
    #[must_use]
    pub fn within(self, outer: &str) -> Self {
        Self {
            path: format!("{outer}.{}", self.path),
            problem: self.problem,
        }
    }
}

/// A message that must be there.
pub(super) fn required<W, C>(field: &str, wire: Option<W>) -> Result<C, InvalidField>
where
    C: TryFrom<W, Error = InvalidField>,
{
    convert(field, wire.ok_or_else(|| InvalidField::missing(field))?)
}

/// A message that may be there.
pub(super) fn optional<W, C>(field: &str, wire: Option<W>) -> Result<Option<C>, InvalidField>
where
    C: TryFrom<W, Error = InvalidField>,
{
    wire.map(|wire| convert(field, wire)).transpose()
}

/// Messages of which there may be any number.
pub(super) fn repeated<W, C>(field: &str, wire: Vec<W>) -> Result<Vec<C>, InvalidField>
where
    C: TryFrom<W, Error = InvalidField>,
{
    wire.into_iter()
        .enumerate()
        .map(|(i, wire)| convert_at(field, i, wire))
        .collect()
}

/// A message that is there.
pub(super) fn convert<W, C>(field: &str, wire: W) -> Result<C, InvalidField>
where
    C: TryFrom<W, Error = InvalidField>,
{
    C::try_from(wire).map_err(|error| error.within(field))
}

fn convert_at<W, C>(field: &str, i: usize, wire: W) -> Result<C, InvalidField>
where
    C: TryFrom<W, Error = InvalidField>,
{
    C::try_from(wire).map_err(|error| error.within(&format!("{field}[{i}]")))
}

/// A name, or another text with a form.
pub(super) fn name<N>(field: &str, text: &str) -> Result<N, InvalidField>
where
    N: FromStr<Err = InvalidName>,
{
    text.parse()
        .map_err(|error: InvalidName| InvalidField::new(field, error.problem.to_string()))
}

/// A name that may be there.
pub(super) fn optional_name<N>(field: &str, text: Option<&String>) -> Result<Option<N>, InvalidField>
where
    N: FromStr<Err = InvalidName>,
{
    text.map(|text| name(field, text)).transpose()
}

/// A value of an enum.
pub(super) fn known<E, C>(field: &str, number: i32) -> Result<C, InvalidField>
where
    E: TryFrom<i32>,
    C: TryFrom<E, Error = InvalidField>,
{
    let value = E::try_from(number).map_err(|_| {
        InvalidField::new(
            field,
            format!("has the value {number}, which this build does not know"),
        )
    })?;
    C::try_from(value).map_err(|error| InvalidField {
        path: field.to_owned(),
        ..error
    })
}

/// The enum value zero, which stands for a field that was not set.
pub(super) fn unspecified() -> InvalidField {
    InvalidField::new("", "is not specified")
}

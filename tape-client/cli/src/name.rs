//! Names of runs, as people write them.

use crate::Failure;
use std::str::FromStr;
use tape_client::core::id::{StreamId, Tenant};
use tape_client::{Error, RunId};

/// A run, as `tenant/app/user/session/invocation`; in each part `%`, `/`, `.`, `*`, `>` and space are percent-encoded.
#[derive(Clone, Debug)]
pub(crate) struct RunPath(pub(crate) RunId);

impl FromStr for RunPath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = "a run is named tenant/app/user/session/invocation, such as acme/treasury/ann/s1/i1; \
                    in a part, write '/' as %2F, '.' as %2E, ' ' as %20";
        let (tenant, rest) = text.split_once('/').ok_or(form)?;
        let own = if rest.starts_with("run/") && rest.split('/').count() == 5 {
            ""
        } else {
            "run/"
        };
        match format!("{tenant}/{own}{rest}").parse() {
            Ok(StreamId::Run(run)) => Ok(Self(run)),
            Ok(_) => Err(form.to_owned()),
            Err(error) => Err(format!("{error} ({form})")),
        }
    }
}

/// The name of a run, in the form that commands take.
pub(crate) fn path(run: &RunId) -> String {
    run.to_string()
}

/// Reads a tenant: percent-encoded, as in the names of its runs, or as it is.
pub(crate) fn tenant(text: &str) -> Result<Tenant, String> {
    if text.contains('/') {
        return Err("a tenant is one name; in it, write '/' as %2F".to_owned());
    }
    match format!("{text}/run/a/u/s/i").parse() {
        Ok(StreamId::Run(run)) => Ok(run.tenant),
        _ => Tenant::new(text).map_err(|error| error.to_string()),
    }
}

/// Refuses a tenant beside a stream of another.
pub(crate) fn of_tenant(
    tenant: Option<&Tenant>,
    named: impl IntoIterator<Item = StreamId>,
) -> Result<(), Failure> {
    let Some(tenant) = tenant else { return Ok(()) };
    let other = named.into_iter().find(|stream| stream.tenant() != tenant);
    other.map_or(Ok(()), |stream| {
        let name = stream.as_run().map_or_else(|| stream.to_string(), path);
        Err(misused(format!("is '{tenant}', and {name} is of another")))
    })
}

/// The failure for a tenant that contradicts another argument.
pub(crate) const fn misused(problem: String) -> Failure {
    Failure::Misused(Error::Invalid {
        what: "tenant",
        problem,
    })
}

#[cfg(test)]
mod tests {
    use super::tenant;

    #[test]
    fn a_tenant_is_one_name() {
        for (text, name) in [
            ("acme", "acme"),
            ("a%2Fb", "a/b"),
            ("acme.com", "acme.com"),
            ("50%", "50%"),
        ] {
            assert_eq!(tenant(text).unwrap().as_str(), name);
        }
        for text in ["", "bad/ten", "acme/treasury/ann/s1/i1"] {
            tenant(text).unwrap_err();
        }
    }
}

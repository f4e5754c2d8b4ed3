//! Names of runs, as people write them.

use std::str::FromStr;
use tape_client::RunId;
use tape_client::core::id::{StreamId, Tenant};

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
    StreamId::Run(run.clone()).to_string().replacen("/run/", "/", 1)
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

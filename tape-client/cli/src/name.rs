//! Names of runs, as people write them.

use std::str::FromStr;
use tape_client::RunId;
use tape_client::core::id::StreamId;

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

/// The name of a run, as it is to be written.
pub(crate) fn path(run: &RunId) -> String {
    StreamId::Run(run.clone()).to_string().replacen("/run/", "/", 1)
}

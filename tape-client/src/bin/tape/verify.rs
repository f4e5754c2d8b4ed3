//! `tape verify`.

use crate::name::{RunPath, path};
use crate::{Context, Failure};
use clap::Args;
use futures::StreamExt as _;
use serde_json::json;
use std::process::ExitCode;
use tape_client::core::chain::Verifier;
use tape_client::core::id::{Seq, Tenant};
use tape_client::core::payload::Digest;
use tape_client::core::reply::Rejection;
use tape_client::{Error, RunId, RunQuery};

/// Most runs of a page.
const PAGE: u32 = 500;

/// Verifies the chains of runs, and prints their heads for publishing. Exits with 1 where a chain is broken.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The run; without it, all runs of a tenant.
    #[arg(required_unless_present = "tenant")]
    run: Option<RunPath>,
    /// Whose runs.
    #[arg(long, env = "TAPE_TENANT")]
    tenant: Option<Tenant>,
    /// A head that was published earlier: the journal must still have it.
    #[arg(long, value_name = "SEQ:DIGEST", value_parser = head, requires = "run")]
    head: Option<(Seq, Digest)>,
}

fn head(text: &str) -> Result<(Seq, Digest), String> {
    let form = || "a head is SEQ:DIGEST, as `tape verify` prints it".to_owned();
    let (seq, digest) = text.split_once(':').ok_or_else(form)?;
    Ok((
        Seq(seq.parse().map_err(|_| form())?),
        digest.parse().map_err(|_| form())?,
    ))
}

impl Verify {
    pub(crate) async fn run(self, context: &mut Context<'_>) -> Result<ExitCode, Failure> {
        let mut whole = true;
        match (&self.run, self.tenant) {
            (Some(RunPath(run)), _) => whole = verify(context, run, self.head).await?,
            (None, Some(tenant)) => {
                let (query, mut page) = (RunQuery::all(tenant), None);
                loop {
                    let runs = context.tape.runs(&query, page, PAGE).await?;
                    for (run, _) in runs.runs {
                        whole &= verify(context, &run, None).await?;
                    }
                    page = runs.next;
                    if page.is_none() {
                        break;
                    }
                }
            }
            (None, None) => {}
        }
        Ok(if whole {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

/// Verifies one run and says how it went; whether its chain is whole.
async fn verify(
    context: &mut Context<'_>,
    run: &RunId,
    published: Option<(Seq, Digest)>,
) -> Result<bool, Failure> {
    let name = path(run);
    let (line, text) = match check(context, run, published).await? {
        Ok((seq, digest)) => {
            let head = format!("{seq}:{digest}");
            (
                json!({"run": name, "ok": true, "head": head}),
                format!("ok      {name}  head {head}"),
            )
        }
        Err(broken) => (
            json!({"run": name, "ok": false, "broken": broken}),
            format!("BROKEN  {name}  {broken}"),
        ),
    };
    let whole = line["ok"] == true;
    writeln!(
        context.out,
        "{}",
        if context.json { line.to_string() } else { text }
    )?;
    Ok(whole)
}

async fn check(
    context: &Context<'_>,
    run: &RunId,
    published: Option<(Seq, Digest)>,
) -> Result<Result<(Seq, Digest), String>, Failure> {
    let mut verifier = Verifier::new(published);
    let mut pages = context.tape.journal(run);
    let mut empty = true;
    while let Some(page) = pages.next().await {
        for stored in page? {
            empty = false;
            if let Err(broken) = verifier.check(&stored) {
                return Ok(Err(broken.to_string()));
            }
        }
    }
    if empty && published.is_none() {
        return Err(Error::Rejected(Box::new(Rejection::NotFound { what: "run" })).into());
    }
    Ok(verifier.finish().map_err(|broken| broken.to_string()))
}

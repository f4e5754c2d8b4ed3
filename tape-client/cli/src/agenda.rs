//! `tape agenda`.

use crate::text::counted;
use crate::{Context, Failure};
use clap::{Args, Subcommand};
use serde_json::json;
use std::process::ExitCode;

/// Compares the indexes of due work and of runs with what the streams imply, of all tenants.
///
/// The journal may be in use meanwhile. A stream that is written to throughout is skipped and reported as busy.
#[derive(Debug, Args)]
pub(crate) struct Agenda {
    #[command(subcommand)]
    pub(crate) what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Subcommand)]
pub(crate) enum What {
    /// Prints the differences. Exits with 1 if there are any.
    Check,
    /// Corrects the differences. Exits with 1 if one cannot be corrected.
    Rebuild,
}

/// What was found so far.
#[derive(Default)]
struct Count {
    looked_at: u64,
    findings: u64,
    corrected: u64,
    busy: u64,
}

impl Agenda {
    pub(crate) async fn run(self, context: &mut Context<'_>) -> Result<ExitCode, Failure> {
        if self.what == What::Rebuild {
            let what = "writes the indexes of due work and of runs anew where they are not what the streams imply, of all tenants";
            context.consent.ask(what)?;
        }
        let (mut count, mut page) = (Count::default(), None);
        loop {
            let found = context.tape.check_index(page, self.what == What::Rebuild).await?;
            count.looked_at += found.looked_at;
            for finding in found.findings {
                count.findings += 1;
                count.corrected += u64::from(finding.corrected);
                count.busy += u64::from(finding.kind == "busy");
                let line = json!({
                    "stream": finding.stream,
                    "kind": finding.kind,
                    "problem": finding.problem,
                    "corrected": finding.corrected,
                });
                let word = if finding.corrected {
                    "PUT RIGHT"
                } else {
                    "OTHERWISE"
                };
                let text = format!("{word}  {}  {}", finding.stream, finding.problem);
                context.say(&line, &text)?;
            }
            page = found.next;
            if page.is_none() {
                break;
            }
        }
        count.say(context)?;
        Ok(if count.findings == count.corrected + count.busy {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

impl Count {
    fn say(&self, context: &mut Context<'_>) -> Result<(), Failure> {
        let Self {
            looked_at,
            findings,
            corrected,
            busy,
        } = *self;
        let line =
            json!({"looked_at": looked_at, "findings": findings, "corrected": corrected, "busy": busy});
        let looked_at = counted(
            looked_at,
            "stream or piece of due work",
            "streams and pieces of due work",
        );
        let text = format!("{looked_at} looked at, {findings} otherwise, {corrected} put right, {busy} busy");
        context.say(&line, &text)
    }
}

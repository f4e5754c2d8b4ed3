//! `tape tail`.

use crate::story::Line;
use crate::text::time;
use crate::{Context, Failure};
use clap::Args;
use futures::StreamExt as _;
use std::process::ExitCode;
use tape_client::Error;
use tape_client::core::codec::decode;
use tape_client::core::subject::Pattern;

/// Follows the feed of all that is written.
#[derive(Debug, Args)]
pub(crate) struct Tail {
    /// Which subjects, such as `acme.run.treasury.>` or `*.run.*.*.*.*.effect.*`: `*` is one token, a last `>` the rest.
    #[arg(default_value = ">")]
    pattern: Pattern,
    /// Begins with the first entry there is, not with the next to come.
    #[arg(long)]
    from_start: bool,
    /// Stops at the end instead of waiting for more.
    #[arg(long)]
    once: bool,
}

impl Tail {
    pub(crate) async fn run(self, context: &mut Context<'_>) -> Result<ExitCode, Failure> {
        let Self {
            pattern,
            from_start,
            once,
        } = self;
        let mut pages = context.tape.tail(&tape_client::Tail {
            pattern,
            from_start,
            follow: !once,
        });
        while let Some(page) = pages.next().await {
            for (stream, stored) in page? {
                let entry = decode(&stored).map_err(|error| Error::Damaged { source: error.into() })?;
                let line = Line::of(&stream, &entry);
                if context.json {
                    writeln!(context.out, "{}", line.json(&stream, &entry))?;
                } else {
                    writeln!(
                        context.out,
                        "{}  {stream}  {}  {}",
                        time(entry.at),
                        entry.seq,
                        line.text()
                    )?;
                }
            }
            context.out.flush()?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

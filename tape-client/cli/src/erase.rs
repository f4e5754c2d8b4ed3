//! `tape erase`.

use crate::act::say;
use crate::name::RunPath;
use crate::text::counted;
use crate::{Context, Failure};
use clap::{Args, ValueEnum};
use std::process::ExitCode;
use tape_client::core::id::{Seq, StreamId};

/// Erases the payloads of entries; the chain stays whole. They cannot be restored.
///
/// Payloads are the texts of agents, people, models and upstreams: arguments, answers, reasons, errors, labels, state. Repetitions of an
/// entry's payload elsewhere are erased too, such as shared state that a session's event changed. Names and digests stay. A new entry
/// records by whom, when and why they were erased. Backups and copies of the store keep the bytes, and so do readers of the feed that
/// stored them.
#[derive(Debug, Args)]
pub(crate) struct Erase {
    /// The run; with `--kind`, the session, value or shared state.
    of: String,
    /// The entries, as `tape show` numbers them.
    #[arg(required = true, value_name = "ENTRY")]
    entries: Vec<u64>,
    /// The kind of stream that has the entries.
    #[arg(long, default_value = "run")]
    kind: Kind,
    /// Why, for the record.
    #[arg(long)]
    reason: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    Run,
    Session,
    Value,
    Shared,
}

impl Erase {
    pub(crate) async fn run(self, context: &mut Context<'_>) -> Result<ExitCode, Failure> {
        let stream = self.stream()?;
        let entries: Vec<String> = self.entries.iter().map(u64::to_string).collect();
        let which = counted(self.entries.len() as u64, "entry", "entries");
        let what = format!(
            "erases for good the payloads of {which} of {stream} ({}), with every copy that the journal keeps",
            entries.join(", ")
        );
        context.consent.ask(&what)?;
        let entries = self.entries.iter().copied().map(Seq).collect();
        let recorded = context.tape.erase(&stream, entries, &self.reason).await?;
        say(context, recorded.0, "records what was erased")
    }

    fn stream(&self) -> Result<StreamId, Failure> {
        let word = match self.kind {
            Kind::Run => {
                return Ok(StreamId::Run(
                    self.of.parse::<RunPath>().map_err(Failure::Named)?.0,
                ));
            }
            Kind::Session => "session",
            Kind::Value => "value",
            Kind::Shared => "shared",
        };
        let path = self.of.replacen('/', &format!("/{word}/"), 1);
        let named: Result<StreamId, _> = path.parse();
        named.map_err(|error| Failure::Named(error.to_string()))
    }
}

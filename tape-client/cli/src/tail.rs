//! `tape tail`.

use crate::story::{JsonEntry, Line};
use crate::text::{plain, time, with_causes};
use crate::{Context, Failure};
use clap::Args;
use futures::StreamExt as _;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tape_client::core::codec::decode;
use tape_client::core::subject::Pattern;
use tape_client::{DamagedEntry, Error};

/// How long a journal may be out of reach from the beginning, or where the end is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Follows the feed of all that is written. Where the connection is lost, it is made again, and nothing is missed.
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
        let mut outage = Outage::new(once);
        while let Some(page) = pages.next().await {
            let Some(page) = outage.note(page)? else { continue };
            page.damaged.iter().for_each(tell_damage);
            for (stream, stored) in page.entries {
                let entry = match decode(&stored) {
                    Ok(entry) => entry,
                    Err(error) => {
                        let problem = with_causes(&error);
                        tell_damage(&DamagedEntry {
                            stream: Some(stream),
                            problem,
                        });
                        continue;
                    }
                };
                if context.json {
                    context.value(&JsonEntry::of(&stream, &entry))?;
                } else {
                    let (at, seq, line) = (time(entry.at), entry.seq, Line::of(&stream, &entry).text());
                    context.line(&format!("{at}  {stream}  {seq}  {line}"))?;
                }
            }
            context.out.flush()?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Whether the journal can be reached; whoever watches is told when that changes.
struct Outage {
    once: bool,
    /// Whether the journal has ever been reached.
    reached: bool,
    since: Option<Instant>,
}

impl Outage {
    const fn new(once: bool) -> Self {
        Self {
            once,
            reached: false,
            since: None,
        }
    }

    /// The page, or none where the journal is out of reach for now.
    fn note<T>(&mut self, page: Result<T, Error>) -> Result<Option<T>, Error> {
        match page {
            Ok(page) => {
                if self.since.take().is_some() {
                    tell("the journal is back");
                }
                self.reached = true;
                Ok(Some(page))
            }
            Err(Error::Unavailable { source }) => self.lost(source).map(|()| None),
            Err(error) => Err(error),
        }
    }

    fn lost(&mut self, source: tape_client::Source) -> Result<(), Error> {
        if self.since.is_none() {
            let cause = with_causes(source.as_ref());
            tell(&format!("the journal is out of reach, trying again: {cause}"));
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        let bounded = self.once || !self.reached;
        if bounded && since.elapsed() >= PATIENCE {
            return Err(Error::Unavailable { source });
        }
        Ok(())
    }
}

/// The feed goes on after an entry that cannot be read; a person must look at it.
fn tell_damage(damaged: &DamagedEntry) {
    let stream = damaged
        .stream
        .as_ref()
        .map_or_else(|| "a stream".to_owned(), ToString::to_string);
    tell(&format!(
        "an entry of {stream} cannot be read: {}",
        damaged.problem
    ));
}

fn tell(what: &str) {
    // Where nobody can read it, the feed still goes on.
    let _ = writeln!(std::io::stderr(), "tape: {}", plain(what));
}

//! `tape tail`.

use crate::text::{plain, time};
use crate::timeline::{JsonEntry, Line};
use crate::{Context, DAMAGED, Failure};
use clap::Args;
use futures::StreamExt as _;
use serde_json::json;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tape_client::core::causes::Causes;
use tape_client::core::codec::{StoredEntry, decode};
use tape_client::core::id::{Seq, StreamId};
use tape_client::core::outage::Outage;
use tape_client::core::subject::Pattern;
use tape_client::{DamagedEntry, Error};

/// How often an outage of the journal is reported.
const AGAIN: Duration = Duration::from_secs(60);

/// How long the journal may be out of reach at the start, or with `--once`.
const RETRY_FOR: Duration = Duration::from_secs(5);

/// Follows the feed of all entries. A lost connection is made again, and no entry is missed.
///
/// An entry that cannot be read is reported on standard error, and with --json also in a line of its own. The feed continues, and the
/// command exits with 4 in the end.
#[derive(Debug, Args)]
pub(crate) struct Tail {
    /// Which subjects, such as `acme.run.treasury.>` or `*.run.*.*.*.*.effect.*`: `*` matches one token, a final `>` the rest.
    #[arg(default_value = ">")]
    pattern: Pattern,
    /// Begins with the first existing entry, not with the next new one.
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
            from_start,
            follow: !once,
            ..tape_client::Tail::new(pattern)
        });
        let (mut reach, mut told) = (Reach::new(once), Told::default());
        while let Some(page) = pages.next().await {
            let Some(page) = reach.note(page)? else { continue };
            for damaged in &page.damaged {
                told.damage(context, damaged, None)?;
            }
            for (stream, stored) in page.entries {
                told.entry(context, stream, &stored)?;
            }
            context.print.out.flush()?;
        }
        if told.entries + told.damaged == 0 {
            context.note("no entries")?;
        }
        Ok(if told.damaged == 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(DAMAGED)
        })
    }
}

/// What was printed so far.
#[derive(Default)]
struct Told {
    entries: u64,
    damaged: u64,
}

impl Told {
    fn entry(
        &mut self,
        context: &mut Context<'_>,
        stream: StreamId,
        stored: &StoredEntry,
    ) -> Result<(), Failure> {
        let entry = match decode(stored) {
            Ok(entry) => entry,
            Err(error) => {
                let problem = Causes(&error).to_string();
                let stream = Some(stream);
                return self.damage(context, &DamagedEntry { stream, problem }, Some(stored.seq));
            }
        };
        self.entries += 1;
        if context.print.json {
            return context.value(&JsonEntry::of(&stream, &entry));
        }
        let (at, seq, line) = (time(entry.at), entry.seq, Line::of(&stream, &entry).text());
        context.line(&format!("{at}  {stream}  {seq}  {line}"))
    }

    /// Reports an entry that cannot be read, so that a person looks at it. The feed continues.
    fn damage(
        &mut self,
        context: &mut Context<'_>,
        damaged: &DamagedEntry,
        seq: Option<Seq>,
    ) -> Result<(), Failure> {
        self.damaged += 1;
        let (stream, problem) = (damaged.stream.as_ref().map(ToString::to_string), &damaged.problem);
        if context.print.json {
            context.value(&json!({"damaged": problem, "stream": stream, "seq": seq}))?;
        }
        let stream = stream.unwrap_or_else(|| "a stream".to_owned());
        tell(&format!("an entry of {stream} cannot be read: {problem}"));
        Ok(())
    }
}

/// Whether the journal can be reached. Changes are reported on standard error.
struct Reach {
    once: bool,
    /// Whether the journal has ever been reached.
    reached: bool,
    since: Option<Instant>,
    outage: Outage,
}

impl Reach {
    const fn new(once: bool) -> Self {
        Self {
            once,
            reached: false,
            since: None,
            outage: Outage::new(AGAIN),
        }
    }

    /// The page, or none where the journal is out of reach for now.
    fn note<T>(&mut self, page: Result<T, Error>) -> Result<Option<T>, Error> {
        match page {
            Ok(page) => {
                if let Some(spell) = self.outage.back(Instant::now()) {
                    tell(&format!("the journal is back, {spell}"));
                }
                (self.reached, self.since) = (true, None);
                Ok(Some(page))
            }
            Err(Error::Unavailable { source }) => self.lost(source).map(|()| None),
            Err(error) => Err(error),
        }
    }

    fn lost(&mut self, source: tape_client::Source) -> Result<(), Error> {
        let (now, cause) = (Instant::now(), Causes(source.as_ref()).to_string());
        if let Some(spell) = self.outage.lost(now, &cause) {
            tell(&format!(
                "the journal is out of reach, trying again: {cause} ({spell})"
            ));
        }
        let since = *self.since.get_or_insert(now);
        let bounded = self.once || !self.reached;
        if bounded && now - since >= RETRY_FOR {
            return Err(Error::Unavailable { source });
        }
        Ok(())
    }
}

fn tell(what: &str) {
    // If standard error is closed, the feed still continues.
    let _ = writeln!(std::io::stderr(), "tape: {}", plain(what));
}

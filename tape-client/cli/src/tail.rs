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

/// While the journal is out of reach, that is said this often.
const AGAIN: Duration = Duration::from_secs(60);

/// How long a journal may be out of reach from the beginning, or where the end is waited for.
const RETRY_FOR: Duration = Duration::from_secs(5);

/// Follows the feed of all that is written. Where the connection is lost, it is made again, and nothing is missed.
///
/// An entry that cannot be read is told on standard error, and with --json in a line of its own too; the feed goes on, and the command ends
/// with 4.
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
        let (mut reach, mut told) = (Reach::new(once), Told::default());
        while let Some(page) = pages.next().await {
            let Some(page) = reach.note(page)? else { continue };
            for damaged in &page.damaged {
                told.damage(context, damaged, None)?;
            }
            for (stream, stored) in page.entries {
                told.entry(context, stream, &stored)?;
            }
            context.out.flush()?;
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

/// What was told so far.
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
        if context.json {
            return context.value(&JsonEntry::of(&stream, &entry));
        }
        let (at, seq, line) = (time(entry.at), entry.seq, Line::of(&stream, &entry).text());
        context.line(&format!("{at}  {stream}  {seq}  {line}"))
    }

    /// The feed goes on after an entry that cannot be read; a person must look at it.
    fn damage(
        &mut self,
        context: &mut Context<'_>,
        damaged: &DamagedEntry,
        seq: Option<Seq>,
    ) -> Result<(), Failure> {
        self.damaged += 1;
        let (stream, problem) = (damaged.stream.as_ref().map(ToString::to_string), &damaged.problem);
        if context.json {
            context.value(&json!({"damaged": problem, "stream": stream, "seq": seq}))?;
        }
        let stream = stream.unwrap_or_else(|| "a stream".to_owned());
        tell(&format!("an entry of {stream} cannot be read: {problem}"));
        Ok(())
    }
}

/// Whether the journal can be reached; whoever watches is told when that changes.
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
    // Where nobody can read it, the feed still goes on.
    let _ = writeln!(std::io::stderr(), "tape: {}", plain(what));
}

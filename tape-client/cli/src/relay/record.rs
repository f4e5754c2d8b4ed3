//! `tape relay refused`, `receipts` and `receipt`: what relays have on record.

use super::stream;
use crate::act::say;
use crate::name::tenant;
use crate::text::{counted, time};
use crate::{Context, Failure};
use clap::Args;
use futures::TryStreamExt as _;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use tape_client::core::codec::{StoredEntry, decode};
use tape_client::core::entry::relay::{Receipt as Confirmed, RecordedErasure, Refused as Refusal};
use tape_client::core::entry::{Entry, EntryBody};
use tape_client::core::id::{Principal, RelayId, RelayStream, Seq, StreamId, SubscriberName, Tenant};
use tape_client::core::time::Timestamp;
use tape_client::{Error, Tail};

/// Which record.
#[derive(Debug, Args)]
struct Which {
    /// The relay.
    relay: RelayId,
    /// The tenant; a relay of all tenants has a record in each.
    #[arg(long, value_parser = tenant)]
    tenant: Option<Tenant>,
}

impl Which {
    fn stream(&self) -> Result<RelayStream, Failure> {
        stream(&self.relay, self.tenant.as_ref())
    }
}

/// Lists the entries that a relay's sink refused for good and that were not sent again since, oldest first: its dead letters.
#[derive(Debug, Args)]
pub(super) struct Refused {
    #[command(flatten)]
    which: Which,
}

impl Refused {
    pub(super) async fn run(self, context: &mut Context<'_>) -> Result<ExitCode, Failure> {
        let mut open: BTreeMap<Seq, (Timestamp, Refusal)> = BTreeMap::new();
        for entry in entries(context, &self.which.stream()?).await? {
            match entry.body {
                EntryBody::RelayRefused(refused) => drop(open.insert(entry.seq, (entry.at, refused))),
                EntryBody::RelayRedelivered(again) => drop(open.remove(&again.refusal)),
                _ => {}
            }
        }
        for (seq, (at, refused)) in &open {
            let Refusal {
                entry,
                attempts,
                reason,
            } = refused;
            let value = json!({
                "refusal": seq,
                "at": time(*at),
                "stream": entry.stream.to_string(),
                "seq": entry.seq,
                "attempts": attempts,
                "reason": reason,
            });
            let (at, stream, of) = (time(*at), &entry.stream, entry.seq);
            let text = format!("{seq}  {at}  {stream} entry {of}  after {attempts} attempts: {reason}");
            context.say(&value, &text)?;
        }
        crate::list::end(context, open.len(), None)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Lists which subscriber of a relay confirmed which erasure, and which erasures of the tenant lack whose receipt. Exits with 1 if one lacks, or if an
/// entry of the feed cannot be read.
///
/// The subscribers are those that ever confirmed an erasure. The erasures are those that the feed of the tenant still has: it is read from its
/// beginning. Erasures in the streams of relays themselves are not sent to subscribers.
#[derive(Debug, Args)]
pub(super) struct Receipts {
    #[command(flatten)]
    which: Which,
}

/// An erasure: when, and who confirmed it.
#[derive(Default)]
struct Erasure {
    /// None where the feed does not have it any more.
    at: Option<Timestamp>,
    receipts: BTreeMap<SubscriberName, (Seq, Timestamp, Option<Principal>)>,
}

impl Receipts {
    pub(super) async fn run(self, context: &mut Context<'_>) -> Result<ExitCode, Failure> {
        let stream = self.which.stream()?;
        let Erasures {
            mut erasures,
            unreadable,
        } = Erasures::of(context, &stream.tenant).await?;
        let mut subscribers = BTreeSet::new();
        for entry in entries(context, &stream).await? {
            let EntryBody::RelayReceipt(Confirmed { subscriber, erasure }) = entry.body else {
                continue;
            };
            subscribers.insert(subscriber.clone());
            let erasure = erasures.entry((erasure.stream, erasure.seq)).or_default();
            let receipt = (entry.seq, entry.at, entry.principal);
            erasure.receipts.entry(subscriber).or_insert(receipt);
        }
        let (mut listed, mut lacking) = (0, 0);
        for ((stream, seq), erasure) in &erasures {
            for (subscriber, (receipt, at, by)) in &erasure.receipts {
                let at = time(*at);
                let value = json!({
                    "stream": stream.to_string(),
                    "seq": seq,
                    "subscriber": subscriber.as_str(),
                    "receipt": receipt,
                    "at": at,
                    "by": by.as_ref().map(Principal::as_str),
                });
                let by = by.as_ref().map(|by| format!(", by {by}")).unwrap_or_default();
                let text =
                    format!("{stream} entry {seq}  {subscriber} confirmed it {at} (entry {receipt}{by})");
                context.say(&value, &text)?;
                listed += 1;
            }
            let missing = subscribers
                .iter()
                .filter(|name| !erasure.receipts.contains_key(*name));
            for subscriber in missing {
                lack(context, (stream, *seq), erasure.at, Some(subscriber))?;
                lacking += 1;
            }
            if subscribers.is_empty() {
                lack(context, (stream, *seq), erasure.at, None)?;
                lacking += 1;
            }
        }
        let cut = (unreadable > 0).then(|| {
            let entries = counted(unreadable, "entry", "entries");
            format!("{entries} of the feed cannot be read: there may be more erasures")
        });
        crate::list::end(context, listed + lacking, cut.as_deref())?;
        Ok(if lacking == 0 && unreadable == 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

/// Tells of an erasure that a subscriber has not confirmed; of one that no subscriber has where there is none.
fn lack(
    context: &mut Context<'_>,
    (stream, seq): (&StreamId, Seq),
    at: Option<Timestamp>,
    subscriber: Option<&SubscriberName>,
) -> Result<(), Failure> {
    let at = at.map(time);
    let value = json!({
        "stream": stream.to_string(),
        "seq": seq,
        "subscriber": subscriber.map(SubscriberName::as_str),
        "receipt": null,
        "erased": at,
    });
    let who = subscriber.map_or("no subscriber", SubscriberName::as_str);
    let verb = if subscriber.is_some() {
        "has not confirmed"
    } else {
        "has confirmed"
    };
    let since = at.map(|at| format!(", erased {at}")).unwrap_or_default();
    context.say(
        &value,
        &format!("{stream} entry {seq}  LACKING: {who} {verb} it{since}"),
    )
}

/// Records that a subscriber of a relay erased what an entry of the journal says was erased. `tape relay receipts` lists the erasures.
#[derive(Debug, Args)]
pub(super) struct Receipt {
    /// The relay.
    relay: RelayId,
    /// The subscriber: the system that received the entries.
    #[arg(long, value_name = "NAME")]
    subscriber: SubscriberName,
    /// The stream whose payloads were erased, such as acme/run/treasury/ann/s1/i1.
    #[arg(long)]
    stream: StreamId,
    /// The entry of that stream that records the erasure.
    #[arg(long, value_name = "ENTRY")]
    seq: u64,
}

impl Receipt {
    pub(super) async fn run(self, context: &mut Context<'_>) -> Result<ExitCode, Failure> {
        let record = stream(&self.relay, Some(self.stream.tenant()))?;
        let erasure = RecordedErasure {
            stream: self.stream,
            seq: Seq(self.seq),
        };
        let seq = context
            .tape
            .record_receipt(&record, self.subscriber, erasure)
            .await?;
        say(context, seq.0, "records the receipt")
    }
}

/// What a relay has on record in a tenant.
async fn entries(context: &Context<'_>, stream: &RelayStream) -> Result<Vec<Entry>, Failure> {
    let stream = StreamId::Relay(stream.clone());
    let mut pages = context.tape.stream_entries(&stream);
    let mut entries = Vec::new();
    while let Some(page) = pages.try_next().await? {
        for stored in page {
            let entry = decode(&stored).map_err(|error| Error::Damaged {
                source: Box::new(error),
            })?;
            entries.push(entry);
        }
    }
    Ok(entries)
}

/// The erasures that the feed of a tenant has, but for those in the streams of relays.
#[derive(Default)]
struct Erasures {
    erasures: BTreeMap<(StreamId, Seq), Erasure>,
    /// How many entries cannot be read, which may be erasures.
    unreadable: u64,
}

impl Erasures {
    async fn of(context: &Context<'_>, tenant: &Tenant) -> Result<Self, Failure> {
        let tail = Tail {
            tenant: Some(tenant.clone()),
            from_start: true,
            follow: false,
            ..Tail::new(">".parse().map_err(Error::from)?)
        };
        let (mut found, mut pages) = (Self::default(), context.tape.tail(&tail));
        while let Some(page) = pages.try_next().await? {
            found.unreadable += page.damaged.len() as u64;
            let streams = page.entries.into_iter();
            for (stream, stored) in streams.filter(|(stream, _)| !matches!(stream, StreamId::Relay(_))) {
                found.look(stream, &stored);
            }
        }
        Ok(found)
    }

    fn look(&mut self, stream: StreamId, stored: &StoredEntry) {
        let Ok(entry) = decode(stored) else {
            self.unreadable += 1;
            return;
        };
        if matches!(entry.body, EntryBody::PayloadErased(_)) {
            let erasure = self.erasures.entry((stream, entry.seq)).or_default();
            erasure.at = Some(entry.at);
        }
    }
}

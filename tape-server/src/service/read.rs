//! Reads a stream from a place on.

use super::{Context, Held, MESSAGE_BYTES, Sink, Stop};
use std::sync::Arc;
use tape_core::codec::StoredEntry;
use tape_core::id::{Seq, StreamId};
use tape_core::limits::PAGE_ENTRIES_MAX;
use tape_core::reply::{Missing, Rejection};
use tape_engine::page_to_end;
use tape_proto::convert::InvalidField;
use tape_proto::failure::Failure;
use tape_proto::v1;

/// The request of a reader.
pub(super) struct Request {
    stream: StreamId,
    /// What does not exist where the stream does not.
    missing: Missing,
    after: Seq,
    follow: bool,
    limit: u64,
}

impl TryFrom<v1::ReadRunRequest> for Request {
    type Error = InvalidField;
    fn try_from(wire: v1::ReadRunRequest) -> Result<Self, InvalidField> {
        Ok(Self {
            stream: StreamId::Run(named("run", wire.run)?),
            missing: Missing::Run,
            after: Seq(wire.after_seq),
            follow: wire.follow,
            limit: limit(wire.limit),
        })
    }
}

impl TryFrom<v1::ReadSessionRequest> for Request {
    type Error = InvalidField;
    fn try_from(wire: v1::ReadSessionRequest) -> Result<Self, InvalidField> {
        Ok(Self {
            stream: StreamId::Session(named("session", wire.session)?),
            missing: Missing::Session,
            after: Seq(wire.after_seq),
            follow: wire.follow,
            limit: limit(wire.limit),
        })
    }
}

/// A part of a request that must be there.
pub(super) fn named<W, T>(field: &str, wire: Option<W>) -> Result<T, InvalidField>
where
    T: TryFrom<W, Error = InvalidField>,
{
    let wire = wire.ok_or_else(|| InvalidField::missing(field))?;
    T::try_from(wire).map_err(|error| error.within(field))
}

const fn limit(wire: u64) -> u64 {
    if wire == 0 { u64::MAX } else { wire }
}

/// A message with entries of one stream.
pub(super) trait OfEntries: prost::Message {
    fn of(entries: Vec<v1::Entry>) -> Self;
}

macro_rules! of_entries {
    ($($message:ident),+) => {$(
        impl OfEntries for v1::$message {
            fn of(entries: Vec<v1::Entry>) -> Self {
                Self { entries }
            }
        }
    )+};
}

of_entries!(ReadRunResponse, ReadSessionResponse, ReadStreamResponse);

/// Sends entries to the end, or without end.
pub(super) async fn serve<M: OfEntries>(
    context: Context,
    mut request: Request,
    sink: Arc<Sink<M>>,
) -> Result<(), Stop> {
    let store = context.store();
    if store.head(&request.stream).await?.is_none() {
        // Entries without a head are damage, not a missing stream.
        page_to_end(store.as_ref(), &request.stream, Seq::ZERO, 1).await?;
        return Err(Failure::from(Rejection::not_found(request.missing)).into());
    }
    let mut subscription = None;
    loop {
        let mut held = sink.page().await;
        let (stream, after, limit) = (&request.stream, request.after, page_size(request.limit));
        let page = if request.follow {
            store.read(stream, after, limit).await?
        } else {
            page_to_end(store.as_ref(), stream, after, limit).await?
        };
        if let Some(last) = page.last() {
            request.after = last.seq;
            request.limit -= page.len() as u64;
            send(&sink, &mut held, page).await?;
        } else if !request.follow {
            return Ok(());
        } else {
            drop(held);
            match &mut subscription {
                // Entries that came before the subscription are read once more.
                None => subscription = Some(context.0.feed.watch(&request.stream).await),
                Some(subscription) => subscription.changed().await,
            }
        }
        if request.limit == 0 {
            return Ok(());
        }
    }
}

fn page_size(limit: u64) -> u32 {
    u32::try_from(limit).unwrap_or(u32::MAX).min(PAGE_ENTRIES_MAX)
}

pub(super) async fn send<M: OfEntries>(
    sink: &Sink<M>,
    held: &mut Held,
    page: Vec<StoredEntry>,
) -> Result<(), Stop> {
    held.shrink_to(page.iter().map(StoredEntry::size).sum());
    for entries in chunks(page, StoredEntry::size) {
        let last = entries.last().map_or(Seq::ZERO, |entry| entry.seq);
        let entries = entries.into_iter().map(Into::into).collect();
        sink.send_of(held, M::of(entries), format!("entry {last}"))
            .await?;
    }
    Ok(())
}

/// Cuts a page into messages of about [`MESSAGE_BYTES`].
pub(super) fn chunks<T>(page: Vec<T>, size: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let mut chunks: Vec<Vec<T>> = Vec::new();
    let mut room = 0;
    for entry in page {
        let bytes = size(&entry);
        match chunks.last_mut() {
            Some(chunk) if bytes <= room => chunk.push(entry),
            _ => {
                chunks.push(vec![entry]);
                room = MESSAGE_BYTES;
            }
        }
        room = room.saturating_sub(bytes);
    }
    chunks
}

#[cfg(test)]
mod tests {
    use super::{MESSAGE_BYTES, chunks};

    #[test]
    fn messages_are_cut_by_size_and_lose_nothing() {
        let half = MESSAGE_BYTES / 2;
        let page = vec![half, half, 1, 3 * MESSAGE_BYTES, 1, 1];
        let cut = chunks(page.clone(), |size| *size);
        assert_eq!(
            cut,
            [vec![half, half], vec![1], vec![3 * MESSAGE_BYTES], vec![1, 1]]
        );
        assert_eq!(cut.concat(), page);
    }
}

//! Reads a run's journal from a place on.

use super::{Context, Held, MESSAGE_BYTES, Sink, Stop};
use std::sync::Arc;
use tape_core::codec::StoredEntry;
use tape_core::id::{RunId, Seq, StreamId};
use tape_core::limits::PAGE_ENTRIES_MAX;
use tape_core::reply::{Missing, Rejection};
use tape_engine::page_to_end;
use tape_proto::convert::InvalidField;
use tape_proto::failure::Failure;
use tape_proto::v1;

/// The request of a reader.
pub(super) struct Request {
    stream: StreamId,
    after: Seq,
    follow: bool,
    limit: u64,
}

impl TryFrom<v1::ReadRequest> for Request {
    type Error = InvalidField;
    fn try_from(wire: v1::ReadRequest) -> Result<Self, InvalidField> {
        let run = wire.run.ok_or_else(|| InvalidField::missing("run"))?;
        let run = RunId::try_from(run).map_err(|error| error.within("run"))?;
        let limit = if wire.limit == 0 { u64::MAX } else { wire.limit };
        Ok(Self {
            stream: StreamId::Run(run),
            after: Seq(wire.after_seq),
            follow: wire.follow,
            limit,
        })
    }
}

/// Sends entries to the end, or without end.
pub(super) async fn serve(
    context: Context,
    mut request: Request,
    sink: Arc<Sink<v1::ReadResponse>>,
) -> Result<(), Stop> {
    let store = context.store();
    if store.head(&request.stream).await?.is_none() {
        // Entries without a head are damage, not a missing run.
        page_to_end(store.as_ref(), &request.stream, Seq::ZERO, 1).await?;
        return Err(Failure::from(Rejection::not_found(Missing::Run)).into());
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
                None => subscription = Some(context.0.notifier.subscribe(&request.stream).await),
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

pub(super) async fn send(
    sink: &Sink<v1::ReadResponse>,
    held: &mut Held,
    page: Vec<StoredEntry>,
) -> Result<(), Stop> {
    held.shrink_to(page.iter().map(StoredEntry::size).sum());
    for entries in chunks(page, StoredEntry::size) {
        let last = entries.last().map_or(Seq::ZERO, |entry| entry.seq);
        let entries = entries.into_iter().map(Into::into).collect();
        let message = v1::ReadResponse { entries };
        sink.send_of(held, message, format!("entry {last}")).await?;
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

//! One partition of the change stream: where reading continues, and what follows after it closes.

use super::changes::{
    Changes, Client, CloseStream, DataChange, ReadChangeStreamResponse, StartFrom, StreamContinuationToken,
    StreamContinuationTokens, StreamPartition, StreamRecord,
};
use super::end;
use super::error::Failure;
use super::watch::Pace;
use googleapis_tonic_google_bigtable_v2::google::bigtable::v2 as proto;
use proto::row_range::{EndKey, StartKey};
use tonic::{Status, Streaming};

/// A partition that is being read.
pub(super) struct Reading {
    /// Identifies it among the partitions being read.
    pub(super) number: u64,
    client: Client,
    partition: StreamPartition,
    from: StartFrom,
    open: Option<Streaming<ReadChangeStreamResponse>>,
    /// Whether its stream has sent anything since it was opened.
    heard: bool,
    /// How often opening it has failed since its last record.
    failures: u32,
}

/// An event of a partition.
pub(super) enum News {
    /// Its stream works; `committed` where it had a commit.
    Heard { committed: bool },
    /// Its stream broke; the next stream continues from the same place.
    Lost(Failure),
    /// It cannot continue from its place.
    Refused(Failure),
    /// Its keys are in other partitions from now on, which continue from these places.
    Moved(Vec<(StreamPartition, StreamContinuationToken)>),
}

impl Reading {
    pub(super) const fn new(
        number: u64,
        client: Client,
        partition: StreamPartition,
        from: StartFrom,
    ) -> Self {
        Self {
            number,
            client,
            partition,
            from,
            open: None,
            heard: false,
            failures: 0,
        }
    }

    /// Reads until there is an event.
    pub(super) async fn next(mut self, changes: &Changes, pace: Pace) -> (Self, News) {
        loop {
            let read = match self.advance(changes, pace).await {
                Ok(read) => read,
                Err(failure) => Some(self.lose(failure)),
            };
            if let Some(read) = read {
                return (self, read);
            }
        }
    }

    /// Reads one record, and opens a stream first where there is none.
    async fn advance(&mut self, changes: &Changes, pace: Pace) -> Result<Option<News>, Failure> {
        let Some(stream) = &mut self.open else {
            tokio::time::sleep(pace.after(self.failures)).await;
            let opened = changes.read(self.client.clone(), self.partition.clone(), self.from.clone());
            self.open = Some(opened.await?);
            return Ok(None);
        };
        let record = changes.next(stream).await?;
        self.failures = 0;
        let first = !std::mem::replace(&mut self.heard, true);
        Ok(match record {
            Some(StreamRecord::DataChange(change)) => {
                let committed = self.take(change);
                (first || committed).then_some(News::Heard { committed })
            }
            Some(StreamRecord::Heartbeat(heartbeat)) => {
                if let Some(token) = heartbeat.continuation_token {
                    self.go_on_from(token);
                }
                first.then_some(News::Heard { committed: false })
            }
            Some(StreamRecord::CloseStream(close)) => Some(moved(close)),
            None => None,
        })
    }

    fn lose(&mut self, failure: Failure) -> News {
        (self.open, self.heard) = (None, false);
        self.failures += 1;
        if failure.is_refusal() {
            News::Refused(failure)
        } else {
            News::Lost(failure)
        }
    }

    /// Whether the change is a commit. In a change that arrives in chunks, any chunk may say so.
    fn take(&mut self, change: DataChange) -> bool {
        if change.done && !change.token.is_empty() {
            self.go_on_from(StreamContinuationToken {
                partition: Some(self.partition.clone()),
                token: change.token,
            });
        }
        let mut mutations = change.chunks.iter().filter_map(|chunk| chunk.mutation.as_ref());
        mutations.any(end::moves_head)
    }

    fn go_on_from(&mut self, token: StreamContinuationToken) {
        self.from = from(vec![token]);
    }
}

fn from(tokens: Vec<StreamContinuationToken>) -> StartFrom {
    StartFrom::ContinuationTokens(StreamContinuationTokens { tokens })
}

/// Where to continue after a stream was closed.
fn moved(close: CloseStream) -> News {
    let (tokens, partitions) = (close.continuation_tokens, close.new_partitions);
    if tokens.is_empty() || partitions.len() != tokens.len() {
        let said = close.status.unwrap_or_default();
        let closed = format!("the stream was closed with code {} ({})", said.code, said.message);
        return News::Refused(Status::out_of_range(closed).into());
    }
    News::Moved(partitions.into_iter().zip(tokens).collect())
}

/// Partitions to be opened, each with the known places to continue from. A partition that several were merged into has a place from each of
/// them, and cannot be read before the last of them is closed.
#[derive(Default)]
pub(super) struct Coming(Vec<(StreamPartition, Vec<StreamContinuationToken>)>);

impl Coming {
    /// Notes a place. Where the partition can be read now, returns the places to read it from.
    pub(super) fn add(
        &mut self,
        partition: StreamPartition,
        token: StreamContinuationToken,
    ) -> Option<(StreamPartition, StartFrom)> {
        let known = self.0.iter().position(|(coming, _)| *coming == partition);
        let place = known.unwrap_or_else(|| {
            self.0.push((partition, Vec::new()));
            self.0.len() - 1
        });
        let (partition, tokens) = &mut self.0[place];
        tokens.push(token);
        if !is_covered(partition, tokens) {
            return None;
        }
        let (partition, tokens) = self.0.swap_remove(place);
        Some((partition, from(tokens)))
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Whether the tokens cover all keys of a partition.
fn is_covered(partition: &StreamPartition, tokens: &[StreamContinuationToken]) -> bool {
    let parts = tokens.iter().filter_map(|token| token.partition.as_ref());
    let mut parts: Vec<(&[u8], Option<&[u8]>)> = parts.map(keys).collect();
    parts.sort_unstable();
    let (begin, end) = keys(partition);
    let mut reached = Some(begin);
    for (from, to) in parts {
        // At the end of the table nothing more needs to be covered.
        reached = match (reached, to) {
            (Some(at), Some(to)) if from <= at => Some(at.max(to)),
            (Some(at), None) if from <= at => None,
            (reached, _) => reached,
        };
    }
    match (reached, end) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(reached), Some(end)) => reached >= end,
    }
}

/// The first key, and the one before which the partition ends; none at the end of the table.
fn keys(partition: &StreamPartition) -> (&[u8], Option<&[u8]>) {
    let range = partition.row_range.as_ref();
    let begin = match range.and_then(|range| range.start_key.as_ref()) {
        Some(StartKey::StartKeyClosed(key) | StartKey::StartKeyOpen(key)) => key.as_ref(),
        None => &[],
    };
    let end = match range.and_then(|range| range.end_key.as_ref()) {
        Some(EndKey::EndKeyOpen(key) | EndKey::EndKeyClosed(key)) => Some(key.as_ref()),
        None => None,
    };
    (begin, end.filter(|key| !key.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    /// `a-c` for the keys from `a` on and before `c`.
    fn partition(keys: &str) -> StreamPartition {
        let (begin, end) = keys.split_once('-').unwrap();
        let key = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        StreamPartition {
            row_range: Some(proto::RowRange {
                start_key: Some(StartKey::StartKeyClosed(key(begin))),
                end_key: Some(EndKey::EndKeyOpen(key(end))),
            }),
        }
    }

    fn token(keys: &str) -> StreamContinuationToken {
        StreamContinuationToken {
            partition: Some(partition(keys)),
            token: keys.to_owned(),
        }
    }

    #[test]
    fn a_partition_is_read_once_all_of_its_keys_have_a_place() {
        for (whole, parts, complete) in [
            ("a-c", vec!["a-c"], true),
            ("a-e", vec!["a-b", "b-e"], true),
            ("a-e", vec!["c-e", "a-b", "b-c"], true),
            ("a-e", vec!["a-b", "c-e"], false),
            ("a-e", vec!["b-e"], false),
            ("a-e", vec!["a-d"], false),
            ("-", vec!["-m", "m-"], true),
            ("-", vec!["-m", "n-"], false),
            ("-", vec!["-m"], false),
            ("-", vec!["m-"], false),
            ("m-", vec!["m-z", "z-"], true),
            // A range that is contained in another adds nothing.
            ("a-e", vec!["a-d", "b-c", "d-e"], true),
        ] {
            let mut coming = Coming::default();
            let (last, first) = parts.split_last().unwrap();
            for part in first {
                assert!(
                    coming.add(partition(whole), token(part)).is_none(),
                    "{parts:?} of {whole}"
                );
            }
            let begun = coming.add(partition(whole), token(last));
            assert_eq!(begun.is_some(), complete, "{parts:?} of {whole}");
            assert_eq!(coming.is_empty(), complete);
            if let Some((read, StartFrom::ContinuationTokens(from))) = begun {
                let from: Vec<&str> = from.tokens.iter().map(|token| token.token.as_str()).collect();
                assert_eq!((read, from), (partition(whole), parts));
            }
        }
    }
}

//! The messages of a Drive stream, one by one: an invalid message does not affect the others.
//!
//! The transport's own reader ends the stream at the first message that is too large or cannot be read, and with it the drive of every run
//! of the client. This reader refuses such a message by its number and continues with the next.

use crate::calls::{Held, Room};
use crate::memory::TIMEOUT;
use bytes::{Buf as _, Bytes, BytesMut};
use http_body_util::BodyExt as _;
use prost::Message as _;
use std::time::Duration;
use tape_net::Peer;
use tape_proto::MESSAGE_BYTES_MAX;
use tape_proto::convert::InvalidField;
use tape_proto::v1;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::{Code, Status};

/// The prefix of each message: whether it is compressed, and its length.
const HEADER_BYTES: usize = 5;
/// How many bytes of a too large message are searched for its number.
const LOOKED_AT_BYTES: usize = 64;

/// The messages of a stream.
pub(super) struct Frames {
    body: Body,
    /// The other side of the connection; none where the transport does not say.
    peer: Option<Peer>,
    read: BytesMut,
    /// Bytes of a refused message that are still to come.
    skipped: u64,
    room: Room,
    /// The memory for the message under way, and how long it was waited for.
    coming: Option<(Option<Held>, Duration)>,
}

/// One message.
#[expect(
    clippy::large_enum_variant,
    reason = "one is at hand at a time, and it mostly is a command"
)]
pub(super) enum Frame {
    /// A command, with the memory that it holds until it is executed.
    Command(v1::DriveRequest, Option<Held>),
    /// A message that cannot be read.
    Bad {
        /// Its number; zero where that cannot be read either.
        call: u64,
        /// What is wrong.
        problem: InvalidField,
    },
}

/// How a stream of messages ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The client closed it, or its connection.
    Closed,
    /// It ended otherwise: the client fell silent, or this side could not continue. That says nothing about the client.
    Broken,
}

impl Frames {
    pub(super) fn new(body: Body, peer: Option<Peer>, room: Room) -> Self {
        Self {
            body,
            peer,
            read: BytesMut::new(),
            skipped: 0,
            room,
            coming: None,
        }
    }

    /// The next message. Cancel-safe: dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Result<Frame, End> {
        loop {
            self.make_room().await;
            if let Some(frame) = self.take() {
                return Ok(frame);
            }
            let Some(read) = self.receive().await else {
                tracing::debug!("a message on a Drive stream did not come whole in time");
                return Err(End::Broken);
            };
            let Some(read) = read else {
                return Err(self.end(true));
            };
            match read {
                Ok(frame) => self.add(frame.into_data().unwrap_or_default()),
                Err(status) => {
                    tracing::debug!(%status, "a Drive stream broke off");
                    // A client that drops its stream sends a cancellation.
                    return Err(self.end(status.code() == Code::Cancelled));
                }
            }
        }
    }

    /// Waits for the end, and accepts no more messages.
    pub(super) async fn ended(&mut self) -> End {
        loop {
            if let Err(end) = self.next().await {
                return end;
            }
        }
    }

    /// How the stream ended: the transport ends streams in the same way where this side closed the connection.
    fn end(&self, well: bool) -> End {
        match &self.peer {
            Some(peer) if peer.was_cut() => End::Broken,
            Some(peer) if peer.has_closed() => End::Closed,
            _ if well => End::Closed,
            _ => End::Broken,
        }
    }

    /// The next frame; none where a message under way takes too long. Only the time spent waiting here counts.
    async fn receive(&mut self) -> Option<Option<Result<http_body::Frame<Bytes>, Status>>> {
        let Some((held, waited)) = &mut self.coming else {
            return Some(self.body.frame().await);
        };
        let begun = Instant::now();
        let (before, room) = (*waited, &self.room);
        let patience = async {
            match held {
                // Memory is held for what was only announced: it has less time while others wait for some.
                Some(_) => room.timeout_after(before).await,
                None => tokio::time::sleep(TIMEOUT.saturating_sub(before)).await,
            }
        };
        let read = tokio::select! {
            biased;
            read = self.body.frame() => Some(read),
            () = patience => None,
        };
        *waited += begun.elapsed();
        read
    }

    /// Takes memory for the message under way, once its length is known.
    async fn make_room(&mut self) {
        let Some(mut header) = self.read.get(..HEADER_BYTES) else {
            return;
        };
        header.advance(1);
        let length = header.get_u32() as usize;
        if self.coming.is_none() && length <= MESSAGE_BYTES_MAX {
            let held = self.room.take(length).await;
            self.coming = Some((held, Duration::ZERO));
        }
    }

    fn add(&mut self, mut data: Bytes) {
        let skipped = usize::try_from(self.skipped).map_or(data.len(), |left| left.min(data.len()));
        data.advance(skipped);
        self.skipped -= skipped as u64;
        self.read.extend_from_slice(&data);
    }

    fn take(&mut self) -> Option<Frame> {
        let mut header = self.read.get(..HEADER_BYTES)?;
        let (compressed, length) = (header.get_u8() != 0, header.get_u32() as usize);
        let problem = if compressed {
            Some("is compressed, which this server does not read".to_owned())
        } else if length > MESSAGE_BYTES_MAX {
            Some(format!("has {length} bytes, the limit is {MESSAGE_BYTES_MAX}"))
        } else {
            None
        };
        let looked_at = if problem.is_some() {
            length.min(LOOKED_AT_BYTES)
        } else {
            length
        };
        if self.read.len() < HEADER_BYTES + looked_at {
            return None;
        }
        let held = self.coming.take().and_then(|(held, _)| held);
        self.read.advance(HEADER_BYTES);
        let message = self.read.split_to(looked_at).freeze();
        if let Some(problem) = problem {
            let rest = length - looked_at;
            let here = rest.min(self.read.len());
            self.read.advance(here);
            self.skipped = (rest - here) as u64;
            return Some(bad(&message, problem));
        }
        Some(match v1::DriveRequest::decode(message.clone()) {
            Ok(request) => Frame::Command(request, held),
            Err(error) => bad(&message, format!("cannot be read: {error}")),
        })
    }
}

fn bad(message: &[u8], problem: String) -> Frame {
    Frame::Bad {
        call: number(message).unwrap_or(0),
        problem: InvalidField::new("message", problem),
    }
}

/// The number of a call, from the first bytes of its message.
fn number(mut message: &[u8]) -> Option<u64> {
    loop {
        let key = varint(&mut message)?;
        match (key >> 3, key & 7) {
            (1, 0) => return varint(&mut message),
            (_, 0) => drop(varint(&mut message)?),
            (_, 1) => message = message.get(8..)?,
            (_, 2) => {
                let length = usize::try_from(varint(&mut message)?).ok()?;
                message = message.get(length..)?;
            }
            (_, 5) => message = message.get(4..)?,
            _ => return None,
        }
    }
}

fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = message.split_first()?;
        *message = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use super::{End, Frame, Frames, number};
    use crate::calls::Calls;
    use crate::memory::TIMEOUT;
    use bytes::Bytes;
    use futures::{FutureExt as _, StreamExt as _, stream};
    use http_body_util::StreamBody;
    use prost::Message as _;
    use tape_proto::MESSAGE_BYTES_MAX;
    use tape_proto::v1;
    use tokio::time::Instant;
    use tonic::Status;
    use tonic::body::Body;

    fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
        let length = u32::try_from(message.len()).unwrap();
        [&[flag], &length.to_be_bytes()[..], message].concat()
    }

    fn command(call: u64) -> Vec<u8> {
        v1::DriveRequest {
            call,
            ..Default::default()
        }
        .encode_to_vec()
    }

    fn frames(chunks: Vec<Result<Bytes, Status>>) -> Frames {
        let frames = chunks
            .into_iter()
            .map(|chunk| chunk.map(hyper::body::Frame::data));
        Frames::new(
            Body::new(StreamBody::new(stream::iter(frames))),
            None,
            Calls::default().of(None),
        )
    }

    async fn calls(mut frames: Frames) -> (Vec<(u64, bool)>, End) {
        let mut calls = Vec::new();
        loop {
            match frames.next().await {
                Ok(Frame::Command(request, _)) => calls.push((request.call, true)),
                Ok(Frame::Bad { call, .. }) => calls.push((call, false)),
                Err(end) => return (calls, end),
            }
        }
    }

    #[tokio::test]
    async fn a_bad_message_is_told_by_its_number_and_the_next_ones_are_read() {
        let mut large = command(2);
        large.resize(MESSAGE_BYTES_MAX + 1, 0);
        let mut damaged = command(3);
        damaged.extend([0x12, 0x7f]);
        let all = [
            framed(0, &command(1)),
            framed(0, &large),
            framed(0, &damaged),
            framed(1, &command(4)),
            framed(0, &[0xff]),
            framed(0, &command(6)),
        ]
        .concat();
        let expected = vec![
            (1, true),
            (2, false),
            (3, false),
            (4, false),
            (0, false),
            (6, true),
        ];
        for size in [1_000, 65_537, all.len()] {
            let chunks = all.chunks(size).map(|chunk| Ok(Bytes::copy_from_slice(chunk)));
            let (calls, end) = calls(frames(chunks.collect())).await;
            assert_eq!(
                (calls, end),
                (expected.clone(), End::Closed),
                "in pieces of {size}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_that_does_not_come_whole_ends_its_stream_and_has_memory_for_a_while() {
        let (calls, large) = (Calls::default(), command(1).len() + (4 << 10));
        let room = calls.of(None);
        let begun = framed(0, &vec![0; large])[..64].to_vec();
        let chunks = stream::iter([Ok::<_, Status>(hyper::body::Frame::data(begun.into()))]);
        let body = Body::new(StreamBody::new(chunks.chain(stream::pending())));
        let mut frames = Frames::new(body, None, room.clone());
        let before = room.free_kib();
        assert!(frames.next().now_or_never().is_none());
        assert!(room.free_kib() < before);
        assert!(matches!(frames.next().await, Err(End::Broken)));
        drop(frames);
        assert_eq!(room.free_kib(), before);
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_that_does_not_come_whole_makes_room_soon_for_others() {
        let calls = Calls::default();
        let begun = Bytes::from(framed(0, &vec![0; MESSAGE_BYTES_MAX])).slice(..64);
        let mut streams = Vec::new();
        loop {
            let room = calls.of(None);
            let chunks = stream::iter([Ok::<_, Status>(hyper::body::Frame::data(begun.clone()))]);
            let body = Body::new(StreamBody::new(chunks.chain(stream::pending())));
            let mut frames = Frames::new(body, None, room.clone());
            streams.push(tokio::spawn(async move { frames.next().await.err() }));
            tokio::task::yield_now().await;
            if room.free_kib() < MESSAGE_BYTES_MAX / 1024 {
                break;
            }
        }
        let asked = Instant::now();
        calls.of(None).take(MESSAGE_BYTES_MAX).await;
        assert!(asked.elapsed() < TIMEOUT / 5, "{:?}", asked.elapsed());
        for stream in streams {
            assert_eq!(stream.await.unwrap(), Some(End::Broken));
        }
    }

    #[tokio::test]
    async fn a_stream_that_fails_was_not_closed_and_one_that_is_cancelled_was() {
        let broken = frames(vec![
            Ok(framed(0, &command(1)).into()),
            Err(Status::internal("broken")),
        ]);
        assert_eq!(calls(broken).await, (vec![(1, true)], End::Broken));
        let cancelled = frames(vec![Err(Status::cancelled("by the client"))]);
        assert_eq!(calls(cancelled).await, (vec![], End::Closed));
    }

    #[test]
    fn the_number_is_found_behind_other_fields() {
        assert_eq!(number(&[0x12, 2, 9, 9, 0x08, 0x96, 0x01]), Some(150));
        assert_eq!(number(&[0x19, 0, 0, 0, 0, 0, 0, 0, 0, 0x08, 7]), Some(7));
        assert_eq!(number(&[0x08]), None);
        assert_eq!(number(&[0x12, 0xff, 0xff, 0x7f]), None);
    }
}

//! The body of a request, with bounds on its size and time.

use super::{Held, Room};
use crate::memory::TIMEOUT;
use bytes::{Buf as _, Bytes};
use http_body::{Frame, SizeHint};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use tape_proto::MESSAGE_BYTES_MAX;
use tape_proto::failure::Failure;
use tokio::time::Sleep;
use tonic::Status;
use tonic::body::Body;

/// The prefix of a message: whether it is compressed, and its length.
const HEADER_BYTES: usize = 5;

/// The memory of a received request until it is executed: the body itself is freed earlier.
#[derive(Clone, Debug, Default)]
pub(super) struct Received(Arc<Mutex<Option<Held>>>);

/// The body of a request of one message.
#[derive(Debug)]
pub(super) struct Request {
    body: Body,
    room: Room,
    received: Received,
    /// The beginning of the message, until its length is known.
    header: Vec<u8>,
    /// When the whole message must have arrived.
    deadline: Pin<Box<Sleep>>,
}

impl Request {
    pub(super) fn new(body: Body, room: Room, received: Received) -> Self {
        Self {
            body,
            room,
            received,
            header: Vec::with_capacity(HEADER_BYTES),
            deadline: Box::pin(tokio::time::sleep(TIMEOUT)),
        }
    }

    /// Takes memory for the message once its length is known.
    fn receive(&mut self, data: &Bytes) -> Result<(), Failure> {
        let missing = HEADER_BYTES - self.header.len();
        if missing == 0 {
            return Ok(());
        }
        self.header.extend_from_slice(&data[..missing.min(data.len())]);
        let Some(mut length) = self.header.get(1..HEADER_BYTES) else {
            return Ok(());
        };
        let length = length.get_u32() as usize;
        // The decoder refuses a larger message at once.
        if length <= MESSAGE_BYTES_MAX {
            let held = self.room.try_take(length)?;
            *self.received.0.lock().unwrap_or_else(PoisonError::into_inner) = held;
        }
        Ok(())
    }
}

impl http_body::Body for Request {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.deadline.as_mut().poll(context).is_ready() {
            return Poll::Ready(Some(Err(Failure::Deadline.into())));
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            self.receive(data)?;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

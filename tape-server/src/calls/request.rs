//! The body of a request, with bounds on its size and time.

use super::{Held, Room};
use crate::memory::TIMEOUT;
use bytes::Bytes;
use futures::future::BoxFuture;
use http_body::{Body as _, Frame, SizeHint};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use tape_proto::MESSAGE_BYTES_MAX;
use tape_proto::failure::Failure;
use tokio::time::Sleep;
use tonic::Status;
use tonic::body::Body;

/// The memory of a call, from its request on.
#[derive(Clone, Debug, Default)]
pub(super) struct Reserved(Arc<Mutex<Parts>>);

#[derive(Debug, Default)]
struct Parts {
    /// Of the request, until it is executed: the body itself is freed earlier.
    request: Option<Held>,
    /// For the answer, where it may be large.
    answer: Option<Held>,
}

impl Reserved {
    fn parts(&self) -> MutexGuard<'_, Parts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The memory for the answer. Gives back that of the request.
    pub(super) fn into_answer(self) -> Option<Held> {
        let mut parts = self.parts();
        parts.request = None;
        parts.answer.take()
    }
}

/// The body of a request of one message.
pub(super) struct Request {
    body: Body,
    room: Room,
    reserved: Reserved,
    /// Whether the answer may be large.
    is_answer_large: bool,
    stage: Stage,
    /// The bytes that have come.
    bytes: usize,
    /// When the whole message must have arrived.
    deadline: Pin<Box<Sleep>>,
    /// Ends when the message has held memory for too long; none while it holds none.
    patience: Option<BoxFuture<'static, ()>>,
}

/// How far a request has come.
enum Stage {
    Coming,
    /// It is whole, and waits for room for its answer. Before that it must not take any: its caller may never send the rest.
    Waiting(BoxFuture<'static, Result<Option<Held>, Failure>>),
    Done,
}

impl Request {
    pub(super) fn new(body: Body, room: Room, reserved: Reserved, is_answer_large: bool) -> Self {
        Self {
            body,
            room,
            reserved,
            is_answer_large,
            stage: Stage::Coming,
            bytes: 0,
            deadline: Box::pin(tokio::time::sleep(TIMEOUT)),
            patience: None,
        }
    }

    /// The next part of the message; none at its end. Trailers say nothing here, and end it.
    fn poll_part(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Frame<Bytes>>, Status>> {
        self.in_time(context)?;
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context)).transpose()?;
        let Some(frame) = frame.filter(Frame::is_data) else {
            return Poll::Ready(Ok(None));
        };
        self.receive(frame.data_ref().map_or(0, Bytes::len))?;
        Poll::Ready(Ok(Some(frame)))
    }

    /// Refuses a message that takes too long: one that holds memory gets less time while others wait for some.
    fn in_time(&mut self, context: &mut Context<'_>) -> Result<(), Failure> {
        if self.deadline.as_mut().poll(context).is_ready() {
            return Err(Failure::Deadline);
        }
        let patience = self.patience.as_mut().map(|patience| patience.as_mut());
        match patience.map(|patience| patience.poll(context)) {
            Some(Poll::Ready(())) => Err(self.room.full_server()),
            Some(Poll::Pending) | None => Ok(()),
        }
    }

    /// Takes memory for what has come. What a peer only announces takes none: that costs the peer nothing.
    fn receive(&mut self, bytes: usize) -> Result<(), Failure> {
        self.bytes += bytes;
        let mut parts = self.reserved.parts();
        // The decoder refuses a larger message at once.
        self.room
            .grow(&mut parts.request, self.bytes.min(MESSAGE_BYTES_MAX))?;
        if parts.request.is_some() && self.patience.is_none() {
            let room = self.room.clone();
            self.patience = Some(Box::pin(async move { room.all.timeout().await }));
        }
        Ok(())
    }

    /// What follows when the message is whole.
    fn ended(&self) -> Stage {
        if !self.is_answer_large {
            return Stage::Done;
        }
        let (room, holds) = (self.room.clone(), self.reserved.parts().request.is_some());
        Stage::Waiting(Box::pin(async move {
            // A call that holds memory does not wait for more: many of them would wait for each other.
            match holds {
                true => room.try_take(MESSAGE_BYTES_MAX),
                false => room.take_in_time(MESSAGE_BYTES_MAX).await,
            }
        }))
    }
}

impl http_body::Body for Request {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if matches!(self.stage, Stage::Coming) {
            if let Some(part) = ready!(self.poll_part(context))? {
                return Poll::Ready(Some(Ok(part)));
            }
            self.stage = self.ended();
        }
        if let Stage::Waiting(room) = &mut self.stage {
            let held = ready!(room.as_mut().poll(context))?;
            self.reserved.parts().answer = held;
            self.stage = Stage::Done;
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.stage, Stage::Done)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

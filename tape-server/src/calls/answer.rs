//! The body of an answer, which waits for its reader for a bounded time.

use super::{Held, Room, SMALL_BYTES};
use bytes::{Buf as _, Bytes};
use futures::FutureExt as _;
use http_body::Frame;
use http_body_util::BodyExt as _;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use tape_proto::failure::Failure;
use tokio::sync::Notify;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http;

/// The bytes handed to the transport at a time: it keeps them until the reader takes them.
const PIECE_BYTES: usize = 16 * 1024;

/// An answer in memory that its reader has not taken yet.
#[derive(Debug)]
struct Waiting {
    state: Mutex<State>,
    /// Notified when it was taken, or when its reader is gone.
    over: Notify,
}

#[derive(Debug, Default)]
struct State {
    message: Bytes,
    held: Option<Held>,
    /// How much was taken.
    taken: usize,
    /// Whether the reader took too long, and the message was dropped.
    dropped: bool,
}

impl Waiting {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(message: Bytes, held: Option<Held>) -> Self {
        let state = State {
            message,
            held,
            ..State::default()
        };
        Self {
            state: Mutex::new(state),
            over: Notify::new(),
        }
    }

    /// The next piece, as a copy: a piece in the transport must not keep the others in memory. None once all was taken.
    fn piece(&self) -> Result<Option<Bytes>, Failure> {
        let mut state = self.state();
        if state.dropped {
            let resume = String::new();
            return Err(Failure::SlowReader { resume });
        }
        let bytes = state.message.len().min(PIECE_BYTES);
        if bytes == 0 {
            return Ok(None);
        }
        let piece = Bytes::copy_from_slice(&state.message[..bytes]);
        state.message.advance(bytes);
        state.taken += bytes;
        if state.message.is_empty() {
            state.clear();
            self.over.notify_one();
        }
        Ok(Some(piece))
    }

    /// Drops the message once its reader has taken nothing for too long.
    async fn watch(&self, room: &Room) {
        loop {
            let before = self.state().taken;
            tokio::select! {
                // A call that is over is no slow one.
                biased;
                () = self.over.notified() => return,
                () = room.all.timeout() => {}
            }
            let mut state = self.state();
            if state.taken == before {
                state.clear();
                state.dropped = true;
                tracing::debug!("a caller takes nothing of its answer; it is dropped");
                return;
            }
        }
    }
}

impl State {
    fn clear(&mut self) {
        (self.message, self.held) = (Bytes::new(), None);
    }
}

/// A body that was already read in part.
struct Answer {
    /// The first frame, where it is no waiting message.
    first: Option<Frame<Bytes>>,
    waiting: Option<Arc<Waiting>>,
    rest: Body,
}

/// The answer with its message in memory from the budget, until it is taken, or dropped where that takes too long.
pub(super) async fn bounded(
    response: http::Response<Body>,
    room: &Room,
    reserved: Option<Held>,
) -> Result<http::Response<Body>, Failure> {
    let (parts, mut rest) = response.into_parts();
    let Some(Ok(first)) = rest.frame().now_or_never().flatten() else {
        return Ok(http::Response::from_parts(parts, rest));
    };
    let (first, waiting) = match first.into_data() {
        Ok(message) if message.len() > SMALL_BYTES => (None, Some(wait(message, room, reserved).await?)),
        Ok(message) => (Some(Frame::data(message)), None),
        Err(other) => (Some(other), None),
    };
    let body = Answer { first, waiting, rest };
    Ok(http::Response::from_parts(parts, Body::new(body)))
}

async fn wait(message: Bytes, room: &Room, reserved: Option<Held>) -> Result<Arc<Waiting>, Failure> {
    let held = match reserved {
        Some(mut reserved) => {
            reserved.shrink_to(message.len());
            Some(reserved)
        }
        None => room.take_in_time(message.len()).await?,
    };
    let waiting = Arc::new(Waiting::of(message, held));
    let (watched, room) = (Arc::clone(&waiting), room.clone());
    tokio::spawn(async move { watched.watch(&room).await });
    Ok(waiting)
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        match self.waiting.as_ref().map(|waiting| waiting.piece()) {
            Some(Ok(Some(piece))) => return Poll::Ready(Some(Ok(Frame::data(piece)))),
            Some(Err(failure)) => {
                (self.waiting, self.rest) = (None, Body::empty());
                let mut trailers = http::HeaderMap::new();
                Status::from(failure).add_header(&mut trailers)?;
                return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
            }
            Some(Ok(None)) | None => {}
        }
        Pin::new(&mut self.rest).poll_frame(context)
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(waiting) = &self.waiting {
            waiting.state().clear();
            waiting.over.notify_one();
        }
    }
}

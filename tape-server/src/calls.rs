//! The memory of calls: requests that were received and not executed yet, and answers that their readers have not taken yet.
//!
//! All of it comes from one budget, and one connection has a bounded share of it. A request takes memory as its bytes come: where there is
//! no room it is refused, and the rest is not read. A call whose answer may be large waits until there is room for it, once its request is
//! whole. Messages of a Drive stream wait in their stream. Large messages never block small ones: renewals of leases pass.

mod answer;
mod refusal;
mod request;

use crate::memory::{ALL_KIB, Memory, TIMEOUT, kib};
use crate::port::Caller;
use crate::rare::Rare;
use request::{Request, Reserved};
use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tape_proto::MESSAGE_BYTES_MAX;
use tape_proto::failure::Failure;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, http};
use tower::Layer;

/// Messages of at most this many bytes take no memory from the budget: the limit on calls bounds their number.
const SMALL_BYTES: usize = 4 * 1024;
/// The largest share of one connection in the budget, in KiB: 64 MiB.
const CONNECTION_KIB: usize = 64 * 1024;
/// The memory of the largest message.
const MESSAGE_KIB: usize = MESSAGE_BYTES_MAX / 1024 + 1;
/// The beginnings of the names of unary methods whose answers may be large.
const LARGE_ANSWERS: [&str; 3] = ["Get", "List", "RetireRuns"];

/// The share of one connection in the memory of calls. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Part(Arc<Semaphore>);

impl Default for Part {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(CONNECTION_KIB)))
    }
}

/// The memory of all calls of a server. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Calls {
    all: Memory,
    /// Refusals for want of room.
    refusals: Arc<Rare>,
}

/// The same, for the calls of one connection.
#[derive(Clone, Debug)]
pub(crate) struct Room {
    part: Part,
    all: Memory,
    refusals: Arc<Rare>,
}

/// Memory that a call holds.
#[derive(Debug)]
pub(crate) struct Held {
    part: OwnedSemaphorePermit,
    all: OwnedSemaphorePermit,
}

impl Default for Calls {
    fn default() -> Self {
        Self {
            all: Memory::new(MESSAGE_KIB),
            refusals: Arc::default(),
        }
    }
}

impl Calls {
    /// The memory for calls of a connection. Calls of an unknown connection share one share of their own.
    pub(crate) fn of(&self, caller: Option<&Caller>) -> Room {
        Room {
            part: caller.map(|caller| caller.part.clone()).unwrap_or_default(),
            all: self.all.clone(),
            refusals: Arc::clone(&self.refusals),
        }
    }
}

impl Room {
    /// Room for a message; none is taken for a small one. Waits until there is some.
    pub(crate) async fn take(&self, bytes: usize) -> Option<Held> {
        if bytes <= SMALL_BYTES {
            return None;
        }
        let kib = kib(bytes);
        let part = Arc::clone(&self.part.0).acquire_many_owned(kib).await;
        Some(Held {
            part: part.expect("the part of a connection is never closed"),
            all: self.all.take(kib).await,
        })
    }

    /// The same without waiting.
    fn try_take(&self, bytes: usize) -> Result<Option<Held>, Failure> {
        let mut held = None;
        self.grow(&mut held, bytes)?;
        Ok(held)
    }

    /// Takes what a message of `bytes` bytes needs beyond what is held for it, without waiting.
    fn grow(&self, held: &mut Option<Held>, bytes: usize) -> Result<(), Failure> {
        if bytes <= SMALL_BYTES {
            return Ok(());
        }
        let more = kib(bytes).saturating_sub(held.as_ref().map_or(0, Held::kib));
        let part = Arc::clone(&self.part.0).try_acquire_many_owned(more);
        let part = part.map_err(|_| self.full("KiB under way on one connection", CONNECTION_KIB))?;
        let all = self.all.try_take(more).ok_or_else(|| self.full_server())?;
        match held {
            Some(held) => held.merge(part, all),
            None => *held = Some(Held { part, all }),
        }
        Ok(())
    }

    #[cfg(test)]
    pub(crate) fn free_kib(&self) -> usize {
        self.all.free_kib()
    }

    /// Waits for room no longer than a peer may be idle.
    async fn take_in_time(&self, bytes: usize) -> Result<Option<Held>, Failure> {
        let taken = tokio::time::timeout(TIMEOUT, self.take(bytes)).await;
        taken.map_err(|_| self.full("KiB under way", CONNECTION_KIB))
    }

    /// Waits until a message that holds memory, and was waited for for `waited`, has taken too long.
    pub(crate) async fn timeout_after(&self, waited: Duration) {
        self.all.timeout_after(waited).await;
    }

    fn full_server(&self) -> Failure {
        self.full("KiB under way in the server", ALL_KIB)
    }

    /// The refusal for want of room. The log has one line a minute about it.
    fn full(&self, limit: &str, max: usize) -> Failure {
        if let Some(before) = self.refusals.note(Instant::now()) {
            tracing::warn!(
                limit,
                max,
                before,
                "there is no room for more calls: they are refused"
            );
        }
        Failure::Overloaded {
            limit: limit.to_owned(),
            max: max as u64,
        }
    }
}

impl Held {
    fn kib(&self) -> u32 {
        u32::try_from(self.all.num_permits()).unwrap_or(u32::MAX)
    }

    fn merge(&mut self, part: OwnedSemaphorePermit, all: OwnedSemaphorePermit) {
        self.part.merge(part);
        self.all.merge(all);
    }

    /// Gives back all memory beyond `bytes` bytes.
    fn shrink_to(&mut self, bytes: usize) {
        for permit in [&mut self.part, &mut self.all] {
            let excess = permit.num_permits().saturating_sub(kib(bytes) as usize);
            drop(permit.split(excess));
        }
    }
}

impl<S> Layer<S> for Calls {
    type Service = Bounded<S>;

    fn layer(&self, inner: S) -> Bounded<S> {
        Bounded {
            calls: self.clone(),
            inner,
        }
    }
}

/// Services whose calls take memory from the budget.
#[derive(Clone, Debug)]
pub(crate) struct Bounded<S> {
    calls: Calls,
    inner: S,
}

impl<S> Service<http::Request<Body>> for Bounded<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        // The ready instance is used for this call; its replacement becomes ready by itself.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        let room = self.calls.of(request.extensions().get());
        if request.uri().path() == crate::service::DRIVE {
            // The messages of the stream take their memory one by one.
            return Box::pin(inner.call(request));
        }
        Box::pin(async move {
            let answered = serve(&mut inner, request, &room).await;
            Ok(answered.unwrap_or_else(|failure| Status::from(failure).into_http()))
        })
    }
}

async fn serve<S>(
    inner: &mut S,
    request: http::Request<Body>,
    room: &Room,
) -> Result<http::Response<Body>, Failure>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
{
    let path = request.uri().path().to_owned();
    let (reserved, large) = (Reserved::default(), may_be_large(&path));
    let request = request.map(|body| Body::new(Request::new(body, room.clone(), reserved.clone(), large)));
    let response = match inner.call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    let reserved = reserved.into_answer();
    if let Some(failure) = refusal::explained(&path, response.headers()) {
        return Err(failure);
    }
    answer::bounded(response, room, reserved).await
}

/// Whether the answer to the method at a path may be large.
fn may_be_large(path: &str) -> bool {
    let method = path.rsplit('/').next().unwrap_or_default();
    LARGE_ANSWERS.iter().any(|large| method.starts_with(large))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests;

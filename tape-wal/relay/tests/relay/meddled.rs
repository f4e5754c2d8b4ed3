//! A journal that a test meddles with.

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;
use tape_api::query::{FeedPage, Tail};
use tape_api::relays::{ClaimAnswer, Control, Controlled, MoveAnswer, PlacePage, PlaceQuery};
use tape_api::{Journal, JournalError, Layer, Relays};
use tape_core::command::{Command, RelayCommand};
use tape_core::id::{Epoch, Holder, RelayId, RelayPart, RelayStream};
use tape_core::relay::Progress;
use tape_core::reply::Reply;

/// Over an engine, with faults of a kind that a journal may have.
#[derive(Debug)]
pub(crate) struct Meddled {
    pub(crate) inner: Arc<dyn Journal>,
    /// Moves answer `Unavailable`, and are not made.
    pub(crate) no_moves: AtomicBool,
    /// The relay's stream in the tenant `acme` is damaged.
    pub(crate) acme_is_damaged: AtomicBool,
    /// So many moves, and so many claims, never answer, and are not made.
    pub(crate) hanging_moves: AtomicUsize,
    pub(crate) hanging_claims: AtomicUsize,
    /// This process is of an older build: entries of values `new` are of a kind that it does not know.
    pub(crate) is_older: AtomicBool,
}

impl Meddled {
    pub(crate) fn over(inner: Arc<dyn Journal>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            no_moves: AtomicBool::new(false),
            acme_is_damaged: AtomicBool::new(false),
            hanging_moves: AtomicUsize::new(0),
            hanging_claims: AtomicUsize::new(0),
            is_older: AtomicBool::new(false),
        })
    }
}

/// Never ends, so many times.
async fn hang(times: &AtomicUsize) {
    let left = times.fetch_update(SeqCst, SeqCst, |times| times.checked_sub(1));
    if left.is_ok() {
        std::future::pending::<()>().await;
    }
}

#[async_trait]
impl Layer for Meddled {
    fn inner(&self) -> &dyn Journal {
        &*self.inner
    }

    fn tail(&self, tail: &Tail) -> BoxStream<'static, Result<FeedPage, JournalError>> {
        let is_older = self.is_older.load(SeqCst);
        let pages = self.inner.tail(tail);
        pages
            .map(move |page| {
                let mut page = page?;
                for (stream, entry) in &mut page.entries {
                    if is_older && stream.to_string().ends_with("/new") {
                        let text = String::from_utf8(entry.envelope.to_vec()).unwrap();
                        entry.envelope = Bytes::from(text.replace("value.put", "value.future"));
                    }
                }
                Ok(page)
            })
            .boxed()
    }

    fn relays(&self) -> &dyn Relays {
        self
    }
}

#[async_trait]
impl Relays for Meddled {
    async fn claim(
        &self,
        part: &RelayPart,
        holder: &Holder,
        lease: Duration,
    ) -> Result<ClaimAnswer, JournalError> {
        hang(&self.hanging_claims).await;
        self.inner.relays().claim(part, holder, lease).await
    }

    async fn advance(
        &self,
        part: &RelayPart,
        epoch: Epoch,
        progress: Progress,
        lease: Duration,
    ) -> Result<MoveAnswer, JournalError> {
        if self.no_moves.load(SeqCst) {
            return Err(JournalError::unavailable("no route to the journal"));
        }
        hang(&self.hanging_moves).await;
        self.inner.relays().advance(part, epoch, progress, lease).await
    }

    async fn release(&self, part: &RelayPart, epoch: Epoch) -> Result<(), JournalError> {
        self.inner.relays().release(part, epoch).await
    }

    async fn places(
        &self,
        query: &PlaceQuery,
        from: Option<&str>,
        limit: u32,
    ) -> Result<PlacePage, JournalError> {
        self.inner.relays().places(query, from, limit).await
    }

    async fn control(&self, relay: &RelayId, control: &Control) -> Result<Controlled, JournalError> {
        self.inner.relays().control(relay, control).await
    }

    async fn forget_record(&self, name: &str) -> Result<bool, JournalError> {
        self.inner.relays().forget_record(name).await
    }

    async fn record(
        &self,
        stream: &RelayStream,
        command: Command<RelayCommand>,
    ) -> Result<Reply, JournalError> {
        if self.acme_is_damaged.load(SeqCst) && stream.tenant.as_str() == "acme" {
            return Err(JournalError::damaged(
                "entry 3 of 'acme/relay/all/lake' cannot be read",
            ));
        }
        self.inner.relays().record(stream, command).await
    }
}

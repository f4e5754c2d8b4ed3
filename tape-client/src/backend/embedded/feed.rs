//! The feed of a store in this process: its shards, one after the other, as far as they go.

use crate::backend::{Failure, Tail};
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, StreamExt as _};
use std::sync::Arc;
use tape_core::codec::{StoredEntry, decode};
use tape_core::id::StreamId;
use tape_core::limits::PAGE_ENTRIES_MAX;
use tape_core::subject::Subject;
use tape_store::contract::{Cursor, FeedEntry, JournalStore, Shard};

type Page = Vec<(StreamId, StoredEntry)>;

struct Reader {
    store: Arc<dyn JournalStore>,
    tail: Tail,
    /// The place in each shard; none before the first look.
    cursors: Option<Vec<Cursor>>,
    shard: u16,
    /// Shards that had nothing new in a row.
    quiet: u16,
    changed: BoxFuture<'static, ()>,
}

pub(super) fn tail(store: Arc<dyn JournalStore>, tail: Tail) -> BoxStream<'static, Result<Page, Failure>> {
    let changed = store.changed();
    let reader = Reader {
        store,
        tail,
        cursors: None,
        shard: 0,
        quiet: 0,
        changed,
    };
    stream::unfold(Some(reader), |reader| async move {
        let mut reader = reader?;
        match reader.next().await {
            Ok(Some(page)) => Some((Ok(page), Some(reader))),
            Ok(None) => None,
            Err(failure) => Some((Err(failure), None)),
        }
    })
    .boxed()
}

impl Reader {
    /// The next page that is not empty; none at the end.
    async fn next(&mut self) -> Result<Option<Page>, Failure> {
        self.start().await?;
        let shards = self.store.capabilities().shards.max(1);
        loop {
            if self.quiet == 0 && self.shard == 0 {
                // Asked for before looking, so that what comes in between is not missed.
                self.changed = self.store.changed();
            }
            let entries = self.look().await?;
            self.quiet = if entries.is_empty() { self.quiet + 1 } else { 0 };
            let page: Page = self.chosen(entries)?;
            self.shard = (self.shard + 1) % shards;
            if self.quiet > shards {
                if !self.tail.follow {
                    return Ok(None);
                }
                self.quiet = 0;
                std::mem::replace(&mut self.changed, self.store.changed()).await;
            }
            if !page.is_empty() {
                return Ok(Some(page));
            }
        }
    }

    async fn start(&mut self) -> Result<(), Failure> {
        if self.cursors.is_none() {
            let mut cursors = Vec::new();
            for shard in 0..self.store.capabilities().shards.max(1) {
                let beginning = self.tail.from_start;
                cursors.push(if beginning {
                    Cursor::default()
                } else {
                    self.store.tail_end(Shard(shard)).await?
                });
            }
            self.cursors = Some(cursors);
        }
        Ok(())
    }

    async fn look(&mut self) -> Result<Vec<FeedEntry>, Failure> {
        let Some(cursor) = self
            .cursors
            .as_mut()
            .and_then(|cursors| cursors.get_mut(usize::from(self.shard)))
        else {
            return Ok(Vec::new());
        };
        let page = self
            .store
            .tail(Shard(self.shard), cursor, PAGE_ENTRIES_MAX)
            .await?;
        *cursor = page.cursor;
        Ok(page.entries)
    }

    /// What of a page fits the pattern.
    fn chosen(&self, entries: Vec<FeedEntry>) -> Result<Page, Failure> {
        let mut page = Page::new();
        for FeedEntry { stream, entry } in entries {
            let kind = decode(&entry)?.body.kind();
            if self.tail.pattern.matches(&Subject::new(&stream, kind)) {
                page.push((stream, entry));
            }
        }
        Ok(page)
    }
}

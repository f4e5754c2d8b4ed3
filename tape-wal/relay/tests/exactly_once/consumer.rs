//! The consumer: it remembers the last entry of each stream, and passes over what is not after it.

use crate::pubsub_inbox::{Inbox, place};
use google_cloud_pubsub::model::Message;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use tape_core::payload::Digest;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What was seen of streams.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    streams: BTreeMap<String, Stream>,
    entries: u64,
    /// Messages of entries that were seen before, of other messages.
    repeated: u64,
    /// Messages that were received before.
    redelivered: u64,
    /// The names of the messages that the emulator delivered, since it was started.
    messages: BTreeSet<String>,
}

/// The entries of a stream: how many there were, and a digest over the digests of all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stream {
    entries: u64,
    digest: String,
}

impl Seen {
    /// Takes an entry that must be the next one of its stream.
    pub(crate) fn entry(&mut self, stream: &str, seq: u64, digest: &str) {
        let known = self.streams.entry(stream.to_owned()).or_default();
        known.entries += 1;
        assert_eq!(
            seq, known.entries,
            "{stream}: an entry came before the one that is next"
        );
        known.digest = Digest::of((known.digest.clone() + digest).as_bytes()).to_string();
        self.entries += 1;
    }

    fn message(&mut self, message: &Message) {
        if !self.messages.insert(message.message_id.clone()) {
            self.redelivered += 1;
            return;
        }
        let (stream, seq) = place(message);
        assert_eq!(message.ordering_key, stream);
        if self
            .streams
            .get(&stream)
            .is_some_and(|known| seq <= known.entries)
        {
            self.repeated += 1;
        } else {
            self.entry(&stream, seq, &message.attributes["ce-chaindigest"]);
        }
    }

    pub(crate) fn entries(&self) -> u64 {
        self.entries
    }

    pub(crate) fn streams(&self) -> &BTreeMap<String, Stream> {
        &self.streams
    }

    /// Of a hundred messages of relays, how many repeated an entry.
    pub(crate) fn repeated_percent(&self) -> u64 {
        self.repeated * 100 / (self.entries + self.repeated).max(1)
    }

    pub(crate) fn report(&self) {
        let (entries, streams, repeated) = (self.entries, self.streams.len(), self.repeated);
        let redelivered = self.redelivered;
        eprintln!(
            "{entries} entries of {streams} streams; {repeated} messages repeated one of them; the emulator delivered {redelivered} messages again"
        );
    }
}

/// A task that takes the messages of a subscription.
pub(crate) struct Consumer {
    seen: Arc<Mutex<Seen>>,
    /// How many entries were seen; closed by a consumer that fails.
    progress: watch::Sender<u64>,
    task: JoinHandle<()>,
}

impl Consumer {
    pub(crate) fn start(inbox: Inbox) -> Self {
        let (seen, progress) = (Arc::default(), watch::Sender::new(0));
        let task = tokio::spawn(take(inbox, Arc::clone(&seen), progress.clone()));
        Self { seen, progress, task }
    }

    /// Follows the number of entries that were seen.
    pub(crate) fn progress(&self) -> watch::Receiver<u64> {
        self.progress.subscribe()
    }

    /// Waits until so many entries were seen.
    pub(crate) async fn has_seen(&mut self, entries: u64) {
        let mut progress = self.progress.subscribe();
        tokio::select! {
            biased;
            ended = &mut self.task => panic!("the consumer ended: {ended:?}"),
            _ = progress.wait_for(|seen| *seen >= entries) => {}
        }
    }

    /// Waits until messages with these names were received.
    pub(crate) async fn has_received(&mut self, names: Vec<String>) {
        let mut progress = self.progress.subscribe();
        let seen = Arc::clone(&self.seen);
        let has_all = move |_: &u64| {
            let seen = seen.lock().unwrap();
            names.iter().all(|name| seen.messages.contains(name))
        };
        tokio::select! {
            biased;
            ended = &mut self.task => panic!("the consumer ended: {ended:?}"),
            _ = progress.wait_for(has_all) => {}
        }
    }

    /// Takes no more messages from the emulator, which is about to end.
    pub(crate) fn stop(&mut self) {
        self.task.abort();
    }

    /// Goes on with the messages of another emulator, which gives them names of its own.
    pub(crate) fn go_on(&mut self, inbox: Inbox) {
        self.seen.lock().unwrap().messages.clear();
        self.task = tokio::spawn(take(inbox, Arc::clone(&self.seen), self.progress.clone()));
    }

    /// What was seen.
    pub(crate) fn end(self) -> Seen {
        self.task.abort();
        std::mem::take(&mut *self.seen.lock().unwrap())
    }
}

async fn take(mut inbox: Inbox, seen: Arc<Mutex<Seen>>, progress: watch::Sender<u64>) {
    loop {
        let take = |message: &Message| {
            let mut seen = seen.lock().unwrap();
            seen.message(message);
        };
        inbox.take(take).await;
        let entries = seen.lock().unwrap().entries;
        // Also where it is the same: messages that repeat an entry are waited for.
        progress.send_replace(entries);
    }
}

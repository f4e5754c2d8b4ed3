//! A file of JSON lines.

mod file;
mod settings;

pub use settings::{
    DEFAULT_AGE_MAX, DEFAULT_FILE_BYTES_MAX, FILE_BYTES_MAX_LOWEST, InvalidJsonLines, JsonLinesSettings,
};

use crate::event::Event;
use crate::sink::{Sink, SinkError};
use async_trait::async_trait;
use file::Lines;
use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use tape_environment::Environment;

/// Appends events to a file, one JSON object of CloudEvents in structured mode a line, each with its line feed.
///
/// An event is confirmed once its line is on the disk (`fsync`). A file over its size or age is renamed to its name and the next number,
/// such as `events.jsonl.0000000001`, and a new one is begun; nothing is ever deleted. Events of one stream are in order over the files by
/// their numbers, with the file without a number last. Lines may be repeated after a crash.
///
/// One process writes at a time: a lock on the file `NAME.lock` says so, and a second one gets
/// [`Unavailable`](SinkError::Unavailable) until the first is gone. Files are created with mode 0600.
#[derive(Clone, Debug)]
pub struct JsonLines {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    settings: JsonLinesSettings,
    environment: Arc<dyn Environment>,
    /// None before the first delivery, and after an error: the next delivery opens the file anew, and finds what is in it.
    lines: Mutex<Option<Lines>>,
}

impl JsonLines {
    /// A sink that opens its file with the first delivery.
    #[must_use]
    pub fn new(settings: JsonLinesSettings, environment: Arc<dyn Environment>) -> Self {
        let lines = Mutex::new(None);
        Self {
            shared: Arc::new(Shared {
                settings,
                environment,
                lines,
            }),
        }
    }
}

impl Shared {
    /// Writes lines, and returns once they are durable. After an error the file is let go.
    fn append(&self, text: &[u8]) -> io::Result<()> {
        // What a writer that panicked left is not used.
        let mut held = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lines = match held.take() {
            Some(lines) => lines,
            None => Lines::open(&self.settings)?,
        };
        lines.append(text, &self.settings, &*self.environment)?;
        *held = Some(lines);
        Ok(())
    }
}

#[async_trait]
impl Sink for JsonLines {
    /// Dropping the future does not stop the writing; the next call waits for it.
    async fn deliver(&self, events: &[Event]) -> Vec<Result<(), SinkError>> {
        if events.is_empty() {
            return Vec::new();
        }
        let mut text = Vec::new();
        for event in events {
            event.write_json(&mut text);
            text.push(b'\n');
        }
        let shared = Arc::clone(&self.shared);
        let written = tokio::task::spawn_blocking(move || shared.append(&text)).await;
        match written.unwrap_or_else(|panic| Err(io::Error::other(panic))) {
            Ok(()) => vec![Ok(()); events.len()],
            Err(error) => none_of(events, &SinkError::unavailable(error)),
        }
    }

    async fn close(&self) -> Result<(), SinkError> {
        let shared = Arc::clone(&self.shared);
        let closed = tokio::task::spawn_blocking(move || {
            drop(shared.lines.lock().unwrap_or_else(PoisonError::into_inner).take());
        });
        closed.await.map_err(SinkError::unavailable)
    }
}

/// The answers where nothing was delivered: the error for the first event of each stream.
fn none_of(events: &[Event], error: &SinkError) -> Vec<Result<(), SinkError>> {
    let mut begun = BTreeSet::new();
    let answer = |event: &Event| match begun.insert(event.stream().clone()) {
        true => Err(error.clone()),
        false => Err(SinkError::Behind),
    };
    events.iter().map(answer).collect()
}

//! Records what this thread writes to the log.

use std::fmt::Write as _;
use std::sync::Arc;
use tokio::sync::watch;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber, subscriber};

pub(super) struct Logbook {
    lines: watch::Receiver<Vec<String>>,
    _guard: subscriber::DefaultGuard,
}

impl Logbook {
    /// Keeps what is logged from now on, until it is dropped.
    pub(super) fn begin() -> Self {
        let (writer, lines) = watch::channel(Vec::new());
        Self {
            lines,
            _guard: subscriber::set_default(Keeper(Arc::new(writer))),
        }
    }

    /// Waits until it has a line that contains the text.
    pub(super) async fn has(&mut self, text: &str) {
        let has = |lines: &Vec<String>| lines.iter().any(|line| line.contains(text));
        let found = self.lines.wait_for(has).await.map(drop);
        found.expect("the keeper lives as long as the book");
    }

    /// How many lines contain the text.
    pub(super) fn count(&self, text: &str) -> usize {
        self.lines
            .borrow()
            .iter()
            .filter(|line| line.contains(text))
            .count()
    }
}

struct Keeper(Arc<watch::Sender<Vec<String>>>);

#[derive(Default)]
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = write!(self.0, " {}={value:?}", field.name());
    }
}

impl Subscriber for Keeper {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("tape_store") && *metadata.level() <= Level::INFO
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(event.metadata().level().to_string());
        event.record(&mut line);
        self.0.send_modify(|lines| lines.push(line.0));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

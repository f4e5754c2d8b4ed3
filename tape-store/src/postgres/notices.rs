//! Warnings of the database during a statement.
//!
//! A commit that waits for a synchronous standby can be cancelled: it then succeeds, with a warning that the standby may not have it. The
//! driver only passes warnings to `tracing`, so this listens there.

use std::cell::Cell;
use std::pin::pin;
use std::sync::LazyLock;
use std::task::Poll;
use tracing::dispatcher::{Dispatch, with_default};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};

/// The `tracing` target of the driver's notices.
const TARGET: &str = "sqlx::postgres::notice";
/// A warning that transaction ids run short says nothing about the commit.
const HARMLESS: &str = "must be vacuumed";

thread_local! {
    static WARNED: Cell<bool> = const { Cell::new(false) };
}

/// Listens for warnings. There are two listeners: with several, `tracing` asks each of them whether an event is wanted. With one, it asks
/// only the one that is current when the event is first met, which may be none.
static LISTENERS: LazyLock<[Dispatch; 2]> =
    LazyLock::new(|| [Dispatch::new(Listener), Dispatch::new(Listener)]);

/// Returns the output of the future, and whether the database warned meanwhile.
pub(super) async fn listen<F: Future>(future: F) -> (F::Output, bool) {
    let mut future = pin!(future);
    let mut warned = false;
    let output = std::future::poll_fn(|context| {
        WARNED.set(false);
        let polled: Poll<F::Output> = with_default(&LISTENERS[0], || future.as_mut().poll(context));
        warned |= WARNED.take();
        polled
    });
    let output = output.await;
    (output, warned)
}

struct Listener;

fn is_warning(metadata: &Metadata<'_>) -> bool {
    metadata.target() == TARGET && *metadata.level() == Level::WARN
}

impl Subscriber for Listener {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if is_warning(metadata) {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        is_warning(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::WARN)
    }

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        if !text.0.contains(HARMLESS) {
            WARNED.set(true);
        }
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// The text of an event.
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

//! Due work behind a server. The server pushes work when it becomes due, so an idle worker sends no requests in between.

use super::answer::{Silence, messages};
use super::link::Link;
use super::{Remote, message_bytes_max};
use futures::future::BoxFuture;
use futures::stream::{BoxStream, StreamExt as _};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;
use tape_api::JournalError;
use tape_api::argument::DUE;
use tape_api::backoff::Backoff;
use tape_api::due::{DueEffect, DueObligation, DuePage, DueWork};
use tape_core::agenda::Queue;
use tape_core::entry::obligation::ObligationId;
use tape_core::id::{ConnectorName, EffectId, InvalidName, RunId, Seq, StreamId};
use tape_environment::Environment;
use tape_proto::convert::{DueQuery, Only};
use tape_proto::v1;
use tape_proto::v1::feed_client::FeedClient;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Most pieces that the server pushes at a time; work beyond them is found by looking.
const PUSHED_MAX: u32 = 256;
/// Most pieces of due work that are remembered as logged. Beyond that, none is logged.
const LOGGED_MAX: usize = 1_024;
/// The shortest and the longest wait before the server is asked again to push.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Tells when a server pushes work of a queue. Each queue is followed from when it is first asked for.
#[derive(Debug)]
pub(super) struct Pushes {
    environment: Arc<dyn Environment>,
    following: Mutex<Following>,
}

#[derive(Debug, Default)]
struct Following {
    pushed: HashMap<Queue, watch::Receiver<u64>>,
    /// Aborted when this is dropped.
    tasks: JoinSet<()>,
}

impl Pushes {
    pub(super) fn new(environment: Arc<dyn Environment>) -> Self {
        let following = Mutex::default();
        Self {
            environment,
            following,
        }
    }

    /// Completes once the server has pushed something since the call, or is there again.
    pub(super) fn changed(&self, link: &Link, queue: Queue) -> BoxFuture<'static, ()> {
        let mut pushed = self.of(link, queue);
        pushed.mark_unchanged();
        Box::pin(async move {
            // The task that pushes ends with the process.
            let _ = pushed.changed().await;
        })
    }

    fn of(&self, link: &Link, queue: Queue) -> watch::Receiver<u64> {
        let mut following = self.following.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pushed) = following.pushed.get(&queue) {
            return pushed.clone();
        }
        let (push, pushed) = watch::channel(0);
        let follow = follow(link.clone(), Arc::clone(&self.environment), queue, push);
        following.tasks.spawn(follow);
        following.pushed.insert(queue, pushed.clone());
        pushed
    }
}

async fn follow(link: Link, environment: Arc<dyn Environment>, queue: Queue, push: watch::Sender<u64>) {
    let mut backoff = Backoff::new(PAUSE.0, PAUSE.1);
    loop {
        let mut pages = pushed(&link, queue);
        while let Some(page) = pages.next().await {
            match page {
                Ok(_) => backoff = Backoff::new(PAUSE.0, PAUSE.1),
                Err(error) => tracing::debug!(%queue, %error, "the server pushes nothing for now"),
            }
            push.send_modify(|pushes| *pushes = pushes.wrapping_add(1));
        }
        tokio::time::sleep(backoff.next(environment.chance())).await;
    }
}

/// Pages of due work as they are pushed, until the connection is given up for another.
fn pushed(link: &Link, queue: Queue) -> BoxStream<'static, Result<v1::DueResponse, JournalError>> {
    let query = DueQuery {
        queue,
        limit: PUSHED_MAX,
        repeat_ms: None,
        once: false,
        page_token: None,
    };
    due(link, Silence::NoNews, query)
}

fn due(
    link: &Link,
    silence: Silence,
    query: DueQuery,
) -> BoxStream<'static, Result<v1::DueResponse, JournalError>> {
    let request = v1::DueRequest::from(query);
    messages(link, silence, |channel| async move {
        let mut feed = FeedClient::new(channel).max_decoding_message_size(message_bytes_max());
        feed.due(request).await
    })
}

impl Remote {
    pub(super) async fn read_due(
        &self,
        queue: Queue,
        from: Option<&str>,
        limit: u32,
    ) -> Result<DuePage, JournalError> {
        let query = DueQuery {
            queue,
            limit: DUE.of(limit),
            repeat_ms: None,
            once: true,
            page_token: from.map(str::to_owned),
        };
        let mut messages = due(&self.link, Silence::Hangs, query);
        let mut page = DuePage::default();
        while let Some(message) = messages.next().await {
            let message = message?;
            page.work.extend(read(message.hints));
            page.next = (!message.next_page_token.is_empty()).then_some(message.next_page_token);
        }
        Ok(page)
    }

    pub(super) async fn read_effect(
        &self,
        run: &RunId,
        effect: &EffectId,
    ) -> Result<Option<DueEffect>, JournalError> {
        let wanted = v1::EffectId::from(effect.clone());
        let view = self.view(run, Some(Only::Effect(effect.clone()))).await?;
        let effects = view.unwrap_or_default().effects.into_iter();
        let mut claimable = effects.filter(|effect| effect.claimable);
        let found = claimable.find(|effect| effect.effect.as_ref() == Some(&wanted));
        let due = |effect: v1::get_run_response::Effect| {
            Ok(DueEffect {
                connector: connector(&effect.connector)?,
                begun: Seq(effect.begun_seq),
            })
        };
        found.map(due).transpose()
    }

    pub(super) async fn read_obligation(
        &self,
        run: &RunId,
        obligation: &ObligationId,
    ) -> Result<Option<DueObligation>, JournalError> {
        let wanted = v1::ObligationId::from(obligation.clone());
        let view = self.view(run, Some(Only::Obligation(obligation.clone()))).await?;
        let obligations = view.unwrap_or_default().obligations.into_iter();
        let mut claimable = obligations.filter(|obligation| obligation.claimable);
        let found = claimable.find(|obligation| obligation.obligation.as_ref() == Some(&wanted));
        let due = |found: v1::get_run_response::Obligation| {
            Ok(DueObligation {
                connector: connector(&found.connector)?,
                source: Seq(found.source_seq),
                begun: found.begun_seq.map(Seq),
            })
        };
        found.map(due).transpose()
    }
}

fn connector(name: &str) -> Result<ConnectorName, JournalError> {
    ConnectorName::new(name).map_err(JournalError::damaged)
}

/// Hints that this build can read. A server of a newer build may have others: each is skipped and logged once, so that the rest of the
/// queue is processed.
fn read(hints: Vec<v1::Hint>) -> Vec<DueWork> {
    let read = |hint: v1::Hint| {
        let read = hint.stream.parse::<StreamId>().and_then(|stream| {
            let item = hint.item.parse()?;
            Ok(DueWork {
                stream,
                item,
                due_in: Duration::ZERO,
            })
        });
        read.inspect_err(|problem| pass_over(&hint, problem)).ok()
    };
    hints.into_iter().filter_map(read).collect()
}

fn pass_over(hint: &v1::Hint, problem: &InvalidName) {
    static LOGGED: LazyLock<Mutex<HashSet<(String, String)>>> = LazyLock::new(Mutex::default);
    let mut logged = LOGGED.lock().unwrap_or_else(PoisonError::into_inner);
    let (stream, item) = (hint.stream.clone(), hint.item.clone());
    if logged.len() < LOGGED_MAX && logged.insert((stream, item)) {
        let v1::Hint { stream, item, .. } = hint;
        tracing::warn!(stream, item, %problem, "due work cannot be read and is passed over: the server is of a newer build");
    }
}

#[cfg(test)]
mod tests {
    use super::{read, v1};

    #[test]
    fn due_work_of_a_newer_build_does_not_hold_up_the_rest() {
        let hint = |stream: &str, item: &str| v1::Hint {
            stream: stream.to_owned(),
            item: item.to_owned(),
            due_us: 1,
        };
        let run = "acme/run/treasury/ann/s1/i1";
        let work = read(vec![
            hint(run, "review:later"),
            hint("acme/gauge/rate", "run"),
            hint(run, "run"),
        ]);
        let items: Vec<_> = work.iter().map(|hint| hint.item.to_string()).collect();
        assert_eq!(items, ["run"]);
    }
}

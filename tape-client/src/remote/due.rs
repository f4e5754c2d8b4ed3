//! Due work behind a server. The server pushes work when it becomes due, so an idle worker sends no requests in between.

use super::answer::{Silence, messages};
use super::link::Link;
use super::pages::next_page;
use super::{Remote, message_bytes_max};
use futures::future::BoxFuture;
use futures::stream::{BoxStream, StreamExt as _};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;
use tape_api::JournalError;
use tape_api::argument::DUE;
use tape_api::backoff::Backoff;
use tape_api::due::{DueEffect, DueObligation, DuePage, DueWork, PendingPage, PendingWork};
use tape_core::agenda::Queue;
use tape_core::entry::obligation::ObligationId;
use tape_core::id::{ConnectorName, EffectId, RunId, Seq};
use tape_core::time::Timestamp;
use tape_environment::Environment;
use tape_proto::convert::{DueFilter, DueHint, DueList, DueWatch, InvalidField, Only, Tenants};
use tape_proto::v1;
use tape_proto::v1::work_service_client::WorkServiceClient;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::transport::Channel;

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
fn pushed(link: &Link, queue: Queue) -> BoxStream<'static, Result<v1::WatchDueResponse, JournalError>> {
    let watch = DueWatch {
        filter: of_all(queue),
        hints_max: PUSHED_MAX,
        repeat_ms: None,
    };
    let request = v1::WatchDueRequest::from(watch);
    messages(link, Silence::NoNews, |channel| async move {
        work(channel).watch_due(request).await
    })
}

/// The work of a queue, of all tenants.
const fn of_all(queue: Queue) -> DueFilter {
    DueFilter {
        queue,
        tenants: Tenants(None),
        app: None,
    }
}

fn work(channel: Channel) -> WorkServiceClient<Channel> {
    WorkServiceClient::new(channel).max_decoding_message_size(message_bytes_max())
}

impl Remote {
    pub(super) async fn read_due(
        &self,
        queue: Queue,
        from: Option<&str>,
        limit: u32,
    ) -> Result<DuePage, JournalError> {
        let page = self.list_due(queue, false, from, limit).await?;
        let next = next_page(from, page.next_page_token)?;
        let work = read(page.hints).map(|hint| DueWork {
            stream: hint.stream,
            item: hint.item,
            due_in: Duration::ZERO,
        });
        Ok(DuePage {
            work: work.collect(),
            next,
        })
    }

    pub(super) async fn read_pending(
        &self,
        queue: Queue,
        from: Option<&str>,
        limit: u32,
    ) -> Result<PendingPage, JournalError> {
        let page = self.list_due(queue, true, from, limit).await?;
        let next = next_page(from, page.next_page_token)?;
        let work = read(page.hints).map(|hint| PendingWork {
            stream: hint.stream,
            item: hint.item,
            due: hint.due,
        });
        Ok(PendingPage {
            work: work.collect(),
            next,
            now: page.now_us.map(Timestamp::from_micros),
        })
    }

    async fn list_due(
        &self,
        queue: Queue,
        pending: bool,
        from: Option<&str>,
        limit: u32,
    ) -> Result<v1::ListDueResponse, JournalError> {
        let list = DueList {
            filter: of_all(queue),
            page_size: DUE.of(limit),
            page_token: from.map(str::to_owned),
            pending,
        };
        let request = v1::ListDueRequest::from(list);
        let list = |channel| async move { work(channel).list_due(request).await };
        self.link.ask(list).await
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
fn read(hints: Vec<v1::Hint>) -> impl Iterator<Item = DueHint> {
    hints.into_iter().filter_map(|hint| {
        let read = DueHint::try_from(hint.clone());
        read.inspect_err(|problem| pass_over(&hint, problem)).ok()
    })
}

fn pass_over(hint: &v1::Hint, problem: &InvalidField) {
    static LOGGED: LazyLock<Mutex<HashSet<String>>> = LazyLock::new(Mutex::default);
    let mut logged = LOGGED.lock().unwrap_or_else(PoisonError::into_inner);
    let hint = format!("{hint:?}");
    if logged.len() < LOGGED_MAX && logged.insert(hint.clone()) {
        tracing::warn!(hint, %problem, "due work cannot be read and is passed over: the server is of a newer build");
    }
}

#[cfg(test)]
mod tests {
    use super::{RunId, read, v1};

    #[test]
    fn due_work_of_a_newer_build_does_not_hold_up_the_rest() {
        let run = RunId::new("acme", "treasury", "ann", "s1", "i1").unwrap();
        let hint = |stream: v1::StreamId, work: Option<v1::hint::Work>| v1::Hint {
            stream: Some(stream),
            work,
            due_us: 1,
        };
        let recovery = || Some(v1::hint::Work::Recovery(v1::hint::Recovery {}));
        let run = v1::StreamId::from(tape_core::id::StreamId::Run(run));
        // What this build does not know is a message without a kind.
        let work = read(vec![
            hint(run.clone(), None),
            hint(v1::StreamId::default(), recovery()),
            hint(run, recovery()),
        ]);
        let items: Vec<_> = work.map(|hint| hint.item.to_string()).collect();
        assert_eq!(items, ["run"]);
    }
}

//! What workers ask of a server beside commands.

use super::{Remote, message_bytes_max, messages};
use crate::backend::{Failure, Until};
use crate::work::{DueHint, DueHints, Inverse};
use futures::stream::{BoxStream, StreamExt as _};
use std::collections::HashSet;
use std::sync::{LazyLock, Mutex, PoisonError};
use tape_core::agenda::Queue;
use tape_core::codec::StoredEntry;
use tape_core::entry::obligation::ObligationId;
use tape_core::id::{Connector, EffectId, InvalidName, RunId, Seq, StreamId};
use tape_proto::convert::{DueQuery, Only};
use tape_proto::v1;
use tape_proto::v1::feed_client::FeedClient;

/// Most pieces of due work that are remembered as logged. Beyond that, none is logged.
const LOGGED_MAX: usize = 1_024;

impl Remote {
    /// Due work, as it becomes due; it ends where the connection is given up for another.
    pub(crate) fn due_pushed(
        &self,
        queue: Queue,
        limit: u32,
    ) -> BoxStream<'static, Result<Vec<DueHint>, Failure>> {
        let pushed = self.due(DueQuery {
            queue,
            limit,
            repeat_ms: None,
            once: false,
            page_token: None,
        });
        let mut changes = self.link.changes();
        let given_up = async move { drop(changes.changed().await) };
        let pages = pushed.map(|page| Ok(hints(page?.hints)));
        pages.take_until(given_up).boxed()
    }

    /// A page of what is due now.
    pub(crate) async fn due_page(
        &self,
        queue: Queue,
        from: Option<&str>,
        limit: u32,
    ) -> Result<DueHints, Failure> {
        let mut messages = self.due(DueQuery {
            queue,
            limit,
            repeat_ms: None,
            once: true,
            page_token: from.map(str::to_owned),
        });
        let mut page = DueHints::default();
        while let Some(message) = messages.next().await {
            let message = message?;
            page.hints.extend(hints(message.hints));
            page.next = (!message.next_page_token.is_empty()).then_some(message.next_page_token);
        }
        Ok(page)
    }

    fn due(&self, query: DueQuery) -> BoxStream<'static, Result<v1::DueResponse, Failure>> {
        let request = v1::DueRequest::from(query);
        let mut feed = FeedClient::new(self.link.channel()).max_decoding_message_size(message_bytes_max());
        let opening = async move { Ok(feed.due(request).await?.into_inner()) };
        messages(opening).boxed()
    }

    /// Entries of a run after `after`, at most `limit`.
    pub(crate) async fn page(
        &self,
        run: &RunId,
        after: Seq,
        limit: u32,
    ) -> Result<Vec<StoredEntry>, Failure> {
        let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
        let mut pages = self.entries_up_to(run, after, Until::End, u64::from(limit));
        let mut entries = Vec::new();
        while entries.len() < wanted
            && let Some(page) = pages.next().await
        {
            entries.extend(page?);
        }
        Ok(entries)
    }

    /// The connector of an effect that is not settled, and the entry that began it.
    pub(crate) async fn effect(
        &self,
        run: &RunId,
        effect: &EffectId,
    ) -> Result<Option<(Connector, Seq)>, Failure> {
        let wanted = v1::EffectId::from(effect.clone());
        let settled = [v1::EffectStatus::Confirmed, v1::EffectStatus::Failed];
        let only = Only::Effect(effect.clone());
        let effects = self.standing(run, only).await?.effects.into_iter();
        let mut open = effects.filter(|effect| !settled.contains(&effect.status()));
        let found = open.find(|effect| effect.effect.as_ref() == Some(&wanted));
        found
            .map(|effect| Ok((connector(&effect.connector)?, Seq(effect.begun_seq))))
            .transpose()
    }

    /// What undoes an effect that is not undone.
    pub(crate) async fn obligation(
        &self,
        run: &RunId,
        obligation: &ObligationId,
    ) -> Result<Option<Inverse>, Failure> {
        let wanted = v1::ObligationId::from(obligation.clone());
        let only = Only::Obligation(obligation.clone());
        let mut obligations = self.standing(run, only).await?.obligations.into_iter();
        let found = obligations.find(|obligation| obligation.obligation.as_ref() == Some(&wanted));
        let inverse = |found: v1::get_run_response::Obligation| {
            Ok(Inverse {
                connector: connector(&found.connector)?,
                source: Seq(found.source_seq),
                begun: found.begun_seq.map(Seq),
            })
        };
        found.map(inverse).transpose()
    }

    async fn standing(&self, run: &RunId, only: Only) -> Result<v1::GetRunResponse, Failure> {
        Ok(self.view(run, Some(only)).await?.unwrap_or_default())
    }
}

fn connector(name: &str) -> Result<Connector, Failure> {
    Connector::new(name).map_err(|error| Failure::Fatal(error.into()))
}

/// Hints that this build can read. A server of a newer build may have others: each is passed over and logged once, so that the rest
/// of the queue goes on.
fn hints(hints: Vec<v1::Hint>) -> Vec<DueHint> {
    let read = |hint: v1::Hint| {
        let read = hint.stream.parse::<StreamId>().and_then(|stream| {
            let item = hint.item.parse()?;
            Ok(DueHint { stream, item })
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
    use super::{hints, v1};

    #[test]
    fn due_work_of_a_newer_build_does_not_hold_up_the_rest() {
        let hint = |stream: &str, item: &str| v1::Hint {
            stream: stream.to_owned(),
            item: item.to_owned(),
            due_us: 1,
        };
        let run = "acme/run/treasury/ann/s1/i1";
        let read = hints(vec![
            hint(run, "review:later"),
            hint("acme/gauge/rate", "run"),
            hint(run, "run"),
        ]);
        let read: Vec<_> = read.iter().map(|hint| hint.item.to_string()).collect();
        assert_eq!(read, ["run"]);
    }
}

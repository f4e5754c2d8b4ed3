//! Answers of a server, each within a time.
//!
//! A server that gives none in time hangs. Its connection may still look healthy, since a proxy may answer pings for it. So the connection is
//! given up, and the next request uses another one, which may lead to another server.

use super::failure::failed;
use super::link::Link;
use futures::stream::{self, BoxStream, StreamExt as _};
use std::time::Duration;
use tape_api::JournalError;
use tokio::sync::watch;
use tonic::transport::Channel;
use tonic::{Response, Status, Streaming};

/// The longest wait for an answer, or for the next message of a stream: longer than a server waits for its store.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Upkeep has this many times as long: its answer comes once the server has looked at a page of whole streams.
const UPKEEP_TIMES: u32 = 10;

/// What it means that no message of a stream comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Silence {
    /// The server hangs: it has the next message, or the end.
    Hangs,
    /// The same, but the server may have much to look at first.
    Works,
    /// There is no news. The stream waits until its connection is given up because of another call.
    NoNews,
}

impl Link {
    /// The answer to a call.
    pub(super) async fn ask<T, F>(&self, call: impl FnOnce(Channel) -> F) -> Result<T, JournalError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        self.ask_within(self.answer_timeout(), call).await
    }

    /// The answer to a call for upkeep.
    pub(super) async fn ask_upkeep<T, F>(&self, call: impl FnOnce(Channel) -> F) -> Result<T, JournalError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        self.ask_within(UPKEEP_TIMES * self.answer_timeout(), call).await
    }

    async fn ask_within<T, F>(
        &self,
        timeout: Duration,
        call: impl FnOnce(Channel) -> F,
    ) -> Result<T, JournalError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        // The future of a call is large.
        let asked = Box::pin(async {
            let channel = self.channel().await?;
            Ok(call(channel).await.map_err(failed)?.into_inner())
        });
        self.within(timeout, asked).await
    }

    /// The answer, if it comes in time.
    pub(super) async fn answer<T>(
        &self,
        asked: impl Future<Output = Result<T, JournalError>>,
    ) -> Result<T, JournalError> {
        self.within(self.answer_timeout(), asked).await
    }

    /// The answer within `timeout`. A connection without an answer in time is given up: its server may be gone.
    pub(super) async fn within<T>(
        &self,
        timeout: Duration,
        asked: impl Future<Output = Result<T, JournalError>>,
    ) -> Result<T, JournalError> {
        self.within_over(self.number(), timeout, asked).await
    }

    /// The same for an answer that comes over connection `number`.
    async fn within_over<T>(
        &self,
        number: u64,
        timeout: Duration,
        asked: impl Future<Output = Result<T, JournalError>>,
    ) -> Result<T, JournalError> {
        let answer = tokio::time::timeout(timeout, asked).await;
        answer.unwrap_or_else(|_| {
            self.give_up(number);
            Err(JournalError::Unavailable("there was no answer in time".into()))
        })
    }
}

/// A stream of messages of a server.
#[derive(Debug)]
pub(super) struct Messages<M> {
    link: Link,
    /// The connection that it came over.
    number: u64,
    changes: watch::Receiver<u64>,
    incoming: Streaming<M>,
}

impl<M> Messages<M> {
    /// Opens a stream. A server says at once that it has opened it.
    pub(super) async fn open<F>(link: &Link, call: impl FnOnce(Channel) -> F) -> Result<Self, JournalError>
    where
        F: Future<Output = Result<Response<Streaming<M>>, Status>>,
    {
        let mut changes = link.changes();
        let number = *changes.borrow_and_update();
        let incoming = link.ask(call).await?;
        let link = link.clone();
        Ok(Self {
            link,
            number,
            changes,
            incoming,
        })
    }

    /// The next message; none at the end.
    pub(super) async fn next(&mut self, silence: Silence) -> Result<Option<M>, JournalError> {
        let incoming = &mut self.incoming;
        let timeout = match silence {
            Silence::Hangs => self.link.answer_timeout(),
            Silence::Works => UPKEEP_TIMES * self.link.answer_timeout(),
            Silence::NoNews => {
                return tokio::select! {
                    // What is there is read first.
                    biased;
                    message = incoming.message() => Ok(message.map_err(failed)?),
                    _ = self.changes.changed() => {
                        Err(JournalError::Unavailable("the connection was given up for another".into()))
                    }
                };
            }
        };
        let message = async { incoming.message().await.map_err(failed) };
        self.link.within_over(self.number, timeout, message).await
    }
}

/// The messages of a stream that is opened when it is first read. An error is the last of them.
pub(super) fn messages<M, F>(
    link: &Link,
    silence: Silence,
    call: impl FnOnce(Channel) -> F + Send + 'static,
) -> BoxStream<'static, Result<M, JournalError>>
where
    M: Send + 'static,
    F: Future<Output = Result<Response<Streaming<M>>, Status>> + Send + 'static,
{
    let link = link.clone();
    let opening = stream::once(async move { Messages::open(&link, call).await });
    let opened = opening.flat_map(move |opened| match opened {
        Ok(messages) => read(messages, silence),
        Err(failure) => stream::once(std::future::ready(Err(failure))).boxed(),
    });
    opened.boxed()
}

fn read<M: Send + 'static>(
    messages: Messages<M>,
    silence: Silence,
) -> BoxStream<'static, Result<M, JournalError>> {
    stream::unfold(Some(messages), move |messages| async move {
        let mut messages = messages?;
        match messages.next(silence).await {
            Ok(Some(message)) => Some((Ok(message), Some(messages))),
            Ok(None) => None,
            Err(failure) => Some((Err(failure), None)),
        }
    })
    .boxed()
}

//! A connector for upstreams that take their work from a queue of Google Cloud Tasks.

use super::subscriber::{Subscriber, attributes, body, ending, in_time, undoing};
use crate::cloud_tasks::{Created, NewTask, TaskQueue, TaskTarget};
use crate::connector::{Call, Connector, NotUndone, Observation};
use crate::google::GoogleError;
use async_trait::async_trait;
use tape_core::command::AttemptOutcome;
use tape_core::payload::Payload;

/// Creates a task for each effect. The task sends the arguments, unchanged, to a target by `POST`, with the headers of
/// [`HttpConnector`](crate::HttpConnector). Cloud Tasks repeats the request until the target answers with 2xx.
///
/// That answer ends the task and says nothing to the journal. The effect is UNKNOWN until its [`Subscriber`] confirms it. Only idempotent
/// effects are published, since a request may come more than once; its target has to act once under each `Idempotency-Key`.
///
/// The task is named by the effect's key. So an attempt whose answer was lost, or whose worker died, leaves one task. Once the task is gone,
/// another attempt creates another one with the same key in its headers.
#[derive(Clone, Debug)]
pub struct CloudTasksConnector {
    queue: TaskQueue,
    target: TaskTarget,
    subscriber: Subscriber,
}

impl CloudTasksConnector {
    /// Creates tasks in `queue`, whose requests go to `target`.
    #[must_use]
    pub const fn new(queue: TaskQueue, target: TaskTarget, subscriber: Subscriber) -> Self {
        Self {
            queue,
            target,
            subscriber,
        }
    }

    /// Returns the name of the task, for people.
    async fn publish(&self, call: &Call, body: Vec<u8>, is_undo: bool) -> Result<String, GoogleError> {
        let task = |name| NewTask {
            name,
            at: None,
            target: &self.target,
            headers: attributes(call, is_undo),
            body: body.clone(),
        };
        let name = &call.key;
        if self.queue.create(&task(name)).await? == Created::New || self.queue.has(name).await? {
            return Ok(format!("task {name} of {}", self.queue.name()));
        }
        // The task of an earlier attempt is gone. Its name stays taken for a while.
        let again = format!("{name}-{}", call.attempt);
        self.queue.create(&task(&again)).await?;
        Ok(format!("task {again} of {}", self.queue.name()))
    }
}

#[async_trait]
impl Connector for CloudTasksConnector {
    async fn dispatch(&self, call: &Call) -> AttemptOutcome {
        match body(call) {
            Ok(body) => ending(in_time(call, self.publish(call, body, false)).await),
            Err(error) => AttemptOutcome::Refused { error, detail: None },
        }
    }

    async fn observe(&self, call: &Call) -> Observation {
        self.subscriber.observe(call).await
    }

    async fn compensate(&self, call: &Call) -> Result<Payload, NotUndone> {
        match body(call) {
            Ok(body) => Err(undoing(in_time(call, self.publish(call, body, true)).await)),
            Err(error) => Err(NotUndone::Refused { error }),
        }
    }

    async fn observe_undo(&self, call: &Call) -> Option<Observation> {
        self.subscriber.observe_undo(call).await
    }
}

//! Connectors whose upstreams subscribe to what is published, as the configuration says.

use crate::config::{ConnectorEntry, Misconfigured};
use crate::google::{CloudTasksEntry, PubsubEntry};
use tape_core::id::ConnectorName;
use tape_reactors::Connectors;

#[cfg(feature = "pubsub")]
pub(crate) async fn to_topic(
    all: Connectors,
    name: &ConnectorName,
    entry: &ConnectorEntry,
    topic: &PubsubEntry,
) -> Result<Connectors, Misconfigured> {
    let of = format!("connectors.{name}.pubsub");
    let subscriber = subscriber(&of, name, entry, topic.answers.as_ref())?;
    let emulator = topic.emulator.as_deref();
    let connector = tape_reactors::PubsubConnector::open(&topic.topic, emulator, subscriber).await;
    let connector = connector.map_err(|error| crate::google::unusable(format!("{of}.topic"), error))?;
    Ok(all.with(name.clone(), connector, entry.concurrency))
}

#[cfg(feature = "cloud-tasks")]
pub(crate) async fn to_queue(
    all: Connectors,
    name: &ConnectorName,
    entry: &ConnectorEntry,
    queue: &CloudTasksEntry,
) -> Result<Connectors, Misconfigured> {
    let of = format!("connectors.{name}.cloud_tasks");
    let subscriber = subscriber(&of, name, entry, queue.answers.as_ref())?;
    let (queue, target) = queue.open(&of).await?;
    let connector = tape_reactors::CloudTasksConnector::new(queue, target, subscriber);
    Ok(all.with(name.clone(), connector, entry.concurrency))
}

/// How the subscriber says what came of an effect. The headers of the connector are those of the questions.
#[cfg(any(feature = "cloud-tasks", feature = "pubsub"))]
fn subscriber(
    of: &str,
    name: &ConnectorName,
    entry: &ConnectorEntry,
    answers: Option<&tape_reactors::HttpAnswers>,
) -> Result<tape_reactors::Subscriber, Misconfigured> {
    use crate::parts::{no_env, secrets, unusable};
    use tape_reactors::Subscriber;
    no_env(name, entry)?;
    let Some(answers) = answers else {
        for (key, headers) in [("headers", &entry.headers), ("headers_env", &entry.headers_env)] {
            if !headers.is_empty() {
                return Err(Misconfigured::Invalid {
                    key: format!("connectors.{name}.{key}"),
                    problem: format!("is about questions, and `{of}.answers` asks none"),
                });
            }
        }
        return Ok(Subscriber::new());
    };
    let secrets = secrets(name, entry)?;
    let secrets = secrets.iter().map(|(header, value)| (*header, value.as_str()));
    let subscriber = Subscriber::asked(answers.clone(), secrets);
    let mut subscriber = subscriber.map_err(|source| unusable(&format!("{of}.answers"), source))?;
    for (header, value) in &entry.headers {
        subscriber = subscriber
            .header(header, value)
            .map_err(|source| unusable(&format!("connectors.{name}"), source))?;
    }
    Ok(subscriber)
}

#[cfg(not(feature = "pubsub"))]
#[expect(clippy::unused_async, reason = "a build with the feature opens the topic")]
pub(crate) async fn to_topic(
    _: Connectors,
    name: &ConnectorName,
    _: &ConnectorEntry,
    _: &PubsubEntry,
) -> Result<Connectors, Misconfigured> {
    Err(crate::google::not_built(
        format!("connectors.{name}.pubsub"),
        "pubsub",
    ))
}

#[cfg(not(feature = "cloud-tasks"))]
#[expect(clippy::unused_async, reason = "a build with the feature opens the queue")]
pub(crate) async fn to_queue(
    _: Connectors,
    name: &ConnectorName,
    _: &ConnectorEntry,
    _: &CloudTasksEntry,
) -> Result<Connectors, Misconfigured> {
    let key = format!("connectors.{name}.cloud_tasks");
    Err(crate::google::not_built(key, "cloud-tasks"))
}

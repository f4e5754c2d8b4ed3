//! The settings of a Pub/Sub sink.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Where an emulator listens, as `HOST:PORT`, as all clients of Pub/Sub read it.
const EMULATOR: &str = "PUBSUB_EMULATOR_HOST";
/// Longest name of a topic within its project, in bytes, and shortest.
const TOPIC_BYTES_MAX: usize = 255;
const TOPIC_BYTES_MIN: usize = 3;
/// Longest name of a project, in bytes, with its domain where it has one.
const PROJECT_BYTES_MAX: usize = 100;

/// The settings of a Pub/Sub sink.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// The topic.
    pub topic: Topic,
    /// How a message has an event.
    pub content: Content,
    /// Whether messages have the stream of their event as their ordering key.
    pub ordered: bool,
    /// Where Pub/Sub is reached, as in `https://europe-west1-pubsub.googleapis.com`. Pub/Sub keeps the order of several publishers only if all
    /// of them publish in the same region. None stands for the global endpoint, which chooses the region nearest to the publisher.
    pub endpoint: Option<String>,
    /// An emulator, as `HOST:PORT`. It is reached without credentials and without TLS.
    pub emulator: Option<String>,
    /// How long a call may take. What Pub/Sub has not confirmed by then is unavailable.
    pub timeout: Duration,
}

impl Settings {
    /// Events in [binary mode](Content::Binary), ordered, at the emulator that `PUBSUB_EMULATOR_HOST` names or else at the global endpoint,
    /// within 10 seconds.
    #[must_use]
    pub fn new(topic: Topic) -> Self {
        Self {
            topic,
            content: Content::Binary,
            ordered: true,
            endpoint: None,
            emulator: std::env::var(EMULATOR).ok().filter(|host| !host.is_empty()),
            timeout: Duration::from_secs(10),
        }
    }

    /// Where Pub/Sub is reached; none for the global endpoint.
    pub(super) fn reached_at(&self) -> Option<String> {
        let emulator = self.emulator.as_ref().map(|host| format!("http://{host}"));
        emulator.or_else(|| self.endpoint.clone())
    }
}

/// How a message has an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Content {
    /// The message's data is the event's data, and its attributes have the rest. An event with an attribute that Pub/Sub does not take goes
    /// as [`Structured`](Self::Structured).
    #[default]
    Binary,
    /// The message's data is the whole event as JSON. The message has those attributes of the event that Pub/Sub takes too, for filters.
    Structured,
}

/// The full name of a topic: `projects/PROJECT/topics/TOPIC`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    name: String,
    project_bytes: usize,
}

/// Why a text is no setting.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidSettings {
    /// The text does not name a topic.
    #[error(
        "'{found}' is not projects/PROJECT/topics/TOPIC, where TOPIC has {TOPIC_BYTES_MIN} to {TOPIC_BYTES_MAX} of the \
         characters A-Z a-z 0-9 - _ . ~ + %, begins with a letter and does not begin with 'goog'"
    )]
    Topic {
        /// The beginning of the text.
        found: String,
    },
}

impl Topic {
    /// The full name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// The project.
    #[must_use]
    pub fn project(&self) -> &str {
        &self.name["projects/".len()..][..self.project_bytes]
    }

    /// The name within the project.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.name["projects/".len() + self.project_bytes + "/topics/".len()..]
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl FromStr for Topic {
    type Err = InvalidSettings;

    /// A topic that Pub/Sub would not take as a name would have every event refused as not valid. So its form is checked here.
    fn from_str(text: &str) -> Result<Self, InvalidSettings> {
        let parts: Vec<&str> = text.split('/').take(5).collect();
        match parts[..] {
            ["projects", project, "topics", topic] if is_project(project) && is_topic(topic) => Ok(Self {
                name: text.to_owned(),
                project_bytes: project.len(),
            }),
            _ => Err(InvalidSettings::Topic {
                found: text.chars().take(100).collect(),
            }),
        }
    }
}

fn is_project(text: &str) -> bool {
    let taken = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.:".contains(&byte);
    (1..=PROJECT_BYTES_MAX).contains(&text.len()) && text.bytes().all(taken)
}

fn is_topic(text: &str) -> bool {
    let taken = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~+%".contains(&byte);
    (TOPIC_BYTES_MIN..=TOPIC_BYTES_MAX).contains(&text.len())
        && text.bytes().all(taken)
        && text.starts_with(|first: char| first.is_ascii_alphabetic())
        && !text.starts_with("goog")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_named_in_full() {
        let topic: Topic = "projects/example.com:acme-1/topics/tape.entries".parse().unwrap();
        assert_eq!(topic.project(), "example.com:acme-1");
        assert_eq!(topic.id(), "tape.entries");
        for bad in [
            "",
            "entries",
            "projects/acme/topics/",
            "projects//topics/entries",
            "projects/acme/topics/en",
            "projects/acme/topics/1entries",
            "projects/acme/topics/google",
            "projects/acme/topics/entries/more",
            "projects/acme/subscriptions/entries",
            "projects/Acme/topics/entries",
            "projects/acme/topics/en tries",
        ] {
            let refused = bad.parse::<Topic>().unwrap_err();
            assert!(
                refused.to_string().contains("projects/PROJECT/topics/TOPIC"),
                "{bad}"
            );
        }
    }
}

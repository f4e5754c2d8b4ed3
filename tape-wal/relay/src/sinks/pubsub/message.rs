//! An event as a message of Pub/Sub.

use super::settings::{Content, Settings};
use crate::event::{EVENT_CONTENT_TYPE, Event};
use crate::sink::SinkError;
use bytes::Bytes;
use google_cloud_pubsub::model::Message;
use tape_core::id::StreamId;
use tape_core::payload::Digest;

/// Most attributes of a message.
const ATTRIBUTES_MAX: usize = 100;
/// Longest name of an attribute, in bytes.
const ATTRIBUTE_NAME_BYTES_MAX: usize = 256;
/// Longest value of an attribute, in bytes.
const ATTRIBUTE_VALUE_BYTES_MAX: usize = 1_024;
/// Longest ordering key, in bytes.
const ORDERING_KEY_BYTES_MAX: usize = 1_024;
/// Most bytes of data, attributes and keys in a request. Pub/Sub takes 10 MB in all; the rest is for the topic and for what frames each part.
pub(super) const REQUEST_BYTES_MAX: usize = 9_500_000;

/// The ordering key of a stream's messages: its full name, or `sha256:` and the SHA-256 of the name in hexadecimal digits where the name
/// has over 1,024 bytes, which Pub/Sub does not take.
///
/// ```
/// let stream = "acme/run/treasury/ann/s1/i1".parse().unwrap();
/// assert_eq!(tape_relay::sinks::pubsub::ordering_key(&stream), "acme/run/treasury/ann/s1/i1");
/// ```
#[must_use]
pub fn ordering_key(stream: &StreamId) -> String {
    let name = stream.to_string();
    if name.len() <= ORDERING_KEY_BYTES_MAX {
        return name;
    }
    format!("sha256:{}", Digest::of(name.as_bytes()))
}

/// The message of an event.
///
/// # Errors
/// [`SinkError::Refused`] where no request has room for it.
pub(super) fn message(event: &Event, settings: &Settings) -> Result<Message, SinkError> {
    let attributes: Vec<(String, &str)> = attributes(event).collect();
    let all_fit = attributes.len() < ATTRIBUTES_MAX && attributes.iter().all(fits);
    let (content_type, data) = match settings.content {
        Content::Binary if all_fit => (content_type(event), event.data().clone()),
        Content::Binary | Content::Structured => (EVENT_CONTENT_TYPE, Bytes::from(event.to_json())),
    };
    let fitting = attributes.into_iter().filter(fits).take(ATTRIBUTES_MAX - 1);
    let content_type = ("content-type".to_owned(), content_type);
    let mut message = Message::new()
        .set_data(data)
        .set_attributes(fitting.chain([content_type]));
    if settings.ordered {
        message = message.set_ordering_key(ordering_key(event.stream()));
    }
    let size = size(&message);
    if size > REQUEST_BYTES_MAX {
        return Err(SinkError::refused(format_args!(
            "the message has {size} bytes, a request of Pub/Sub has room for {REQUEST_BYTES_MAX}; \
             a relay with a lower event_bytes_max leaves payloads out"
        )));
    }
    Ok(message)
}

/// Bytes of data, attributes and key.
pub(super) fn size(message: &Message) -> usize {
    let attributes = message.attributes.iter();
    let attributes: usize = attributes.map(|(name, value)| name.len() + value.len()).sum();
    message.data.len() + message.ordering_key.len() + attributes
}

/// All attributes but the content type, as the binding of CloudEvents for Pub/Sub names them.
fn attributes(event: &Event) -> impl Iterator<Item = (String, &str)> {
    let all = event.attributes();
    all.filter(|(name, _)| *name != "datacontenttype")
        .map(|(name, value)| (format!("ce-{name}"), value))
}

fn content_type(event: &Event) -> &str {
    event.attribute("datacontenttype").unwrap_or_default()
}

fn fits((name, value): &(String, &str)) -> bool {
    name.len() <= ATTRIBUTE_NAME_BYTES_MAX && value.len() <= ATTRIBUTE_VALUE_BYTES_MAX
}

//! Makes relays of their entries in the file.

use crate::file::{self, Entry, File, Misconfigured, Payload};
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;
use tape_core::id::RelayId;
use tape_core::subject::Pattern;
use tape_environment::Environment;
use tape_relay::event_format::{DEFAULT_EVENT_BYTES_MAX, DEFAULT_SOURCE, EventFormat};
use tape_relay::filter::{Filter, Predicate};
use tape_relay::payload_rule::PayloadRule;
use tape_relay::redaction::{Redaction, Unmatched};
use tape_relay::sink::Sink;
use tape_relay::sinks;
use tape_relay::sinks::json_lines::{DEFAULT_AGE_MAX, DEFAULT_FILE_BYTES_MAX, JsonLines, JsonLinesSettings};
use tape_relay::sinks::webhook::{DEFAULT_TIMEOUT, InvalidWebhook, Secret, Webhook, WebhookSettings};
use tape_relay::{Relay, Settings};

/// The relays that are to be carried: all, or those that are named.
pub(crate) fn relays(
    file: &File,
    only: &[RelayId],
    environment: &Arc<dyn Environment>,
) -> Result<Vec<Relay>, Misconfigured> {
    if let Some(unknown) = only.iter().find(|relay| !file.relays.contains_key(relay)) {
        return Err(Misconfigured::Unknown {
            relay: unknown.clone(),
            known: known(file),
        });
    }
    let chosen = file
        .relays
        .iter()
        .filter(|(relay, _)| only.is_empty() || only.contains(relay));
    let relays = chosen.map(|(id, entry)| relay(id, entry, environment));
    let relays = relays.collect::<Result<Vec<Relay>, _>>()?;
    if relays.is_empty() {
        return Err(Misconfigured::NoRelay);
    }
    Ok(relays)
}

fn known(file: &File) -> String {
    let names: Vec<String> = file.relays.keys().map(ToString::to_string).collect();
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

fn relay(id: &RelayId, entry: &Entry, environment: &Arc<dyn Environment>) -> Result<Relay, Misconfigured> {
    let predicate = entry.predicate.as_deref();
    let predicate = predicate
        .map(|source| Predicate::compile(source, environment))
        .transpose();
    let pattern = entry.pattern.clone().unwrap_or_else(Pattern::all);
    if let (Some(own), Some(of)) = (&id.tenant, pattern.tenant())
        && *own != of
    {
        let problem = format!("chooses entries of '{of}' alone, and the relay has those of '{own}' alone");
        return Err(invalid(id, "pattern", problem));
    }
    let source = entry.source.as_deref().unwrap_or(DEFAULT_SOURCE);
    let bytes_max = entry.event_bytes_max.unwrap_or(DEFAULT_EVENT_BYTES_MAX);
    let format = EventFormat::new(source, payload_rule(id, entry)?, bytes_max);
    Ok(Relay {
        id: id.clone(),
        filter: Filter::new(
            pattern,
            predicate.map_err(|problem| invalid(id, "predicate", problem))?,
        ),
        format: format.map_err(|problem| invalid(id, "source and event_bytes_max", problem))?,
        sink: sink(id, entry, environment)?,
        settings: Settings {
            // One process at a time writes a file.
            together: entry.json_lines.is_some(),
            ..entry.settings(id)?
        },
    })
}

fn payload_rule(id: &RelayId, entry: &Entry) -> Result<PayloadRule, Misconfigured> {
    if entry.payload != Payload::Redact {
        let given = [
            ("redact", !entry.redact.is_empty()),
            ("redact_unmatched", entry.redact_unmatched.is_some()),
        ];
        if let Some((key, _)) = given.into_iter().find(|(_, given)| *given) {
            return Err(invalid(id, key, "is for `payload = \"redact\"`"));
        }
    }
    let unmatched = match entry.redact_unmatched {
        Some(file::Unmatched::Include) => Unmatched::Include,
        Some(file::Unmatched::Omit) | None => Unmatched::Omit,
    };
    Ok(match entry.payload {
        Payload::Include => PayloadRule::Include,
        Payload::Omit => PayloadRule::Omit,
        Payload::Redact => {
            let redaction = Redaction::new(&entry.redact);
            let redaction = redaction.map_err(|problem| invalid(id, "redact", problem))?;
            PayloadRule::Redact(redaction.with_unmatched(unmatched))
        }
    })
}

fn sink(
    id: &RelayId,
    entry: &Entry,
    environment: &Arc<dyn Environment>,
) -> Result<Arc<dyn Sink>, Misconfigured> {
    match (&entry.json_lines, &entry.webhook, &entry.pubsub, entry.null) {
        (Some(lines), None, None, false) => json_lines(id, lines, environment),
        (None, Some(endpoint), None, false) => webhook(id, endpoint, environment),
        (None, None, Some(topic), false) => pubsub(id, topic),
        (None, None, None, true) => Ok(Arc::new(sinks::null::Null)),
        _ => Err(Misconfigured::Sinks { relay: id.clone() }),
    }
}

fn json_lines(
    id: &RelayId,
    lines: &file::JsonLines,
    environment: &Arc<dyn Environment>,
) -> Result<Arc<dyn Sink>, Misconfigured> {
    let settings = JsonLinesSettings::new(
        &lines.path,
        lines.bytes_max.unwrap_or(DEFAULT_FILE_BYTES_MAX),
        lines.age_max_ms.map_or(DEFAULT_AGE_MAX, Duration::from_millis),
    );
    let settings = settings.map_err(|problem| invalid(id, "json_lines", problem))?;
    Ok(Arc::new(JsonLines::new(settings, Arc::clone(environment))))
}

fn webhook(
    id: &RelayId,
    endpoint: &file::Webhook,
    environment: &Arc<dyn Environment>,
) -> Result<Arc<dyn Sink>, Misconfigured> {
    let wrong = |problem: InvalidWebhook| invalid(id, "webhook", problem);
    let secrets = endpoint.secrets_env.iter().map(|variable| secret(id, variable));
    let secrets = secrets.collect::<Result<Vec<Secret>, _>>()?;
    let mut settings = WebhookSettings::new(&endpoint.url, secrets, endpoint.insecure).map_err(wrong)?;
    let timeout = endpoint.timeout_ms.map_or(DEFAULT_TIMEOUT, Duration::from_millis);
    settings = settings.with_timeout(timeout).map_err(wrong)?;
    if let Some(concurrency) = endpoint.concurrency {
        settings = settings.with_concurrency(concurrency).map_err(wrong)?;
    }
    if let Some(refused) = &endpoint.refused {
        settings = settings.with_refused(refused).map_err(wrong)?;
    }
    let sink = Webhook::new(settings, Arc::clone(environment)).map_err(wrong)?;
    Ok(Arc::new(sink))
}

fn secret(id: &RelayId, variable: &str) -> Result<Secret, Misconfigured> {
    let secret = std::env::var(variable).ok().filter(|secret| !secret.is_empty());
    // The text in place of the variable's name may be the secret itself, so it is not repeated.
    let Some(secret) = secret else {
        let problem = "names a variable of the environment that is not set, or empty";
        return Err(invalid(id, "webhook.secrets_env", problem));
    };
    secret
        .parse()
        .map_err(|problem| invalid(id, "webhook.secrets_env", problem))
}

#[cfg(feature = "pubsub")]
fn pubsub(id: &RelayId, entry: &file::Pubsub) -> Result<Arc<dyn Sink>, Misconfigured> {
    use tape_relay::sinks::pubsub::{self, Content, PubSub};
    let topic = entry
        .topic
        .parse()
        .map_err(|problem| invalid(id, "pubsub.topic", problem))?;
    let mut settings = pubsub::Settings::new(topic);
    settings.ordered = entry.ordered;
    settings.endpoint.clone_from(&entry.endpoint);
    if entry.structured {
        settings.content = Content::Structured;
    }
    Ok(Arc::new(PubSub::new(settings)))
}

#[cfg(not(feature = "pubsub"))]
fn pubsub(id: &RelayId, _: &file::Pubsub) -> Result<Arc<dyn Sink>, Misconfigured> {
    Err(Misconfigured::NoPubsub { relay: id.clone() })
}

fn invalid(relay: &RelayId, key: &'static str, problem: impl Display) -> Misconfigured {
    Misconfigured::Invalid {
        relay: relay.clone(),
        key,
        problem: problem.to_string(),
    }
}

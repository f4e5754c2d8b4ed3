//! The driver of a run, for people and programs.

use crate::text::time;
use serde_json::{Value, json};
use tape_client::core::run::Driver;

/// As text; none for a run that needs no driver.
pub(crate) fn text(driver: &Driver) -> Option<String> {
    match driver {
        Driver::Driven { holder, until } => Some(format!("driven by {holder} until {}", time(*until))),
        Driver::Alone {
            last, since, cancel, ..
        } => {
            let last = last.as_ref().map(|last| format!(", last driven by {last}"));
            let cancel = cancel
                .as_ref()
                .map(|why| format!(", cancellation asked for: {why}"));
            Some(format!(
                "ALONE since {}{}{}",
                time(*since),
                last.unwrap_or_default(),
                cancel.unwrap_or_default()
            ))
        }
        Driver::Unneeded => None,
    }
}

pub(crate) fn json(driver: &Driver) -> Value {
    match driver {
        Driver::Driven { holder, until } => json!({"holder": holder, "until": time(*until)}),
        Driver::Alone {
            last,
            since,
            redrive_at,
            cancel,
        } => {
            json!({"alone_since": time(*since), "last": last, "redrive": time(*redrive_at), "cancel": cancel})
        }
        Driver::Unneeded => Value::Null,
    }
}

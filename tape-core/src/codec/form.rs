//! What verifiers check beyond what readers need: that an entry is written in the one form that it has.
//!
//! Readers take a digest in upper case or a `null` for a member that is absent. Readers in other languages may not, so an entry that only
//! some can read proves nothing. The checks cost as much as reading an entry, so only what verifies does them.

use super::{Known, StoredEntry};
use crate::entry::EntryBody;
use crate::entry::words;
use crate::json::Letters;
use crate::state::StateScope;
use serde::de::IgnoredAny;

/// Checks the form of an entry that [`open`](super::open) can read.
///
/// # Errors
/// What is written in another form.
pub fn check_form(stored: &StoredEntry) -> Result<(), String> {
    let envelope: Known<'_> = serde_json::from_slice(&stored.envelope).map_err(|error| error.to_string())?;
    let text = std::str::from_utf8(&stored.envelope).map_err(|error| error.to_string())?;
    check_text(text, &envelope)?;
    check_versions(&envelope)?;
    if let (Some(words), Some(bytes)) = (envelope.words, &stored.payload) {
        let len = usize::try_from(words.len).map_or(bytes.len(), |len| len.min(bytes.len()));
        check_words(&bytes[bytes.len() - len..])?;
    }
    match envelope.entry.as_ref() {
        EntryBody::SessionMerged(merged) => {
            let shared = |scope| matches!(scope, StateScope::App | StateScope::User);
            if merged.refused.iter().all(|refused| shared(refused.scope)) {
                return Ok(());
            }
            Err("a merge was refused in a scope that is not shared".to_owned())
        }
        _ => Ok(()),
    }
}

/// Checks the letters of an envelope: every member that is known is written as builds write it.
fn check_text(text: &str, envelope: &Known<'_>) -> Result<(), String> {
    if text.contains(['\n', '\r']) {
        return Err("the envelope has a line break".to_owned());
    }
    let written = serde_json::to_string(envelope).map_err(|error| error.to_string())?;
    let written = Letters::parse(&written).map_err(|error| error.to_string())?;
    let found = Letters::parse(text).map_err(|error| error.to_string())?;
    found.check_texts().map_err(|error| error.to_string())?;
    check_letters(&written, &found)?;
    // Where something else cannot stand in the place of a null, the member is known.
    let mut probe = String::new();
    if write_probe(Some(&written), &found, &mut probe) && serde_json::from_str::<Known<'_>>(&probe).is_err() {
        return Err("a member that has no value is null instead of absent".to_owned());
    }
    Ok(())
}

/// Checks what belongs to one version alone, and the time of the decision.
fn check_versions(envelope: &Known<'_>) -> Result<(), String> {
    if envelope.v < 2 {
        if envelope.words.is_some() || envelope.snapshot.is_some() {
            return Err("version 1 has neither words nor a snapshot".to_owned());
        }
        return Ok(());
    }
    if words::take(envelope.entry.clone().into_owned().words_mut()).is_some() {
        return Err("a text stands in the envelope, where only words can be erased".to_owned());
    }
    match envelope.decided {
        Some(decided) if decided >= envelope.at => Err(format!(
            "it was decided at {decided}, which is not before its time, {}",
            envelope.at
        )),
        _ => Ok(()),
    }
}

/// Checks that words say something. An entry without words has no array.
fn check_words(bytes: &[u8]) -> Result<(), String> {
    let said: Vec<Option<IgnoredAny>> = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if said.iter().all(Option::is_none) {
        return Err("its words say nothing".to_owned());
    }
    Ok(())
}

fn unescaped(text: &str) -> Result<String, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

/// Checks that all that is written is found in the same letters, but for the escapes of texts. What is found may have more members.
fn check_letters(written: &Letters<'_>, found: &Letters<'_>) -> Result<(), String> {
    match (written, found) {
        (Letters::Object(written), Letters::Object(found)) => {
            let all = written
                .iter()
                .filter_map(|(name, value)| Some((value, found.get(name)?)));
            all.into_iter()
                .try_for_each(|(written, found)| check_letters(written, found))
        }
        (Letters::Array(written), Letters::Array(found)) if written.len() == found.len() => written
            .iter()
            .zip(found)
            .try_for_each(|(written, found)| check_letters(written, found)),
        (Letters::Scalar(written), Letters::Scalar(found)) if written == found => Ok(()),
        (Letters::Scalar(written), Letters::Scalar(found))
            if found.contains('\\') && unescaped(written)? == unescaped(found)? =>
        {
            Ok(())
        }
        _ => Err(format!("{found} is written in another form than {written}")),
    }
}

/// Writes what was found with each null that was not written replaced by what no member is, and tells whether there are any. Numbers that
/// were not written become zero: those of unknown members may be of any size, which cannot be read in every order of members.
fn write_probe(written: Option<&Letters<'_>>, found: &Letters<'_>, probe: &mut String) -> bool {
    let mut any = false;
    match found {
        Letters::Object(members) => {
            probe.push('{');
            for (n, (name, value)) in members.iter().enumerate() {
                probe.push_str(if n == 0 { "" } else { "," });
                probe.push_str(&serde_json::Value::from(name.as_ref()).to_string());
                probe.push(':');
                any |= write_probe(written.and_then(|written| written.get(name)), value, probe);
            }
            probe.push('}');
        }
        Letters::Array(elements) => {
            probe.push('[');
            for (n, value) in elements.iter().enumerate() {
                probe.push_str(if n == 0 { "" } else { "," });
                any |= write_probe(element(written, n), value, probe);
            }
            probe.push(']');
        }
        Letters::Scalar(text) => {
            let text: &str = text;
            any = written.is_none() && text == "null";
            probe.push_str(match written {
                None if any => r#"{"":0}"#,
                None if text.starts_with(|first: char| first == '-' || first.is_ascii_digit()) => "0",
                _ => text,
            });
        }
    }
    any
}

fn element<'a, 'b>(written: Option<&'a Letters<'b>>, n: usize) -> Option<&'a Letters<'b>> {
    match written? {
        Letters::Array(elements) => elements.get(n),
        Letters::Object(_) | Letters::Scalar(_) => None,
    }
}

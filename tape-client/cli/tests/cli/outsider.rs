//! A reader of exports that knows nothing of Tape but docs/format.md: JSON, SHA-256 and base64.

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};

/// The page, of which the lists of payloads are used.
const PAGE: &str = include_str!("../../../../docs/format.md");

/// A stream as the file has it.
#[derive(Default)]
struct Stream {
    head: Value,
    snapshot: Value,
    entries: Vec<Value>,
    broken: Option<String>,
}

/// A stream that verified.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Verified {
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) digest: String,
    /// Entries whose bytes are erased.
    pub(crate) erased: Vec<u64>,
    /// The entry of the snapshot, where its bytes are those that the entry names.
    pub(crate) snapshot: Option<u64>,
}

/// Verifies the streams of a whole file.
pub(crate) fn verify(file: &str) -> Result<BTreeMap<String, Result<Verified, String>>, String> {
    let streams = read(file)?;
    let verified = streams.into_iter().map(|(name, stream)| {
        let found = match &stream.broken {
            Some(broken) => Err(broken.clone()),
            None => check(&name, &stream),
        };
        (name, found)
    });
    Ok(verified.collect())
}

fn read(file: &str) -> Result<BTreeMap<String, Stream>, String> {
    let (mut streams, mut name, mut whole) = (BTreeMap::new(), String::new(), None);
    for line in file.lines() {
        let line: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
        if let Some(stream) = line["stream"].as_str() {
            stream.clone_into(&mut name);
            let (head, snapshot) = (line["head"].clone(), line["snapshot"].clone());
            let begun = Stream {
                head,
                snapshot,
                ..Stream::default()
            };
            streams.insert(name.clone(), begun);
        } else if line["streams"].is_u64() {
            whole = line["streams"].as_u64();
        } else {
            let stream = streams.get_mut(&name).ok_or("it begins with no stream")?;
            if line["end"].is_string() {
                stream.broken = line["broken"].as_str().map(str::to_owned);
            } else {
                stream.entries.push(line);
            }
        }
    }
    if whole != Some(streams.len() as u64) {
        return Err("the file is cut off".to_owned());
    }
    Ok(streams)
}

/// Where a chain is.
struct Place {
    previous: Vec<u8>,
    seq: u64,
    version: u64,
}

fn check(name: &str, stream: &Stream) -> Result<Verified, String> {
    let tag = sha256(&[b"tape stream\n", name.as_bytes()]);
    let mut place = Place {
        previous: vec![0; 32],
        seq: 0,
        version: 1,
    };
    let (mut destroyed, mut gone, mut first) = (BTreeSet::new(), Vec::new(), None);
    let mut named = BTreeMap::new();
    for entry in &stream.entries {
        let envelope = entry["envelope"].as_str().ok_or("there is no envelope")?;
        let read: Value = serde_json::from_str(envelope).map_err(|error| error.to_string())?;
        follow(&mut place, &tag, entry, envelope, &read, first.is_none())?;
        first.get_or_insert(place.seq);
        named.insert(place.seq, read["snapshot"].clone());
        let (kind, body) = (&read["entry"]["kind"], &read["entry"]["body"]);
        if kind == "payload.erased" {
            let covered = body["entries"].as_array().ok_or("it erases nothing")?;
            destroyed.retain(|seq| !covered.contains(&Value::from(*seq)));
        }
        match entry.get("payload") {
            Some(bytes) => cut(&read, &base64(bytes.as_str().ok_or("payload is no text")?)?)?,
            None => {
                destroyed.insert(place.seq);
                gone.push(place.seq);
            }
        }
        if stream.head["seq"] == place.seq && stream.head["digest"] != entry["digest"] {
            return Err(format!("the head is another than entry {}", place.seq));
        }
    }
    if !destroyed.is_empty() {
        return Err(format!("the bytes of {destroyed:?} were destroyed"));
    }
    if stream.head["seq"].as_u64().is_none_or(|head| head > place.seq) {
        return Err("it ends before its head".to_owned());
    }
    Ok(Verified {
        first: first.ok_or("it has no entries")?,
        last: place.seq,
        digest: hex(&place.previous),
        erased: gone,
        snapshot: snapshot(&stream.snapshot, &named)?,
    })
}

/// Takes the next entry of a chain.
fn follow(
    place: &mut Place,
    tag: &[u8],
    entry: &Value,
    envelope: &str,
    read: &Value,
    is_first: bool,
) -> Result<(), String> {
    let seq = read["seq"].as_u64().ok_or("an entry has no number")?;
    let (retires, body) = (read["entry"]["kind"] == "run.retired", &read["entry"]["body"]);
    if retires && is_first && seq > 1 {
        place.previous = unhex(body["previous"].as_str().unwrap_or_default())?;
    } else if seq != place.seq + 1 {
        return Err(format!("entry {seq} follows entry {}", place.seq));
    }
    if entry["seq"] != seq {
        return Err(format!("the line of entry {seq} has another number"));
    }
    let version = read["v"].as_u64().unwrap_or_default();
    if version < place.version || version > 2 {
        return Err(format!("entry {seq} has version {version}"));
    }
    if retires && (body["previous"] != hex(&place.previous) || body["dropped"] != seq - 1) {
        return Err("it retires other entries".to_owned());
    }
    let digest = match version {
        1 => sha256(&[b"tape entry 1\n", &place.previous, envelope.as_bytes()]),
        _ => sha256(&[b"tape entry 2\n", tag, &place.previous, envelope.as_bytes()]),
    };
    if entry["digest"] != hex(&digest) {
        return Err(format!("entry {seq} was changed"));
    }
    *place = Place {
        previous: digest,
        seq,
        version,
    };
    Ok(())
}

/// Cuts an entry's bytes into its payloads and its words, and compares their digests.
fn cut(read: &Value, bytes: &[u8]) -> Result<(), String> {
    let (entry, mut rest) = (&read["entry"], bytes);
    let heading = format!("#### `{}`\n", entry["kind"].as_str().unwrap_or_default());
    let (_, section) = PAGE
        .split_once(&heading)
        .ok_or("the page does not know the kind")?;
    let section = section.split("\n#").next().unwrap_or_default();
    let listed = section.lines().find_map(|line| line.strip_prefix("Payloads: "));
    let paths = listed.unwrap_or_default().split('`').skip(1).step_by(2);
    let payloads = paths.map(|path| path.split('.').fold(&entry["body"], |at, name| &at[name]));
    for reference in payloads.chain([&read["words"]]).filter(|found| found.is_object()) {
        let len = reference["len"]
            .as_u64()
            .and_then(|len| usize::try_from(len).ok());
        let len = len.filter(|len| *len <= rest.len()).ok_or("bytes are missing")?;
        let (piece, left) = rest.split_at(len);
        if reference["sha256"] != hex(&sha256(&[piece])) {
            return Err("bytes were changed".to_owned());
        }
        rest = left;
    }
    if rest.is_empty() {
        Ok(())
    } else {
        Err("there are bytes too many".to_owned())
    }
}

fn snapshot(snapshot: &Value, named: &BTreeMap<u64, Value>) -> Result<Option<u64>, String> {
    let Some(seq) = snapshot["seq"].as_u64() else {
        return Ok(None);
    };
    let bytes = base64(snapshot["bytes"].as_str().unwrap_or_default())?;
    let digest = hex(&sha256(&[&bytes]));
    match named.get(&seq) {
        Some(Value::String(named)) if *named == digest && snapshot["sha256"] == digest => Ok(Some(seq)),
        _ => Err("the snapshot is another".to_owned()),
    }
}

fn sha256(parts: &[&[u8]]) -> Vec<u8> {
    Sha256::digest(parts.concat()).to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Result<Vec<u8>, String> {
    let digit = |at: usize| {
        let two = text.get(at..at + 2).ok_or("it has half a byte")?;
        u8::from_str_radix(two, 16).map_err(|error| error.to_string())
    };
    (0..text.len()).step_by(2).map(digit).collect()
}

fn base64(text: &str) -> Result<Vec<u8>, String> {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bytes = Vec::new();
    for four in text.as_bytes().chunks(4) {
        let letters = four.iter().filter(|letter| **letter != b'=');
        let mut bits = 0u32;
        let mut count = 0;
        for letter in letters {
            let value = LETTERS
                .iter()
                .position(|known| known == letter)
                .ok_or("no base64")?;
            bits |= u32::try_from(value).unwrap() << (18 - 6 * count);
            count += 1;
        }
        let [_, three @ ..] = bits.to_be_bytes();
        bytes.extend(&three[..count - 1]);
    }
    Ok(bytes)
}

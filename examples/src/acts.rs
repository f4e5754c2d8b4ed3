//! An upstream in a file, without a process of its own: what was done under which key. Programs in any language can write it.

use serde_json::{Value, json};
use std::fs::File;
use std::io::{Read as _, Result, Write as _};
use std::path::Path;

/// Writes down that `operation` was asked for under `key`. The first time it acts; from then on `again` is true in the line. Processes take
/// turns by a lock on the file, which ends with a process that dies.
///
/// # Errors
/// Where the file cannot be written.
pub fn act(ledger: &Path, operation: &str, args: &Value, key: &str) -> Result<()> {
    let mut file = File::options()
        .create(true)
        .read(true)
        .append(true)
        .open(ledger)?;
    file.lock()?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    let again = lines(&text).any(|line| line["key"] == key);
    let line = json!({ "again": again, "args": args, "key": key, "operation": operation });
    file.write_all(format!("{line}\n").as_bytes())
}

/// The lines of a ledger; none where there is no file yet.
///
/// # Errors
/// Where the file cannot be read.
pub fn read(ledger: &Path) -> Result<Vec<Value>> {
    if !ledger.exists() {
        return Ok(Vec::new());
    }
    Ok(lines(&std::fs::read_to_string(ledger)?).collect())
}

fn lines(text: &str) -> impl Iterator<Item = Value> {
    text.lines().filter_map(|line| serde_json::from_str(line).ok())
}

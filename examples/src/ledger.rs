//! An upstream's own durable ledger: what was really done, whatever any journal says.

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;

/// One act.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Its number, from 1.
    pub n: usize,
    /// The idempotency key it was asked with.
    pub key: Option<String>,
    /// The caller's own reference of the business act.
    pub reference: String,
    /// What was done.
    pub operation: String,
    /// The content of the request.
    pub content: Value,
    /// What was answered.
    pub answer: Value,
}

/// An append-only file of [`Line`]s, one JSON object a line, each on disk before it is answered.
#[derive(Debug)]
pub struct Ledger {
    file: File,
    lines: Vec<Line>,
    by_key: HashMap<String, usize>,
    by_reference: HashMap<String, Vec<usize>>,
}

impl Ledger {
    /// Opens the ledger, or begins it. A last line that its writer's death cut off was never answered, and is removed.
    ///
    /// # Errors
    /// Where the file cannot be read or has something else in it.
    pub fn open(path: &Path) -> Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let text = std::fs::read(path)?;
        let whole = text
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |end| end + 1);
        file.set_len(whole as u64)?;
        let mut ledger = Self {
            file,
            lines: Vec::new(),
            by_key: HashMap::new(),
            by_reference: HashMap::new(),
        };
        for line in read(path)? {
            ledger.enter(line);
        }
        Ok(ledger)
    }

    /// What was done under a key.
    #[must_use]
    pub fn of_key(&self, key: &str) -> Option<&Line> {
        self.by_key.get(key).map(|at| &self.lines[*at])
    }

    /// What was done under a reference, in order.
    pub fn of_reference(&self, reference: &str) -> impl Iterator<Item = &Line> {
        let places = self.by_reference.get(reference).map(Vec::as_slice);
        places.unwrap_or_default().iter().map(|at| &self.lines[*at])
    }

    /// Records one act: appends it and syncs it to the disk. This assigns its number.
    ///
    /// # Errors
    /// Where the disk refuses, or the key was used already.
    pub fn append(&mut self, mut line: Line) -> Result<&Line> {
        line.n = self.lines.len() + 1;
        if let Some(key) = line.key.as_ref().filter(|key| self.by_key.contains_key(*key)) {
            bail!("key {key} is in the ledger already");
        }
        let mut text = serde_json::to_vec(&line)?;
        text.push(b'\n');
        self.file.write_all(&text)?;
        self.file.sync_data()?;
        self.enter(line);
        Ok(&self.lines[self.lines.len() - 1])
    }

    fn enter(&mut self, line: Line) {
        let at = self.lines.len();
        if let Some(key) = &line.key {
            self.by_key.insert(key.clone(), at);
        }
        self.by_reference
            .entry(line.reference.clone())
            .or_default()
            .push(at);
        self.lines.push(line);
    }
}

/// Reads a ledger's file.
///
/// # Errors
/// Where the file cannot be read or has something else in it.
pub fn read(path: &Path) -> Result<Vec<Line>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(key: Option<&str>) -> Line {
        let key = key.map(str::to_owned);
        Line {
            n: 0,
            key,
            reference: "r".to_owned(),
            operation: "pay".to_owned(),
            content: Value::from(5),
            answer: Value::Null,
        }
    }

    #[test]
    fn a_ledger_outlives_its_process() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger");
        let mut ledger = Ledger::open(&path).unwrap();
        ledger.append(line(Some("a"))).unwrap();
        ledger.append(line(None)).unwrap();
        drop(ledger);
        let mut ledger = Ledger::open(&path).unwrap();
        assert_eq!(ledger.of_key("a").unwrap().n, 1);
        assert!(ledger.append(line(Some("a"))).is_err());
        assert_eq!(read(&path).unwrap().len(), 2);
        assert_eq!(ledger.of_reference("r").count(), 2);
    }

    #[test]
    fn a_line_that_was_cut_off_was_not_done() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger");
        Ledger::open(&path).unwrap().append(line(Some("a"))).unwrap();
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"n\":2,\"key\":").unwrap();
        let mut ledger = Ledger::open(&path).unwrap();
        assert_eq!(ledger.append(line(Some("b"))).unwrap().n, 2);
        assert_eq!(read(&path).unwrap().len(), 2);
    }
}

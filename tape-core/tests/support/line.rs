//! A line of a script: words, `key=value` pairs and flags; and entries as lines.

use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use tape_core::budget::Spend;
use tape_core::entry::{Entry, EntryBody};
use tape_core::reply::{Decided, Rejection};

/// A command's words.
pub(crate) struct Line {
    text: String,
    words: std::collections::VecDeque<String>,
    pairs: BTreeMap<String, String>,
}

impl Line {
    pub(crate) fn new(text: &str) -> Self {
        let (mut words, mut pairs) = (std::collections::VecDeque::new(), BTreeMap::new());
        for token in text.split_whitespace() {
            match token.split_once('=') {
                Some((key, value)) => drop(pairs.insert(key.to_owned(), value.to_owned())),
                None => words.push_back(token.to_owned()),
            }
        }
        let text = text.to_owned();
        Self { text, words, pairs }
    }

    pub(crate) fn word(&mut self) -> String {
        self.words
            .pop_front()
            .unwrap_or_else(|| panic!("a word is missing in '{}'", self.text))
    }

    pub(crate) fn parse<T: std::str::FromStr>(&mut self) -> T {
        let word = self.word();
        self.parsed(&word)
    }

    fn parsed<T: std::str::FromStr>(&self, text: &str) -> T {
        text.parse()
            .unwrap_or_else(|_| panic!("'{text}' makes no sense in '{}'", self.text))
    }

    pub(crate) fn pair<T: std::str::FromStr>(&mut self, key: &str) -> Option<T> {
        let text = self.pairs.remove(key)?;
        Some(self.parsed(&text))
    }

    pub(crate) fn flag(&mut self, flag: &str) -> bool {
        let before = self.words.len();
        self.words.retain(|word| word != flag);
        self.words.len() < before
    }

    /// The rest of the words, as a text.
    pub(crate) fn rest(&mut self) -> String {
        let words: Vec<String> = self.words.drain(..).collect();
        words.join(" ")
    }

    pub(crate) fn pairs(&mut self) -> BTreeMap<String, String> {
        std::mem::take(&mut self.pairs)
    }

    /// `b:5,c:6`
    pub(crate) fn spends(&mut self, key: &str) -> Option<Vec<Spend>> {
        let text: String = self.pair(key)?;
        let spends = text.split(',').filter(|spend| !spend.is_empty());
        Some(
            spends
                .map(|spend| {
                    let (budget, amount) = spend.split_once(':').expect("budget:amount");
                    super::names::spend(budget, self.parsed(amount))
                })
                .collect(),
        )
    }

    pub(crate) fn end(&self) {
        assert!(
            self.words.is_empty() && self.pairs.is_empty(),
            "too much in '{}': {:?} {:?}",
            self.text,
            self.words,
            self.pairs
        );
    }
}

/// What a command came to, as lines.
pub(crate) fn outcome(entries: &[Entry], decided: &Result<Decided, Rejection>) -> String {
    let mut text = String::new();
    match decided {
        Ok(decided) => {
            for entry in entries {
                writeln!(text, "{} {} {}", entry.seq, entry.body.kind(), body(&entry.body)).unwrap();
            }
            let result = serde_json::to_string(&decided.reply.result).unwrap();
            writeln!(text, "= {} {result}", decided.reply.seq).unwrap();
        }
        Err(rejection) => writeln!(text, "! {rejection}").unwrap(),
    }
    text
}

/// The body of an entry, with the texts of payloads in place of their references.
fn body(body: &EntryBody) -> Value {
    let texts: BTreeMap<String, String> = body
        .payloads()
        .into_iter()
        .map(|payload| {
            let bytes = payload.bytes().unwrap();
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            (payload.digest().to_string(), text)
        })
        .collect();
    let mut value = serde_json::to_value(body).unwrap();
    let mut value = value.get_mut("body").unwrap().take();
    inline(&mut value, &texts);
    value
}

fn inline(value: &mut Value, texts: &BTreeMap<String, String>) {
    let text = value
        .get("sha256")
        .and_then(Value::as_str)
        .map(|digest| texts[digest].clone());
    match (text, value) {
        (Some(text), value) => *value = Value::from(text),
        (None, Value::Object(members)) => members.values_mut().for_each(|value| inline(value, texts)),
        (None, Value::Array(elements)) => elements.iter_mut().for_each(|value| inline(value, texts)),
        (None, _) => {}
    }
}

//! Words that the core keeps as static text, such as the name of a limit, when they come in from the wire.

use std::collections::BTreeSet;
use std::sync::Mutex;

/// Most words kept. The core has some dozens; what a hostile server sends beyond that becomes one word.
const WORDS_MAX: usize = 512;
/// Longest word kept, in bytes.
const WORD_BYTES_MAX: usize = 100;
/// Stands for a word that is not kept.
const OTHER: &str = "(unknown)";

static WORDS: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

/// The same text for the life of the process; each is kept once, and their number is bounded.
pub(crate) fn keep(word: &str) -> &'static str {
    let mut words = WORDS.lock().expect("nothing panics while it holds the words");
    if let Some(kept) = words.get(word) {
        return kept;
    }
    if words.len() == WORDS_MAX || word.len() > WORD_BYTES_MAX {
        return OTHER;
    }
    let kept: &'static str = word.to_owned().leak();
    words.insert(kept);
    kept
}

#[cfg(test)]
mod tests {
    use super::{OTHER, WORD_BYTES_MAX, keep};

    #[test]
    fn words_are_kept_once_and_bounded() {
        assert!(std::ptr::eq(keep("bytes of a text"), keep("bytes of a text")));
        assert_eq!(keep(&"x".repeat(WORD_BYTES_MAX + 1)), OTHER);
    }
}

//! Lists of sessions and values by name: the part of an index that a page reads, and the page of its rows.

use crate::contract::{NamePage, PageToken};
use crate::error::StoreError;
use crate::unreadable::pass_over;
use tape_core::id::StreamPrefix;

/// The names that a page may have: from the first text on and before the second, in the order of bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) from: String,
    pub(crate) before: String,
}

impl Bounds {
    /// The names with a prefix, after those of the pages before. The token of a page is its last name.
    pub(crate) fn of(prefix: &StreamPrefix, from: Option<&PageToken>) -> Result<Self, StoreError> {
        let from = match from {
            None => prefix.as_str().to_owned(),
            Some(PageToken(last)) if last.starts_with(prefix.as_str()) => right_after(last),
            Some(_) => {
                return Err(StoreError::Invalid {
                    what: "page token",
                    problem: "it was not made for this list".to_owned(),
                });
            }
        };
        Ok(Self {
            from,
            before: prefix.end(),
        })
    }
}

/// A text after a name and before every later name: names have no control characters.
fn right_after(name: &str) -> String {
    format!("{name}\u{1}")
}

/// The page of these names, in their order. One with fewer names than `limit` is the last.
pub(crate) fn page(names: Vec<String>, limit: u32) -> NamePage {
    let last = names.last().filter(|_| names.len() >= limit as usize);
    let next = last.cloned().map(PageToken);
    let read = |name: &String| {
        let stream = name.parse();
        stream
            .inspect_err(|problem| pass_over("named", name, problem))
            .ok()
    };
    NamePage {
        streams: names.iter().filter_map(read).collect(),
        next,
    }
}

#[cfg(test)]
mod tests {
    use super::Bounds;
    use crate::contract::PageToken;
    use tape_core::id::{StreamPrefix, Tenant};

    #[test]
    fn a_page_begins_right_after_the_last_name_of_the_page_before() {
        let prefix = StreamPrefix::values(&Tenant::new("t").unwrap(), None);
        let bounds = |last: &str| Bounds::of(&prefix, Some(&PageToken(last.to_owned())));
        let after = bounds("t/value/a").unwrap().from;
        assert!(after.as_str() > "t/value/a" && after.as_str() < "t/value/a!");
        assert!(bounds("t/session/a").is_err() && bounds("t").is_err());
    }
}
